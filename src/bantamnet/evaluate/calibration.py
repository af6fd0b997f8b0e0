"""Whether probabilities mean what they say: reliability, expected calibration error, temperature scaling."""

from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor

BINS = 15
"""As in Guo et al. 2017."""
Edges = Literal["equal-width", "equal-mass"]


def reliability(logits: Tensor, targets: Tensor, edges: Edges = "equal-width", bins: int = BINS) -> list[dict[str, Any]]:
    """Rows of a reliability diagram, empty bins left out: `low` < confidence ≤ `high`, `num`, mean `confidence`, `accuracy`.

    Confidence is the probability of the answer (first of equal ones), in float64. `equal-width` cuts [0, 1] evenly,
    `equal-mass` at the quantiles of the confidences, equal ones staying together; the lowest bin has its lower edge too.
    """
    logits, targets = logits.double().cpu(), targets.cpu()
    if not len(targets):
        return []
    predicted = logits.argmax(1)
    confidence = logits.softmax(1).gather(1, predicted[:, None])[:, 0].numpy()
    right = (predicted == targets).double().numpy()
    cuts = np.linspace(0, 1, bins + 1)
    if edges == "equal-mass":
        cuts = np.percentile(confidence, 100 * cuts)
    places = np.searchsorted(cuts[1:-1], confidence)
    num = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, values, minlength=bins) for values in (confidence, right)]
    return [
        {
            "low": float(cuts[index]),
            "high": float(cuts[index + 1]),
            "num": int(num[index]),
            "confidence": float(sums[0][index] / num[index]),
            "accuracy": float(sums[1][index] / num[index]),
        }
        for index in num.nonzero()[0]
    ]


def calibration_error(logits: Tensor, targets: Tensor, edges: Edges = "equal-width", bins: int = BINS) -> float:
    """Expected calibration error in [0, 1]: the gap between confidence and accuracy, averaged over images by bin.

    Naeini et al. 2015, as Guo et al. 2017 (arXiv 1706.04599) use it; 0 of no images.
    """
    rows = reliability(logits, targets, edges, bins)
    return float(sum(row["num"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / max(1, len(targets)))


def fit_temperature(logits: Tensor, targets: Tensor) -> float | None:
    """The T above 0 by which logits are to be divided for the least NLL on these images, which must be validation images.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599). NLL is convex in 1/T, so the zero of its derivative is found by
    halving, to the last bit. None where there is no least: every image right (T → 0), answers no better than chance (T → ∞),
    a logit that is not finite, or no image.
    """
    logits, targets = logits.double().cpu(), targets.cpu()
    if not len(targets) or not logits.isfinite().all():
        return None
    wanted = logits.gather(1, targets[:, None])[:, 0]

    def slope(inverse: float) -> float:
        expected = ((logits * inverse).softmax(1) * logits).sum(1)
        return float((expected - wanted).mean())

    if not bool((logits.amax(1) > wanted).any()) or slope(0.0) >= 0:
        return None
    low, high = 0.0, 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / high


def calibration(logits: Tensor, targets: Tensor, temperature: float | None = None) -> dict[str, Any]:
    """ECE of both kinds and, where a `temperature` is given, ECE and NLL (nats) of the logits divided by it."""
    facts: dict[str, Any] = {
        "bins": BINS,
        "ece": calibration_error(logits, targets),
        "ece_equal_mass": calibration_error(logits, targets, "equal-mass"),
        "temperature": temperature,
    }
    if temperature is not None:
        scaled = logits.double().cpu() / temperature
        facts |= {
            "ece_scaled": calibration_error(scaled, targets),
            "ece_equal_mass_scaled": calibration_error(scaled, targets, "equal-mass"),
            "nll_scaled": float(F.cross_entropy(scaled, targets.cpu())) if len(targets) else 0.0,
        }
    return facts
