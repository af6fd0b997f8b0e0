"""What is audited, read once; a part that is not there says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from bantamnet.audit.finding import NotCheckedError
from bantamnet.config import Claims, Imported, RunConfig
from bantamnet.config.data import is_path
from bantamnet.configfile import validate_origin
from bantamnet.data.foldersource import FolderSource
from bantamnet.data.sources import Source, find_source
from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.evaluate.scoring import divide, load_parts, moved
from bantamnet.models.build import build_to_count
from bantamnet.runs.directory import RunDirectory, read_lines
from bantamnet.runs.lookup import find, resolve
from bantamnet.runs.modelfile import ModelInfo, load_model
from bantamnet.runs.own import use_copies
from bantamnet.runs.tensorfile import read_header, read_tensors

Read = TypeVar("Read")


@dataclass(frozen=True)
class Subject:
    """A run directory, a model file or a recipe; each property raises `NotCheckedError` where the subject has no such thing."""

    name: str
    kind: str
    """run, model file or recipe."""
    path: Path | None
    config: RunConfig | Imported
    data_dir: Path | None = None
    use_data: bool = True
    """Look at images where they are at hand; nothing is ever downloaded."""
    near_duplicates: bool = False
    data: str | None = None
    """Where its data are now; None for where they were."""

    @property
    def moved(self) -> RunConfig | Imported:
        """The config with its data where they are now."""
        return moved(self.config, self.data)

    @property
    def recipe(self) -> RunConfig:
        """The config of a run; an imported model has none."""
        if isinstance(self.config, Imported):
            raise NotCheckedError("the weights are imported, and how they were trained is not known")
        return self.config

    @property
    def claimed(self) -> Claims | None:
        """What a report says of itself, if this is one's."""
        return None if isinstance(self.config, Imported) else self.config.claims

    @property
    def claims(self) -> Claims:
        """The same for a check that reads nothing else."""
        if self.claimed is None:
            raise NotCheckedError("there are no `claims:`")
        return self.claimed

    @property
    def run(self) -> RunDirectory:
        """The run directory."""
        if self.kind != "run" or self.path is None:
            raise NotCheckedError(f"a {self.kind} is no run")
        return RunDirectory(self.path)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The run's final figures."""
        try:
            summary = self.run.summary()
        except ValueError:
            raise NotCheckedError("summary.json cannot be read") from None
        if not summary:
            raise NotCheckedError("the run is unfinished: it has no summary.json")
        return summary

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one or more."""
        lines = self.run.epochs()
        if not lines:
            raise NotCheckedError("metrics.jsonl holds no epoch yet")
        return lines

    @cached_property
    def looks(self) -> list[dict[str, Any]]:
        """The lines of evaluations.jsonl, one or more."""
        lines = read_lines(self.run.evaluations)
        if not lines:
            raise NotCheckedError("evaluations.jsonl holds no look at test images")
        return lines

    @property
    def model_path(self) -> Path:
        """The model file."""
        path = self.path if self.kind == "model file" else self.run.best
        if path is None or not path.is_file():
            raise NotCheckedError("the run kept no model file yet")
        return path

    @cached_property
    def header(self) -> dict[str, Any]:
        """What the model file says beside its weights."""
        return _read(lambda: read_header(self.model_path))

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The tensors of the model file."""
        return _read(lambda: read_tensors(self.model_path))[0]

    @cached_property
    def model(self) -> tuple[nn.Module, ModelInfo]:
        """The trained net in evaluation mode, and what its file says."""
        if self.kind == "run" and (self.run.path / "own").is_dir():
            _read(lambda: use_copies(self.run.path, self.recipe.use))
        net, info, _ = _read(lambda: load_model(self.model_path))
        return net, info

    @property
    def figures(self) -> list[dict[str, Any]]:
        """Final figures by split, of the run's summary or of the model file alone; each says which in `where`."""
        if self.kind == "run":
            return [{**figure, "where": "summary.json"} for figure in self.summary["figures"].values()]
        if self.kind == "recipe":
            raise NotCheckedError("a recipe is no run")
        if not self.header["figures"]:
            raise NotCheckedError("the model file holds no figures")
        return [{**figure, "where": "the model file"} for figure in self.header["figures"]]

    def predictions(self, split: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(logits, targets and ids, header) of a run's predictions."""
        path = self.run.path / "predictions" / f"{split}.safetensors"
        if not path.is_file():
            raise NotCheckedError(f"the run has no predictions/{split}.safetensors")
        return _read(lambda: read_tensors(path))

    @cached_property
    def source(self) -> Source | FolderSource:
        """The data set that the config names."""
        return _read(lambda: find_source(self.moved.data.name))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Of the data set, in its order."""
        return _read(lambda: self.source.class_names)

    @cached_property
    def num_classes(self) -> int:
        """Of the data set, or where that is not here of the model file."""
        try:
            return len(self.class_names)
        except NotCheckedError:
            return len(self.header["class_names"])

    @cached_property
    def net(self) -> nn.Module:
        """The net of the config, to be counted: its weights are not read, and may be on meta."""
        return _read(lambda: build_to_count(self.config.model, self.num_classes))

    @cached_property
    def splits(self) -> dict[str, Split]:
        """The images as training has them, where they are at hand."""
        if not self.use_data:
            raise NotCheckedError("images were not to be looked at")
        source, keys = self.source, self.moved.data
        if isinstance(source, FolderSource):
            return _read(lambda: divide(load_parts(keys, self.data_dir), keys.val))
        found = _read(lambda: (source.find or source.load)(self.data_dir))
        if found is None:
            fetch = "" if is_path(keys.name) else f" (bantamnet fetch {keys.name}, or --data-dir)"
            raise NotCheckedError(f"the images of {keys.name} are not here{fetch}")
        return _read(lambda: divide({"train": found[0], "test": found[1]}, keys.val))


def open_subject(
    name: str,
    *,
    data_dir: Path | None = None,
    use_data: bool = True,
    near_duplicates: bool = False,
    data: str | None = None,
    sets: Sequence[str] = (),
    use: Sequence[Path] = (),
) -> Subject:
    """The run directory, model file or recipe of that name or path; raises `UserError` for anything else.

    `data` says where its data are now; `sets` and `use` are for recipes, as in `resolve`.
    """
    found = find(name)
    if found.kind == "net":
        raise UserError(f"{name} is a net, which claims nothing; name a run, a model file or a recipe")
    if sets and found.kind != "recipe":
        raise UserError(f"--set: {name} is a {found.kind}; it is what it is")
    assert found.path is not None
    config: RunConfig | Imported
    if found.kind == "recipe":
        config = resolve(name, sets, use)
    elif found.kind == "run":
        config = RunDirectory(found.path).config()
        use_copies(found.path, config.use)
    else:
        config = validate_origin(read_header(found.path).get("repeat", {}).get("config", {}), name)
    path = None if found.kind == "recipe" else found.path
    return Subject(name, found.kind, path, config, data_dir, use_data, near_duplicates, data)


def _read(reader: Callable[[], Read]) -> Read:
    """What the reader reads; a file that is damaged or missing leaves a check unmade."""
    try:
        return reader()
    except UserError as error:
        raise NotCheckedError(str(error)) from None
    except (OSError, KeyError, RuntimeError) as error:
        raise NotCheckedError(f"{type(error).__name__}: {error}") from None
