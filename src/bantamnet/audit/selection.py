"""What chose the weights, and what they started from."""

from collections.abc import Iterator

from bantamnet.audit.finding import Finding
from bantamnet.audit.subject import Subject
from bantamnet.config import RunConfig
from bantamnet.evaluate.scoring import own_look


def test_selection(subject: Subject) -> Iterator[Finding]:
    """Whether test images chose the weights, steered the rate or ended the run."""
    config = subject.recipe
    if config.data.val.source == "test":
        yield _watched(config)
    yield from _looks(subject)


def _watched(config: RunConfig) -> Finding:
    """What test images did that were scored after every epoch."""
    ways = [
        *(["chose the checkpoint (select: best-test)"] if config.select == "best-test" else []),
        *(["steered the learning rate (a plateau schedule)"] if config.watches_plateau else []),
        *(["ended the run (early_stop)"] if config.early_stop else []),
    ]
    if ways:
        worth = f"the best of {config.epochs} looks" if config.select == "best-test" else "that of images that helped to train"
        return Finding(
            "test-selection",
            "error",
            f"data.val.source is test: the test images {' and '.join(ways)}, so accuracy on them is {worth} and not that of "
            "unseen ones",
            "set data.val.source=train and select=best-val, train again, and score the test images once",
            "config",
        )
    return Finding(
        "test-selection",
        "note",
        f"data.val.source is test: the test images are scored after each of {config.epochs} epochs, though no key lets them "
        "choose anything",
        "set data.val.source=train, or none, so that nobody can choose by them either",
        "config",
    )


LOOKS = 3
"""Ways of scoring the test images from which their number is told."""


def _looks(subject: Subject) -> Iterator[Finding]:
    """Test images that were scored in several ways, of which somebody may quote the best."""
    if subject.kind != "run" or not (subject.run.path / "summary.json").is_file():  # an unfinished one was scored in one way
        return
    keys = ("tta", "tta_average", "tta_below")
    later = [look for look in subject.looks if look["why"] not in ("after an epoch", "shift") and own_look(look, subject.summary)]
    ways = {tuple(look.get(key) for key in keys): look["accuracy"] for look in later}
    if len(ways) >= LOOKS:
        yield Finding(
            "test-selection",
            "note",
            f"evaluations.jsonl: the test images were scored in {len(ways)} ways, from {100 * min(ways.values()):.2f}% to "
            f"{100 * max(ways.values()):.2f}% ({', '.join(str(way[0]) for way in ways)}): the "
            "best of them was chosen by these images",
            "choose the views on validation images (bantamnet evaluate RUN --split val), and quote the way that was chosen there",
            "run",
        )


def augmented_validation(subject: Subject) -> Iterator[Finding]:
    """Whether validation images pass through the training augmentation."""
    config = subject.recipe
    val = config.data.val
    if not (val.augment and config.data.augment and val.source != "none"):
        return
    chose = config.select != "last" or config.watches_plateau or config.early_stop is not None
    yield Finding(
        "augmented-validation",
        "error" if chose else "warning",
        f"data.val.augment is true: validation images pass through `{config.data.augment}`"
        + (f" and choose the checkpoint (select: {config.select})" if config.select != "last" else ""),
        "set data.val.augment=false",
        "config",
    )
