"""How `audit` tells people what it found."""

from itertools import groupby
from typing import Any

from rich.padding import Padding
from rich.text import Text

from bantamnet.cli import show

Facts = dict[str, Any]
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def audited(facts: Facts) -> None:
    """Findings by severity, each with its evidence and its fix, then what passed and what was not checked."""
    console = show.console()
    for finding in facts["findings"]:
        head = Text.assemble(
            (finding["severity"], f"bold {COLOURS[finding['severity']]}"),
            " ",
            (finding["check"], "bold"),
            f"  ({finding['read']})",
        )
        console.print(head)
        console.print(Padding(Text(finding["evidence"]), (0, 0, 0, 4), expand=False))
        console.print(Padding(Text(f"→ {finding['fix']}"), (0, 0, 1, 4), expand=False))
    if facts["unchecked"]:
        console.print(Text("not checked", "bold"))
        for why, group in groupby(sorted(facts["unchecked"], key=lambda entry: str(entry["why"])), lambda entry: entry["why"]):
            console.print(
                Padding(Text(f"{', '.join(entry['check'] for entry in group)}: because {why}"), (0, 0, 0, 4), expand=False)
            )
    counts = [f"{num} {severity}{'s' if num != 1 else ''}" for severity, num in facts["counts"].items()]
    console.print(
        f"{facts['kind']} {facts['subject']}: {', '.join(counts)}; {len(facts['passed'])} checks passed, "
        f"{len(facts['unchecked'])} not made",
        markup=False,
    )
