"""A trained net with its preprocessing and class names: what `bantamnet.load` gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bantamnet.config import Tta
from bantamnet.errors import UserError
from bantamnet.evaluate.logits import batch_logits, batch_size
from bantamnet.evaluate.metrics import predicted_classes
from bantamnet.evaluate.tta import ViewAverage, chosen_tta
from bantamnet.runs.directory import RunDirectory, refuse_group
from bantamnet.runs.modelfile import ModelInfo, load_model
from bantamnet.runs.own import use_copies
from bantamnet.runtime import memory_format, pick_device, pick_precision, recorded_precision

Pictures = Sequence[str | Path] | np.ndarray[Any, Any] | Tensor


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one picture, most likely first, with their probabilities."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The most likely class."""
        return self.classes[0]


@dataclass(frozen=True)
class Classifier:
    """`net` in evaluation mode on its device, and what its file says."""

    net: nn.Module
    info: ModelInfo
    digest: str
    precision: str

    def logits(self, pictures: Pictures, tta: str | Tta | ViewAverage = "none") -> Tensor:
        """float32 (N, classes) on the CPU, of files, or of uint8 images (N, 3, H, W) or (N, H, W, 3) of the input size.

        `tta` is a word, a line of views, the keys of a config, `recipe` for those of the run, or a `ViewAverage` that counts.
        """
        device = next(self.net.parameters()).device
        average = chosen_tta(tta, self.info.config)
        parts, done = [], 0
        for batch in self._images(pictures):
            indices = torch.arange(done, done + len(batch))
            parts.append(batch_logits(self.net, batch.to(device), self.info.preprocessing, average, self.precision, indices))
            done += len(batch)
        return torch.cat(parts).cpu() if parts else torch.empty(0, len(self.info.class_names))

    def predict(self, pictures: Pictures, top: int = 1, tta: str | Tta | ViewAverage = "none") -> list[Prediction]:
        """The `top` most likely classes of each picture."""
        if top < 1:
            raise UserError(f"top must be 1 or more, got {top}")
        probabilities, classes = predicted_classes(self.logits(pictures, tta), top)
        names = self.info.class_names
        return [
            Prediction(tuple(names[index] for index in row), tuple(values))
            for row, values in zip(classes.tolist(), probabilities.tolist(), strict=True)
        ]

    def _images(self, pictures: Pictures) -> Sequence[Tensor]:
        """uint8 batches (N, 3, H, W) of a size that memory holds."""
        height, width = self.info.preprocessing.size
        if isinstance(pictures, str | Path):
            raise UserError(f"give a list of pictures: [{str(pictures)!r}]")
        if not isinstance(pictures, np.ndarray | Tensor):
            read = [self.info.preprocessing.read_image(Path(picture)) for picture in pictures]
            return torch.stack(read).split(batch_size((height, width))) if read else []
        images = torch.as_tensor(np.ascontiguousarray(pictures) if isinstance(pictures, np.ndarray) else pictures)
        if images.ndim == 4 and images.shape[3] == 3 and images.shape[1] != 3:
            images = images.permute(0, 3, 1, 2)
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != (3, height, width):
            raise UserError(
                f"images must be uint8 (N, 3, {height}, {width}) or (N, {height}, {width}, 3), "
                f"got {images.dtype} {tuple(images.shape)}"
            )
        return images.split(batch_size((height, width))) if len(images) else []


def load_classifier(path: Path, device: str = "auto", precision: str | None = "auto") -> Classifier:
    """The classifier of a model file, or of a run directory's best.safetensors; precision None is that of its figures."""
    file = path / "best.safetensors" if path.is_dir() else path
    if not file.is_file():
        refuse_group(path)
        is_run = (path / "config.yaml").is_file()
        unfinished = f"the run kept no model yet; continue it: bantamnet train --resume {path}"
        hint = unfinished if is_run else "no run directory or model file"
        raise UserError(f"{path}: {hint}")
    if (path / "own").is_dir():  # a run directory is the user's own: it keeps the code that it was trained with
        use_copies(path, RunDirectory.open(path).config().use)
    net, info, digest = load_model(file)
    where = pick_device(device)
    if precision is None:
        precision = recorded_precision(info.figures[0]["precision"] if info.figures else info.config["precision"], where)
    else:
        precision = pick_precision(precision, where)
    placed = net.to(where, memory_format=memory_format(where, precision))  # type: ignore[call-overload]
    return Classifier(placed, info, digest, precision)
