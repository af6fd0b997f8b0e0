"""Noise of sensors and of broken pixels; every channel of every pixel on its own."""

from functools import cache

import torch
from torch import Generator, Tensor

from bantamnet.data.corruptions.pixels import SIDE, to_bytes, to_unit
from bantamnet.data.operation import Operation, Parameters, Probability, Strength, arguments

SHAPE = (3, SIDE, SIDE)


@arguments
class GaussianNoise(Operation):
    """Normal noise of standard deviation `scale` (in [0, 1]) is added, as in poor light."""

    scale: Strength

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Standard normal numbers."""
        return {"noise": torch.randn(num, *SHAPE, generator=generator)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """x + scale · noise."""
        return to_bytes(to_unit(images).add_(parameters["noise"], alpha=self.scale))


@arguments
class SpeckleNoise(Operation):
    """Normal noise in proportion to the pixel's value is added."""

    scale: Strength

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Standard normal numbers."""
        return {"noise": torch.randn(num, *SHAPE, generator=generator)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """x + x · scale · noise."""
        pixels = to_unit(images)
        return to_bytes(pixels + pixels * parameters["noise"] * self.scale)


@arguments
class ShotNoise(Operation):
    """A pixel counts light quanta, `photons` of them on average where it is white: a Poisson variable for each."""

    photons: Strength

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Where in its distribution each count lies, in double precision: the tails count."""
        return {"quantile": torch.rand(num, *SHAPE, dtype=torch.float64, generator=generator)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """The quantile function of the Poisson distribution, of mean x · photons, over `photons`."""
        table = _poisson(self.photons, images.device)
        # The distributions of the 256 values stand one after another, each a unit higher, so that one search finds the count.
        values = images.long()
        place: Tensor = torch.searchsorted(table.flatten(), parameters["quantile"] + values)
        return to_bytes((place - values * table.shape[1]) / self.photons)


@cache
def _poisson(photons: float, device: torch.device) -> Tensor:
    """float64 (256, counts): value + P(count ≤ k) for a mean of value / 255 · photons, up to ten standard deviations."""
    values = torch.arange(256, dtype=torch.float64)[:, None]
    counts = torch.arange(int(photons + 10 * photons**0.5 + 10), dtype=torch.float64)
    below: Tensor = torch.special.gammaincc(counts + 1, values / 255 * photons)
    return (values + below).to(device)


@arguments
class ImpulseNoise(Operation):
    """Salt and pepper: a share `amount` of the values becomes 0 or 255, as likely the one as the other."""

    amount: Probability

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Which ones, and what they become."""
        return {
            "hit": torch.rand(num, *SHAPE, generator=generator) < self.amount,
            "salt": torch.rand(num, *SHAPE, generator=generator) < 0.5,
        }

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Value by value."""
        return torch.where(parameters["hit"], parameters["salt"] * images.new_tensor(255), images)
