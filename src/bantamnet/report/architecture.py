"""The picture of a net: its stages as boxes, from the image to the logits, and the inside of one block."""

import math
import re
from dataclasses import dataclass

from torch import nn

from bantamnet.models.blocks import Block, SqueezeExcite
from bantamnet.models.summary import Layer
from bantamnet.report.markup import Markup, element
from bantamnet.report.svg import drawing

BOX_WIDTH, BOX_HEIGHT, GAP = 190.0, 24.0, 12.0
WORDS = {
    "AdaptiveAvgPool2d": "mean over pixels",
    "BatchNorm2d": "BatchNorm",
    "Conv2d": "convolution",
    "PadShortcut": "zeros for new channels",
    "PoolPadShortcut": "mean, zeros for new channels",
    "SqueezeExcite": "squeeze and excitation",
    "StochasticDepth": "stochastic depth",
    "ThinStrided": "convolution",
}
"""Kinds of layers as people call them."""


@dataclass(frozen=True)
class Stage:
    """Layers that stand together: what they are, their output's shape (without the batch), parameters and multiply-adds."""

    name: str
    about: str
    shape: tuple[int, ...]
    params: int
    macs: int


def stages(layers: list[Layer]) -> list[Stage]:
    """Stem, each stage of blocks, what follows; a net of another make by the first part of its layers' names."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        parts = layer.name.split(".")
        key = ".".join(parts[:2]) if parts[0] == "stages" and len(parts) > 1 else parts[0]
        groups.setdefault("flatten" if layer.kind == "Flatten" else key, []).append(layer)
    groups.pop("flatten", None)
    drawn = {key: inside for key, inside in groups.items() if {layer.kind for layer in inside} != {"Sequential"}}  # empty ones
    return [_stage(key, inside) for key, inside in drawn.items()]


def _stage(key: str, layers: list[Layer]) -> Stage:
    number = re.fullmatch(r"stages\.(\d+)", key)
    blocks = len({layer.name.split(".")[2] for layer in layers if layer.name.count(".") > 2}) if number else 0
    name = f"stage {int(number[1]) + 1}" if number else key
    main = max(layers, key=lambda layer: layer.params)
    if blocks:
        about = f"{blocks} block{'s' if blocks > 1 else ''}"
    else:
        about = WORDS.get(main.kind, main.kind)
    last = next((layer for layer in reversed(layers) if layer.shape), layers[-1])
    return Stage(name, about, last.shape, sum(layer.params for layer in layers), sum(layer.macs for layer in layers))


def net_drawing(layers: list[Layer], size: tuple[int, int], name: str) -> Markup:
    """Boxes as high as their maps and as deep as their channels (both to the square root), with shapes and parameters."""
    boxes = [Stage("image", "input", (3, *size), 0, 0), *stages(layers)]
    step, base, tallest = 104, 132.0, 84.0
    drawn: list[Markup] = []
    width = 20 + step * len(boxes)
    most = max(stage.shape[0] for stage in boxes if stage.shape)
    before = None
    for index, stage in enumerate(boxes):
        x = 20 + index * step
        side = tallest * math.sqrt(stage.shape[1] / size[0]) if len(stage.shape) == 3 else 8.0
        deep = 8 + 34 * math.sqrt((stage.shape[0] if stage.shape else 1) / most)
        middle = base - tallest / 2 - 6
        top = middle - side / 2
        slant = min(10.0, side / 4)
        if before is not None:
            drawn.append(element("path", d=f"M{before:.1f} {middle:.1f}H{x - 5:.1f}l-5 -3.5m5 3.5l-5 3.5", class_="arrow"))
        cap = f"M{x:.1f} {top:.1f}l{slant:.1f} {-slant:.1f}h{deep:.1f}v{side:.1f}l{-slant:.1f} {slant:.1f}"
        style = "image" if index == 0 else f"stage{(index - 1) % 6 + 1}"
        told = element("title", f"{stage.name}: {stage.about}, {stage.params:,} parameters, {stage.macs:,} multiply-adds")
        drawn += [
            element("path", d=cap, class_=f"side {style}"),
            element("rect", told, x=x, y=top, width=deep, height=side, class_=f"front {style}"),
        ]
        before = x + deep + slant + 3
        shape = "×".join(map(str, stage.shape))
        lines = [("strong", stage.name), ("", stage.about), ("", shape), ("", f"{stage.params:,}" if stage.params else "–")]
        drawn += [
            element("text", words, x=x, y=base + 18 + 15 * row, class_=f"tick {style}".strip())
            for row, (style, words) in enumerate(lines)
        ]
    return element(
        "div",
        drawing(f"Architecture of {name}", drawn, width=width, height=base + 72, class_="net"),
        class_="scroll",
        tabindex="0",
    )


def block_drawing(net: nn.Module) -> tuple[Markup, str] | None:
    """The first block whose shape changes (else the first): (drawing, what it is); None for a net that has no such blocks."""
    blocks = [(name, module) for name, module in net.named_modules() if isinstance(module, Block)]
    if not blocks:
        return None
    name, block = next(((n, b) for n, b in blocks if not isinstance(b.shortcut, nn.Identity)), blocks[0])
    before = [_words(module) for module in _leaves(block.before)]
    main = before + [_words(module) for module in _leaves(block.residual)]
    aside = [_words(module) for module in _leaves(block.shortcut)] or ["identity"]
    after = [_words(module) for module in _leaves(block.act)]
    left, top, row = 12.0, 26.0, BOX_HEIGHT + GAP
    centre, right = left + BOX_WIDTH / 2, left + BOX_WIDTH + 24
    drawn: list[Markup] = [element("text", "in", x=centre, y=12, class_="tick", text_anchor="middle")]
    for index, words in enumerate(main):
        drawn += [*_box(left, top + index * row, words), _down(centre, top + index * row - GAP, top + index * row)]
    plus = top + len(main) * row + 10
    leaves = top - GAP + 1 + (len(before) * row if block.shares_before else 0)  # where the shortcut leaves the branch
    begin = max(leaves + GAP, (leaves + plus - len(aside) * row) / 2)
    end, middle = begin + len(aside) * row - GAP, right + BOX_WIDTH / 2
    for index, words in enumerate(aside):
        drawn += _box(right, begin + index * row, words)
    drawn += [
        element("path", d=f"M{centre:.1f} {leaves:.1f}H{middle:.1f}V{begin:.1f}", class_="arrow"),
        element("path", d=f"M{middle:.1f} {end:.1f}V{plus:.1f}H{centre + 12:.1f}l5 -3.5m-5 3.5l5 3.5", class_="arrow"),
        _down(centre, plus - 10 - GAP, plus - 10),
        element("circle", cx=centre, cy=plus, r=10, class_="plus"),
        element("text", "+", x=centre, y=plus + 5, class_="name", text_anchor="middle"),
    ]
    y = plus + 10 + GAP
    for words in after:
        drawn += [_down(centre, y - GAP, y), *_box(left, y, words)]
        y += row
    drawn += [_down(centre, y - GAP, y), element("text", "out", x=centre, y=y + 12, class_="tick", text_anchor="middle")]
    return drawing(f"The block {name}", drawn, width=right + BOX_WIDTH + 12, height=y + 18, class_="block"), name


def _box(x: float, y: float, words: str) -> list[Markup]:
    kind = next((k for k in ("conv", "BatchNorm") if words.startswith(k)), "other")
    return [
        element("rect", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=4, class_=f"op {kind.lower()}"),
        element("text", words, x=x + BOX_WIDTH / 2, y=y + BOX_HEIGHT / 2 + 4, class_="tick", text_anchor="middle"),
    ]


def _down(x: float, y: float, end: float) -> Markup:
    return element("path", d=f"M{x:.1f} {y:.1f}V{end:.1f}l-3.5 -5m3.5 5l3.5 -5", class_="arrow")


def _leaves(module: nn.Module | None) -> list[nn.Module]:
    """What is gone through one after another; squeeze-and-excitation is one thing, and the identity none."""
    if module is None or isinstance(module, nn.Identity):
        return []
    inside = [] if isinstance(module, SqueezeExcite) else list(module.children())
    return [leaf for child in inside for leaf in _leaves(child)] if inside else [module]


def _words(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        stride = f", stride {module.stride[0]}" if module.stride[0] > 1 else ""
        return f"conv {module.kernel_size[0]}×{module.kernel_size[1]}{stride}, {module.in_channels} → {module.out_channels}"
    if isinstance(module, nn.Dropout):
        return f"dropout {module.p:g}"
    return WORDS.get(type(module).__name__, type(module).__name__)
