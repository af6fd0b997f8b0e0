"""Model keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bantamnet.config.section import Section, word

Width = Annotated[int, Field(gt=0, le=65_536)]


class Model(Section):
    """A residual network (He et al. 2015, arXiv 1512.03385) and its variations."""

    name: Annotated[str, word("model")] = "custom"
    """A named net, whose other keys it fills in, or any name of your own with all keys given."""
    block: Literal["basic", "bottleneck"] = "basic"
    """`basic` is two 3×3 convolutions, `bottleneck` 1×1, 3×3, 1×1 with four times the width at its end."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """`cifar` is one 3×3 convolution, `imagenet` a 7×7 one of stride 2 and a max-pool."""
    stem_width: Width
    """Channels after the stem."""
    widths: list[Width]
    """Width of each stage."""
    blocks: list[Annotated[int, Field(ge=0, le=1000)]]
    """Blocks of each stage; a stage of 0 blocks is left out."""
    strides: list[Annotated[int, Field(gt=0, le=1000)]] | None = None
    """Stride of each stage's first block; null is 1, then 2 for every further stage."""
    activation: Literal["relu", "leaky_relu", "silu", "gelu"] = "relu"
    """Activation everywhere."""
    slope: float = 0.01
    """Negative slope of `leaky_relu`."""
    dropout: list[Annotated[float, Field(ge=0, lt=1)]] | None = None
    """Dropout rate after each stage; null for none."""
    shortcut: Literal["conv-bn", "conv", "pad"] = "conv-bn"
    """Where a block changes shape: 1×1 convolution and BatchNorm, a bare 1×1 convolution, or zero-padded identity."""
    conv_bias: bool = False
    """Give every convolution a bias."""
    inner: list[list[list[Width]]] | None = None
    """Inner widths of each block of each stage (one number for basic, two for bottleneck); null is the stage's width."""

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        num_stages = len(self.widths)
        if not num_stages or not any(self.blocks):
            raise ValueError("a net needs at least one stage with a block")
        for key in ("blocks", "strides", "dropout", "inner"):
            value = getattr(self, key)
            if value is not None and len(value) != num_stages:
                raise ValueError(f"{key} has {len(value)} entries and widths {num_stages}; give one for each stage")
        if self.inner is not None:
            per_block = 1 if self.block == "basic" else 2
            for stage, (inner, blocks) in enumerate(zip(self.inner, self.blocks, strict=True)):
                if len(inner) != blocks or any(len(widths) != per_block for widths in inner):
                    raise ValueError(f"inner[{stage}] must hold {blocks} lists of {per_block} for this {self.block} stage")
        return self
