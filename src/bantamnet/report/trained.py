"""How a run went and what it saw: curves, augmented samples, what its report claimed, how to repeat it."""

import torch

from bantamnet.data.augment import parse, rows
from bantamnet.report.blocks import Block, Code, Section, Table, Text
from bantamnet.report.blocks import Figure as Shown
from bantamnet.report.curves import curve_figures
from bantamnet.report.facts import RunFacts
from bantamnet.report.gallery import grid, picture, tile
from bantamnet.report.results import no_images
from bantamnet.report.words import count, duration, percent

SAMPLES, DRAWS = 6, 7


def curves_section(facts: RunFacts) -> Section:
    """Loss, accuracy and learning rate."""
    summary = facts.summary
    blocks: list[Block] = [*curve_figures(facts)]
    lines = facts.epochs
    speed = sorted(line["images_per_second"] for line in lines)[len(lines) // 2]
    said = (
        f"{count(summary['epochs'], 'epoch')}, {count(summary['steps'], 'step')} of {facts.config.batch_size} images, "
        f"{duration(summary['seconds'])} ({speed:,.0f} images/s in the median epoch), peak memory "
        f"{summary['peak_memory_mb']:,.0f} MB."
    )
    blocks.append(Text(said, "note"))
    if summary.get("stopped_early"):
        blocks.append(Text(f"Stopped early: {summary['stopped_early']['note']}", "note"))
    if budget := summary.get("time_budget"):
        spent = f"{duration(budget['spent_seconds'])} of {duration(budget['budget_seconds'])}"
        blocks.append(
            Text(f"A time budget set the number of steps ({spent} spent), so the same command makes another run.", "note")
        )
    return Section("curves", "Training", blocks)


def samples_section(facts: RunFacts) -> Section:
    """Some training images and what the first epochs made of them: drawn as in the run itself."""
    config = facts.config
    line = config.data.augment
    blocks: list[Block] = [Text("Augmentation:", "note"), Code(line or "none")]
    if config.data.mix:
        blocks += [Text("Then pairs of images are mixed, which is not shown here:", "note"), Code(config.data.mix)]
    if not facts.splits:
        return Section("samples", "What the net saw", [*blocks, no_images(facts)])
    split = facts.splits["train"]
    chosen = _one_of_each_class(split.labels)
    plain = split.gather(chosen)
    shown = [
        [picture(image, f"training image, {facts.class_names[label]}")]
        for image, label in zip(plain.numpy(), split.labels[chosen].tolist(), strict=True)
    ]
    if config.progressive_resizing:
        sizes = [f"at {stretch.scale:g} of this size until {stretch.until:.0%}" for stretch in config.progressive_resizing]
        blocks.append(Text(f"The net saw them {', '.join(sizes)} of the schedule, and whole after that.", "note"))
    # Epochs of hard examples alone draw for each place in the epoch, and leave most of these images out.
    of_all = [epoch for epoch in facts.epochs if "train_share" not in epoch]
    epochs = min(DRAWS, len(of_all)) if line else 0
    for epoch in range(epochs):
        augmentation = parse(line, facts.info.preprocessing.mean)
        drawn = augmentation.draw(len(split), config.seed, epoch)
        for row, image in zip(shown, augmentation.apply(plain, rows(drawn, chosen)).numpy(), strict=True):
            row.append(picture(image, f"the same, as in epoch {epoch + 1}"))
    tiles = [
        tile(pictures, facts.class_names[label], style="row")
        for pictures, label in zip(shown, split.labels[chosen].tolist(), strict=True)
    ]
    sampled = config.data.balance == "sampler"  # its draws are those of places in the epoch
    as_seen = "what draws like the run's make of it" if sampled else f"as epochs 1 to {epochs} saw it"
    caption = f"The image as it is, then {as_seen}." if epochs else "Training images; nothing changes them."
    return Section("samples", "What the net saw", [*blocks, Shown(grid(tiles, "samples"), caption)])


def _one_of_each_class(labels: torch.Tensor) -> torch.Tensor:
    """The first sample of each of the first classes."""
    first = [int((labels == label).nonzero()[0]) for label in labels.unique().tolist()[:SAMPLES]]
    return torch.tensor(first)


def claims_section(facts: RunFacts) -> Section | None:
    """What the published report says of itself, beside this run."""
    claims = facts.config.claims
    if claims is None:
        return None
    params, test = facts.summary["parameters"], facts.test
    table = [
        ["accuracy", f"{claims.accuracy:g}%" if claims.accuracy is not None else "–", percent(test["accuracy"])],
        ["measured on", claims.measured_on or "–", f"{test['num']:,} test images ({facts.summary['label']})"],
        ["parameters", f"{claims.parameters:,}" if claims.parameters else "–", f"{params:,}"],
        ["optimiser", claims.optimizer or "–", ", ".join(dict.fromkeys(group.name for group in facts.config.optim))],
        [
            "hardware and time",
            claims.hardware or "–",
            f"{facts.summary['environment']['device']}, {duration(facts.summary['seconds'])}",
        ],
    ]
    blocks: list[Block] = [Text(f"The report: {claims.report}."), Table(("", "published", "this run"), table)]
    blocks += [Text(note, "note") for note in claims.notes]
    return Section("claims", "What was published, and what came out here", blocks)


def repeat_section(facts: RunFacts) -> Section:
    """The command, and everything that it depends on."""
    summary, where = facts.summary, facts.summary["environment"]
    command = facts.run.command()
    blocks: list[Block] = [Code(command) if command else Text("The run directory names no command.", "missing")]
    if summary.get("time_budget"):
        blocks.append(Text("The clock set the number of steps: summary.json holds the pace that repeats them exactly.", "note"))
    if facts.config.assumed:
        table = [[key, why] for key, why in facts.config.assumed.items()]
        blocks.append(Table(("left open by the report", "taken as"), table))
    known = [
        ["config", "config.yaml in the run directory: every key"],
        ["seed", f"{facts.config.seed}; held-out images drawn by {facts.config.data.val.split_seed}"],
        ["weights", summary["weights_digest"]],
        *([f"{name} images", f"{part['num']:,}, fingerprint {part['fingerprint']}"] for name, part in summary["data"].items()),
        ["machine", f"{where['device']}, {where['cpu_cores']} cores, {where['threads']} threads, {where['system']}"],
        ["software", f"PyTorch {where['torch']}, Python {where['python']}, {where['precision']}"],
        ["finished", summary["finished"]],
    ]
    return Section("repeat", "To repeat it", [*blocks, Table(("what", "value"), known)])
