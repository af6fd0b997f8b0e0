"""Where the net looks: class-activation maps over images it named right and images it named wrong."""

import torch
from torch import Tensor

from bantamnet.errors import UserError
from bantamnet.evaluate.explain import explain
from bantamnet.report.blocks import Block, Figure, Section, Text
from bantamnet.report.facts import RunFacts
from bantamnet.report.gallery import grid, picture, tile
from bantamnet.report.markup import Markup
from bantamnet.report.overlay import overlay
from bantamnet.report.results import no_images
from bantamnet.report.words import percent

SHOWN = 6
"""Right ones, and as many wrong ones."""


def attention_section(facts: RunFacts) -> Section:
    """Grad-CAM of the class that was said, over right and wrong examples; for a wrong one also of the class that is right."""
    title = "Where the net looks"
    if facts.splits is None:
        return Section("attention", title, [no_images(facts)])
    right, wrong = chosen(facts)
    try:
        tiles_right = _tiles(facts, right)
        tiles_wrong = _tiles(facts, wrong)
    except UserError as error:
        return Section("attention", title, [Text(f"No maps of this net: {error}", "missing")])
    about = "Bright is what speaks for the class (Grad-CAM of the last maps); each image is scaled by its own maximum."
    blocks: list[Block] = [
        Text(about, "note"),
        Figure(
            grid(tiles_right, "maps"),
            "Named right, the surest of each of some classes: the image, and what spoke for the class.",
        ),
    ]
    if tiles_wrong:
        caption = "Named wrong, the surest mistakes: the image, what spoke for the class said, and for the right class."
        blocks.append(Figure(grid(tiles_wrong, "maps wide-maps"), caption))
    return Section("attention", title, blocks)


def chosen(facts: RunFacts) -> tuple[Tensor, Tensor]:
    """Rows of test images: (the surest right one of each of the first classes, the surest wrong ones of different classes)."""
    logits, targets = facts.predictions["logits"], facts.predictions["targets"]
    sure, said = logits.double().softmax(1).max(1)
    picked: list[list[int]] = []
    for rows in ((said == targets).nonzero()[:, 0], (said != targets).nonzero()[:, 0]):
        ranked = rows[sure[rows].argsort(descending=True, stable=True)].tolist()
        first: dict[int, int] = {}
        for row in ranked:
            first.setdefault(int(targets[row]), row)
        picked.append(list(first.values())[:SHOWN])
    return torch.tensor(picked[0], dtype=torch.int64), torch.tensor(picked[1], dtype=torch.int64)


def _tiles(facts: RunFacts, rows: Tensor) -> list[Markup]:
    if not len(rows):
        return []
    assert facts.splits is not None
    split, names = facts.splits["test"], facts.class_names
    images = split.gather(rows)
    logits, targets = facts.predictions["logits"][rows], facts.predictions["targets"][rows]
    said = logits.argmax(1)
    sure = logits.double().softmax(1).amax(1).tolist()
    of_said = explain(facts.net, images, facts.info.preprocessing, said)
    of_true = explain(facts.net, images, facts.info.preprocessing, targets)
    tiles = []
    for index, (answer, target, p) in enumerate(zip(said.tolist(), targets.tolist(), sure, strict=True)):
        shown = [
            picture(images[index], f"test image, {names[target]}"),
            picture(overlay(images[index], of_said[index]), f"what spoke for {names[answer]}"),
        ]
        words = [f"{names[target]} {percent(p, 1)}"]
        if answer != target:
            shown.append(picture(overlay(images[index], of_true[index]), f"what spoke for {names[target]}"))
            words = [f"is {names[target]}", f"said {names[answer]} {percent(p, 1)}"]
        tiles.append(tile(shown, *words, style="pair-of-maps"))
    return tiles
