"""Stochastic weight averaging, Lookahead and early stopping inside real runs."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import bantamnet
from bantamnet.config import EarlyStop, RunConfig
from bantamnet.runs.lookup import resolve
from bantamnet.runs.tensorfile import read_tensors
from bantamnet.runtime import Ranks
from bantamnet.training import train
from bantamnet.training.averaging import average_epoch, update_bn
from bantamnet.training.checkpoints import list_checkpoints
from bantamnet.training.loop import batches
from bantamnet.training.progress import Progress
from bantamnet.training.setup import prepare
from bantamnet.training.stopping import EarlyStopping
from conftest import tiny

CPU = torch.device("cpu")


def test_batchnorm_statistics_are_those_of_pytorchs_update_bn() -> None:
    setup, state = prepare(tiny("precision=fp32", "model.dropout=null"), None, CPU, Ranks())
    images = [batch for batch, *_ in batches(setup, 0)]
    assert len({len(batch) for batch in images}) == 2, "the last batch is short"
    twin = copy.deepcopy(state.net)
    torch.optim.swa_utils.update_bn(images, twin)
    state.net.train()
    update_bn(state.net, iter(images), setup)
    for name, value in state.net.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
    assert state.net.training and {m.momentum for m in state.net.modules() if hasattr(m, "running_mean")} == {0.1}


def test_measuring_batchnorm_statistics_draws_nothing_and_drops_nothing_out() -> None:
    setup, state = prepare(tiny("precision=fp32"), None, CPU, Ranks())
    plain = prepare(tiny("precision=fp32", "model.dropout=null"), None, CPU, Ranks())[1].net
    images = [batch for batch, *_ in batches(setup, 0)]
    before = torch.get_rng_state()
    update_bn(state.net, images, setup)
    assert torch.equal(before, torch.get_rng_state())
    update_bn(plain, images, setup)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, state.net.state_dict()[name]), name


@pytest.mark.parametrize(
    ("start", "epochs", "averaged"), [(0.75, 20, 5), (0.75, 1, 1), (0.0, 4, 4), (0.7, 10, 3), (0.99, 10, 1), (0.5, 5, 3)]
)
def test_epochs_from_the_share_on_count(start: float, epochs: int, averaged: int) -> None:
    setup, state = prepare(tiny("ema=null", f"swa.start={start}", f"epochs={epochs}"), None, CPU, Ranks())
    assert state.swa is not None
    counted = []
    for epoch in range(epochs):
        average_epoch(setup, state, epoch, [], Progress(Console(quiet=True)))
        counted.append(state.swa.num_averaged)
    assert counted[-1] == averaged and counted.count(0) == epochs - averaged


def test_a_run_keeps_the_equal_average_of_its_last_epochs(tmp_path: Path) -> None:
    sets = ("epochs=4", "ema=null", "swa.start=0.5", "select=last", "checkpoint.keep=9", "precision=fp32", "data.mix=mixup(0.2)")
    config = tiny(*sets, "device=cpu", "model.dropout=null")
    run = train.train(config, tmp_path / "run")
    saved = [read_tensors(path)[0] for path in list_checkpoints(run.checkpoints)]
    assert len(saved) == 4
    model = bantamnet.load(run.path, precision="fp32").net  # in the layout it was trained in
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), (saved[2][f"net:{name}"] + saved[3][f"net:{name}"]) / 2)
    # The statistics are of the last epoch's images as they were augmented, none of them a mixture.
    setup, _ = prepare(tiny(*sets[:-1], "device=cpu", "model.dropout=null"), None, CPU, Ranks())
    twin = copy.deepcopy(model)
    torch.optim.swa_utils.update_bn([images for images, *_ in batches(setup, 3)], twin)
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


def test_a_run_keeps_lookaheads_slow_weights(tmp_path: Path) -> None:
    run = train.train(tiny("ema=null", "optim.lookahead={k: 4}", "select=last", "device=cpu"), tmp_path / "run")
    tensors, _ = read_tensors(list_checkpoints(run.checkpoints)[-1])
    for name, value in bantamnet.load(run.path).net.named_parameters():
        assert torch.equal(value.detach(), tensors[f"optim:0/{name}/slow"])
        assert not torch.equal(value.detach(), tensors[f"net:{name}"]), "14 steps end between two of the slow ones"


@pytest.mark.parametrize(("patience", "min_delta", "end"), [(1, 0.0, 3), (2, 0.0, 7), (2, 0.05, 4), (4, 0.0, 9), (5, 0.0, None)])
def test_patience_and_min_delta(patience: int, min_delta: float, end: int | None) -> None:
    accuracies = [0.5, 0.56, 0.55, 0.58, 0.6, 0.6, 0.6, 0.59, 0.58]
    stopping = EarlyStopping(EarlyStop(patience=patience, min_delta=min_delta))
    ends = []
    for epoch, accuracy in enumerate(accuracies, 1):
        stopping.observe(accuracy)
        again = EarlyStopping(stopping.config)
        again.load(stopping.memory())
        assert again.over == stopping.over
        if stopping.over:
            ends.append(epoch)
    assert ends[:1] == ([end] if end else [])
    assert not EarlyStopping(None).over


def test_an_end_that_test_images_chose_is_labelled_so() -> None:
    stop = "early_stop={patience: 3}"
    assert tiny("select=last", "data.val.source=test").label == "final"
    assert tiny("select=last", "data.val.source=test", stop).label == "as published"
    assert tiny("select=last", stop).label == "clean"
    assert tiny("select=last", "data.val.augment=true", stop).label == "as published"


def test_a_run_that_improves_to_its_last_epoch_is_not_stopped_early(tmp_path: Path) -> None:
    run = train.train(tiny("early_stop={patience: 2}", "device=cpu"), tmp_path / "run")
    summary = run.summary() or {}
    assert summary["stopped_early"] is None and summary["steps"] == 14
    assert all("stopped_early" not in line for line in run.epochs())


def optimiser_of(*sets: str) -> Any:
    return resolve("quickstart", list(sets)).optim[0]


def test_another_name_keeps_the_keys_it_knows() -> None:
    muon = optimiser_of("optim.lookahead.k=3", "optim.name=muon")
    assert (muon.name, muon.lr, muon.momentum, muon.nesterov, muon.weight_decay) == ("muon", 0.1, 0.9, True, 5e-4)
    assert muon.lookahead.k == 3 and [piece.name for piece in muon.schedule] == ["warmup", "cosine"]
    back = optimiser_of("optim.name=muon", "optim.scale=none", "optim.name=adamw")
    assert (back.name, back.lr, back.weight_decay) == ("adamw", 0.1, 5e-4)
    piece = optimiser_of(
        "optim.schedule.1={name: one-cycle, epochs: 7, pct_start: 0.2}", "optim.schedule.1.name=linear"
    ).schedule[1]
    assert (piece.name, piece.epochs, piece.end) == ("linear", 7, 0.0)


def test_a_number_is_the_short_form_of_ema() -> None:
    short, whole = tiny("ema=0.9"), tiny("ema={decay: 0.9, buffers: copy, warmup: true}")
    assert short == whole and RunConfig.model_validate(short.dump()) == short
    assert tiny("ema={decay: 0.9, buffers: average}", "ema=0.5").ema == tiny("ema=0.5").ema
    assert tiny("sam=0.1").sam == tiny("sam={rho: 0.1}").sam
