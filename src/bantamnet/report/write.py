"""From run directories to report.html and report.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bantamnet import __version__
from bantamnet.audit import Audit, full_audit
from bantamnet.errors import UserError, WriteError
from bantamnet.report import claim
from bantamnet.report.attention import attention_section
from bantamnet.report.blocks import Block, Code, Section, Text
from bantamnet.report.calibrated import calibration_section
from bantamnet.report.facts import RunFacts, read_run
from bantamnet.report.findings import audit_section, verdict
from bantamnet.report.head import head
from bantamnet.report.markdown import markdown
from bantamnet.report.net import net_section
from bantamnet.report.render import page
from bantamnet.report.results import classes_section, mistakes_section, pairs_section
from bantamnet.report.trained import claims_section, curves_section, repeat_section, samples_section
from bantamnet.report.words import percent
from bantamnet.runs.tensorfile import write_bytes


def write_report(
    paths: Sequence[Path], out: Path | None = None, data_dir: Path | None = None, data: str | None = None
) -> dict[str, Any]:
    """Write the report on a run as HTML and, beside it, as Markdown; where they are, and the claim.

    `out` is the HTML file (default: report.html in the run directory). Raises `UserError` for what is no finished run.
    """
    target = out or paths[0] / "report.html"
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out: {target} should end in .html; the Markdown file is written beside it")
    facts = read_run(paths[0], data_dir, data)
    audit = full_audit(paths[0], data_dir)
    html, text = one_run(facts, audit)
    beside = target.with_suffix(".md")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(target.parent, error) from None
    write_bytes(target, html.encode())
    write_bytes(beside, text.encode())
    return {
        "report": str(target),
        "markdown": str(beside),
        "claim": claim.claim_line(facts),
        "audit": audit.as_dict()["counts"],
        "images": facts.splits is not None,
        "why_no_images": facts.why_no_images or None,
    }


def one_run(facts: RunFacts, audit: Audit) -> tuple[str, str]:
    """(HTML, Markdown) of a report on one run."""
    sections = run_sections(facts, audit)
    title = f"{facts.name}: {percent(facts.test['accuracy'])} test accuracy"
    made = f"{facts.run.path.name}/ ({facts.summary['finished']})"
    foot = f"Written by bantamnet {__version__} from {made}; every number is read from that run directory."
    lead: list[Block] = [Code(claim.claim_line(facts))]
    lead += [
        Text(sentence)
        for answer in (claim.how_sure, claim.how_large, claim.on_what, claim.how_honest)
        for sentence in answer(facts)
    ]
    lead.append(Text(f"{verdict(audit)[1]}."))
    return page(title, head(facts, audit), sections, foot), markdown(title, lead, sections, foot)


def run_sections(facts: RunFacts, audit: Audit) -> list[Section]:
    """All that is shown of one run, below the first screen."""
    sections = [
        audit_section(audit),
        curves_section(facts),
        classes_section(facts),
        pairs_section(facts),
        mistakes_section(facts),
        calibration_section(facts),
        attention_section(facts),
        samples_section(facts),
        net_section(facts),
        claims_section(facts),
        repeat_section(facts),
    ]
    return [section for section in sections if section]
