"""Keys of the plain net for speed."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bantamnet.config.model import Width
from bantamnet.config.section import Section, word

Count = Annotated[int, Field(gt=0, le=100)]


class Whitened(Section):
    """A plain net for speed: whitening stem, groups of convolutions, one linear layer.

    It is that of cifar10-airbench (Jordan 2024, arXiv 2404.00498): a 2×2 convolution that whitens patches of the training
    images and stays as it is, groups of conv–pool–BN–act and conv–BN–act, a max-pool over what is left, a linear layer without
    bias and a factor on the logits. Convolutions start as identities; BatchNorm has a bias alone.
    """

    name: Annotated[str, word("model")] = "custom"
    """A named net, whose other keys it fills in, or any name of your own with all keys given."""
    groups: Annotated[list[Width], Field(min_length=1, max_length=5)]
    """Width of each group; each halves height and width, rounded down."""
    convs: Count | Annotated[list[Count], Field(min_length=1, max_length=5)] = 2
    """Convolutions of a group, or of each of them."""
    residual: bool = False
    """Add what a group's first convolution came to, activated, to what its last one gives, before that is activated."""
    stem_padding: bool = False
    """Mirror one row and column of pixels behind the last, so that the stem's maps are as large as the pictures (32 pixels, then
    16, 8 and 4, instead of 31, 15, 7 and 3)."""
    activation: Literal["relu", "silu", "gelu"] = "gelu"
    """Activation everywhere."""
    whiten_images: Annotated[int, Field(gt=0)] = 5000
    """Training images, the first in canonical order, whose patches the stem whitens."""
    whiten_eps: Annotated[float, Field(gt=0)] = 5e-4
    """Added to the variances it divides by."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Weight of a new batch in BatchNorm's running statistics."""
    logit_scale: Annotated[float, Field(gt=0)] = 1 / 256
    """Factor on the logits."""

    @property
    def convs_of_groups(self) -> list[int]:
        """Convolutions of each group."""
        return self.convs if isinstance(self.convs, list) else [self.convs] * len(self.groups)

    @model_validator(mode="after")
    def _groups_fit_together(self) -> "Whitened":
        if len(self.convs_of_groups) != len(self.groups):
            raise ValueError(f"convs: {len(self.convs_of_groups)} numbers for {len(self.groups)} groups; give one for each")
        if self.residual and 1 in self.convs_of_groups:
            raise ValueError("residual: a group of one convolution has nothing to add to; give each group 2 convs or more")
        return self
