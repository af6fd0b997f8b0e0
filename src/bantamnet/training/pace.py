"""How far a run is in its schedule, and when it ends: after planned steps, or when a time budget is used up."""

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable

import torch

from bantamnet.errors import UserError
from bantamnet.runtime import Ranks

Plan = tuple[int, float, int]
"""(step from which it holds, share of the schedule done before that step, steps of the whole run)."""

SPARE = 0.02
"""Share of a time budget that is planned for nothing: files are written in it, and clocks are not exact."""
SCORING_SPARE = 1.1
"""Scoring is reserved this many times what it is expected to take, since nothing can be corrected any more when it runs."""
MEMORY = 0.1
"""Share of a time budget over which measured speed is forgotten."""
LOOK = 0.02
"""Share of a time budget between two looks at the clock."""
PROBES = (0.3, 0.6, 0.9, math.inf)
"""Shares of the schedule after which the cost of scoring is measured again, …"""
PROBE_COST = 0.01
"""… on as many images as take this share of the budget, 500 at most; not at all where that is fewer than 50."""
FEWEST_STEPS = 10
"""A budget that leaves time for fewer steps is refused."""

MeasureScoring = Callable[[int], tuple[float, int, int]]
"""Scores so many images; (seconds an image, images to be scored after the last step, images scored after each epoch)."""
Cost = Callable[[float, float], float]
"""What a step between two shares of the schedule costs on average, in steps of full cost."""
ReadClock = Callable[[], float]
"""Seconds spent on training so far, over all resumes, when all work that was asked for is done."""


class Pace:
    """Progress in [0, 1] at every step: each plan spreads the rest of the schedule evenly over the rest of its steps."""

    def __init__(self, plans: list[Plan]) -> None:
        self.plans = plans

    @property
    def steps(self) -> int:
        """Steps of the whole run, as far as is known now."""
        return self.plans[-1][2]

    def num_epochs(self, steps_per_epoch: int) -> int:
        """Epochs that the run begins."""
        return math.ceil(self.steps / steps_per_epoch)

    def progress(self, step: int) -> float:
        """Share of the schedule that lies behind step number `step`, from 0."""
        since, done, steps = self.plans[bisect_right(self.plans, step, key=lambda plan: plan[0]) - 1]
        return done + (1 - done) * (step - since) / (steps - since)

    def look(self, step: int, read_clock: ReadClock) -> bool:
        """After each step: whether the plan has changed."""
        return False

    def pause(self, step: int, read_clock: ReadClock) -> None:
        """An epoch's last step is made; what follows is no training."""

    def go_on(self, read_clock: ReadClock) -> None:
        """The epoch is scored and saved; steps follow, if any are left."""

    def state(self) -> list[Plan] | None:
        """What a checkpoint keeps."""
        return None

    def load(self, state: list[Plan] | None) -> None:
        """Undo for `state`."""


class TimeBudget(Pace):
    """As many steps as fit into `seconds`, planned anew from the measured speed every few steps.

    A new plan spreads what is left of the schedule evenly over the steps that the time left allows, so progress never jumps
    and ends at 1 with the last step, whether the machine becomes slower or faster on the way. Clocks of several ranks differ:
    the main one's counts, and looks happen after step numbers that all ranks agree on.
    """

    def __init__(
        self, seconds: float, steps_per_epoch: int, steps_per_chunk: int, ranks: Ranks, cost: Cost = lambda since, until: 1.0
    ) -> None:
        super().__init__([(0, 0.0, 1)])
        self.cost = cost
        self.seconds, self.steps_per_epoch, self.steps_per_chunk, self.ranks = seconds, steps_per_epoch, steps_per_chunk, ranks
        self.next_look = 0
        self.since: tuple[int, float] = (0, 0.0)
        self.recent: tuple[float, float] = (0.0, 0.0)
        """(steps of full cost, seconds), older ones faded."""
        self.after_epoch = 0.0
        """Seconds between two epochs."""
        self.measure: MeasureScoring | None = None
        self.scoring: list[float] = []
        """What all scoring after the last step takes, each time it was measured, in training steps: so it follows the speed."""
        self.image_seconds = 0.0
        self.next_probe = PROBES[0]

    def begin(self, step: int, spent: float, step_seconds: float, measure: MeasureScoring) -> None:
        """Plan from fresh measurements of a step and of scoring; raises `UserError` where the budget leaves no time to train."""
        spent, step_seconds = self._agree(spent, step_seconds)
        self.recent, self.since, self.measure = (1.0, step_seconds), (step, spent), measure
        scoring_seconds, self.after_epoch = self._measure_scoring(500)
        needed = (FEWEST_STEPS + self.reserve) * step_seconds / (1 - SPARE)
        if step == 0 and needed > self.seconds:
            raise UserError(
                f"time_budget: {self.seconds:.4g} s is too short here, where a step takes {step_seconds:.3g} s and the scoring "
                f"after the last one {scoring_seconds:.3g} s; give at least {math.ceil(needed)}s, or a smaller net"
            )
        if step < self.steps:
            self._plan(step, spent)

    @property
    def reserve(self) -> float:
        """Training steps whose time is kept for scoring after the last one."""
        return SCORING_SPARE * statistics.median(self.scoring)

    @property
    def step_seconds(self) -> float:
        """Seconds of a step of full cost, lately."""
        steps, seconds = self.recent
        return seconds / steps

    def look(self, step: int, read_clock: ReadClock) -> bool:
        """Take in the time since the last look, and plan anew, when one is due."""
        if step < self.next_look or step >= self.steps:
            return False
        self._take_in(step, self._agree(read_clock())[0])
        if self.progress(step) >= self.next_probe:
            self.next_probe = next(share for share in PROBES if share > self.progress(step))
            affordable = int(PROBE_COST * self.seconds / self.image_seconds)
            if affordable >= 50:
                self._measure_scoring(min(affordable, 500))
                self.since = (step, self._agree(read_clock())[0])
                self._plan(*self.since)
        return True

    def pause(self, step: int, read_clock: ReadClock) -> None:
        """Take in the time since the last look."""
        self._take_in(step, self._agree(read_clock())[0])

    def go_on(self, read_clock: ReadClock) -> None:
        """Measure what lies between two epochs, and plan without counting it as training."""
        step, paused = self.since
        (now,) = self._agree(read_clock())
        self.after_epoch = now - paused
        self.since = (step, now)
        if step < self.steps:
            self._plan(step, now)

    def _take_in(self, step: int, now: float) -> None:
        took = now - self.since[1]
        steps = (step - self.since[0]) * self.cost(self.progress(self.since[0]), self.progress(step))
        if steps and took > 0:
            keep = math.exp(-took / (MEMORY * self.seconds))
            self.recent = (keep * self.recent[0] + steps, keep * self.recent[1] + took)
        self.since = (step, now)
        if step < self.steps:
            self._plan(step, now)

    def _measure_scoring(self, num: int) -> tuple[float, float]:
        """(seconds of all scoring after the last step, and after an epoch) as they would be now."""
        assert self.measure is not None
        mine, after_end, after_epoch = self.measure(num)
        (self.image_seconds,) = self._agree(mine)
        self.scoring.append(self.image_seconds * after_end / self.step_seconds)
        return self.image_seconds * after_end, self.image_seconds * after_epoch

    def _plan(self, step: int, now: float) -> None:
        left = self.seconds * (1 - SPARE) - now - self.reserve * self.step_seconds
        step_seconds = self.step_seconds * self.cost(self.progress(step), 1.0)
        steps_left = max(1, int(left / (step_seconds + self.after_epoch / self.steps_per_epoch)))
        earlier = [plan for plan in self.plans if plan[0] < step]
        self.plans = [*earlier, (step, self.progress(step), step + steps_left)]
        # The images of a chunk are augmented before its first step, so whole chunks give the truest speed.
        until = max(1, int(min(LOOK * self.seconds, left / 2) / self.step_seconds))
        self.next_look = step + (until - until % self.steps_per_chunk or until)

    def _agree(self, *seconds: float) -> list[float]:
        mine = torch.tensor(seconds if self.ranks.main else [0.0] * len(seconds), dtype=torch.float64)
        agreed: list[float] = self.ranks.sum(mine).tolist()
        return agreed

    def state(self) -> list[Plan]:
        """What a checkpoint keeps; speed is measured anew by a run that goes on."""
        return self.plans

    def load(self, state: list[Plan] | None) -> None:
        """Undo for `state`."""
        self.plans = [(step, done, steps) for step, done, steps in state or self.plans]
