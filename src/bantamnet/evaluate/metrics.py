"""Figures from logits (N, classes) and targets (N,); of classes with equal logits the first one is the answer."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from bantamnet.evaluate.distributions import Z_95


def wilson_interval(correct: int, num: int, z: float = Z_95) -> tuple[float, float]:
    """95% interval of a share of `correct` out of `num`, in [0, 1] (Wilson 1927)."""
    if num == 0:
        return 0.0, 1.0
    share = correct / num
    centre = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion_matrix(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """int64 (classes, classes): row is the true class, column the predicted one."""
    return (targets.cpu() * num_classes + predicted.cpu()).bincount(minlength=num_classes**2).view(num_classes, -1)


def score(logits: Tensor, targets: Tensor) -> dict[str, Any]:
    """Number of images, how many are right, accuracy and NLL (nats, float64), with accuracy's 95% interval; shares in [0, 1]."""
    logits, targets = logits.double().cpu(), targets.cpu()
    correct, num = int((logits.argmax(1) == targets).sum()), len(targets)
    low, high = wilson_interval(correct, num)
    return {
        "num": num,
        "correct": correct,
        "accuracy": correct / num if num else 0.0,
        "accuracy_95": [low, high],
        "nll": float(F.cross_entropy(logits, targets)) if num else 0.0,
    }


def per_class(logits: Tensor, targets: Tensor, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """For each class: number of images, precision, recall and F1 in [0, 1]; a ratio with nothing below it is 0."""
    matrix = confusion_matrix(logits.argmax(1), targets, len(class_names))
    hits, true, said = matrix.diag(), matrix.sum(1), matrix.sum(0)
    rows = []
    for index, name in enumerate(class_names):
        right, support, claimed = int(hits[index]), int(true[index]), int(said[index])
        rows.append(
            {
                "class": name,
                "num": support,
                "precision": right / claimed if claimed else 0.0,
                "recall": right / support if support else 0.0,
                "f1": 2 * right / (support + claimed) if support + claimed else 0.0,
            }
        )
    return rows


def macro(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the rows of `per_class`, each class counting the same: precision, recall and F1 over all classes,
    balanced accuracy over those that have images (their mean recall; 0 of none).
    """
    present = [row["recall"] for row in rows if row["num"]]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in ("precision", "recall", "f1")}
    return {**means, "balanced_accuracy": sum(present) / len(present) if present else 0.0}


def predicted_classes(logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """(probabilities, classes) of the `top` most likely classes, each (N, top), most likely first; of equal ones the first."""
    logits = logits.float()
    classes = logits.sort(dim=1, descending=True, stable=True).indices[:, :top]
    return logits.softmax(1).gather(1, classes), classes
