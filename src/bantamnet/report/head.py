"""The first screen: what the figure is, how sure, at which size, on what data, and whether it is honest."""

from collections.abc import Sequence

from bantamnet.audit import Audit
from bantamnet.evaluate.verdict import Verdict
from bantamnet.report import claim
from bantamnet.report.facts import RunFacts
from bantamnet.report.findings import verdict
from bantamnet.report.markup import Markup, element
from bantamnet.report.sidebyside import accuracy_cell, interval_chart, told
from bantamnet.report.small import budget_bar, interval_bar
from bantamnet.report.subjects import Subject
from bantamnet.report.words import count, duration, interval, listed, percent

SENTENCES = 3
"""Verdicts that a head tells in full; all of them stand below."""
STYLES = {"clean": "good", "final": "good", "as published": "warn"}


def head(subject: Subject, audit: Audit) -> Markup:
    """The head of a report on one run, or on a group of which one is finished."""
    facts = subject.first
    test, summary = facts.test, facts.summary
    low, high = (100 * bound for bound in test["accuracy_95"])
    claims = facts.config.claims
    marks = [(f"published {claims.accuracy:g}%", claims.accuracy)] if claims and claims.accuracy is not None else []
    figure = card(
        "Test accuracy",
        element("div", percent(test["accuracy"]), class_="big"),
        element("div", f"95% interval {interval(*test['accuracy_95'])}", class_="what"),
        interval_bar(100 * test["accuracy"], low, high, marks),
        element("p", f"{claim.against_chance(facts)}.", class_="note"),
        style="figure-card",
    )
    cards = [
        card("How sure?", strong(sure_words(facts)), words(claim.how_sure(facts) + claim.not_counted(subject))),
        card("How large?", budget_bar(summary["parameters"], facts.config.max_parameters), words(claim.how_large(facts))),
        card("On what, and at what cost?", strong(trained_words(facts)), words(claim.on_what(facts))),
        card("Honest?", strong(verdict(audit)[1]), words(claim.how_honest(facts)), gravest(audit)),
    ]
    return element(
        "header",
        top(facts.name, facts.config.about, [(STYLES[summary["label"]], summary["label"]), verdict(audit)]),
        element("div", figure, element("div", cards, class_="cards"), class_="hero"),
        quoted(claim.claim_line(facts)),
    )


def head_of_group(group: Subject, audit: Audit) -> Markup:
    """The head of a report on one recipe over several seeds."""
    facts, spread = group.first, group.spread
    low, high = (100 * bound for bound in group.interval)
    figure = card(
        f"Test accuracy, mean ± standard deviation of {count(len(group.runs), 'seed')}",
        element("div", accuracy_cell(group), class_="big many"),
        element("div", f"95% interval of the mean {interval(*group.interval)}", class_="what"),
        interval_bar(100 * spread.mean, low, high),
        element("p", f"{claim.against_chance(facts)} (seed {facts.config.seed}).", class_="note"),
        style="figure-card",
    )
    each = ", ".join(f"{percent(value)} (seed {seed})" for value, seed in zip(spread.values, group.seeds, strict=True))
    sure = [f"Each seed: {each}.", f"The interval counts the luck of {spread.over}.", *claim.not_counted(group)]
    cards = [
        card("How sure?", strong(f"± {(high - low) / 2:.2f} points, from {count(len(group.runs), 'seed')}"), words(sure)),
        card("How large?", budget_bar(facts.summary["parameters"], facts.config.max_parameters), words(claim.how_large(facts))),
        card("On what, and at what cost?", strong(trained_words(facts)), words(claim.on_what(facts))),
        card("Honest?", strong(of_seed(group, audit)), words(claim.how_honest(*group.runs)), gravest(audit)),
    ]
    return element(
        "header",
        top(facts.name, facts.config.about, [(STYLES[facts.summary["label"]], facts.summary["label"]), verdict(audit)]),
        element("div", figure, element("div", cards, class_="cards"), class_="hero"),
        quoted(claim.group_line(group)),
    )


def of_seed(group: Subject, audit: Audit) -> str:
    """What the audit found, which is of the first seed."""
    return f"{verdict(audit)[1]} (seed {group.first.config.seed})" if len(group.runs) > 1 else verdict(audit)[1]


def head_of_several(subjects: Sequence[Subject], verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Markup:
    """The head of a comparison."""
    tests = {subject.first.data_name: subject.first.test["num"] for subject in subjects}
    on = listed([f"{num:,} test images of {name}" for name, num in tests.items()])
    counted = {"found": 0, "not": 0}
    for said in verdicts:
        counted["found" if said.found.endswith("better") else "not"] += 1
    summary = f"{count(counted['found'], 'real difference')}, {counted['not']:,} not shown" if verdicts else "nothing to compare"
    errors = [subject.name for subject, audit in zip(subjects, audits, strict=True) if any(audit.of("error"))]
    honest = f"The audit calls errors in: {', '.join(errors)}." if errors else "The audit finds no error in any of them."
    figure = card("Test accuracy with its 95% interval", interval_chart(subjects))
    cards = [
        card("Is the difference real?", strong(summary), words([told(said) for said in verdicts[:SENTENCES]])),
        card("Honest?", strong(honest), words([f"{s.name}: {s.first.summary['label']}." for s in subjects])),
    ]
    return element(
        "header",
        top(f"{len(subjects)} compared", on, []),
        element("div", figure, element("div", cards, class_="cards single"), class_="hero several"),
        quoted("\n".join(claim.named_line(subject) for subject in subjects)),
    )


def top(title: str, about: str, badges: list[tuple[str, str]]) -> Markup:
    """The line above all: name, what it is for, badges of (style, text)."""
    shown = [element("span", text, class_=f"badge {style}") for style, text in badges]
    return element("div", element("h1", title), element("span", about, class_="about"), shown, class_="top")


def card(title: str, *children: object, style: str = "") -> Markup:
    """One question with its answer."""
    return element("div", element("h3", title), *children, class_=f"card {style}".strip())


def strong(text: str) -> Markup:
    """The answer in a few words."""
    return element("div", text, class_="strong-line")


def words(sentences: list[str]) -> list[Markup]:
    """The answer in sentences."""
    return [element("p", sentence) for sentence in sentences]


def quoted(line: str) -> Markup:
    """The claim line, to copy."""
    return element("div", element("h3", "To quote it"), element("pre", line), class_="claim")


def gravest(audit: Audit) -> Markup | None:
    """The first error, since nobody should have to scroll for it."""
    error = next(audit.of("error"), None)
    return element("p", element("strong", f"{error.check}: "), error.evidence, class_="warning") if error else None


def sure_words(facts: RunFacts) -> str:
    """± half of the interval."""
    low, high = facts.test["accuracy_95"]
    return f"± {50 * (high - low):.2f} points, from 1 seed on {count(facts.test['num'], 'image')}"


def trained_words(facts: RunFacts) -> str:
    """Data, time, machine."""
    return f"{facts.data_name}, {duration(facts.summary['seconds'])} on {facts.summary['environment']['device']}"
