"""How groups of runs and comparisons are told to people."""

from typing import Any

from bantamnet.cli import show

Facts = dict[str, Any]


def mean_text(mean: float | None, std: float | None) -> str:
    """84.03 ± 0.22%, or 84.03% of a single run."""
    if mean is None:
        return ""
    return f"{100 * mean:.2f}%" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f}%"


def interval_text(interval: tuple[float, float] | None) -> str:
    """83.5% to 84.4%."""
    return f"{show.percent(interval[0])} to {show.percent(interval[1])}" if interval else ""


def trained(facts: Facts) -> None:
    """The end of a training of several seeds."""
    rows = [
        [row["run"], str(row["seed"]), row["state"], show.percent(row["val"]), show.percent(row["test"])] for row in facts["runs"]
    ]
    print()
    show.table(["run", "seed", "state", "val", "test"], rows, ["seed", "val", "test"])
    for split, seen in facts["figures"].items():
        spread = f"mean ± standard deviation of {seen['num_runs']} seeds" if seen["num_runs"] > 1 else "one seed, so no spread"
        by = "95% bootstrap interval" if seen["num_runs"] > 1 else "95% interval"
        over = f"{interval_text(seen['interval_95'])}, over {seen['interval_over']}"
        print(f"{split:6} {mean_text(seen['mean'], seen['std'])} ({spread}; {by} {over})")
    if facts["diverged"]:
        print(f"       {facts['diverged']} diverged and are in no figure: so the mean is of those that went well")
    print(f"group  {facts['group']}")
    print(f"next   bantamnet compare {facts['group']} ANOTHER_GROUP")


def comparison(facts: Facts) -> None:
    """A line for each run or group, a verdict for each pair, and what must be known to read them."""
    rows = [
        [
            subject["name"],
            subject["recipe"],
            str(subject["num_runs"]),
            show.number(subject["parameters"]),
            mean_text(subject["mean"], subject["std"]),
            interval_text(subject["interval_95"]),
            subject["label"],
        ]
        for subject in facts["subjects"]
    ]
    columns = ["name", "recipe", "runs", "parameters", facts["split"], "95% interval", "label"]
    show.table(columns, rows, ["runs", "parameters", facts["split"]])
    print()
    for one in facts["comparisons"]:
        print(sentence(one["sentence"]))
    for note in facts["notes"]:
        print(f"note: {note}")


def sentence(text: str) -> str:
    """With a capital where it starts with a word of ours, and a full stop."""
    started = text[0].upper() + text[1:] if text.startswith(("no difference", "whether")) else text
    return f"{started}."


def ablation(facts: Facts) -> None:
    """A line a cell, the verdicts in words, and where the tables are."""
    from bantamnet.report.ablation import COLUMNS, sentences, table_rows

    print()
    show.table(COLUMNS, table_rows(facts), ["parameters", "accuracy", "against the base"])
    print()
    for text in sentences(facts):
        print(sentence(text))
    for note in facts["notes"]:
        print(f"note: {note}")
    print(f"tables {facts['out']}  (ablation.md, ablation.json, ablation.png)")


def ablations(facts: Facts) -> None:
    """A line a shipped ablation."""
    rows = [
        [
            row["name"],
            row["recipe"],
            " × ".join(f"{key} ({len(values)})" for key, values in row["vary"].items()),
            str(row["runs"]),
            row["about"],
        ]
        for row in facts["ablations"]
    ]
    show.table(["ablation", "recipe", "varies", "runs", "about"], rows, ["runs"])
