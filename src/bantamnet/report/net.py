"""What the net is: the picture of its architecture and the table of its layers."""

from bantamnet.report.architecture import block_drawing, net_drawing, stages
from bantamnet.report.blocks import Block, Figure, Section, Table, Text
from bantamnet.report.facts import RunFacts
from bantamnet.report.words import macs, percent

OPEN = 40
"""Up to so many layers the table is open."""


def net_section(facts: RunFacts) -> Section:
    """Architecture and layers."""
    model = facts.layers
    size, name = facts.info.preprocessing.size, facts.config.model.name
    blocks: list[Block] = [
        Figure(
            net_drawing(model.layers, size, name),
            "From the image to the logits; output shapes (channels × height × width) and parameters.",
        )
    ]
    if inside := block_drawing(facts.net):
        drawing, block = inside
        blocks.append(
            Figure(drawing, f"Inside the block {block}: the branch on the left is added to the shortcut on the right.", "half")
        )
    parts = [stage for stage in stages(model.layers) if stage.params]
    blocks.append(
        Table(
            ("part", "output", "parameters", "share", "MACs"),
            [
                [s.name, "×".join(map(str, s.shape)), f"{s.params:,}", percent(s.params / model.params, 1), macs(s.macs)]
                for s in parts
            ],
            frozenset({"output", "parameters", "share", "MACs"}),
            {"share": [stage.params / model.params for stage in parts]},
            width="half" if inside else "whole",
        )
    )
    table = [
        [
            layer.name,
            layer.kind,
            "×".join(map(str, layer.shape)),
            f"{layer.params:,}" if layer.params else "",
            f"{layer.macs:,}" if layer.macs else "",
        ]
        for layer in model.layers
    ]
    blocks += [
        Table(
            ("layer", "kind", "output", "parameters", "MACs"),
            table,
            frozenset({"output", "parameters", "MACs"}),
            totals=["total", f"{len(table)} layers", "", f"{model.params:,}", f"{model.macs:,}"],
            folded=f"All {len(table)} layers" if len(table) > OPEN else "",
        ),
        Text(
            f"Trainable {model.trainable:,} of {model.params:,} parameters; {macs(model.macs)} multiply-adds an image of "
            f"{size[0]}×{size[1]}. One image in fp32: input {model.input_mb:.2f} MB, forward/backward "
            f"{model.forward_backward_mb:.2f} MB, parameters {model.params_mb:.2f} MB.",
            "note",
        ),
    ]
    return Section("net", "The net", blocks)
