"""The runs of a group, which differ in nothing but their seed."""

from bantamnet.report.blocks import Block, Section, Table, Text
from bantamnet.report.claim import not_counted
from bantamnet.report.subjects import Subject
from bantamnet.report.words import count, duration, interval, percent


def seeds_section(group: Subject) -> Section:
    """A row a seed, and what they come to."""
    spread = group.spread
    rows = [
        [
            str(run.config.seed),
            percent(run.test["accuracy"]),
            interval(*run.test["accuracy_95"]),
            percent(run.summary["figures"]["val"]["accuracy"]) if "val" in run.summary["figures"] else "–",
            f"{run.summary['chosen']['epoch']} of {run.summary['epochs']}",
            duration(run.summary["seconds"]),
        ]
        for run in group.runs
    ]
    columns = ("seed", "test accuracy", "95% interval", "validation accuracy", "kept epoch", "time")
    several = f"standard deviation {100 * spread.std:.2f} points" if spread.std is not None else "no spread"
    said = (
        f"Mean {percent(spread.mean)}, {several}; 95% interval of the mean {interval(*group.interval)}, with {spread.over} drawn "
        f"again. What follows shows seed {group.first.config.seed}, the first of {count(len(group.runs), 'seed')}."
    )
    blocks: list[Block] = [Table(columns, rows, frozenset({"test accuracy", "validation accuracy", "time"})), Text(said, "note")]
    blocks += [Text(sentence, "warning") for sentence in not_counted(group)]
    return Section("seeds", "Seeds", blocks)
