"""The table of checks, and going through it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bantamnet.audit import selection
from bantamnet.audit.finding import SEVERITIES, Audit, Finding, NotCheckedError, Unchecked
from bantamnet.audit.subject import Subject


@dataclass(frozen=True)
class Check:
    """A question, and the function that answers it: findings, and `NotCheckedError` raised where it can go no further."""

    question: str
    find: Callable[[Subject], Iterator[Finding]]


CHECKS: dict[str, Check] = {
    "test-selection": Check("did test images choose anything?", selection.test_selection),
    "augmented-validation": Check("were validation images augmented?", selection.augmented_validation),
}
"""Every check by its name."""


def examine(subject: Subject) -> Audit:
    """Make every check of the table."""
    findings: list[Finding] = []
    passed: list[str] = []
    unchecked: list[Unchecked] = []
    for name, check in CHECKS.items():
        before = len(findings)
        try:
            for finding in check.find(subject):
                findings.append(finding)
        except NotCheckedError as missing:
            unchecked.append(Unchecked(name, str(missing)))
        else:
            if len(findings) == before:
                passed.append(name)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(subject.name, subject.kind, findings, passed, unchecked)
