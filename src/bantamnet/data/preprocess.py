"""From a picture to what a net reads: one function for pixels, one for files, the same in training and wherever a model goes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bantamnet.data.folder import is_hidden, natural_key
from bantamnet.data.pictures import ENDINGS, PictureError, Resize, read_picture
from bantamnet.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """Input size (height, width), the per-channel mean and standard deviation of pixels in [0, 1], how files are resized."""

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "crop"

    def normalize(self, images: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        """uint8 (N, 3, H, W) in 0 … 255 → float32 of the same shape: (x / 255 − mean) / std."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        pixels = images.contiguous(memory_format=memory_format).float()
        return pixels.mul_(1 / (255 * std)).sub_(mean / std)

    def read_image(self, path: Path) -> Tensor:
        """A picture file as uint8 (3, H, W), as `read_picture` makes it; what its ending says does not matter here."""
        try:
            return torch.from_numpy(read_picture(path, self.size, self.resize)[0])
        except PictureError as error:
            raise UserError(f"{path}: not a picture that can be read ({error})") from None

    def read_images(self, paths: Sequence[Path]) -> tuple[Tensor, list[Path], list[str]]:
        """(uint8 (N, 3, H, W) of the files that are pictures, those files, what is wrong with the others)."""
        images, readable, complaints = [], [], []
        for path in paths:
            try:
                images.append(self.read_image(path))
            except UserError as error:
                complaints.append(str(error))
            else:
                readable.append(path)
        return torch.stack(images) if images else torch.empty(0, 3, *self.size, dtype=torch.uint8), readable, complaints

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a model file keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """Undo for `as_dict`."""
        return cls(**{name: tuple(values[name]) for name in ("size", "mean", "std")}, resize=values.get("resize", "crop"))


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Files as given, and the pictures in folders, in natural order (2 before 10), hidden ones left out.

    Raises `UserError` where there are none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found_here = (p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            inside = [p for p in found_here if not any(map(is_hidden, p.relative_to(path).parts))]
            inside.sort(key=lambda p: [natural_key(part) for part in p.relative_to(path).parts])
            if not inside:
                raise UserError(f"{path}: no pictures in this folder ({', '.join(ENDINGS)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return found
