"""The README holds: its commands run, its Python runs, its figures are those of results/."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bantamnet.cli.app import app
from bantamnet.runs.describe import list_recipes
from bantamnet.runs.lookup import RECIPES, recipe_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(needs_cifar: bool) -> list[str]:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [line for line in lines if ("resnet8-tiny" in line) == needs_cifar]


def run_in(folder: Path, lines: list[str]) -> None:
    """Run each line as a person would, in a folder that has the examples beside it."""
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in lines:
        assert shlex.split(line, comments=True)[0] == "bantamnet"
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env={**os.environ, "PATH": path, "BANTAMNET_MIRRORS": "none"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_every_command_runs_and_digits_reach_98_percent(tmp_path: Path) -> None:
    lines = commands(needs_cifar=False)
    assert len(lines) >= 10
    run_in(tmp_path, lines)
    summary = json.loads((tmp_path / "runs" / "digits" / "summary.json").read_text())
    assert summary["figures"]["test"]["accuracy"] >= 0.98 and summary["figures"]["test"]["num"] == 360


@pytest.mark.slow
@pytest.mark.cifar10
def test_the_cifar_command_learns(cifar_dir: Path, tmp_path: Path) -> None:
    run_in(tmp_path, commands(needs_cifar=True))
    accuracy = json.loads((tmp_path / "runs" / "tiny" / "summary.json").read_text())["figures"]["test"]["accuracy"]
    assert accuracy >= 0.55, "two epochs of real CIFAR-10"


@pytest.mark.slow
def test_the_python_runs(tmp_path: Path) -> None:
    (block,) = blocks("python")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Prediction(" in done.stdout, done.stderr


def test_the_figures_are_those_of_results() -> None:
    for path, text in runpy.run_path(str(ROOT / "benchmarks" / "documents.py"))["documents"]().items():
        assert path.read_text(encoding="utf-8") == text, "run: python benchmarks/documents.py"


def test_every_verb_and_recipe_is_mentioned_and_pictures_exist() -> None:
    for command in app.registered_commands:
        assert command.callback is not None and f"bantamnet {command.name or command.callback.__name__}" in README
    for name in recipe_names():
        assert f"`{name}`" in README
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file()


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipes_head_claims_what_results_hold(name: str) -> None:
    module = runpy.run_path(str(ROOT / "benchmarks" / "documents.py"))
    measured = module["load"](name)
    head = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").split("\nschema:")[0].split("\nbase:")[0]
    whole = measured and module["in_full"](name, measured["runs"][0])
    accuracies = [run["figures"]["test"]["accuracy"] for run in measured["runs"]] if whole else []
    claim = module["percents"](accuracies) if whole else "not yet run in full"
    assert claim in head and f"bantamnet train {name}" in head
    assert f"{list_recipes()[recipe_names().index(name)]['parameters']:,} parameters" in head
