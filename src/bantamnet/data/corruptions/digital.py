"""What processing and storing does to images: contrast, colour, geometry, resolution, compression."""

import io
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.corruptions.linear import box, gaussian, resize, separable
from bantamnet.data.corruptions.pixels import SIDE, to_bytes, to_unit
from bantamnet.data.operation import Fixed, Operation, Parameters, Probability, Strength, arguments


@arguments
class Contrast(Fixed):
    """Each channel's distance from its mean over the image shrinks by `factor`."""

    factor: Strength

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """mean + factor · (x − mean)."""
        pixels = to_unit(images)
        mean = pixels.mean((2, 3), keepdim=True)
        return to_bytes((pixels - mean) * self.factor + mean)


@arguments
class Saturate(Fixed):
    """The saturation of HSV becomes `factor` times itself plus `offset`; hue and value stay. Grey counts as red."""

    factor: Strength
    offset: Strength

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """A channel lies below the value by saturation times a share that the hue alone decides."""
        pixels = to_unit(images)
        value = pixels.amax(1, keepdim=True)
        spread = value - pixels.amin(1, keepdim=True)
        red = pixels.new_tensor([0.0, 1.0, 1.0]).view(3, 1, 1)
        share = torch.where(spread > 0, (value - pixels) / spread.clamp(min=0.5 / 255), red)
        saturation = (spread / value.clamp(min=1 / 255) * self.factor + self.offset).clamp_(max=1)
        return to_bytes(value * (1 - saturation * share))


@arguments
class ElasticTransform(Operation):
    """Stretched by an affine map, then bent: each place moves by smooth noise.

    The affine map takes three points, ten pixels from the middle, each up to `shear` pixels away along each axis. Then places
    move by `distance` times noise uniform on [−1, 1), smoothed by a Gaussian of `sigma` pixels cut off at three of them. Both
    read between pixels linearly; beyond the border lies the image mirrored at the outermost pixels for the first, at its edge
    for the second. The published code reads the first at places rounded to 1/32 of a pixel (OpenCV's fixed point), here they
    are exact.
    """

    distance: Strength
    sigma: Strength
    shear: Strength

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Numbers uniform on [−1, 1): (x, y) of the three points, and the noise along rows and along columns."""
        corners = torch.rand(num, 3, 2, dtype=torch.float64, generator=generator)
        noise = torch.rand(num, 2, SIDE, SIDE, dtype=torch.float64, generator=generator)
        return {"corners": 2 * corners - 1, "noise": 2 * noise - 1}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Read twice."""
        middle, arm = SIDE // 2, SIDE // 3
        here = torch.tensor(
            [[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]],
            dtype=torch.float64,
            device=images.device,
        )
        moved = F.pad(here + self.shear * parameters["corners"], (0, 1), value=1.0)
        back = torch.linalg.solve(moved, here.expand(len(images), 3, 2))  # from where points went to where they were
        axis = torch.arange(SIDE, dtype=torch.float64, device=images.device)
        places = torch.stack([axis.expand(SIDE, SIDE), axis[:, None].expand(SIDE, SIDE), axis.new_ones(SIDE, SIDE)], 2)
        source = (places.view(-1, 3) @ back).view(-1, SIDE, SIDE, 2)
        # On [−1, 1] from the first pixel's centre to the last one's.
        stretched = _read(to_unit(images), 2 * source / (SIDE - 1) - 1, align_corners=True)
        matrix = gaussian(self.sigma, 3.0, "reflect", images.device)
        shift = self.distance * separable(parameters["noise"], matrix)
        bent = places[..., :2] + shift.permute(0, 2, 3, 1)
        # On [−1, 1] from the image's edge to its edge.
        return to_bytes(_read(stretched, (2 * bent + 1) / SIDE - 1, align_corners=False))


def _read(pixels: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=align_corners)


@arguments
class Pixelate(Fixed):
    """Made smaller by `factor` and large again with box filters (Pillow's `Image.resize`)."""

    factor: Annotated[Probability, Field(gt=0)]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Down, then up."""
        small = int(SIDE * self.factor)
        return resize(resize(images, box(SIDE, small, images.device)), box(small, SIDE, images.device))


@arguments
class JpegCompression(Fixed):
    """Stored as JPEG of that `quality` by Pillow, and read again."""

    quality: Annotated[int, Field(ge=1, le=95)]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """One by one, on the CPU."""
        rows = [self._stored(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous().to(images.device)

    def _stored(self, image: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=self.quality)
        with Image.open(stream) as picture:
            return np.asarray(picture)
