"""Steps through torch.compile: the same training, and nothing of the run spent on compiling."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_tensors
from bantamnet.training import train
from bantamnet.training.checkpoints import list_checkpoints
from conftest import invoke, tiny

SETS = ("device=cpu", "precision=fp32", "model.dropout=null", "ema=null")
SMALLEST = "model={name: custom, stem: imagenet, stem_width: 4, widths: [8], blocks: [1], dropout: null}"
PLAN = "progressive_resizing=[{scale: 0.5, until: 0.4}]"
real_compile = torch.compile


def without_compiler(net: Any, **keys: Any) -> Any:
    """Traced and split as for a real backend, then run by PyTorch's own kernels."""
    return real_compile(net, backend="aot_eager", dynamic=keys["dynamic"])


def trained(path: Path, *sets: str) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], dict[str, Any]]:
    run = train.train(tiny(*SETS, *sets), path)
    tensors, _ = read_tensors(list_checkpoints(run.checkpoints)[-1])
    return tensors, RunDirectory(path).epochs(), run.summary() or {}


def test_compiled_steps_train_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling sees every size of picture and of batch, and leaves weights, statistics and random numbers as they were."""
    plain, plain_lines, summary = trained(tmp_path / "plain", PLAN)
    assert summary["compile_seconds"] == 0 and summary["wait_seconds"] > summary["seconds"]
    monkeypatch.setattr(torch, "compile", without_compiler)
    tensors, lines, summary = trained(tmp_path / "compiled", PLAN, "compile=default")
    assert summary["compile_seconds"] > 0 and tensors.keys() == plain.keys()
    assert lines[0]["train_loss"] == pytest.approx(plain_lines[0]["train_loss"], rel=1e-3)
    for name, tensor in plain.items():
        if name.startswith("net:") and tensor.is_floating_point():
            torch.testing.assert_close(tensors[name], tensor, rtol=1e-2, atol=1e-3)
        elif name.startswith("rng:"):
            assert torch.equal(tensors[name], tensor)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_real_compiler_does_the_same(tmp_path: Path) -> None:
    plain, *_ = trained(tmp_path / "plain", SMALLEST, "epochs=1")
    tensors, _, summary = trained(tmp_path / "compiled", SMALLEST, "epochs=1", "compile=default")
    assert summary["compile_seconds"] > 1
    for name, tensor in plain.items():
        if name.startswith("net:") and tensor.is_floating_point():
            torch.testing.assert_close(tensors[name], tensor, rtol=1e-2, atol=1e-3)


def test_a_missing_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda net, **keys: real_compile(net, backend=failing))
    arguments = ["train", "quickstart", "--set", "compile=default", "--out", str(tmp_path / "run")]
    code, _, err = invoke(arguments, monkeypatch, capsys)
    assert code == 2 and "No working C++ compiler" in err and "set compile=none" in " ".join(err.split())
    assert not (tmp_path / "run").exists()
