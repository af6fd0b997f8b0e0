"""How `check` and `doctor` tell people what they found."""

from typing import Any

from rich.console import Console
from rich.text import Text

from bantamnet.cli import show

Facts = dict[str, Any]
COLOURS = {"ok": "green", "warn": "yellow", "problem": "red", "pass": "green", "fail": "red"}


def verdict(console: Console, status: str, what: str, text: str, fix: str = "") -> None:
    """A line: status, what, finding; and what to do about it below."""
    console.print(Text.assemble((f"{status:9}", COLOURS[status]), (f"{what:17}", "bold"), text), soft_wrap=True)
    if fix:
        console.print(f"{'':26}→ {fix}", soft_wrap=True, markup=False)


def seconds(value: float) -> str:
    """12 ms, 3.4 s, 5:06 or 1:02:03."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def checked(facts: Facts) -> None:
    """The four checks of a recipe."""
    console = show.console()
    console.print(f"{facts['recipe']}: {facts['parameters']:,} parameters, {facts['device']}, {facts['precision']}")
    _overfit(console, facts["overfit"])
    _rates(console, facts["lr_range"])
    _batch(console, facts["batch"])
    cost = facts["time"]
    verdict(
        console,
        "ok",
        "time",
        f"about {seconds(cost['total_seconds'])} for the run, {seconds(cost['epoch_seconds'])} an epoch: a step takes "
        f"{seconds(cost['step_seconds'])} ({cost['images_per_second']:,.0f} images/s); scoring makes "
        f"{cost['scored_images_per_second']:,.0f} images/s",
    )


def _overfit(console: Console, facts: Facts) -> None:
    found = (
        f"one batch of {facts['images']} images: loss {facts['first_loss']:.2f} (guessing: {facts['guessing']:.2f}) fell to "
        f"{facts['last_loss']:.3f} in {facts['steps']} steps; below {facts['limit']} is by heart"
    )
    if not facts["passed"]:
        fix = (
            "a sound recipe learns a batch by heart: see whether the rate is 0 or far off (below), then net, labels and mean/std"
        )
        verdict(console, "fail", "one batch", found, fix)
    elif facts["rate_factor"] < 1:
        verdict(console, "warn", "one batch", found, "only at a tenth of the recipe's rate; set optim.lr lower, or a warm-up")
    else:
        verdict(console, "pass", "one batch", found)


def _rates(console: Console, facts: Facts) -> None:
    rate = facts["recipe_rate"]
    if facts["verdict"] == "unknown":
        fix = "try without --quick" + (f", or look at {facts['plot']}" if facts["plot"] else "")
        verdict(console, "warn", "rate", f"the loss fell at no rate, so nothing can be said of {rate:.2g}", fix)
        return
    found = (
        f"{rate:.2g} is {facts['verdict']} the good range of {facts['low']:.2g} to {facts['high']:.2g}; the loss falls fastest "
        f"at {facts['suggestion']:.2g}" + (f"; see {facts['plot']}" if facts["plot"] else "")
    )
    fixes = {"inside": "", "below": "learns slowly: raise optim.lr into the range", "above": "may diverge: lower optim.lr"}
    verdict(console, "ok" if facts["verdict"] == "inside" else "warn", "rate", found, fixes[facts["verdict"]])


def _batch(console: Console, facts: Facts) -> None:
    if not facts["tried"]:
        verdict(console, "fail", "batch", "not even the smallest batch tried fits into memory", "a smaller net, or more memory")
        return
    last = facts["tried"][-1]
    why = {
        "memory": "twice that would take more memory than is free"
        if facts["allowed_bytes"] is None
        else f"twice that would take more than the {facts['allowed_bytes'] / 1024**3:.1f} GB allowed (half of what is free)",
        "time": f"twice that was not tried: its step would take more than {facts['longest_step']:g} s",
        "images": "there are not twice as many training images",
    }[facts["stopped_by"]]
    fastest = max(facts["tried"], key=lambda row: float(row["batch"] / row["seconds"]))
    speed = fastest["batch"] / fastest["seconds"]
    found = (
        f"{facts['largest']:,} images a step fit ({last['memory_bytes'] / 1024**3:.2f} GB); {why}; the recipe has "
        f"{facts['recipe']:,}; fastest without augmentation: {fastest['batch']:,} ({speed:,.0f} images/s)"
    )
    too_large = facts["recipe"] > facts["largest"] and facts["stopped_by"] == "memory"
    verdict(console, "warn" if too_large else "ok", "batch", found, "set batch_size lower" if too_large else "")


def examined(facts: Facts) -> None:
    """What the doctor found."""
    console = show.console()
    for finding in facts["findings"]:
        verdict(console, finding["status"], finding["name"], finding["found"], finding["fix"])
    console.print(facts["conclusion"])
