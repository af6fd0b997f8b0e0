"""How `audit` tells people what it found."""

import textwrap
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from bantamnet.cli import show

Facts = dict[str, Any]
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
READ = {"config": "the config", "claim": "the claims", "run": "the run", "model": "the model file", "data": "the images"}


def audited(facts: Facts) -> None:
    """Findings by severity, each with its evidence and its fix; what was not checked; how many of each there are."""
    console = show.console()
    for finding in facts["findings"]:
        colour = f"bold {COLOURS[finding['severity']]}"
        console.print(
            Text.assemble((finding["severity"], colour), " ", (finding["check"], "bold"), f", in {READ[finding['read']]}")
        )
        _indented(console, finding["evidence"])
        _indented(console, f"→ {finding['fix']}")
        console.print()
    if facts["unchecked"]:
        console.print(Text("not checked", "bold"))
        for why, group in groupby(sorted(facts["unchecked"], key=lambda entry: str(entry["why"])), lambda entry: entry["why"]):
            _indented(console, f"{', '.join(entry['check'] for entry in group)}, because {why}")
    counts = ", ".join(f"{num} {severity}{'s' * (num != 1)}" for severity, num in facts["counts"].items())
    passed, unchecked = len(facts["passed"]), len(facts["unchecked"])
    _indented(console, f"{facts['kind']} {facts['subject']}: {counts}; {passed} checks passed, {unchecked} not made", 0)


def _indented(console: Console, text: str, columns: int = 4) -> None:
    """Wrapped between words alone, so that a path or a key can be copied."""
    margin = " " * columns
    wrapped = textwrap.wrap(
        text, console.width - 1, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
    console.print("\n".join(wrapped), markup=False, soft_wrap=True)
