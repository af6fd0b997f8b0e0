"""Finds in a run, a model file or a recipe the faults that make its figures mean less than they seem to.

It reads the config, the claims in it, the run's records, the model file and, where they are at hand, the images. The net is never
asked about test images: a look at them would have to be written down.
"""

from collections.abc import Sequence
from pathlib import Path

from bantamnet.audit.checks import CHECKS, examine
from bantamnet.audit.finding import SEVERITIES, Audit, Finding, Unchecked
from bantamnet.audit.subject import open_subject

__all__ = ["CHECKS", "SEVERITIES", "Audit", "Finding", "Unchecked", "audit", "full_audit"]


def audit(subject: str | Path) -> list[Finding]:
    """The findings on a run directory, a model file, or a recipe (name or path), gravest first; no image is looked at."""
    return full_audit(subject, use_data=False).findings


def full_audit(
    subject: str | Path,
    data_dir: Path | None = None,
    *,
    use_data: bool = True,
    near_duplicates: bool = False,
    data: str | None = None,
    sets: Sequence[str] = (),
    use: Sequence[Path] = (),
) -> Audit:
    """Findings, what passed and what could not be checked; raises `UserError` where `subject` is nothing that can be audited.

    `use_data` looks at images where they are at hand (nothing is downloaded); `near_duplicates` also compares all pairs of
    training and test images, which takes a minute or two on 60,000. `data` says where a run's data are now. `sets` and `use`
    change a recipe as `train` does.
    """
    return examine(
        open_subject(
            str(subject), data_dir=data_dir, use_data=use_data, near_duplicates=near_duplicates, data=data, sets=sets, use=use
        )
    )
