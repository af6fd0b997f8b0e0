#!/usr/bin/env bash
# What is to be measured on a CUDA machine, in this order: edit the list.
#
#     bash benchmarks/gpu.sh DATA_FOLDER OUT [SECONDS]    # works for at most so long (default 540), and goes on when repeated
#     bash benchmarks/gpu.sh --dry-run OUT                # the same with tiny sizes, on any machine, without CIFAR-10
#
# Nothing is downloaded. An item that ends leaves OUT/ITEM.json (for results/) and, where it trained, OUT/ITEM.safetensors (its best
# model); one that fails is told, and the others go on. Runs lie in RUNS (default OUT-runs); the python that PYTHON names is used, and
# has what pyproject.toml asks for but pooch, which downloads.
set -euo pipefail
cd "$(dirname "$0")/.."

# What is measured, the recipe, for `seeds` how many, and a key that is set.
items=(
    "seeds speed94 10"
    "seeds speed94 10 compile=reduce-overhead"
    "seeds speed96 10"
    "seeds speed96 10 compile=reduce-overhead"
    "seeds airbench94 10"
    "seeds speed95 10"
    "loop resnet-variant"
    "loop dreamfire"
    "seeds modified-resnet-as-published 1"
    "seeds resnet-variant-as-published 1"
    "seeds dreamfire-as-published 1"
    "seeds resnet-small-initial-as-published 1"
    "seeds resnet-small-as-published 1"
    "seeds improved-resnet-as-published 1"
    "seeds modified-resnet 1"
    "seeds resnet-variant 1"
    "seeds dreamfire 1"
    "seeds resnet-small-initial 1"
    "seeds resnet-small 1"
    "seeds improved-resnet 1"
)

[ -z "${ITEMS:-}" ] || mapfile -t items <<< "$ITEMS" # another list, a line an item

python=${PYTHON:-python3}
out=$(mkdir -p "$2" && cd "$2" && pwd)
runs=${RUNS:-$out-runs}
end=$((SECONDS + ${3:-540}))
export BANTAMNET_MIRRORS=none PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH}
training=() timing=()
if [ "$1" = --dry-run ]; then
    # Grey pictures leave whitened channels empty, on which BatchNorm diverges in bf16.
    tiny=(--set data.name=digits --set batch_size=16 --set data.val.count=1350 --set precision=fp32)
    training=("${tiny[@]}" --epochs 1 --set max_steps=5)
    timing=("${tiny[@]}" --rounds 1 --seconds 0.1 --even-if-busy)
else
    export BANTAMNET_DATA=$1
    timing=(--rounds 3 --seconds 4)
    training=(--set checkpoint.min_interval=30s) # an epoch may take as long as writing one
    "$python" -c 'import torch, bantamnet.config; assert torch.cuda.is_available(), "PyTorch finds no CUDA device"'
fi
mkdir -p "$runs"

left() { echo $((end - SECONDS)); }

# The status of a verb, which ends in time; it is 143 or 137 where time was up, and the item can be gone on with.
bantamnet() { timeout --signal=TERM --kill-after=30 "$(left)" "$python" -m bantamnet "$@" && status=0 || status=$?; }

failed=0
for item in "${items[@]}"; do
    read -r kind recipe num key <<< "$item"
    name=$kind-$recipe${key:+-${key#*=}}
    [ ! -e "$out/$name.json" ] || continue
    # What is timed cannot be gone on with, so it begins where its end is in reach.
    needed=20
    [ "$kind" != loop ] || [ "$1" = --dry-run ] || needed=150
    [ "$(left)" -gt $needed ] || { echo "time is up before $name"; exit $failed; }
    echo "== $name"
    case $kind in
    seeds) bantamnet train "$recipe" --seeds "$num" --out "$runs/$name" ${key:+--set "$key"} "${training[@]}" ;;
    loop) bantamnet bench loop "$recipe" --json "${timing[@]}" > "$runs/$name.json" ;;
    esac
    case $kind$status in
    seeds0 | seeds3) # 3: a seed diverged, which its entry tells
        "$python" benchmarks/collect.py "$recipe in full, $num seed(s)${key:+, $key}" "$runs/$name.json" "$runs/$name"/seed-*
        best=("$runs/$name"/seed-*/best.safetensors)
        [ ! -e "${best[0]}" ] || cp "${best[0]}" "$out/$name.safetensors"
        ;;
    loop0) ;;
    *124 | *130 | *137 | *143)
        echo "$name is not finished; repeat the command to go on"
        exit $failed
        ;;
    *)
        echo "$name FAILED (status $status)"
        failed=1
        continue
        ;;
    esac
    mv "$runs/$name.json" "$out/$name.json"
done
[ $failed = 0 ] || exit 1
echo "everything in the list is measured"
