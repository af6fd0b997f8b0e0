"""What chose the weights, and what they started from."""

from collections.abc import Iterator

from bantamnet.audit.finding import Finding
from bantamnet.audit.subject import Subject


def test_selection(subject: Subject) -> Iterator[Finding]:
    """Whether test images chose the weights, steered the rate or ended the run."""
    config, name = subject.recipe, "test-selection"
    if config.data.val.source != "test":
        return
    ways = [
        *(["chose the checkpoint (select: best-test)"] if config.select == "best-test" else []),
        *(["steered the learning rate (a plateau schedule)"] if config.watches_plateau else []),
        *(["ended the run (early_stop)"] if config.early_stop else []),
    ]
    if ways:
        yield Finding(
            name,
            "error",
            f"data.val.source is test: the test images {' and '.join(ways)}, so accuracy on them is the best of "
            f"{config.epochs} looks and not that of unseen images",
            "set data.val.source=train and select=best-val, train again, and score the test images once",
            "config",
        )
    else:
        yield Finding(
            name,
            "note",
            f"data.val.source is test: the test images are scored after each of {config.epochs} epochs, though no key lets them "
            "choose anything",
            "set data.val.source=train, or none, so that nobody can choose by them either",
            "config",
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
