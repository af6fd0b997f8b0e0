"""Everything that a report shows of one run, read from its directory (and its images from its data set)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bantamnet.config import RunConfig
from bantamnet.data.foldersource import FolderSource
from bantamnet.data.listener import Listener
from bantamnet.data.sources import find_source
from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.evaluate.scoring import divide, moved, own_look
from bantamnet.models.summary import Summary, summarize
from bantamnet.runs.directory import RunDirectory, read_lines
from bantamnet.runs.modelfile import ModelInfo, load_model
from bantamnet.runs.own import use_copies


@dataclass(frozen=True)
class RunFacts:
    """A finished run; what costs time is read when it is first asked for."""

    run: RunDirectory
    config: RunConfig
    summary: dict[str, Any]
    data_dir: Path | None = None
    data: str | None = None
    """Where its data are now; None for where they were."""

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.summary["name"])

    @property
    def data_name(self) -> str:
        """The data set's name, or a folder's own name."""
        return Path(self.config.data.name).name

    @property
    def test(self) -> dict[str, Any]:
        """The figures on the test images."""
        figures: dict[str, Any] = self.summary["figures"]["test"]
        return figures

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return self.run.epochs()

    @cached_property
    def test_looks(self) -> list[dict[str, Any]]:
        """Every look at the test images."""
        return [look for look in read_lines(self.run.evaluations) if own_look(look, self.summary)]

    @cached_property
    def _model(self) -> tuple[nn.Module, ModelInfo, str]:
        return load_model(self.run.best)

    @property
    def net(self) -> nn.Module:
        """The net that was measured, in evaluation mode on the CPU."""
        return self._model[0]

    @property
    def info(self) -> ModelInfo:
        """What the model file says beside its weights."""
        return self._model[1]

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self.info.class_names

    @cached_property
    def layers(self) -> Summary:
        """What the net is made of."""
        return summarize(self.net, self.info.preprocessing.size)

    @cached_property
    def predictions(self) -> dict[str, Tensor]:
        """Logits (N, classes), targets (N,) and ids (N,) of the test images."""
        return self.run.predictions("test")

    @cached_property
    def _images(self) -> dict[str, Split] | str:
        try:
            splits = splits_at_hand(self.config, self.data_dir, self.data)
        except UserError as error:
            return str(error).splitlines()[0]
        if splits is None:
            return f"{self.config.data.name} is not in the data folder (`bantamnet fetch {self.config.data.name}` gets it)"
        for name, split in splits.items():
            if split.fingerprint != self.summary["data"][name]["fingerprint"]:
                return f"the {name} images at hand are not those of the run (another fingerprint)"
        assert splits["test"].ids.equal(self.predictions["ids"]), "predictions are in the order of their split"
        return splits

    @property
    def splits(self) -> dict[str, Split] | None:
        """`train`, `val`, `test` with their images, where the run's very own are at hand."""
        return None if isinstance(self._images, str) else self._images

    @property
    def why_no_images(self) -> str:
        """Why `splits` is None."""
        return self._images if isinstance(self._images, str) else ""


def read_run(path: Path, data_dir: Path | None = None, data: str | None = None) -> RunFacts:
    """The facts of a finished run; raises `UserError` for another."""
    run = RunDirectory.open(path)
    summary = run.summary()
    if summary is None:
        raise UserError(f"{path} is unfinished; go on with it first: bantamnet train --resume {path}")
    config = run.config()
    use_copies(path, config.use)
    return RunFacts(run, config, summary, data_dir, data)


def splits_at_hand(config: RunConfig, data_dir: Path | None, data: str | None) -> dict[str, Split] | None:
    """The splits of a run from what lies here, or None; nothing is downloaded. Raises `UserError` for data that are damaged."""
    config = moved(config, data)
    source = find_source(config.data.name)
    if isinstance(source, FolderSource):
        return divide(source.read(config.data, Listener()).splits, config.data.val)
    parts = (source.find or source.load)(data_dir)
    return divide({"train": parts[0], "test": parts[1]}, config.data.val) if parts else None
