"""Figures held against what they were measured from."""

from collections.abc import Iterator
from typing import Any

import torch

from bantamnet.audit.claimed import averaged_claim, claimed_source, impossible_claim
from bantamnet.audit.finding import Finding, NotCheckedError
from bantamnet.audit.subject import Subject
from bantamnet.evaluate.logits import BATCH
from bantamnet.evaluate.metrics import score
from bantamnet.runs.tensorfile import digest

USUAL_BATCHES = (32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024)
CLOSE = 1e-9


def impossible_accuracy(subject: Subject) -> Iterator[Finding]:
    """Whether every accuracy is a count of images divided by their number."""
    if subject.claimed:
        yield from impossible_claim(subject.claimed)
    for figure in subject.figures:
        accuracy, num = figure["accuracy"], figure["num"]
        if abs(accuracy * num - figure["correct"]) > 1e-6:
            yield _impossible(
                f"{figure['where']}: {figure['split']} accuracy", accuracy, num, f"; {figure['correct']:,} are right"
            )
    if subject.kind != "run":
        return
    for line in subject.epochs:
        if "val_accuracy" in line and abs(line["val_accuracy"] * line["val_num"] % 1 - 0.5) < 0.5 - 1e-6:
            yield _impossible(f"metrics.jsonl: epoch {line['epoch']}: val_accuracy", line["val_accuracy"], line["val_num"])
            return


def _impossible(what: str, accuracy: float, num: int, told: str = "") -> Finding:
    return Finding(
        "impossible-accuracy",
        "error",
        f"{what} {100 * accuracy:.10g}% of {num:,} images would be {accuracy * num:.10g} right answers{told}",
        "score again: bantamnet evaluate RUN",
        "run",
    )


def batch_mean(subject: Subject) -> Iterator[Finding]:
    """Whether an accuracy is a mean over batches of unequal size."""
    if subject.claimed:
        yield from averaged_claim(subject.claimed)
    for figure in subject.figures:
        tensors, _ = subject.predictions(figure["split"])
        right = (tensors["logits"].argmax(1) == tensors["targets"]).double()
        if abs(figure["accuracy"] - float(right.mean())) <= CLOSE:
            continue
        for size in sorted({subject.recipe.batch_size, BATCH, *USUAL_BATCHES}):
            batches = right.split(size)
            if abs(float(torch.stack([batch.mean() for batch in batches]).mean()) - figure["accuracy"]) <= CLOSE:
                yield Finding(
                    "batch-mean",
                    "error",
                    f"summary.json: {figure['split']} accuracy {100 * figure['accuracy']:.4f}% is the mean over batches of "
                    f"{size}, the last of {len(batches[-1])} images; {int(right.sum()):,} of {len(right):,} are right: "
                    f"{100 * float(right.mean()):.4f}%",
                    "count the right answers over all images and divide once: bantamnet evaluate RUN",
                    "run",
                )
                break


def figure_source(subject: Subject) -> Iterator[Finding]:
    """Whether figures, predictions and model file belong to the same weights, and to the epoch that was to be chosen."""
    if subject.claimed:
        yield from claimed_source(subject.claimed)
    if subject.kind == "recipe":
        raise NotCheckedError("a recipe is no run")
    header, found = subject.header, digest(subject.weights)
    if header["weights_digest"] != found:
        yield _elsewhere("the model file", f"names weights {_short(header['weights_digest'])} and holds {_short(found)}", "model")
    for figure in header["figures"]:
        if figure["digest"] != found:
            yield _elsewhere(
                "the model file", f"{_quoted(figure)} is of weights {_short(figure['digest'])}, not {_short(found)}", "model"
            )
    if subject.kind != "run":
        return
    for split, figure in subject.summary["figures"].items():
        if figure["digest"] != found:
            told = f"{_quoted(figure)} is of weights {_short(figure['digest'])}; best.safetensors holds {_short(found)}"
            yield _elsewhere("summary.json", told)
        yield from _predicted(subject, split, figure, found)
    yield from _chosen_epoch(subject)


def _predicted(subject: Subject, split: str, figure: dict[str, Any], weights: str) -> Iterator[Finding]:
    """The figure, computed again from the stored logits."""
    tensors, header = subject.predictions(split)
    again = score(tensors["logits"], tensors["targets"])
    where = f"predictions/{split}.safetensors"
    if header.get("digest") != weights:
        yield _elsewhere(where, f"are of weights {_short(str(header.get('digest')))}; best.safetensors holds {_short(weights)}")
    if (again["correct"], again["num"]) != (figure["correct"], figure["num"]):
        yield _elsewhere(
            "summary.json",
            f"{split} has {figure['correct']:,} of {figure['num']:,} right; the logits in {where} have {again['correct']:,} of "
            f"{again['num']:,}",
        )


def _chosen_epoch(subject: Subject) -> Iterator[Finding]:
    """Whether the epoch that was kept is the one that `select` means."""
    lines, chosen = subject.epochs, subject.summary["chosen"]
    if subject.recipe.select == "last":
        wanted, why = lines[-1]["epoch"], "the last one"
    else:
        best = max(lines, key=lambda line: float(line.get("val_accuracy", 0.0)))
        wanted, why = best["epoch"], f"the first with the highest accuracy, {100 * best.get('val_accuracy', 0.0):.2f}%"
    if chosen.get("epoch") != wanted:
        yield _elsewhere(
            "summary.json",
            f"epoch {chosen.get('epoch')} was kept; select: {subject.recipe.select} means epoch {wanted}, {why} in metrics.jsonl",
        )


def _elsewhere(where: str, told: str, read: Any = "run") -> Finding:
    return Finding("figure-source", "error", f"{where}: {told}", "score the weights that are kept: bantamnet evaluate RUN", read)


def _quoted(figure: dict[str, Any]) -> str:
    return f"{figure['split']} accuracy {100 * figure['accuracy']:.2f}%"


def _short(weights: str) -> str:
    return f"{weights[:12]}…"
