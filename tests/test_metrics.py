"""Every figure is scikit-learn's, on random and on adversarial logits: ties, missing classes, one class, one image."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.special import log_softmax, softmax
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve
from torch import Tensor

from bantamnet.evaluate.calibration import calibration_error, reliability
from bantamnet.evaluate.metrics import confusion_matrix, macro, per_class, predicted_classes, score

Case = tuple[Tensor, Tensor]


@some.composite
def cases(draw: some.DrawFn) -> Case:
    """Logits (N, classes) of few values, so that ties abound, or of any; targets that leave classes out."""
    num, classes = draw(some.integers(1, 40)), draw(some.integers(2, 7))
    scale = draw(some.sampled_from([1e-3, 1.0, 20.0, 1e4]))
    seed, kind = draw(some.integers(0, 2**32)), draw(some.sampled_from(["random", "ties", "equal", "one-sided"]))
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, classes, generator=generator)
    if kind == "ties":
        logits = torch.randint(-1, 2, (num, classes), generator=generator).float()
    elif kind == "equal":
        logits = torch.zeros(num, classes)
    elif kind == "one-sided":
        logits[:, draw(some.integers(0, classes - 1))] += 5
    seen = draw(some.lists(some.integers(0, classes - 1), min_size=1, unique=True))
    targets = torch.tensor(seen)[torch.randint(0, len(seen), (num,), generator=generator)]
    return scale * logits, targets


@given(cases())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_figure_is_scikit_learns_to_the_last_bit(case: Case) -> None:
    logits, targets = case
    classes = list(range(logits.shape[1]))
    said, true = logits.numpy().argmax(1), targets.numpy()
    figures, rows = score(logits, targets), per_class(logits, targets, tuple(map(str, classes)))
    assert figures["num"] == len(true) and figures["correct"] == theirs.accuracy_score(true, said, normalize=False)
    assert figures["accuracy"] == theirs.accuracy_score(true, said)
    matrix = confusion_matrix(torch.from_numpy(said), targets, len(classes))
    assert np.array_equal(matrix.numpy(), theirs.confusion_matrix(true, said, labels=classes))
    expected = theirs.precision_recall_fscore_support(true, said, labels=classes, zero_division=0)
    assert [(row["precision"], row["recall"], row["f1"], row["num"]) for row in rows] == list(zip(*expected, strict=True))
    means, average = macro(rows), {"labels": classes, "average": "macro", "zero_division": 0}
    assert means["precision"] == pytest.approx(theirs.precision_score(true, said, **average), rel=1e-15)
    assert means["recall"] == pytest.approx(theirs.recall_score(true, said, **average), rel=1e-15)
    assert means["f1"] == pytest.approx(theirs.f1_score(true, said, **average), rel=1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of answers that no image has as its class
        assert means["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(true, said), rel=1e-15)


@given(cases())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_nll_and_calibration_are_scikit_learns(case: Case) -> None:
    logits, targets = case
    probabilities = softmax(logits.double().numpy(), 1)
    nll = score(logits, targets)["nll"]
    assert nll == pytest.approx(
        -log_softmax(logits.double().numpy(), 1)[range(len(targets)), targets].mean(), rel=1e-12, abs=1e-15
    )
    if probabilities.min() > 1e-15:  # scikit-learn clips at the float's epsilon
        assert nll == pytest.approx(theirs.log_loss(targets, probabilities, labels=range(logits.shape[1])), rel=1e-9, abs=1e-14)
    said = logits.numpy().argmax(1)
    confidence = probabilities[range(len(said)), said]
    accuracy, mean = calibration_curve(said == targets.numpy(), confidence, n_bins=15, pos_label=True)
    rows = reliability(logits, targets)
    # A confidence that is an edge but for its last bit may fall into the next bin, here or there.
    if not np.isclose(confidence[:, None], np.linspace(0, 1, 16)[1:-1], rtol=0, atol=1e-12).any():
        assert [row["accuracy"] for row in rows] == pytest.approx(accuracy.tolist(), rel=1e-15)
        assert [row["confidence"] for row in rows] == pytest.approx(mean.tolist(), rel=1e-14)
        weights = np.array([row["num"] for row in rows]) / len(said)
        assert calibration_error(logits, targets) == pytest.approx((weights * abs(accuracy - mean)).sum(), abs=1e-14)


@given(cases(), some.integers(1, 8))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_most_likely_classes_are_scikit_learns_and_of_equal_ones_the_first(case: Case, top: int) -> None:
    logits, targets = case
    probabilities, classes = predicted_classes(logits, top)
    num_classes = logits.shape[1]
    assert classes.shape == probabilities.shape == (len(logits), min(top, num_classes))
    assert torch.equal(classes[:, 0], logits.argmax(1)) and bool((probabilities.diff(dim=1) <= 0).all())
    assert np.array_equal(classes.numpy(), np.argsort(-logits.numpy(), 1, kind="stable")[:, :top])
    if top < num_classes > 2:
        hits = (classes == targets[:, None]).any(1).double().mean()
        # scikit-learn takes the last of equal ones, so it gets the classes in reverse.
        expected = theirs.top_k_accuracy_score(num_classes - 1 - targets, logits.flip(1), k=top, labels=range(num_classes))
        assert float(hits) == pytest.approx(expected, rel=1e-15)


def test_figures_of_nothing_and_of_what_is_no_number() -> None:
    empty = torch.empty(0, 3), torch.empty(0, dtype=torch.int64)
    assert score(*empty)["accuracy"] == 0 and macro(per_class(*empty, ("a", "b", "c"))) == dict.fromkeys(
        ("precision", "recall", "f1", "balanced_accuracy"), 0.0
    )
    broken = torch.tensor([[math.nan, 0.0, 1.0]])
    assert math.isnan(score(broken, torch.tensor([2]))["nll"]) and math.isnan(calibration_error(broken, torch.tensor([2])))
