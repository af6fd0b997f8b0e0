"""Several runs or groups side by side: is the difference real, what differs, how they learned, where they differ by class."""

from collections.abc import Sequence
from typing import Any

from bantamnet.evaluate.metrics import per_class
from bantamnet.evaluate.verdict import Verdict
from bantamnet.report.blocks import Block, Code, Figure, Section, Table, Text
from bantamnet.report.compare import notes
from bantamnet.report.curves import Line, line_chart
from bantamnet.report.facts import RunFacts
from bantamnet.report.markup import Markup, element
from bantamnet.report.subjects import Subject, differing_keys, same_images
from bantamnet.report.svg import Frame, chart, drawing, tick_text, ticks
from bantamnet.report.words import duration, interval, macs, percent

LINES, CLASSES = 6, 100
"""Most runs whose curves are drawn together; most classes that are compared one by one."""


def accuracy_cell(subject: Subject) -> str:
    """84.03 ± 0.22%, or 84.11% of a single run."""
    mean, std = subject.spread.mean, subject.spread.std
    return f"{100 * mean:.2f} ± {100 * std:.2f}%" if std is not None else percent(mean)


def verdict_section(subjects: Sequence[Subject], verdicts: Sequence[Verdict]) -> Section:
    """The table of figures, and for each pair whether the difference is real."""
    best = max(subjects, key=lambda subject: subject.spread.mean)
    rows = [
        [
            subject.name + (" ◂ highest" if subject is best else ""),
            accuracy_cell(subject),
            interval(*subject.interval),
            ", ".join(map(str, subject.seeds)),
            f"{subject.first.summary['parameters']:,}",
            subject.first.summary["weight_class"] or "over all",
            macs(subject.first.summary["macs"]),
            duration(sum(run.summary["seconds"] for run in subject.runs) / len(subject.runs)),
            subject.first.summary["label"],
        ]
        for subject in subjects
    ]
    columns = ("run", "test accuracy", "95% interval", "seeds", "parameters", "class", "MACs", "time", "label")
    blocks: list[Block] = [Table(columns, rows, frozenset({"test accuracy", "parameters", "MACs", "time"}))]
    blocks += [Text(told(verdict)) for verdict in verdicts]
    about = notes(verdicts, [subject.measured for subject in subjects], [subject.name for subject in subjects])
    blocks += [Text(text, "note") for text in about]
    others = [subject.name for subject in subjects[1:] if not same_images(subjects[0], subject)]
    if others:
        said = f"Measured on other test images than {subjects[0].name}: {', '.join(others)}. Such figures do not compare."
        blocks.append(Text(said, "warning"))
    return Section("comparison", "Is the difference real?", blocks)


def told(verdict: Verdict) -> str:
    """The verdict as a sentence; a name at its beginning keeps its letters."""
    text = verdict.sentence()
    return f"{text if text.startswith((verdict.first, verdict.second)) else text[0].upper() + text[1:]}."


def differences_section(subjects: Sequence[Subject]) -> Section:
    """The config keys that differ: the table of an ablation."""
    keys = differing_keys(subjects)
    if not keys:
        return Section("differences", "What differs", [Text("No key of their configs but the seed.", "note")])
    rows = [[key, *values] for key, values in keys.items()]
    rows.append(["test accuracy", *(accuracy_cell(subject) for subject in subjects)])
    return Section("differences", "What differs", [Table(("key", *(subject.name for subject in subjects)), rows)])


def curves_together(subjects: Sequence[Subject]) -> Section:
    """Validation curves over each other, and accuracy against size."""
    shown = subjects[:LINES]
    figures: list[Block] = []
    first = " of the first seed" if any(len(subject.runs) > 1 for subject in shown) else ""
    for key, scale, unit in (("loss", 1, "loss (nats)"), ("accuracy", 100, "accuracy (%)")):
        lines = []
        for index, subject in enumerate(shown):
            epochs = subject.first.epochs
            if all(f"val_{key}" in line for line in epochs):
                numbers, values = [line["epoch"] for line in epochs], [scale * line[f"val_{key}"] for line in epochs]
                lines.append(Line(subject.name, f"line{index + 1}", numbers, values))
        if lines:
            title = f"Validation {key}"
            chart = line_chart(f"{title} over epochs", "epoch", unit, lines)
            figures.append(Figure(chart, f"{title}{first}: see each label for which images these are.", "third"))
    if len({subject.first.summary["parameters"] for subject in shown}) > 1:
        figures.append(Figure(size_chart(shown), "Test accuracy with its 95% interval over parameters.", "third"))
    if len(subjects) > LINES:
        figures.append(Text(f"The first {LINES} of {len(subjects)} are drawn.", "note"))
    return Section("curves", "Training", figures)


def size_chart(subjects: Sequence[Subject]) -> Markup:
    """Test accuracy with its interval over parameters."""
    params = [int(subject.first.summary["parameters"]) for subject in subjects]
    lows, highs = ([100 * subject.interval[side] for subject in subjects] for side in (0, 1))
    room = max(0.08 * (max(highs) - min(lows)), 0.2)
    frame = Frame(min(params) / 1.5, max(params) * 1.5, min(lows) - room, min(100.0, max(highs) + room), log_x=True)
    named = [scale * 10**power for power in range(3, 9) for scale in (1, 2, 5)]
    inside = [float(value) for value in named if frame.x_low <= value <= frame.x_high]
    drawn: list[Any] = frame.axes(
        "parameters (logarithmic)", "test accuracy (%)", (inside if len(inside) <= 5 else inside[:: len(inside) // 4])[:5]
    )
    taken: dict[int, int] = {}
    for index, (subject, param, low, high) in enumerate(zip(subjects, params, lows, highs, strict=True)):
        beside = taken[param] = taken.get(param, -1) + 1  # nets of one size stand side by side
        x, style = frame.x(param) + 9 * beside, f"line{index + 1}"
        told = element("title", f"{subject.name}: {100 * subject.spread.mean:.2f}%, {param:,} parameters")
        drawn += [
            element("line", x1=x, x2=x, y1=frame.y(low), y2=frame.y(high), class_=style),
            element("circle", told, cx=x, cy=frame.y(100 * subject.spread.mean), r=4.5, class_=f"{style} dot"),
        ]
    return chart("Test accuracy over parameters", drawn, [(f"line{i + 1}", s.name) for i, s in enumerate(subjects)])


def interval_chart(subjects: Sequence[Subject]) -> Markup:
    """Every accuracy with its interval beneath each other on one scale; the points on a group's are its seeds."""
    row, left, width = 38, 10, 380
    lows, highs = ([100 * subject.interval[side] for subject in subjects] for side in (0, 1))
    seen = [100 * value for subject in subjects for value in subject.spread.values]
    begin, end = min([*lows, *seen]), max([*highs, *seen])
    room = max(0.08 * (end - begin), 0.1)
    begin, end = max(0.0, begin - room), min(100.0, end + room)
    bottom = row * len(subjects) + 6

    def x(value: float) -> float:
        return left + 8 + (value - begin) / (end - begin) * (width - 2 * left - 16)

    drawn = []
    for tick in ticks(begin, end, 5):
        drawn += [
            element("line", x1=x(tick), x2=x(tick), y1=4, y2=bottom, class_="grid"),
            element(
                "text",
                f"{tick_text(tick)}%",
                x=min(max(x(tick), 16), width - 18),
                y=bottom + 16,
                class_="tick",
                text_anchor="middle",
            ),
        ]
    for index, (subject, low, high) in enumerate(zip(subjects, lows, highs, strict=True)):
        y, style = row * index + 27, f"line{index % 6 + 1}"
        name = subject.name if len(subject.name) <= 32 else f"{subject.name[:31]}…"
        seeds = subject.spread.values if len(subject.runs) > 1 else ()
        drawn += [
            element("text", name, element("title", subject.name), x=left, y=y - 11, class_="tick strong"),
            element("text", accuracy_cell(subject), x=width - left, y=y - 11, class_="tick strong", text_anchor="end"),
            element("line", x1=x(low), x2=x(high), y1=y, y2=y, class_=f"{style} range"),
            *(element("circle", cx=x(100 * value), cy=y, r=2, class_="seed") for value in seeds),
            element("circle", cx=x(100 * subject.spread.mean), cy=y, r=5, class_=f"{style} dot"),
        ]
    title = "Test accuracies with their 95% intervals"
    return drawing(title, drawn, width=width, height=bottom + 22, class_="intervals")


def by_class_section(subjects: Sequence[Subject]) -> Section | None:
    """Recall of each class, where all know the same classes."""
    names = subjects[0].first.class_names
    if any(subject.first.class_names != names for subject in subjects) or len(names) > CLASSES:
        return None
    recalls = [_recalls(subject) for subject in subjects]
    columns = tuple(subject.name for subject in subjects)
    rows = [[name, *(percent(recall[index], 1) for recall in recalls)] for index, name in enumerate(names)]
    bars = dict(zip(columns, recalls, strict=True))
    note = Text("Share of each class's test images that were named right, the mean over seeds where there are several.", "note")
    return Section("classes", "Class by class", [Table(("class", *columns), rows, frozenset(columns), bars), note])


def _recalls(subject: Subject) -> list[float]:
    tables = [per_class(run.predictions["logits"], run.predictions["targets"], run.class_names) for run in subject.runs]
    return [sum(table[index]["recall"] for table in tables) / len(tables) for index in range(len(tables[0]))]


def commands_section(subjects: Sequence[Subject]) -> Section:
    """The command of each run."""
    runs: list[RunFacts] = [run for subject in subjects for run in subject.runs]
    commands = [run.run.command() or f"# {run.run.path.name} names no command" for run in runs]
    return Section("repeat", "To repeat them", [Code("\n".join(commands))])
