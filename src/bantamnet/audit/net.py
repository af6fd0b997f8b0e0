"""What the trained net says of training and validation images; it is never asked about test images."""

import copy
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bantamnet.audit.finding import Finding, NotCheckedError
from bantamnet.audit.subject import Subject
from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.evaluate.logits import split_logits
from bantamnet.evaluate.scoring import moved
from bantamnet.runtime import Ranks, recorded_precision
from bantamnet.training.averaging import update_bn
from bantamnet.training.loop import unmixed
from bantamnet.training.setup import prepare

MEASURED = 2048
"""Training images that BatchNorm's statistics are measured anew on, in whole batches."""
SCORED = 1000
"""Images that both sets of statistics are scored on, or that are scored again."""
GAIN, SURE = 0.02, 3.0
"""The new statistics must be right on this share of images more, and by this many standard deviations of chance."""
SAME = 0.98
"""Share of images on which two computations of the same logits agree at least, whatever they round to."""
CPU = torch.device("cpu")


def batchnorm(subject: Subject) -> Iterator[Finding]:
    """Whether BatchNorm's running statistics are those of what the net sees."""
    if subject.kind == "recipe":
        raise NotCheckedError("a recipe is no run")
    config = subject.recipe
    net, _ = subject.model
    if not _norms(net):
        raise NotCheckedError("the net has no BatchNorm")
    splits = subject.splits
    kind = "val" if "val" in splits and config.data.val.source != "test" else "train"
    try:
        with torch.random.fork_rng(devices=[]):
            setup, _ = prepare(
                moved(config, subject.data).model_copy(update={"init": None}), subject.data_dir, CPU, Ranks(), with_init=False
            )
    except UserError as error:
        raise NotCheckedError(str(error)) from None
    renewed = copy.deepcopy(net)
    num_batches = max(2, min(setup.steps_per_epoch, MEASURED // config.batch_size))
    update_bn(renewed, islice(unmixed(setup, 0), num_batches), setup)
    split = _spread(splits[kind])
    before, after = (_right(one, split, subject, setup.precision) for one in (net, renewed))
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    gain = (gained - lost) / len(split)
    if gain < GAIN or gained - lost < SURE * (gained + lost) ** 0.5:
        return
    mean_shift, ratio = _shift(net, renewed)
    yield Finding(
        "batchnorm",
        "warning",
        f"the model file's BatchNorm statistics are stale: measured anew on {num_batches * config.batch_size:,} training "
        f"images, accuracy on {len(split):,} {kind} images goes from {100 * float(before.double().mean()):.2f}% to "
        f"{100 * float(after.double().mean()):.2f}%; in the middle channel the mean moves by {mean_shift:.2f} standard "
        f"deviations and the variance by a factor of {ratio:.2f}",
        "train longer at a low rate, or measure the statistics of the weights that are kept (swa does, ema with "
        "buffers=average too)",
        "model",
    )


def _norms(net: nn.Module) -> list[_BatchNorm]:
    return [module for module in net.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]


def _shift(old: nn.Module, new: nn.Module) -> tuple[float, float]:
    """(median over channels of the mean's move in standard deviations, median factor between the variances, 1 or more)."""
    moves, factors = [], []
    for before, after in zip(_norms(old), _norms(new), strict=True):
        assert before.running_mean is not None and after.running_mean is not None
        assert before.running_var is not None and after.running_var is not None
        moves.append((before.running_mean - after.running_mean).abs() / (after.running_var + after.eps).sqrt())
        factors.append(((before.running_var + before.eps) / (after.running_var + after.eps)).log().abs())
    return float(torch.cat(moves).median()), float(torch.cat(factors).median().exp())


def _spread(split: Split) -> Split:
    """Some images of a split, evenly spread over it."""
    step = max(1, len(split) // SCORED)
    return split.subset(torch.arange(0, len(split), step)[:SCORED])


def _right(net: nn.Module, split: Split, subject: Subject, precision: str) -> Tensor:
    logits = split_logits(net, split, subject.model[1].preprocessing, precision=precision)
    return logits.argmax(1) == split.labels


def replay(subject: Subject) -> Iterator[Finding]:
    """Whether the stored logits are what the model file says of the validation images."""
    if subject.kind != "run":
        raise NotCheckedError(f"a {subject.kind} is no run")
    tensors, header = subject.predictions("val")
    if header.get("tta", "none") != "none":
        raise NotCheckedError("its logits are averages over views")
    split = subject.splits.get("val")
    if split is None or len(split) != len(tensors["ids"]) or not torch.equal(split.ids, tensors["ids"]):
        raise NotCheckedError("the validation images here are not those of the run")
    part = _spread(split)
    rows = torch.isin(split.ids, part.ids)
    precision = recorded_precision(str(header.get("precision", "fp32")), torch.device("cpu"))
    again = split_logits(subject.model[0], part, subject.model[1].preprocessing, precision=precision).argmax(1)
    stored = tensors["logits"][rows].argmax(1)
    same = float((stored == again).double().mean())
    wrong_targets = int((tensors["targets"][rows] != part.labels).sum())
    if same < SAME:
        yield _replayed(
            f"predictions/val.safetensors: on {len(part):,} validation images the model file says the same class as the stored "
            f"logits on {100 * same:.2f}%: they are of other weights or another preprocessing",
            "score the weights that are kept: bantamnet evaluate RUN --split val",
        )
    if wrong_targets:
        yield _replayed(
            f"predictions/val.safetensors: {wrong_targets:,} of {len(part):,} targets are not the labels of those images now",
            "find out which labels are right, and score again",
        )


def _replayed(evidence: str, fix: str) -> Finding:
    return Finding("replay", "error", evidence, fix, "run")
