"""Reliability and expected calibration error against scikit-learn and a plain loop; temperature against scipy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from torch import Tensor

from bantamnet.evaluate.calibration import Edges, calibration, calibration_error, fit_temperature, reliability


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def overconfident(num: int = 400, scale: float = 4.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits whose softmax is right before they are multiplied by `scale`."""
    generator = seeded(seed)
    logits = torch.randn(num, 6, generator=generator)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return scale * logits, targets


def confidences(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    probabilities = logits.double().softmax(1).numpy()
    predicted = logits.double().numpy().argmax(1)
    return probabilities[range(len(targets)), predicted], predicted == targets.numpy()


CASES = {
    "random": overconfident(),
    "ties in every row": (torch.randint(0, 2, (200, 5), generator=seeded(3)).float(), torch.arange(200) % 5),
    "all the same": (torch.zeros(30, 4), torch.arange(30) % 4),
    "certain": (1e4 * F.one_hot(torch.arange(40) % 4, 4).float(), torch.arange(40) % 3),
    "on the edges of bins": (torch.tensor([[k / 15, 1 - k / 15] for k in range(1, 15)]).log(), torch.zeros(14).long()),
    "one image": (torch.tensor([[0.2, 0.1, 3.0]]), torch.tensor([2])),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("edges", "strategy"), [("equal-width", "uniform"), ("equal-mass", "quantile")])
@pytest.mark.parametrize("bins", [15, 4])
def test_bins_are_scikit_learns(case: str, edges: Edges, strategy: str, bins: int) -> None:
    logits, targets = CASES[case]
    confidence, right = confidences(logits, targets)
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins, strategy=strategy, pos_label=True)
    rows = reliability(logits, targets, edges, bins)
    assert [row["accuracy"] for row in rows] == pytest.approx(accuracy.tolist(), abs=1e-15)
    assert [row["confidence"] for row in rows] == pytest.approx(mean.tolist(), abs=1e-15)
    assert sum(row["num"] for row in rows) == len(targets)


@pytest.mark.parametrize("case", CASES)
def test_ece_is_the_published_sum(case: str) -> None:
    logits, targets = CASES[case]
    confidence, right = confidences(logits, targets)
    total = 0.0
    for index in range(15):
        low, high = np.linspace(0, 1, 16)[index : index + 2]
        inside = [k for k in range(len(targets)) if (low < confidence[k] or (index == 0 and confidence[k] == 0)) and (
            confidence[k] <= high or index == 14)]  # fmt: skip
        if inside:
            gap = np.mean([right[k] for k in inside]) - np.mean([confidence[k] for k in inside])
            total += len(inside) / len(targets) * abs(gap)
    assert calibration_error(logits, targets) == pytest.approx(total, abs=1e-12)


def test_equal_mass_bins_hold_equal_shares_and_the_order_of_images_does_not_matter() -> None:
    logits, targets = overconfident(450)
    assert [row["num"] for row in reliability(logits, targets, "equal-mass")] == [30] * 15
    shuffled = torch.randperm(450, generator=seeded(1))
    for edges in ("equal-width", "equal-mass"):
        ours = calibration_error(logits[shuffled], targets[shuffled], edges)
        assert ours == pytest.approx(calibration_error(logits, targets, edges), abs=1e-12)
    ties, labels = CASES["ties in every row"]
    order = torch.randperm(200, generator=seeded(1))
    ours = calibration_error(ties[order], labels[order], "equal-mass")
    assert ours == pytest.approx(calibration_error(ties, labels, "equal-mass"), abs=1e-12)


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0, 50.0])
def test_temperature_has_the_least_nll(scale: float) -> None:
    logits, targets = overconfident(2000, scale)
    temperature = fit_temperature(logits, targets)
    assert temperature is not None

    def nll(inverse: float) -> float:
        return float(F.cross_entropy(logits.double() * inverse, targets))

    found = minimize_scalar(nll, bounds=(0, 20 / scale), method="bounded", options={"xatol": 1e-10})
    assert 1 / temperature == pytest.approx(found.x, rel=1e-5) and nll(1 / temperature) <= found.fun + 1e-12
    assert temperature == pytest.approx(scale, rel=0.1)
    assert nll(1 / temperature) < min(nll(1.0001 / temperature), nll(0.9999 / temperature))


def test_scaling_keeps_answers_and_mends_confidence() -> None:
    fitted = fit_temperature(*overconfident(seed=1))
    logits, targets = overconfident(4000)
    facts = calibration(logits, targets, fitted)
    assert facts["ece_scaled"] < 0.04 < 0.2 < facts["ece"] and facts["ece_equal_mass_scaled"] < 0.04 < facts["ece_equal_mass"]
    assert fitted is not None
    probabilities = (logits.double() / fitted).softmax(1)
    assert facts["nll_scaled"] == pytest.approx(log_loss(targets, probabilities, labels=range(6)), rel=1e-12)
    plain = calibration(logits, targets)
    assert plain["temperature"] is None and "nll_scaled" not in plain and plain["ece"] == facts["ece"]


def test_no_temperature_where_there_is_no_least_nll() -> None:
    logits, targets = overconfident()
    assert fit_temperature(logits, logits.argmax(1)) is None  # every image right: the colder the better
    assert fit_temperature(logits, logits.argmin(1)) is None  # worse than chance: the warmer the better
    assert fit_temperature(torch.zeros(5, 3), torch.zeros(5).long()) is None
    assert fit_temperature(logits[:0], targets[:0]) is None
    assert fit_temperature(torch.cat([logits, torch.full((1, 6), math.nan)]), torch.cat([targets, targets[:1]])) is None
    assert calibration(logits[:0], targets[:0])["ece"] == 0
    almost = logits.argmax(1)
    almost[0] = logits[0].argmin()
    temperature = fit_temperature(logits, almost)
    assert temperature is not None and 0 < temperature < 1e3
