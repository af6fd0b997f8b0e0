"""What an audit says."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Gravest first: a figure does not mean what it is taken for; something does not do what it seems to; worth knowing."""

Source = Literal["config", "claim", "run", "model", "data"]
"""Where a fault is read: the keys of the config, what a report says of itself (`claims:`), a run's records, a model file, or the
images themselves."""


class NotCheckedError(Exception):
    """What a check needs is not there; its text says what."""


@dataclass(frozen=True)
class Finding:
    """A fault."""

    check: str
    """Name of the check that found it."""
    severity: Severity
    """How grave it is; see `SEVERITIES`."""
    evidence: str
    """A sentence with the numbers found."""
    fix: str
    """What to do about it."""
    read: Source
    """Where the numbers were read."""


@dataclass(frozen=True)
class Unchecked:
    """A check that was not made, or not to its end."""

    check: str
    why: str


@dataclass(frozen=True)
class Audit:
    """All that is known after an audit; every check is in `passed`, `findings` or `unchecked`, and may be in both of the last."""

    subject: str
    kind: str
    """run, model file or recipe."""
    findings: list[Finding]
    """Gravest first."""
    passed: list[str]
    """Checks that were made to their end and found nothing."""
    unchecked: list[Unchecked]

    def of(self, severity: Severity) -> Iterator[Finding]:
        """The findings of that severity."""
        return (finding for finding in self.findings if finding.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the number of findings of each severity."""
        return {**asdict(self), "counts": {severity: len(list(self.of(severity))) for severity in SEVERITIES}}
