"""A run directory: every file a run leaves, by name."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from bantamnet.config import RunConfig
from bantamnet.configfile import read_yaml, validate, write_yaml
from bantamnet.errors import UserError, WriteError
from bantamnet.runs.tensorfile import read_tensors, write_bytes, write_tensors

GROUP_FILE = "group.json"
"""Names the runs in a folder of them, which differ in their seed."""


class RunDirectory:
    """Paths and records of one run; see the README for what each file holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.best = path / "best.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.evaluations = path / "evaluations.jsonl"

    @staticmethod
    def refuse_used(path: Path) -> None:
        """Raise `UserError` where something is already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} exists already; choose another --out, or continue it: bantamnet train --resume {path}")

    @classmethod
    def create(cls, path: Path, config: RunConfig, command: str = "") -> "RunDirectory":
        """A new run with its resolved config and the command that begins it; raises `UserError` where something is already."""
        cls.refuse_used(path)
        run = cls(path)
        try:
            for folder in (run.checkpoints, path / "predictions"):
                folder.mkdir(parents=True)
        except FileExistsError:
            raise UserError(f"{path} was taken by another process just now; choose another --out") from None
        except OSError as error:
            raise WriteError(path, error) from None
        write_bytes(path / "command.txt", f"{command}\n".encode())
        write_bytes(path / "config.yaml", write_yaml(config.dump()).encode())
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run; raises `UserError` where there is none."""
        refuse_group(path)
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path} is no run directory (it has no config.yaml); `bantamnet runs` lists them")
        return cls(path)

    def config(self) -> RunConfig:
        """The resolved config it was made with."""
        path = self.path / "config.yaml"
        return validate(read_yaml(path), str(path))

    def command(self) -> str:
        """The command that began the run, whatever resumed it."""
        path = self.path / "command.txt"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def summary(self) -> dict[str, Any] | None:
        """Final figures, or None while the run is unfinished."""
        path = self.path / "summary.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        except ValueError:
            raise UserError(f"{path} is damaged; remove it, and make it again: bantamnet train --resume {self.path}") from None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Final figures."""
        write_bytes(self.path / "summary.json", (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode())

    def shifts(self) -> dict[str, dict[str, Any]]:
        """The last figures on each kind of shifted data, by its name; see `evaluate --shift`."""
        path = self.path / "shift.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def write_shift(self, facts: dict[str, Any]) -> None:
        """Figures on shifted data, in the place of earlier ones on the same kind."""
        kept = {**self.shifts(), facts["shift"]: facts}
        write_bytes(self.path / "shift.json", (json.dumps(kept, indent=2, ensure_ascii=False) + "\n").encode())

    def epochs(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return read_lines(self.metrics)

    def cut_metrics(self, epochs: int) -> None:
        """Keep the first `epochs` lines: those that a checkpoint stands behind."""
        kept = self.epochs()[:epochs]
        write_bytes(self.metrics, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a writer that was killed."""
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def write_predictions(self, split: str, logits: Tensor, targets: Tensor, ids: Tensor, header: dict[str, Any]) -> None:
        """`logits` float32 (N, classes), `targets` and `ids` int64 (N,)."""
        path = self.path / "predictions" / f"{split}.safetensors"
        write_tensors(path, {"logits": logits.float(), "targets": targets, "ids": ids}, header)

    def predictions(self, split: str) -> dict[str, Tensor]:
        """What `write_predictions` wrote."""
        return read_tensors(self.path / "predictions" / f"{split}.safetensors")[0]


def refuse_group(path: Path) -> None:
    """Raise `UserError` for a group of runs, where one run is asked for."""
    if (path / GROUP_FILE).is_file():
        begun = sorted(config.parent for config in path.glob("*/config.yaml"))
        raise UserError(f"{path} is a group of runs; name one of them" + (f", as in {begun[0]}" if begun else ""))


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add one JSON line; raises `WriteError`."""
    try:
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":  # a writer was killed in the middle of a line
                    file.write(b"\n")
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
            file.flush()
    except OSError as error:
        raise WriteError(path, error) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole JSON lines; one that was cut short is left out."""
    records: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records


def free_directory(root: Path, name: str) -> Path:
    """`root/name`, or `root/name-2`, `-3`, … where that is taken."""
    path, number = root / name, 2
    while path.exists():
        path, number = root / f"{name}-{number}", number + 1
    return path
