"""What a run may say of itself: one line to quote, and the answers to how sure, how large, on what, and how honest."""

import math

from bantamnet.config import WEIGHT_CLASSES
from bantamnet.report.facts import RunFacts
from bantamnet.report.subjects import Subject
from bantamnet.report.words import count, duration, interval, macs, percent

LABELS = {
    "clean": "neither test images nor augmented validation images chose the weights or steered the learning rate",
    "final": "trained on all training images and the last weights kept, so that nothing could be chosen by test images",
    "as published": "test images, or augmented validation images, chose the weights, steered the rate or ended the run, as in a "
    "published report; a figure so chosen flatters",
}


def claim_line(facts: RunFacts) -> str:
    """The whole claim of a run in a line."""
    return "; ".join(
        [
            f"{facts.name}: {accuracy_words(facts)}",
            size_words(facts),
            cost_words(facts),
            f"seed {facts.config.seed}",
            facts.summary["label"],
        ]
    )


def group_line(group: Subject) -> str:
    """The whole claim of several seeds in a line."""
    facts, spread = group.first, group.spread
    accuracy = (
        f"{100 * spread.mean:.2f} ± {100 * (spread.std or 0):.2f}% test accuracy (mean ± standard deviation of "
        f"{count(len(group.runs), 'seed')}; 95% interval of the mean {interval(*group.interval)}; "
        f"{count(facts.test['num'], 'test image')} of {facts.data_name}{views_words(facts)})"
    )
    seeds = f"seeds {', '.join(map(str, group.seeds))}"
    return "; ".join([f"{facts.name}: {accuracy}", size_words(facts), cost_words(facts), seeds, facts.summary["label"]])


def line_of(subject: Subject) -> str:
    """The claim of a run or a group."""
    return group_line(subject) if len(subject.runs) > 1 else claim_line(subject.first)


def named_line(subject: Subject) -> str:
    """The same with the subject's own name before the recipe's, where these differ."""
    line = line_of(subject)
    return (
        line if subject.name == subject.first.name else f"{subject.name} ({subject.first.name}){line[len(subject.first.name) :]}"
    )


def accuracy_words(facts: RunFacts) -> str:
    """84.11% test accuracy (95% interval 83.38% to 84.81%; 8,411 of 10,000 test images of cifar10)."""
    test = facts.test
    return (
        f"{percent(test['accuracy'])} test accuracy (95% interval {interval(*test['accuracy_95'])}; "
        f"{test['correct']:,} of {count(test['num'], 'test image')} of {facts.data_name}{views_words(facts)})"
    )


def views_words(facts: RunFacts) -> str:
    """, test-time augmentation hflip of images under 0.7; nothing where each image was seen as it is."""
    tta, below = facts.test.get("tta", "none"), facts.test.get("tta_below")
    if tta == "none":
        return ""
    return f", test-time augmentation {tta}" + (f" of images under {below:g}" if below is not None else "")


def size_words(facts: RunFacts) -> str:
    """78,186 parameters (fly), 12.5 M MACs."""
    summary = facts.summary
    return f"{summary['parameters']:,} parameters ({summary['weight_class'] or 'over every class'}), {macs(summary['macs'])} MACs"


def cost_words(facts: RunFacts) -> str:
    """Trained in 2 min 53 s on AMD EPYC (2 threads, fp32)."""
    where, ranks = facts.summary["environment"], facts.summary.get("ranks", 1)
    threads = f"{count(where['threads'], 'thread')}, " if where["device_type"] == "cpu" else ""
    several = f"{ranks} × " if ranks > 1 else ""
    return f"trained in {duration(facts.summary['seconds'])} on {several}{where['device']} ({threads}{where['precision']})"


def how_sure(facts: RunFacts) -> list[str]:
    """What the interval covers, and what it does not."""
    test = facts.test
    low, high = test["accuracy_95"]
    rest = test["num"] - test["correct"]
    return [
        f"{test['correct']:,} of {test['num']:,} right, {rest:,} wrong. The interval, {interval(low, high)}, is the luck of "
        "which images are in the test set.",
        "It does not cover training again: this is one seed, and another would give another figure.",
    ]


def how_large(facts: RunFacts) -> list[str]:
    """Parameters against the budget, multiply-adds, memory."""
    params, name, budget = facts.summary["parameters"], facts.summary["weight_class"], facts.config.max_parameters
    held = (
        f"{name} class (at most {WEIGHT_CLASSES[name]:,}), {WEIGHT_CLASSES[name] - params:,} to spare"
        if name
        else "over every weight class"
    )
    own = f" Budget of the recipe: {budget:,}." if budget and budget != WEIGHT_CLASSES.get(name or "") else ""
    megabytes = params * 4 / 1024**2
    return [
        f"{held[0].upper()}{held[1:]}.{own}",
        f"{macs(facts.summary['macs'])} multiply-adds an image; weights take {megabytes:.2f} MB in fp32.",
    ]


def on_what(facts: RunFacts) -> list[str]:
    """Where the images came from, and what each part of them was used for."""
    data, val = facts.summary["data"], facts.config.data.val
    trained = f"{facts.data_name}: learned from {count(data['train']['num'], 'training image')}"
    watched = {
        "none": "none were held out",
        "test": f"watched {'and chosen ' if facts.config.select == 'best-test' else ''}by the {data['test']['num']:,} test "
        "images themselves",
        "train": f"watched on {data.get('val', {}).get('num', 0):,} held-out validation images"
        + (", sent through the training augmentation" if val.augment else ""),
    }[val.source]
    per_class = data["test"]["num"] / max(1, len(facts.class_names))
    return [
        f"{trained}; {watched}; measured on {data['test']['num']:,} test images.",
        f"{len(facts.class_names):,} classes, about {per_class:,.0f} test images each. Kept weights: {facts.info.chosen}.",
    ]


def not_counted(subject: Subject) -> list[str]:
    """Runs of the group that are in no figure, where there are some."""
    missing = subject.measured.missing
    return [f"Not counted: {', '.join(missing)}."] if missing else []


def how_honest(*runs: RunFacts) -> list[str]:
    """The derived label, and how often test images were looked at with the nets of these runs, seeds of one recipe."""
    label, seen_by = runs[0].summary["label"], [look for run in runs for look in run.test_looks]
    said = f"{label[0].upper()}{label[1:]}: {LABELS[label]}."
    after = sum(look.get("why") == "after an epoch" for look in seen_by)
    whose = "this run's nets" if len(runs) == 1 else f"the nets of {len(runs)} seeds"
    when = f"{after:,} of them in training" if after else "never in training"
    return [said, f"Test images were looked at {count(len(seen_by), 'time')} with {whose}, {when}."]


def against_chance(facts: RunFacts) -> str:
    """What guessing would give."""
    num, loss = len(facts.class_names), facts.test["nll"]
    guessing = f"Guessing one of {num} classes gives {percent(1 / num, 1)} and a loss of {math.log(num):.2f} nats"
    return f"{guessing}; the loss here is {loss:.3f}"
