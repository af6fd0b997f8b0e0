"""One thin function a verb; PyTorch and everything heavy is imported inside, so that --help is instant."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bantamnet.cli import show
from bantamnet.errors import UserError

app = typer.Typer(
    help="Train, measure, shrink and ship small image classifiers to a parameter budget.",
    epilog="Start with: bantamnet train quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipes_app = typer.Typer(help="List, show and copy recipes.", pretty_exceptions_enable=False)
app.add_typer(recipes_app, name="recipes", invoke_without_command=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key; may be repeated.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder that holds CIFAR, or gets it (default: BANTAMNET_DATA, else the user's cache).")
]
Tta = Annotated[str, typer.Option(help="Test-time augmentation: none or hflip.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Model = Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run directory or a model file.")]


@app.command(epilog="Example: bantamnet train resnet8-tiny --set optim.lr=0.05 --epochs 20")
def train(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE|FILE.yaml", help="A recipe's name, or your own.")] = None,
    sets: Set = None,
    epochs: Annotated[int | None, typer.Option(help="Short for --set epochs=N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=N.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory (default: runs/NAME, numbered where taken).")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")] = None,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="Short for --set device=auto|cpu|cuda.")] = None,
    json: Json = False,
) -> None:
    """Train a recipe, then score it once on the test images."""
    import bantamnet
    from bantamnet.runs.lookup import resolve
    from bantamnet.runtime import is_main_process
    from bantamnet.training.checkpoints import NonFiniteError
    from bantamnet.training.signals import Stopped
    from bantamnet.training.train import Options

    short = {"epochs": epochs, "seed": seed, "device": device}
    given = [*(sets or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    if (recipe is None) == (resume is None):
        raise UserError("name what to train: a recipe (`bantamnet recipes` lists them), or --resume RUN; one of the two")
    if resume and (given or out):
        raise UserError("--resume goes on with the run's own config; only --data-dir and --json go with it")
    options = Options(data_dir=data_dir, console=show.console(stderr=json))
    try:
        if resume:
            run = bantamnet.resume(resume, options)
        else:
            assert recipe is not None
            run = bantamnet.train(resolve(recipe, given), out=out, options=options)
    except (NonFiniteError, Stopped) as error:
        print(f"{'error: ' if isinstance(error, NonFiniteError) else ''}{error}", file=sys.stderr)
        raise typer.Exit(128 + error.signum if isinstance(error, Stopped) else 3) from None
    if is_main_process():
        summary = run.summary()
        assert summary is not None
        show.either(json, {"run": str(run.path), **summary}, show.finished)


@app.command(epilog="Example: bantamnet evaluate runs/quickstart --tta hflip")
def evaluate(
    model: Model,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    tta: Tta = "none",
    data_dir: DataDir = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Score a model on a split of the data it was trained for."""
    from bantamnet.evaluate.scoring import evaluate as score_model

    show.either(json, score_model(model, split, tta, data_dir, device), show.evaluation)


@app.command(epilog="Example: bantamnet fetch cifar10")
def fetch(
    name: Annotated[str, typer.Argument(metavar="cifar10|cifar100")],
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="Ask this address instead of the known mirrors; may be repeated. Or BANTAMNET_MIRRORS."),
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Download a data set into the data folder, unless it is there; training does the same on first use."""
    from bantamnet.data.cifar import CIFARS
    from bantamnet.data.obtain import fetch_cifar
    from bantamnet.data.sources import default_data_dir
    from bantamnet.errors import unknown

    if name not in CIFARS:
        raise UserError(unknown("data set to download", name, CIFARS))
    folder, fetched = fetch_cifar(name, data_dir or default_data_dir(), mirror or [])
    facts = {"data": name, "folder": str(folder), "fetched": fetched}
    show.either(json, facts, lambda _: print(f"{name} is in {folder}" + ("" if fetched else " already")))


@app.command(epilog="Example: bantamnet predict runs/quickstart examples/digits --top 3")
def predict(
    model: Model,
    pictures: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Picture files, or folders of them.")],
    top: Annotated[int, typer.Option(help="How many classes to tell for each picture.")] = 1,
    tta: Tta = "none",
    csv: Annotated[Path | None, typer.Option(help="Also write a CSV file: path, rank, class, probability.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Say what is in pictures."""
    import bantamnet
    from bantamnet.data.preprocess import find_pictures

    if csv and csv.exists():
        raise UserError(f"--csv: {csv} exists already; choose another name")
    paths = find_pictures(pictures)
    predictions = bantamnet.load(model, device).predict(paths, top, tta)
    rows: list[dict[str, Any]] = [
        {"path": str(path), "rank": rank, "class": name, "probability": probability}
        for path, prediction in zip(paths, predictions, strict=True)
        for rank, (name, probability) in enumerate(zip(prediction.classes, prediction.probabilities, strict=True), 1)
    ]
    if csv:
        show.write_csv(csv, rows)
    show.either(json, {"model": str(model), "predictions": rows}, show.predictions)


@app.command(epilog="Example: bantamnet summary resnet-variant --set model.blocks=[3,3,3]")
def summary(
    name: Annotated[str, typer.Argument(metavar="NAME|RECIPE|FILE", help="A net, a recipe, a run or a model file.")],
    sets: Set = None,
    size: Annotated[int, typer.Option(min=8, max=1024, help="Height and width of the input, for a net by name.")] = 32,
    json: Json = False,
) -> None:
    """Show a net's layers, parameters, multiply-adds, memory and weight class."""
    from bantamnet.runs.describe import describe

    show.either(json, describe(name, sets or [], size), show.layers)


@app.command(epilog="Example: bantamnet runs --sort test")
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(show.RUN_COLUMNS)}.")] = "name",
    json: Json = False,
) -> None:
    """List runs and their figures."""
    from bantamnet.runs.describe import list_runs

    show.either(json, {"runs": list_runs(folder, sort, show.RUN_COLUMNS)}, show.run_list)


@recipes_app.callback(epilog="Example: bantamnet recipes show quickstart")
def recipes(context: typer.Context, json: Json = False) -> None:
    """List, show and copy recipes."""
    if context.invoked_subcommand is None:
        recipes_list(json)
    elif json:
        raise UserError(f"write --json after the verb: bantamnet recipes {context.invoked_subcommand} --json")


@recipes_app.command("list", epilog="Example: bantamnet recipes list --json")
def recipes_list(json: Json = False) -> None:
    """List the shipped recipes."""
    from bantamnet.runs.describe import list_recipes

    show.either(json, {"recipes": list_recipes()}, show.recipe_list)


@recipes_app.command("show", epilog="Example: bantamnet recipes show resnet-variant --set epochs=20")
def recipes_show(name: Annotated[str, typer.Argument(metavar="RECIPE|FILE.yaml")], sets: Set = None, json: Json = False) -> None:
    """Print a recipe complete, every key resolved."""
    from bantamnet.configfile import write_yaml
    from bantamnet.runs.lookup import resolve

    show.either(json, resolve(name, sets or []).dump(), lambda tree: print(write_yaml(tree), end=""))


@recipes_app.command("copy", epilog="Example: bantamnet recipes copy resnet8-tiny mine.yaml")
def recipes_copy(
    name: Annotated[str, typer.Argument(metavar="RECIPE")],
    to: Annotated[Path | None, typer.Argument(metavar="FILE.yaml", help="Default: NAME.yaml here.")] = None,
    json: Json = False,
) -> None:
    """Copy a recipe to a file of your own, to change and train."""
    from bantamnet.runs.lookup import copy_recipe

    path = copy_recipe(name, to or Path(f"{name}.yaml"))
    show.either(json, {"copied": str(path)}, lambda _: print(f"{path} is yours; train it with: bantamnet train {path}"))
