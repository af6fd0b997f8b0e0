"""Operations that serve views (`data/views.py`) more than training: most draw nothing and treat every image alike."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.operations import Byte, HFlip, Operation, Parameters, arguments

Pixels = Annotated[int, Field(ge=-1024, le=1024)]


class Fixed(Operation):
    """An operation without random parameters."""

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Nothing."""
        return {}


@arguments
class Shift(Fixed):
    """Move the image `right` and `down` by whole pixels (negative: left, up); the border is mirrored without its edge."""

    right: Pixels
    down: Pixels
    border: Literal["reflect"] = "reflect"

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Look each pixel up where it came from."""
        height, width = images.shape[2:]
        rows, columns = _mirrored(height, self.down, images), _mirrored(width, self.right, images)
        return images[:, :, rows[:, None], columns]


def _mirrored(length: int, shift: int, images: Tensor) -> Tensor:
    """(length,) int64: which of `length` pixels each comes from after a shift, as in `numpy.pad(mode="reflect")`."""
    period = max(1, 2 * (length - 1))
    place = (torch.arange(length, device=images.device) - shift) % period
    return torch.minimum(place, (period - place) % period) if length > 1 else torch.zeros_like(place)


@arguments
class CentreCrop(Fixed):
    """Pad all sides by `pad` pixels of `fill` and cut the old size out of the middle: the image itself, whatever it is called."""

    pad: Annotated[int, Field(ge=0, le=1024)]
    fill: Byte = 0

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Cut out of the padded images."""
        height, width = images.shape[2:]
        padded = F.pad(images, (self.pad,) * 4, value=self.fill)
        return padded[:, :, self.pad : self.pad + height, self.pad : self.pad + width]


@arguments
class VFlip(HFlip):
    """Turn upside down with probability `p` (`ImageOps.flip`)."""

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Flip those."""
        return torch.where(parameters["flip"][:, None, None, None], images.flip(2), images)


VIEW_OPERATIONS: dict[str, type[Operation]] = {"shift": Shift, "centre_crop": CentreCrop, "vflip": VFlip}
