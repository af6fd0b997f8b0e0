"""One thin function a verb; PyTorch and everything heavy is imported inside, so that --help is instant."""

import sys
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bantamnet.cli import (
    compared,
    show,
    verbs_audit,
    verbs_compare,
    verbs_explain,
    verbs_report,
    verbs_shift,
    verbs_submit,
    verdicts,
)
from bantamnet.cli.options import (
    DataDir,
    DataOption,
    Device,
    Json,
    Model,
    Set,
    SkipBad,
    Tta,
    TtaAverage,
    TtaBelow,
    Use,
    named_data,
    run_own_code,
)
from bantamnet.cli.verbs_bench import bench_app
from bantamnet.cli.verbs_recipes import recipes_app
from bantamnet.errors import UserError

app = typer.Typer(
    help="Train, measure and audit small image classifiers to a parameter budget.",
    epilog="Start with: bantamnet train quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog="Example: bantamnet train resnet8-tiny --set optim.lr=0.05 --epochs 20")
def train(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE|FILE.yaml", help="A recipe's name, or your own.")] = None,
    sets: Set = None,
    epochs: Annotated[int | None, typer.Option(help="Short for --set epochs=N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=N.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Train N seeds into a group of runs; the same command again goes on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory (default: runs/NAME, numbered where taken; runs/NAME-seeds for a group).")
    ] = None,
    use: Use = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run, or a group, that was stopped.")] = None,
    refit: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Train a finished run's recipe on all images, as long as validation chose.")
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fit training and scoring into 90s, 20m, 1h30m or 1:30:00.")
    ] = None,
    data: DataOption = None,
    skip_bad: SkipBad = False,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="Short for --set device=auto|cpu|cuda.")] = None,
    rank_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds after which a silent rank of several counts as lost.")
    ] = 600,
    json: Json = False,
) -> None:
    """Train a recipe, then score it once on the test images."""
    import bantamnet
    from bantamnet.runs.group import is_group
    from bantamnet.runs.lookup import resolve
    from bantamnet.runtime import is_main_process
    from bantamnet.training.refit import refit_config
    from bantamnet.training.signals import Stopped
    from bantamnet.training.train import Options

    short = {"epochs": epochs, "seed": seed, "device": device, "time_budget": time_budget and f"'{time_budget}'"}
    named = [] if data is None or resume else [f"data.name={dumps(named_data(data), ensure_ascii=False)}"]
    given = [
        *named,
        *(["data.skip_bad=true"] if skip_bad else []),
        *(sets or []),
        *(f"{key}={value}" for key, value in short.items() if value is not None),
    ]
    if sum(what is not None for what in (recipe, resume, refit)) != 1:
        raise UserError("name what to train: a recipe (`bantamnet recipes` lists them), --resume RUN or --refit RUN; one of them")
    if resume and (given or out or seeds):
        raise UserError("--resume goes on with the run's own config; only --data, --data-dir, --use and --json go with it")
    if refit and (seeds or sets or epochs is not None or device or time_budget or data or skip_bad or use):
        raise UserError("--refit takes the run's recipe as it is; only --seed, --out, --data-dir and --json go with it")
    options = Options(
        data_dir=data_dir,
        data=named_data(data) if data else None,
        console=show.console(stderr=json),
        rank_timeout=rank_timeout,
    )
    try:
        if seeds or (resume and is_group(resume)):
            run_own_code(use if resume else None)
            group = verbs_compare.train_group(resume or resolve(recipe or "", given, use or []), seeds, out, options)
            if is_main_process():
                show.either(json, group, compared.trained)
            raise typer.Exit(3 if group["diverged"] else 0)
        if resume:
            run_own_code(use)
            run = bantamnet.resume(resume, options)
        elif refit:
            run = bantamnet.train(refit_config(refit, seed), out=out, options=options)
        else:
            assert recipe is not None
            run = bantamnet.train(resolve(recipe, given, use or []), out=out, options=options)
    except Stopped as stopped:
        if is_main_process():
            print(stopped, file=sys.stderr)
        raise typer.Exit(128 + stopped.signum) from None
    if is_main_process():
        summary = run.summary()
        assert summary is not None
        for figures in summary["figures"].values():
            show.warn_of_equal_views(figures)
        show.either(json, {"run": str(run.path), **summary}, show.finished)


@app.command(epilog="Example: bantamnet check resnet8-tiny --quick")
def check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|FILE.yaml", help="A recipe's name, or your own.")],
    sets: Set = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer steps; no batch whose step takes long.")] = False,
    use: Use = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the plot of the range test goes.")] = Path(),
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="Short for --set device=auto|cpu|cuda.")] = None,
    json: Json = False,
) -> None:
    """Try a recipe before its long run: learns a batch? good rate? largest batch? how long? Exit code 1 where it cannot learn."""
    from bantamnet.report.range_plot import save_range_plot
    from bantamnet.runs.lookup import resolve
    from bantamnet.training.check import check as check_recipe

    config = resolve(recipe, [*(sets or []), *([f"device={device}"] if device else [])], use or [])
    told = show.console(stderr=True)
    facts = check_recipe(config, data_dir, quick, lambda text: told.print(text, style="dim"))
    unwritten = None
    try:
        facts["lr_range"]["plot"] = str(save_range_plot(facts["lr_range"], config.name, out))
    except UserError as error:  # what took minutes to find is told all the same
        facts["lr_range"]["plot"], unwritten = None, error
    show.either(json, facts, verdicts.checked)
    if unwritten:
        raise unwritten
    if not facts["passed"]:
        raise typer.Exit(1)


@app.command(epilog="Example: bantamnet doctor --data-dir ~/data")
def doctor(
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where runs are to be written.")] = Path("runs"),
    json: Json = False,
) -> None:
    """Say what this machine can do and what slows it down. Exit code 1 where training is impossible."""
    from bantamnet.bench.doctor import examine

    facts = examine(data_dir, out)
    show.either(json, facts, verdicts.examined)
    if not facts["can_train"]:
        raise typer.Exit(1)


@app.command(epilog="Example: bantamnet evaluate runs/quickstart --tta hflip")
def evaluate(
    model: Model,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    tta: Tta = "none",
    tta_average: TtaAverage = None,
    tta_below: TtaBelow = None,
    data: DataOption = None,
    shift: verbs_shift.Shift = None,
    corruptions: verbs_shift.Corruptions = None,
    severities: verbs_shift.Severities = None,
    images: verbs_shift.Images = None,
    everything: verbs_shift.Everything = False,
    picture: verbs_shift.Picture = None,
    use: Use = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Score a model on a split of the data it was trained for, or on shifted data."""
    from bantamnet.data.listener import ConsoleListener
    from bantamnet.evaluate.scoring import evaluate as score_model
    from bantamnet.runtime import is_main_process

    run_own_code(use)
    place, listener = named_data(data) if data else None, ConsoleListener(show.console(stderr=True))
    if shift:
        asked = (split, corruptions, severities, images, everything, picture)
        verbs_shift.evaluate_shift(model, shift, *asked, (tta, tta_average, tta_below), place, data_dir, device, json)
        return
    verbs_shift.refuse_without_shift(
        corruptions=corruptions, severities=severities, images=images, all=everything, picture=picture
    )
    figures = score_model(
        model, split, tta, data_dir, device, tta_average=tta_average, tta_below=tta_below, data=place, listener=listener
    )
    if is_main_process():
        show.warn_of_equal_views(figures)
        show.either(json, figures, show.evaluation)


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
    tta_average: TtaAverage = None,
    tta_below: TtaBelow = None,
    use: Use = None,
    csv: Annotated[Path | None, typer.Option(help="Also write a CSV file: path, rank, class, probability.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Say what is in pictures; files that are none are told, and make the exit code 1."""
    import bantamnet
    from bantamnet.data.preprocess import find_pictures
    from bantamnet.evaluate.tta import chosen_tta

    if csv and csv.exists():
        raise UserError(f"--csv: {csv} exists already; choose another name")
    run_own_code(use)
    paths = find_pictures(pictures)
    classifier = bantamnet.load(model, device)
    average = chosen_tta(tta, classifier.info.config, tta_average, tta_below)
    images, readable, complaints = classifier.info.preprocessing.read_images(paths)
    for complaint in complaints:
        show.console(stderr=True).print(complaint, markup=False, highlight=False, soft_wrap=True)
    if not readable:
        raise UserError("none of these files is a picture that can be read")
    predictions = classifier.predict(images, top, average)
    show.warn_of_equal_views(average.figures())
    rows: list[dict[str, Any]] = [
        {"path": str(path), "rank": rank, "class": name, "probability": probability}
        for path, prediction in zip(readable, predictions, strict=True)
        for rank, (name, probability) in enumerate(zip(prediction.classes, prediction.probabilities, strict=True), 1)
    ]
    if csv:
        show.write_csv(csv, rows)
    show.either(json, {"model": str(model), **average.figures(), "predictions": rows, "unreadable": complaints}, show.predictions)
    if complaints:
        raise typer.Exit(1)


@app.command(epilog="Example: bantamnet data ./pictures --size 64")
def data(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A data set, or a folder of pictures.")],
    size: Annotated[int | None, typer.Option(help="Height and width to read a folder's pictures at (default: 32).")] = None,
    resize: Annotated[str, typer.Option(help="crop, pad or squash.")] = "crop",
    out: Annotated[Path | None, typer.Option(metavar="FILE.png", help="The contact sheet (default: NAME-contact.png).")] = None,
    skip_bad: SkipBad = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show counts, balance, sizes, statistics, fingerprints and duplicates of a data set, and draw a contact sheet."""
    from bantamnet.data.facts import inspect
    from bantamnet.data.listener import ConsoleListener
    from bantamnet.report.contact import free_file, write_contact_sheet
    from bantamnet.runs.lookup import resolve_data

    if out and out.exists():
        raise UserError(f"--out: {out} exists already; choose another name")
    sets = [f"data.resize={resize}", f"data.skip_bad={skip_bad}", *([f"data.size={size}"] if size is not None else [])]
    keys = resolve_data(named_data(name), sets)
    facts, splits = inspect(keys, data_dir, ConsoleListener(show.console(stderr=True)))
    sheet = out or free_file(f"{Path(keys.name).name}-contact", ".png")
    write_contact_sheet(splits["train"], f"{keys.name}: {len(splits['train']):,} training images", sheet)
    show.either(json, {**facts, "contact_sheet": str(sheet)}, show.data)


@app.command(epilog="Example: bantamnet summary resnet-variant --set model.blocks=[3,3,3]")
def summary(
    name: Annotated[str, typer.Argument(metavar="NAME|RECIPE|FILE", help="A net, a recipe, a run or a model file.")],
    sets: Set = None,
    use: Use = None,
    size: Annotated[
        int | None, typer.Option(min=8, max=1024, help="Height and width of the input (default: the recipe's, 32 for a net).")
    ] = None,
    json: Json = False,
) -> None:
    """Show a net's layers, parameters, multiply-adds, memory and weight class."""
    from bantamnet.runs.describe import describe

    run_own_code(use)
    show.either(json, describe(name, sets or [], size), show.layers)


@app.command("import", epilog="Example: bantamnet import ckpt.pth --as resnet18 --out resnet18.safetensors")
def import_(
    weights: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A state dict, or a checkpoint that holds one.")],
    name: Annotated[str, typer.Option("--as", metavar="NET|RECIPE", help="The net that the weights are of.")],
    out: Annotated[Path, typer.Option(help="Model file to write.")],
    sets: Set = None,
    rules: Annotated[
        Path | None, typer.Option("--map", metavar="FILE.yaml", help="Regular expressions that rewrite names.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Data set whose classes these are, and that it is scored on.")] = "cifar10",
    mean: Annotated[tuple[float, float, float] | None, typer.Option(help="Mean of pixels in [0, 1], per channel.")] = None,
    std: Annotated[tuple[float, float, float] | None, typer.Option(help="Their standard deviation, per channel.")] = None,
    size: Annotated[
        int | None, typer.Option(min=8, max=1024, help="Height and width to read a folder's pictures at (default: 32).")
    ] = None,
    resize: Annotated[Literal["crop", "pad", "squash"], typer.Option(help="How pictures of a folder become squares.")] = "crop",
    use: Use = None,
    json: Json = False,
) -> None:
    """Make a model file of weights that were trained elsewhere, as by kuangliu/pytorch-cifar."""
    from bantamnet.runs.importing import import_weights

    run_own_code(use)
    facts = import_weights(
        weights, name, out, sets=sets or [], classes=classes, mean=mean, std=std, size=size, resize=resize, rules_file=rules
    )
    show.either(json, facts, show.imported)


@app.command(epilog="Example: bantamnet runs --sort test")
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(show.RUN_COLUMNS)}.")] = "name",
    json: Json = False,
) -> None:
    """List runs and their figures."""
    from bantamnet.runs.describe import list_runs

    show.either(json, {"runs": list_runs(folder, sort, show.RUN_COLUMNS)}, show.run_list)


for verbs in (verbs_report, verbs_compare, verbs_audit, verbs_explain, verbs_submit):
    verbs.register(app)
app.add_typer(recipes_app, name="recipes", invoke_without_command=True)
app.add_typer(bench_app, name="bench")
