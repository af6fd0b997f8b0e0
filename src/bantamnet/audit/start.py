"""What a run started from, and how often it was made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bantamnet.audit.claimed import headline
from bantamnet.audit.finding import Finding, NotCheckedError, Severity, Source
from bantamnet.audit.subject import Subject
from bantamnet.config import RunConfig
from bantamnet.configfile import read_yaml
from bantamnet.errors import UserError
from bantamnet.runs.tensorfile import read_header

FIRST_EPOCH = {"cifar10": (0.65, 0.75), "cifar100": (0.35, 0.45), "digits": (0.9, 0.98)}
"""(accuracy on training images as they are seen, on others at its end) above which a first epoch began with trained weights."""

SEED_FREE = ("seed", "checkpoint", "device", "about")
"""Keys that may differ between runs of one setting."""


def warm_start(subject: Subject) -> Iterator[Finding]:
    """Whether the weights were trained before the run began."""
    claims = subject.claimed
    if claims and claims.initial_weights:
        yield _finding(
            f"claims.initial_weights: the logged run started from {claims.initial_weights}",
            "train from random weights, or name the weights under `init:` and what they were trained on",
            "claim",
        )
    elif claims:
        yield from _too_good_claim(subject)
    yield from _declared(subject.recipe)
    yield from _too_good_run(subject)


def _finding(evidence: str, fix: str, read: Source, severity: Severity = "error") -> Finding:
    return Finding("warm-start", severity, evidence, fix, read)


def _too_good_claim(subject: Subject) -> Iterator[Finding]:
    """A published curve that begins where no random weights begin."""
    assert subject.claimed
    limit = FIRST_EPOCH.get(subject.config.data.name, (1.0, 1.0))[1]
    for curve, points in subject.claimed.milestones.items():
        if points.get(1, 0.0) > 100 * limit:
            yield _finding(
                f"claims.milestones: {curve} has {points[1]:g}% after epoch 1; from random weights an epoch of "
                f"{subject.config.data.name} gets to less than {100 * limit:g}%",
                "say what the run started from",
                "claim",
            )


def _declared(config: RunConfig) -> Iterator[Finding]:
    """Weights named under `init:`, which the label of a figure does not tell."""
    if config.init is None:
        return
    start = f"init: the run starts from {config.init}"
    fix = "tell it beside every figure, with what those weights were trained on; or train from random weights (init=null)"
    try:
        origin = read_header(Path(config.init).expanduser())["repeat"]["config"]
        label = read_header(Path(config.init).expanduser())["label"]
    except (UserError, KeyError):
        yield _finding(f"{start}, which cannot be read here: what it was trained on is not known", fix, "config", "warning")
        return
    if "imported" in origin:
        yield _finding(
            f"{start}, weights imported from {origin['imported']['file']}: nobody here knows which images trained and chose "
            f"them, test images may be among them, and the label of this run's figures is *{config.label}* all the same",
            fix,
            "config",
        )
        return
    data = origin["data"]
    if label == "as published":
        yield _finding(f"{start}, whose label is *as published*: test or augmented images chose those weights", fix, "config")
    elif data["name"] == config.data.name and data["test"] != config.data.test.model_dump(mode="json"):
        yield _finding(
            f"{start}, which was trained with data.test={data['test']}: its training images are not kept apart from the test "
            f"images of this run ({config.data.test.model_dump(mode='json')})",
            "train both with the same data.test",
            "config",
        )
    elif data["name"] == config.data.name and _held_out(data["val"]) != _held_out(config.data.val.model_dump()):
        yield _finding(
            f"{start}, which was trained with data.val={data['val']}: it has learned from this run's validation images "
            f"({config.data.val.model_dump(mode='json')})",
            "train both with the same data.val",
            "config",
            "warning",
        )
    else:
        yield _finding(
            f"{start}, trained for {origin['epochs']} epochs before: this run's {config.epochs} epochs alone do not make its "
            "figures",
            fix,
            "config",
            "warning",
        )


def _held_out(val: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(val[key] for key in ("source", "count", "split_seed"))


def _too_good_run(subject: Subject) -> Iterator[Finding]:
    """A first epoch that no random weights make, in a run that says it started from such."""
    first = subject.epochs[0]
    name = subject.config.data.name
    if subject.recipe.init is not None:
        return
    if name not in FIRST_EPOCH:
        raise NotCheckedError(f"what a first epoch from random weights gets to is not known for {name}")
    train, val = FIRST_EPOCH[name]
    over = [
        f"{words} {100 * first[key]:.2f}% (random weights: less than {100 * limit:g}%)"
        for key, limit, words in (("train_accuracy", train, "on training images"), ("val_accuracy", val, "on validation images"))
        if first.get(key, 0.0) > limit
    ]
    if over:
        yield _finding(
            f"metrics.jsonl: accuracy of epoch 1 is {' and '.join(over)}, and config.yaml names no `init`",
            "find out what the run started from, and name it under `init:`",
            "run",
        )


def single_seed(subject: Subject) -> Iterator[Finding]:
    """Whether there is one run behind a figure."""
    name = "single-seed"
    claims = subject.claimed
    if claims and claims.runs == 1:
        told = f", while the report speaks of {claims.runs_told}" if claims.runs_told else ""
        yield Finding(
            name,
            "warning" if told else "note",
            f"claims.runs: one run has left a trace behind {headline(claims)}{told}; how far seeds differ is not known",
            "train three seeds or more and give mean and standard deviation",
            "claim",
        )
    if subject.kind == "recipe":
        return
    subject.summary  # noqa: B018 - there is no figure before it
    config = subject.recipe
    others = _seeds_beside(subject.run.path, config) - {config.seed}
    if not others:
        yield Finding(
            name,
            "note",
            f"config.yaml: one run, of seed {config.seed}, stands behind this figure; no finished run of the same config and "
            f"another seed lies beside it in {subject.run.path.resolve().parent}",
            "train more seeds and give mean and standard deviation; the interval shown is that of the test images alone",
            "run",
        )


def _seeds_beside(path: Path, config: RunConfig) -> set[int]:
    """Seeds of the finished runs in the same folder whose config is otherwise the same."""
    wanted, named = _setting(config.dump()), f"name: {config.name}\n"
    seeds: set[int] = set()
    for other in sorted(path.resolve().parent.glob("*/config.yaml")):
        if not (other.parent / "summary.json").is_file():
            continue
        try:
            if named not in other.read_text(encoding="utf-8"):  # most of a folder of many runs need not be parsed
                continue
            tree = read_yaml(other)
        except (OSError, ValueError):
            continue
        if _setting(tree) == wanted:
            seeds.add(tree["seed"])
    return seeds


def _setting(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in SEED_FREE}
