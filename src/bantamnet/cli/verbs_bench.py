"""`bench train`, `bench loop`, `bench scale`: how fast, where the time goes, and how many times as fast as what."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bantamnet.cli import show
from bantamnet.cli.options import DataDir, Json, Set, Use

Facts = dict[str, Any]
bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True, pretty_exceptions_enable=False)

Recipe = Annotated[str, typer.Argument(metavar="RECIPE|FILE.yaml", help="A recipe's name, or your own.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often everything is measured.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long each measurement takes.")]
Busy = Annotated[bool, typer.Option("--even-if-busy", help="Measure although other programs are working.")]


@bench_app.command(epilog="Example: bantamnet bench train resnet-variant")
def train(
    recipe: Recipe,
    sets: Set = None,
    use: Use = None,
    data_dir: DataDir = None,
    rounds: Rounds = 5,
    seconds: Seconds = 5.0,
    profile: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a table of operations and a Chrome trace instead.")
    ] = None,
    even_if_busy: Busy = False,
    json: Json = False,
) -> None:
    """Images a second, where a step's time goes, and what share of the machine's matrix rate that is."""
    from bantamnet.bench import train as measure
    from bantamnet.runs.lookup import resolve

    config = resolve(recipe, sets or [], use or [])
    if profile:
        show.either(json, measure.profile(config, data_dir, profile), profiled)
    else:
        facts = measure.bench_train(config, data_dir, rounds, seconds, even_if_busy)
        show.either(json, recorded(f"training steps of {config.name}: images/s, and where the time goes", facts), trained)


@bench_app.command(epilog="Example: bantamnet bench loop resnet-variant")
def loop(
    recipe: Recipe,
    sets: Set = None,
    use: Use = None,
    data_dir: DataDir = None,
    rounds: Rounds = 5,
    seconds: Seconds = 10.0,
    even_if_busy: Busy = False,
    json: Json = False,
) -> None:
    """The same training through the loop that most people write (Pillow pictures, a DataLoader), in turn with ours."""
    from bantamnet.bench.loop import bench_loop
    from bantamnet.runs.lookup import resolve

    config = resolve(recipe, sets or [], use or [])
    facts = bench_loop(config, data_dir, rounds, seconds, even_if_busy)
    show.either(json, recorded(f"{config.name} trained by our loop, by a standard one and by that tuned, in turn", facts), looped)


@bench_app.command(epilog="Example: bantamnet bench scale resnet8-tiny --ranks 2")
def scale(
    recipe: Recipe,
    sets: Set = None,
    data_dir: DataDir = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Most ranks (default: one a GPU, or one a core).")] = None,
    use: Use = None,
    rounds: Rounds = 3,
    seconds: Seconds = 5.0,
    even_if_busy: Busy = False,
    json: Json = False,
) -> None:
    """One process, several ranks, and two and four times the data."""
    from bantamnet.bench.scale import bench_scale
    from bantamnet.runs.lookup import resolve

    config = resolve(recipe, sets or [], use or [])
    facts = bench_scale(config, data_dir, ranks, rounds=rounds, seconds=seconds, even_if_busy=even_if_busy)
    show.either(json, recorded(f"{config.name} on one process and on several ranks, and with more data", facts), scaled)


def recorded(what: str, facts: Facts) -> Facts:
    """The facts with the command that measured them, and in words what they are."""
    from bantamnet.runtime import command_line

    return {"what": what, "command": command_line(), **facts}


def trained(facts: Facts) -> None:
    """What `bench train` found."""
    rounds = facts["images_per_second_rounds"]
    print(f"{facts['recipe']}, batch {facts['batch_size']}, {_machine(facts)}")
    print(f"images/s      {facts['images_per_second']:,.0f} ({min(rounds):,.0f} to {max(rounds):,.0f} in {len(rounds)} rounds)")
    phases = ", ".join(f"{phase} {100 * share:.0f}%" for phase, share in facts["phases"].items())
    print(f"a step        {1000 * facts['step_seconds']:,.0f} ms: {phases}")
    share = f"{100 * facts['matrix_share']:.0f}% of this machine's matrix products ({facts['matrix_gflops']:,.0f})"
    print(f"GFLOP/s       {facts['gflops']:,.0f}, {share}")
    print(f"peak memory   {facts['peak_memory_bytes'] / 1e6:,.0f} MB")
    _tell_load(facts)


def looped(facts: Facts) -> None:
    """What `bench loop` found."""
    print(f"{facts['recipe']}, batch {facts['batch_size']}, {_machine(facts)}, {facts['workers']} workers")
    rows = []
    for name, rate in facts["images_per_second"].items():
        times = facts["ratio"].get(name)
        compared = [f"{times['median']:.2f}×", f"{times['min']:.2f} to {times['max']:.2f}"] if times else ["", ""]
        memory = f"{facts['peak_memory_bytes'][name] / 1e6:,.0f} MB"
        rows.append([name if name == "ours" else f"{name} loop", f"{rate:,.0f}", *compared, memory])
    if facts["left_out"]:
        print(f"without {', '.join(facts['left_out'])}, which a standard loop has not")
    columns = ["", "images/s", "ours is", "in single rounds", "peak memory"]
    show.table(columns, rows, columns[1:])
    _tell_load(facts)


def scaled(facts: Facts) -> None:
    """What `bench scale` found."""
    print(f"{facts['recipe']}, global batch {facts['batch_size']}, {_machine(facts)}")
    rows = [
        [
            str(row["ranks"]),
            f"{row['data']}×",
            f"{row['images_per_second']:,.0f}",
            f"{row['ratio']:.2f}×",
            f"{row['peak_memory_bytes'] / 1e6:,.0f} MB",
        ]
        for row in facts["rows"]
    ]
    columns = ["ranks", "data", "images/s", "of one process", "peak memory of rank 0"]
    show.table(columns, rows, columns)
    _tell_load(facts)


def profiled(facts: Facts) -> None:
    """What `bench train --profile` found."""
    rows = [[entry["operation"], f"{100 * entry['share']:.1f}%", f"{entry['seconds']:.2f}"] for entry in facts["operations"]]
    show.table(["operation", "share", "seconds"], rows, ["share", "seconds"])
    print(f"trace of {facts['steps']} steps: {facts['trace']} (open it in chrome://tracing or ui.perfetto.dev)")


def _machine(facts: Facts) -> str:
    found = facts["environment"]
    return f"{found['device']}, {found['precision']}" + (f", {found['threads']} threads" if found["device_type"] == "cpu" else "")


def _tell_load(facts: Facts) -> None:
    if facts["load_of_others"] is not None and facts["load_of_others"] > 0.1:
        print(f"while other programs kept {facts['load_of_others']:.1f} cores busy")
