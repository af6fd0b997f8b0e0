"""Imports only go down the layers; --help stays free of PyTorch."""

import ast
import subprocess
import sys
from pathlib import Path

import bantamnet

SOURCE = Path(bantamnet.__file__).parent
LAYERS = {
    "errors": 0, "config": 0, "configfile": 0, "runtime": 0, "lock": 0, "machine": 0, "memory": 0, "kernels": 0,
    "models": 1, "data": 1, "optim": 1,
    "runs": 2, "evaluate": 2,
    "training": 3,
    "report": 4, "audit": 4, "bench": 4,
    "cli": 5, "__main__": 6, "__init__": 5,
}  # fmt: skip
SIDEWAYS = {("evaluate", "runs"), ("__init__", "cli"), ("cli", "__init__"), ("report", "audit")}


def part_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "bantamnet":
                part = name.split(".")[1] if "." in name else "__init__"
                found.add(part if part in LAYERS else "__init__")
    return found


def test_imports_only_go_down() -> None:
    paths = list(SOURCE.rglob("*.py"))
    assert len(paths) > 20
    wrong = [
        f"{path.relative_to(SOURCE)} imports {other}"
        for path in paths
        for other in imported(path)
        if other != part_of(path)
        and LAYERS[other] >= (LAYERS[part_of(path)])
        and not (LAYERS[part_of(path)] == LAYERS[other] == 0)
        and (part_of(path), other) not in SIDEWAYS
    ]
    assert not wrong


def test_help_does_not_import_pytorch() -> None:
    verbs = [
        "",
        "train",
        "evaluate",
        "fetch",
        "predict",
        "summary",
        "data",
        "audit",
        "report",
        "runs",
        "check",
        "doctor",
        "recipes",
        "recipes list",
        "recipes show",
        "recipes copy",
        "import",
        "explain",
        "submit",
        "compare",
        "ablate",
    ]
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom bantamnet.cli.app import app\n"
        f"for verb in {verbs!r}:\n"
        "    result = CliRunner().invoke(app, [*verb.split(), '--help'])\n"
        "    assert result.exit_code == 0, result.output\n"
        "    assert not verb or verb == 'recipes' or 'Example: bantamnet' in result.output, result.output\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_fit_on_a_few_screens_and_the_loop_in_one_sitting() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 420, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name == "fit":
                assert (node.end_lineno or 0) - node.lineno <= 130
