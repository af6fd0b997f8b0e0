"""Model keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bantamnet.config.section import Section, word

Width = Annotated[int, Field(gt=0, le=65_536)]


class Model(Section):
    """A residual network (He et al. 2015, arXiv 1512.03385) and its variations.

    Every option beyond the 2015 paper is off unless asked for, so that older recipes and model files mean what they meant.
    """

    name: Annotated[str, word("model")] = "custom"
    """A named net, whose other keys it fills in, or any name of your own with all keys given."""
    block: Literal["basic", "bottleneck"] = "basic"
    """`basic` is two 3×3 convolutions, `bottleneck` 1×1, 3×3, 1×1 with four times the width at its end."""
    order: Literal["post", "pre", "pyramid"] = "post"
    """Where BatchNorm and activation stand: `post` after each convolution and the addition (2015), `pre` before each
    convolution (He et al. 2016, arXiv 1603.05027), `pyramid` BN–conv–BN–act–conv–BN (Han et al. 2016, arXiv 1610.02915)."""
    final_norm: bool = True
    """BatchNorm and activation after the last block, where `order` is pre or pyramid."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """`cifar` is one 3×3 convolution, `imagenet` a 7×7 one of stride 2 and a max-pool."""
    stem_width: Width
    """Channels after the stem."""
    widths: list[Width]
    """Width of each stage."""
    out_widths: list[list[Annotated[int, Field(gt=0, le=4 * 65_536)]]] | None = None
    """Output channels of each block of each stage, the last being the stage's; null for the stage's width throughout (four
    times it for bottleneck)."""
    blocks: list[Annotated[int, Field(ge=0, le=1000)]]
    """Blocks of each stage; a stage of 0 blocks is left out."""
    strides: list[Annotated[int, Field(gt=0, le=1000)]] | None = None
    """Stride of each stage's first block; null is 1, then 2 for every further stage."""
    activation: Literal["relu", "leaky_relu", "silu", "gelu"] = "relu"
    """Activation everywhere."""
    slope: Annotated[float, Field(ge=0)] = 0.01
    """Slope of `leaky_relu` below 0."""
    dropout: list[Annotated[float, Field(ge=0, lt=1)]] | None = None
    """Dropout rate after each stage; null for none."""
    block_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate inside each block, before its last convolution (Zagoruyko & Komodakis 2016, arXiv 1605.07146)."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Stochastic depth: chance that the last block's residual branch is left out of a sample in training, rising in a straight
    line from 0 at the stem (Huang et al. 2016, arXiv 1603.09382)."""
    se_reduction: Annotated[int, Field(gt=0)] | None = None
    """Squeeze-and-excitation at the end of each residual branch, squeezing its channels by this ratio, usually 16 (Hu et al.
    2017, arXiv 1709.01507); null for none."""
    zero_init: bool = False
    """Start the last BatchNorm of each block at weight 0, so that the net starts as its shortcuts (Goyal et al. 2017, arXiv
    1706.02677)."""
    shortcut: Literal["conv-bn", "conv", "pad", "pool-pad"] = "conv-bn"
    """Where a block changes shape: 1×1 convolution and BatchNorm, a bare 1×1 convolution, identity with zero channels half on
    either side, or average pooling with zero channels behind."""
    conv_bias: bool = False
    """Give every convolution a bias."""
    inner: list[list[list[Width]]] | None = None
    """Inner widths of each block of each stage (one number for basic, two for bottleneck); null is the block's
    output width (a quarter of it for bottleneck)."""

    @property
    def expansion(self) -> int:
        """Output channels of a block by the width of its stage."""
        return 1 if self.block == "basic" else 4

    @property
    def inner_per_block(self) -> int:
        """Inner widths of a block: one fewer than it has convolutions."""
        return 1 if self.block == "basic" else 2

    @property
    def block_outputs(self) -> list[list[int]]:
        """Output channels of each block of each stage, whether given or not."""
        if self.out_widths is not None:
            return self.out_widths
        return [[width * self.expansion] * blocks for width, blocks in zip(self.widths, self.blocks, strict=True)]

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        num_stages = len(self.widths)
        if not num_stages or not any(self.blocks):
            raise ValueError("a net needs at least one stage with a block")
        for key in ("blocks", "strides", "dropout", "out_widths", "inner"):
            value = getattr(self, key)
            if value is not None and len(value) != num_stages:
                raise ValueError(f"{key} has {len(value)} entries and widths {num_stages}; give one for each stage")
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            outs = self.block_outputs[stage]
            if len(outs) != blocks:
                raise ValueError(f"out_widths[{stage}] must hold {blocks} widths, one a block; out_widths: null makes all alike")
            if outs and outs[-1] != width * self.expansion:
                raise ValueError(
                    f"out_widths[{stage}] ends in {outs[-1]}, but widths[{stage}] makes it {width * self.expansion}; "
                    "change both, or set out_widths: null"
                )
            inner = self.inner[stage] if self.inner is not None else None
            if inner is not None and (len(inner) != blocks or any(len(widths) != self.inner_per_block for widths in inner)):
                raise ValueError(f"inner[{stage}] must hold {blocks} lists of {self.inner_per_block} for this {self.block} stage")
        return self

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        narrowest = min(out for outs in self.block_outputs for out in outs)
        if self.inner is None and narrowest < self.expansion:
            raise ValueError(
                f"out_widths: {narrowest} channels leave a bottleneck no width inside; give {self.expansion} or more"
            )
        if self.se_reduction is not None and self.se_reduction > narrowest:
            raise ValueError(
                f"se_reduction: {self.se_reduction} squeezes a block of {narrowest} channels to nothing; use {narrowest} or less"
            )
        if self.zero_init and self.order == "pre":
            raise ValueError(
                "zero_init needs blocks that end in BatchNorm, and those of order: pre end in a convolution; "
                "use order: post or pyramid, or zero_init: false"
            )
        if not self.final_norm and self.order == "post":
            raise ValueError("final_norm: false leaves out what a net of order: post does not have; use order: pre or pyramid")
        return self
