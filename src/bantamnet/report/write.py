"""From run directories to report.html and report.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bantamnet.audit import Audit, full_audit
from bantamnet.errors import UserError, WriteError
from bantamnet.report import claim
from bantamnet.report.attention import attention_section
from bantamnet.report.blocks import Block, Code, Section, Text
from bantamnet.report.calibrated import calibration_section
from bantamnet.report.facts import RunFacts
from bantamnet.report.findings import audit_section, audits_section
from bantamnet.report.head import head, head_of_group, head_of_several, of_seed
from bantamnet.report.markdown import markdown, plain
from bantamnet.report.net import net_section
from bantamnet.report.render import page
from bantamnet.report.results import classes_section, mistakes_section, pairs_section
from bantamnet.report.seeds import seeds_section
from bantamnet.report.sidebyside import (
    accuracy_cell,
    by_class_section,
    commands_section,
    curves_together,
    differences_section,
    verdict_section,
)
from bantamnet.report.subjects import Subject, read_subjects, verdicts_on
from bantamnet.report.trained import claims_section, curves_section, repeat_section, samples_section
from bantamnet.runs.tensorfile import write_bytes

DETAILS = (classes_section, pairs_section, mistakes_section, calibration_section, attention_section, samples_section, net_section)


WRITTEN_BY = "Written by `bantamnet report`"


def write_report(
    paths: Sequence[Path], out: Path | None = None, data_dir: Path | None = None, data: str | None = None
) -> dict[str, Any]:
    """Write the report on a run, a group of seeds, or several of them as HTML and, beside it, as Markdown.

    `out` is the HTML file: report.html in the run directory or the group's folder if left out, comparison.html here for several.
    Returns where both are, the claims and the audits' counts. Raises `UserError` for what is no finished run.
    """
    target = out or (paths[0] / "report.html" if len(paths) == 1 else Path("comparison.html"))
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out: {target} should end in .html; the Markdown file is written beside it")
    subjects = read_subjects(paths, data_dir, data)
    audits = [full_audit(subject.first.run.path, data_dir, data=data) for subject in subjects]
    made = compared(subjects, audits) if len(subjects) > 1 else one(subjects[0], audits[0])
    beside = target.with_suffix(".md")
    for path in (target, beside):
        refuse_others_file(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(target.parent, error) from None
    for path, text in zip((target, beside), made, strict=True):
        write_bytes(path, text.encode())
    # Several are compared by their figures alone, without pictures.
    facts = subjects[0].first if len(subjects) == 1 else None
    return {
        "report": str(target),
        "markdown": str(beside),
        "claims": [claim.line_of(subject) for subject in subjects],
        "audits": [audit.as_dict()["counts"] for audit in audits],
        "why_no_images": (facts.why_no_images or None) if facts else None,
    }


def refuse_others_file(path: Path) -> None:
    """Raise `UserError` for a file that no report wrote, so that nobody's README.md is lost."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else WRITTEN_BY
    if WRITTEN_BY not in text and plain(WRITTEN_BY) not in text:
        raise UserError(f"--out: {path} exists and was not written by `bantamnet report`; choose another name")


def one(subject: Subject, audit: Audit) -> tuple[str, str]:
    """(HTML, Markdown) of a report on a run, or on a group of seeds with the details of its first."""
    facts, several = subject.first, len(subject.runs) > 1
    sure = [] if several else claim.how_sure(facts)
    sentences = [*sure, *claim.how_large(facts), *claim.on_what(facts), *claim.how_honest(*subject.runs)]
    missing = [Text(sentence, "warning") for sentence in claim.not_counted(subject)]
    lead: list[Block] = [Code(claim.line_of(subject)), *missing, *map(Text, [*sentences, f"{of_seed(subject, audit)}."])]
    sections = [
        audit_section(audit),
        *([seeds_section(subject)] if several else []),
        curves_section(facts),
        *(section(facts) for section in DETAILS),
        *([found] if (found := claims_section(facts)) else []),
        repeat_section(facts),
    ]
    shown = head_of_group(subject, audit) if several else head(subject, audit)
    title = f"{facts.name}: {accuracy_cell(subject)} test accuracy"
    return _both(title, shown, lead, sections, [facts] if not several else subject.runs)


def compared(subjects: Sequence[Subject], audits: Sequence[Audit]) -> tuple[str, str]:
    """(HTML, Markdown) of a comparison."""
    verdicts = verdicts_on(subjects)
    sections = [
        verdict_section(subjects, verdicts),
        differences_section(subjects),
        curves_together(subjects),
        *([found] if (found := by_class_section(subjects)) else []),
        audits_section([subject.name for subject in subjects], audits),
        commands_section(subjects),
    ]
    title = f"Compared: {', '.join(subject.name for subject in subjects)}"
    lead: list[Block] = [Code("\n".join(claim.named_line(subject) for subject in subjects))]
    return _both(title, head_of_several(subjects, verdicts, audits), lead, sections, [r for s in subjects for r in s.runs])


def _both(
    title: str, shown: Any, lead: Sequence[Block], sections: Sequence[Section], runs: Sequence[RunFacts]
) -> tuple[str, str]:
    made = ", ".join(f"{facts.run.path.resolve().name}/ ({facts.summary['finished']})" for facts in runs)
    foot = f"{WRITTEN_BY} from {made}; every number is read from there."
    return page(title, shown, sections, foot), markdown(title, lead, sections, foot)
