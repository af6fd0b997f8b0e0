"""What the learning rate does over the run."""

from collections.abc import Iterator
from dataclasses import dataclass

from bantamnet.audit.finding import Finding, NotCheckedError
from bantamnet.audit.subject import Subject
from bantamnet.config import AnyOptimizer, AnySegment, Cosine, Linear, Multistep, OneCycle, RunConfig, Trapezoid
from bantamnet.optim.schedules import LearningRate

SHARE = 0.01
"""Of the peak: a rise or a rest of the rate that is smaller is no fault."""
PER_EPOCH = 20
"""Most places in an epoch at which the rate is looked at."""


@dataclass(frozen=True)
class Piece:
    """A segment of a schedule with the rates it goes through in this run, as (epochs gone, rate) of its steps."""

    start: float
    length: float
    kind: str
    rates: list[tuple[float, float]]
    final: float
    """The rate of its last step, whether the run gets there or not."""
    segment: AnySegment


def rate_rises(subject: Subject) -> Iterator[Finding]:
    """Whether a segment's rate rises again after it has fallen, as a cosine does that is shorter than the run.

    A rise at the beginning of another segment is a restart that somebody asked for.
    """
    config, name = subject.recipe, "rate-rises"
    steps = steps_per_epoch(subject)
    for number, group in enumerate(config.optim):
        for piece in pieces(config, group, steps):
            rates = [rate for _, rate in piece.rates]
            rise, top, bottom = highest_rise(rates)
            if rise <= SHARE * max(rates, default=0.0):
                continue
            yield Finding(
                name,
                "warning",
                f"optim.{number}: the {piece.kind} has {piece.length:g} epochs and the run goes on to epoch {config.epochs}: "
                f"the rate falls to {rates[bottom]:.2g} at epoch {piece.rates[bottom][0]:.0f} and climbs back to "
                f"{rates[top]:.2g} at epoch {piece.rates[top][0]:.0f}, {_percent(rates[top] / max(rates))} of its peak; "
                "what looks like over-fitting there may be this climb",
                f"end the run with the schedule (epochs={piece.start + piece.length:g}), or leave the segment's length out so "
                "that it follows the run",
                "config",
            )
            return
    yield from _logged_rise(subject, name)


def _logged_rise(subject: Subject, name: str) -> Iterator[Finding]:
    """A rise that the run's own records show and its config does not."""
    if subject.kind != "run" or any(len(group.schedule) > 1 for group in subject.recipe.optim):
        return
    lines = subject.epochs
    for number in range(len(lines[0]["lr"])):
        rates = [line["lr"][number] for line in lines]
        rise, top, bottom = highest_rise(rates)
        if rise > SHARE * max(rates):
            yield Finding(
                name,
                "warning",
                f"metrics.jsonl: the rate of optim.{number} falls to {rates[bottom]:.2g} and is back at {rates[top]:.2g} after "
                f"epoch {top + 1}, which config.yaml does not ask for",
                "train again with one config from beginning to end",
                "run",
            )


def rate_minimum(subject: Subject) -> Iterator[Finding]:
    """Whether a falling schedule gets to its end within the run."""
    config, name = subject.recipe, "rate-minimum"
    steps = steps_per_epoch(subject)
    for number, group in enumerate(config.optim):
        rest = pieces(config, group, steps)
        missed = [piece for piece in rest if not piece.rates and piece.start >= config.epochs - 1e-9]
        last = next((piece for piece in reversed(rest) if piece.rates), None)
        peak = max((rate for piece in rest for _, rate in piece.rates), default=0.0)
        if missed:
            yield Finding(
                name,
                "warning",
                f"optim.{number}: the run ends after {config.epochs} epochs, and the {missed[0].kind} would begin at epoch "
                f"{missed[0].start:g}",
                "shorten the segments before it, or train longer",
                "config",
            )
        elif last and last.start + last.length > config.epochs + 1e-6 and last.rates[-1][1] > last.final + SHARE * peak:
            yield Finding(
                name,
                "warning",
                f"optim.{number}: the {last.kind} of {last.length:g} epochs begins at epoch {last.start:g} and the run ends at "
                f"{config.epochs}, so it makes {config.epochs - last.start:g} of its {last.length:g} epochs: the last step is "
                f"taken at {last.rates[-1][1]:.2g}, {_percent(last.rates[-1][1] / peak)} of the peak, and the rate never gets "
                f"to {last.final:.2g}",
                "leave the segment's length out so that it ends with the run, or train longer",
                "config",
            )
        if last and isinstance(last.segment, Multistep):
            late = [last.start + epoch for epoch in last.segment.at if last.start + epoch >= config.epochs]
            if late:
                yield Finding(
                    name,
                    "warning",
                    f"optim.{number}: multistep lowers the rate at epochs {', '.join(f'{epoch:g}' for epoch in late)}, "
                    f"and the run ends at {config.epochs}",
                    "move these steps into the run, or train longer",
                    "config",
                )
    yield from _stopped_early(subject, name)


def _stopped_early(subject: Subject, name: str) -> Iterator[Finding]:
    """A run that ended before its schedule did, because validation said so."""
    if subject.kind != "run":
        return
    stopped = subject.summary.get("stopped_early")
    falling = any(isinstance(group.schedule[-1], Cosine | Linear | Trapezoid | OneCycle) for group in subject.recipe.optim)
    if stopped and falling:
        last = subject.epochs[-1]
        yield Finding(
            name,
            "note",
            f"summary.json: the run stopped early after epoch {stopped['epoch']} of {subject.recipe.epochs}, at a rate of "
            f"{max(last['lr']):.2g}: the falling end of its schedule was never trained with",
            f"train again with epochs={stopped['epoch']} and early_stop=null, so that the schedule ends with the run",
            "run",
        )


def pieces(config: RunConfig, group: AnyOptimizer, steps_per_epoch: int) -> list[Piece]:
    """The segments of a schedule in this run; a plateau, which follows validation, is left out."""
    rate = LearningRate(group, steps_per_epoch, config.epochs)
    made: list[Piece] = []
    last_step = config.epochs * steps_per_epoch - 1
    stride = max(1, steps_per_epoch // PER_EPOCH)
    for number, (start, length, segment) in enumerate(rate.segments):
        if segment.name == "plateau":
            continue
        is_last = number == len(rate.segments) - 1
        first = round(start * steps_per_epoch)
        end = last_step + 1 if is_last else min(last_step + 1, round((start + length) * steps_per_epoch))
        places = sorted({*range(first, end, stride), end - 1}) if end > first else []
        alone = LearningRate(group.model_copy(update={"schedule": [segment]}), steps_per_epoch, config.epochs - start)
        final = alone.at(max(0, round(length * steps_per_epoch) - 1))
        made.append(
            Piece(start, length, segment.name, [(step / steps_per_epoch, rate.at(step)) for step in places], final, segment)
        )
    return made


def steps_per_epoch(subject: Subject) -> int:
    """From the run's records, else from the number of training images; only a length in steps depends on it."""
    config = subject.recipe
    try:
        first = subject.epochs[0]
        return int(first["step"])
    except NotCheckedError:
        pass
    try:
        num = subject.source.num_train
    except NotCheckedError:
        num = None
    if num is None:
        if any(piece.steps for group in config.optim for piece in group.schedule):
            raise NotCheckedError("the schedule is given in steps, and the number of training images is not known here")
        return PER_EPOCH
    held_out = (config.data.val.count or max(1, round(num / 10))) if config.data.val.source == "train" else 0
    return max(1, -(-(num - held_out) // config.batch_size))


def highest_rise(rates: list[float]) -> tuple[float, int, int]:
    """(how far a rate rises again after it has fallen from its peak so far, where it has risen to, where it rose from)."""
    highest, peak, bottom = (0.0, 0, 0), 0, 0
    for place, rate in enumerate(rates):
        if rates[bottom] < (1 - SHARE) * rates[peak]:
            highest = max(highest, (rate - rates[bottom], place, bottom))
        if rate >= rates[peak]:
            peak = bottom = place
        elif rate < rates[bottom]:
            bottom = place
    return highest


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"
