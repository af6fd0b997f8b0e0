"""What the audit found."""

from collections.abc import Sequence

from bantamnet.audit import SEVERITIES, Audit
from bantamnet.report.blocks import Block, Finding, Section, Text
from bantamnet.report.words import count


def audit_section(audit: Audit) -> Section:
    """Every finding with its evidence and its fix, what passed, what could not be checked."""
    blocks: list[Block] = [
        Finding(found.severity, found.check, found.evidence, found.fix, found.read) for found in audit.findings
    ]
    if not audit.findings:
        blocks.append(Text("No fault was found.", "note"))
    if audit.passed:
        blocks.append(Text(f"Passed ({len(audit.passed)}): {', '.join(audit.passed)}.", "note"))
    if audit.unchecked:
        blocks.append(Text(f"Not checked: {'; '.join(f'{left.check} ({left.why})' for left in audit.unchecked)}.", "note"))
    return Section("audit", "The audit's findings", blocks)


def audits_section(names: Sequence[str], audits: Sequence[Audit]) -> Section:
    """The findings on several runs; of a group of seeds, on the first."""
    blocks: list[Block] = []
    for name, audit in zip(names, audits, strict=True):
        blocks.append(Text(f"{name}: {verdict(audit)[1]}"))
        blocks += [Finding(found.severity, found.check, found.evidence, found.fix, found.read) for found in audit.findings]
    return Section("audit", "The audit's findings", blocks)


def verdict(audit: Audit) -> tuple[str, str]:
    """(good, warn or bad; how many findings of each severity)."""
    num = {severity: sum(1 for _ in audit.of(severity)) for severity in SEVERITIES}
    found = [count(number, severity) for severity, number in num.items() if number]
    style = "bad" if num["error"] else "warn" if num["warning"] else "good"
    checked = len(audit.passed) + len({finding.check for finding in audit.findings})
    return style, f"audit: {', '.join(found)}" if found else f"audit: {count(checked, 'check')} passed"
