"""The table of checks, and going through it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bantamnet.audit import claimed, figures, images, model, net, schedule, selection, start
from bantamnet.audit.finding import SEVERITIES, Audit, Finding, NotCheckedError, Unchecked
from bantamnet.audit.subject import Subject


@dataclass(frozen=True)
class Check:
    """A question, and the function that answers it: findings, and `NotCheckedError` raised where it can go no further."""

    question: str
    find: Callable[[Subject], Iterator[Finding]]


CHECKS: dict[str, Check] = {
    "rate-rises": Check("does the learning rate climb again after it has fallen?", schedule.rate_rises),
    "rate-minimum": Check("does a falling learning rate get to its end?", schedule.rate_minimum),
    "test-selection": Check("did test images choose anything?", selection.test_selection),
    "augmented-validation": Check("were validation images augmented?", selection.augmented_validation),
    "warm-start": Check("were the weights trained before the run began?", start.warm_start),
    "single-seed": Check("is there one run behind a figure?", start.single_seed),
    "impossible-accuracy": Check("is every accuracy a count of images divided by their number?", figures.impossible_accuracy),
    "batch-mean": Check("is an accuracy a mean over batches?", figures.batch_mean),
    "figure-source": Check("is every figure of the weights that it is told of?", figures.figure_source),
    "noise": Check("is a claimed difference larger than chance makes?", claimed.noise),
    "confounded-ablation": Check("did a claimed comparison change one thing?", claimed.confounded),
    "description": Check("do text, README, code and config say the same?", claimed.description),
    "parameters": Check("has the net the parameters that are told and allowed?", model.parameters),
    "normalisation": Check("are pixels normalised in use as in training?", model.normalisation),
    "label-order": Check("is a class the same number to data and model?", model.label_order),
    "equal-views": Check("is a test-time view another one again?", model.equal_views),
    "unverified-export": Check("was a quantised or exported net held against its original?", model.unverified_export),
    "replay": Check("are the stored logits those of the model file?", net.replay),
    "batchnorm": Check("are BatchNorm's statistics those of what the net sees?", net.batchnorm),
    "duplicates": Check("are images that are scored among those trained on?", images.duplicates),
    "near-duplicates": Check("are test images almost training images?", images.near_duplicates),
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
        except KeyError as missing:
            unchecked.append(Unchecked(name, f"the records lack {missing}"))
        else:
            if len(findings) == before:
                passed.append(name)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(subject.name, subject.kind, findings, passed, unchecked)
