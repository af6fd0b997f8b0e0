"""Which classes the net knows and which it mixes up: matrix, table by class, pairs and mistakes with their images."""

import torch

from bantamnet.evaluate.metrics import confusion_matrix, per_class
from bantamnet.report.blocks import Block, Figure, Section, Table, Text
from bantamnet.report.facts import RunFacts
from bantamnet.report.gallery import grid, picture, tile
from bantamnet.report.markup import Markup
from bantamnet.report.matrix import DRAWN, NUMBERED, Pair, confused_pairs, matrix_drawing
from bantamnet.report.words import percent

SHOWN_OF_A_PAIR, MISTAKES = 5, 24


def classes_section(facts: RunFacts) -> Section:
    """Confusion matrix and precision, recall and F1 of each class."""
    logits, targets = facts.predictions["logits"], facts.predictions["targets"]
    names = facts.class_names
    matrix = confusion_matrix(logits.argmax(1), targets, len(names))
    blocks: list[Block] = []
    if len(names) <= DRAWN:
        numbers = "counts of test images" if len(names) <= NUMBERED else "shaded by share; point at a cell for its count"
        caption = (
            f"Rows: what the image is. Columns: what the net said. {numbers[0].upper()}{numbers[1:]}; the diagonal is right."
        )
        blocks.append(Figure(matrix_drawing(matrix, names), caption, "half" if len(names) <= NUMBERED else "whole"))
    else:
        blocks.append(
            Text(f"A matrix of {len(names):,} classes is too large to draw; the pairs below are its largest entries.", "missing")
        )
    rows = per_class(logits, targets, names)
    measures = ("precision", "recall", "f1")
    mean = [sum(row[key] for row in rows) / len(rows) for key in measures]
    blocks.append(
        Table(
            ("class", "images", "precision", "recall", "F1"),
            [[row["class"], f"{row['num']:,}", *(percent(row[key]) for key in measures)] for row in rows],
            frozenset({"images", "precision", "recall", "F1"}),
            {title: [row[key] for row in rows] for title, key in zip(("precision", "recall", "F1"), measures, strict=True)},
            ["mean over classes", f"{len(targets):,}", *map(percent, mean)],
            width="half" if len(names) <= NUMBERED else "whole",
        )
    )
    worst, best = (function(rows, key=lambda row: row["f1"]) for function in (min, max))
    spread = f"Best known: {best['class']} (F1 {percent(best['f1'])}); least: {worst['class']} (F1 {percent(worst['f1'])})."
    blocks.append(
        Text(
            f"{spread} Precision: of the images called so, how many were; recall: of those that were, how many it found.", "note"
        )
    )
    return Section("classes", "Class by class", blocks)


def pairs_section(facts: RunFacts) -> Section:
    """The pairs of classes that are mixed up most, with the images that were."""
    logits, targets = facts.predictions["logits"], facts.predictions["targets"]
    predicted, names = logits.argmax(1), facts.class_names
    pairs = confused_pairs(confusion_matrix(predicted, targets, len(names)))
    blocks: list[Block] = []
    if not pairs:
        return Section("pairs", "Most confused pairs", [Text("No test image was taken for another class.", "note")])
    sure = logits.softmax(1).amax(1)
    if facts.splits:
        tiles = []
        for pair in pairs:
            rows = ((targets == pair.true) & (predicted == pair.said)).nonzero()[:, 0]
            rows = rows[sure[rows].argsort(descending=True)][:SHOWN_OF_A_PAIR]
            tiles.append(tile(_images(facts, rows), f"{names[pair.true]} → {names[pair.said]}", _share(pair), style="row"))
        caption = "True class → what the net said, the surest mistakes first."
        blocks.append(Figure(grid(tiles, "pairs"), caption))
    else:
        blocks.append(no_images(facts))
    blocks.append(
        Table(
            ("true class", "taken for", "images", "of its class"),
            [[names[p.true], names[p.said], f"{p.num:,}", percent(p.num / p.of, 1)] for p in pairs],
            frozenset({"images", "of its class"}),
            {"of its class": [p.num / p.of for p in pairs]},
            folded="As a table" if facts.splits else "",
        )
    )
    return Section("pairs", "Most confused pairs", blocks)


def _share(pair: Pair) -> str:
    return f"{pair.num:,} of {pair.of:,} ({percent(pair.num / pair.of, 1)})"


def _images(facts: RunFacts, rows: torch.Tensor) -> list[Markup]:
    assert facts.splits is not None
    split, names = facts.splits["test"], facts.class_names
    images = split.gather(rows).numpy()
    labels = split.labels[rows].tolist()
    return [
        picture(image, f"test image {row}, {names[label]}")
        for image, row, label in zip(images, split.ids[rows].tolist(), labels, strict=True)
    ]


def mistakes_section(facts: RunFacts) -> Section:
    """The test images on which the net was surest of a wrong class."""
    logits, targets = facts.predictions["logits"], facts.predictions["targets"]
    chances, names = logits.double().softmax(1), facts.class_names
    sure, said = chances.max(1)
    wrong = (said != targets).nonzero()[:, 0]
    worst = wrong[sure[wrong].argsort(descending=True, stable=True)][:MISTAKES]
    if not len(worst):
        return Section("mistakes", "Worst mistakes", [Text("There are none: every test image was named right.", "note")])
    true = chances[worst, targets[worst]]
    told = [
        (f"is {names[target]}", f"said {names[answer]} {percent(p, 1)}", f"right: {percent(t, 1)}")
        for target, answer, p, t in zip(
            targets[worst].tolist(), said[worst].tolist(), sure[worst].tolist(), true.tolist(), strict=True
        )
    ]
    over = int((sure[wrong] > 0.9).sum())
    blocks: list[Block] = [
        Text(f"Of {len(wrong):,} mistakes, {over:,} were made with a probability above 90%. These were the surest:", "note")
    ]
    if facts.splits:
        tiles = [tile(image, *words) for image, words in zip(_images(facts, worst), told, strict=True)]
        blocks.append(
            Figure(
                grid(tiles), "Test images, the surest mistake first, with the probability of what was said and of what is right."
            )
        )
    else:
        ids = facts.predictions["ids"][worst].tolist()
        rows = [[str(number), *words] for number, words in zip(ids, told, strict=True)]
        blocks += [no_images(facts), Table(("test image", "what it is", "what was said", "chance of what is right"), rows[:12])]
    return Section("mistakes", "Worst mistakes", blocks)


def no_images(facts: RunFacts) -> Text:
    """Why there is no picture."""
    return Text(f"No images are shown here: {facts.why_no_images}. Everything else is from the run directory.", "missing")
