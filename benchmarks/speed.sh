#!/usr/bin/env bash
# The recipes for speed beside airbench94, seed by seed in turn, so that their times can be compared; repeated, it goes on.
#
#     bash benchmarks/speed.sh RUNS "speed94" 0 1 2 3 4      # then results/airbench94.json and results/speed94.json hold these seeds
#     OPTIONS="--set data.name=digits --set max_steps=5 --set precision=fp32" bash benchmarks/speed.sh /tmp/try "speed94" 0   # a try
#
# CIFAR-10 is found as `bantamnet train` finds it. Nothing else may work beside it. Runs are made in the folder RUNS; with OPTIONS, further
# options of `train`, nothing is written to results/. The python that PYTHON names is used.
set -euo pipefail
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
recipes=(airbench94 $2)
mkdir -p "$1" && cd "$1"
for seed in "${@:3}"; do
    for recipe in "${recipes[@]}"; do
        run=$recipe-$seed
        [ ! -e "$run/summary.json" ] || continue
        if [ -d "$run" ]; then
            "$python" -m bantamnet train --resume "$run"
        else
            # shellcheck disable=SC2086
            "$python" -m bantamnet train "$recipe" --seed "$seed" --out "$run" ${OPTIONS:-}
        fi
    done
done
[ -z "${OPTIONS:-}" ] || exit 0
for recipe in "${recipes[@]}"; do
    others=$(printf '%s\n' "${recipes[@]}" | grep -vx "$recipe" | paste -sd ' ')
    "$python" "$root/benchmarks/collect.py" "$recipe in full, its seeds in turn with those of $others" \
        "$root/results/$recipe.json" $(printf "$recipe-%s " "${@:3}")
done
"$python" "$root/benchmarks/documents.py"
