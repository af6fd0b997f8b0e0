"""Train a recipe again on all training images, for as long as validation said."""

from pathlib import Path

from bantamnet.config import Refit, RunConfig
from bantamnet.data.foldersource import FolderSource
from bantamnet.data.sources import find_source
from bantamnet.errors import UserError
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.own import use_copies


def refit_config(path: Path, seed: int | None = None) -> RunConfig:
    """The config that refits the run in `path`: no validation images, last weights, as many epochs as validation chose there.

    A schedule that follows the run's epochs ends with them; a length given as a number stays. An epoch has more steps now,
    since the held-out images are trained on too. `seed` None keeps the run's. Raises `UserError` for a run in which validation
    images chose nothing, chose with the help of test or augmented images, or did more than choose an epoch.
    """
    run = RunDirectory.open(path)
    config, summary = run.config(), run.summary()
    use_copies(path, config.use)
    again = "train it with data.val.source=train and select=best-val first, then refit that run"
    if config.data.val.source == "none":
        raise UserError(f"--refit: {path} trained on all images already; there is nothing to add")
    if config.select == "last":
        raise UserError(f"--refit: in {path} validation chose no epoch (select: last); {again}")
    if config.data.val.source == "test":
        raise UserError(f"--refit: test images chose the epoch of {path}, and a refit would hide it; {again}")
    source = find_source(config.data.name)
    if isinstance(source, FolderSource) and any(file.part == "val" for file in source.listing.files):
        raise UserError(
            f"--refit: {source.root} has a val/ of its own, which no run trains on, so there is nothing to add; "
            "to train on its images too, move them into train/ and begin with a recipe"
        )
    if config.data.val.augment:
        raise UserError(f"--refit: augmented images chose the epoch of {path}; set data.val.augment=false and train it again")
    if config.watches_plateau:
        raise UserError(
            f"--refit: a plateau schedule steered {path} by validation loss, and a refit has none; "
            "train it with optim.schedule=cosine (or multistep) first, then refit that run"
        )
    if not config.counts_epochs:
        raise UserError(
            f"--refit: {path} ended by time or steps, not by epochs; give the recipe itself the same limit and all images: "
            "--set data.val.source=none --set select=last"
        )
    if summary is None:
        raise UserError(f"--refit: {path} is unfinished; go on with it first: bantamnet train --resume {path}")
    chosen, val = summary["chosen"], summary["figures"]["val"]
    origin = Refit(
        run=str(path),
        weights_digest=summary["weights_digest"],
        epoch=chosen["epoch"],
        epochs=summary["epochs"],
        step=chosen["step"],
        seed=config.seed,
        val_accuracy=val["accuracy"],
        val_num=val["num"],
    )
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"val": config.data.val.model_copy(update={"source": "none"})}),
            "select": "last",
            "early_stop": None,
            "epochs": origin.epoch,
            "seed": config.seed if seed is None else seed,
            "refit_of": origin,
        }
    )
