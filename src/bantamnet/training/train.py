"""From a config to a finished run directory."""

import contextlib
import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bantamnet.config import RunConfig
from bantamnet.data.balance import IMBALANCED, counts
from bantamnet.data.listener import ConsoleListener
from bantamnet.errors import NonFiniteError, UserError
from bantamnet.evaluate.logits import BATCH, split_logits
from bantamnet.evaluate.metrics import score
from bantamnet.evaluate.scoring import moved, record_test_look
from bantamnet.evaluate.tta import ViewAverage
from bantamnet.lock import hold
from bantamnet.machine import peak_memory
from bantamnet.models.resnet import count_parameters
from bantamnet.models.summary import summarize, weight_class
from bantamnet.runs.directory import RunDirectory, free_directory
from bantamnet.runs.own import keep_copies, use_copies, with_files
from bantamnet.runs.tensorfile import digest
from bantamnet.runtime import (
    command_line,
    environment,
    is_main_process,
    join_ranks,
    pick_device,
    rng_state,
    set_rng_state,
)
from bantamnet.training.checkpoints import list_checkpoints, load_newest
from bantamnet.training.compiling import step_net
from bantamnet.training.keeping import chosen_net, early_end, write_model
from bantamnet.training.loop import batches, fit
from bantamnet.training.pace import TimeBudget
from bantamnet.training.precheck import check_before_data
from bantamnet.training.progress import Progress, duration, facts_table
from bantamnet.training.setup import Point, Setup, State, prepare
from bantamnet.training.signals import listen
from bantamnet.training.step import gradients
from bantamnet.training.tracking import check_tracker, tracking


@dataclass(frozen=True)
class Options:
    """How a run is made, beside what it is."""

    data_dir: Path | None = None
    console: Console | None = None
    """Where to talk; None for silence."""
    data: str | None = None
    """Where the data of a run that is resumed are now; None for where they were."""
    command: str = ""
    """Recorded as how to repeat the run; empty takes the command line of this process."""
    rank_timeout: float = 600
    """Seconds after which a rank that the others wait for counts as lost."""
    others_follow: bool = False
    """Whether a signal that comes too late to stop this run is to stop those after it."""


PROBE = 250
"""Images that a CPU's speed is measured with before a run."""


def train(config: RunConfig, out: Path | None = None, options: Options | None = None) -> RunDirectory:
    """Train from the start into `out` (default `runs/NAME`, numbered where taken)."""
    options = options or Options()
    config = with_files(config)
    check_before_data(config)
    max_restarts, restarts = (int(os.environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("MAX_RESTARTS", "RESTART_COUNT"))
    if max_restarts and out is None:
        raise UserError("--max-restarts: name the run directory with --out, so that a restart finds it")
    path = out or free_directory(Path("runs"), f"{config.name}-refit" if config.refit_of else config.name)
    if restarts and (path / "config.yaml").is_file():
        return resume(path, options)
    RunDirectory.refuse_used(path)
    return _run(config, path, options, resuming=False)


def resume(path: Path, options: Options | None = None) -> RunDirectory:
    """Go on from the newest checkpoint of a run; on a CPU the end is the same, bit for bit, as without the break."""
    run = RunDirectory.open(path)
    if run.summary():
        raise UserError(f"{path} is finished; `bantamnet evaluate {path}` shows it")
    config = run.config()
    options = options or Options()
    for warning in use_copies(path, config.use):
        if options.console and is_main_process():
            options.console.print(f"warning: {warning}", markup=False)
    return _run(moved(config, options.data), path, options, resuming=True)


def _run(config: RunConfig, path: Path, options: Options, resuming: bool) -> RunDirectory:
    check_tracker(config.track)
    device = pick_device(config.device)
    with join_ranks(device, options.rank_timeout) as ranks, listen(path) as stop, contextlib.ExitStack() as held:
        console = (options.console if ranks.main else None) or Console(quiet=True)
        run = RunDirectory(path)
        if ranks.main and resuming:
            held.enter_context(hold(path))
        begun = resuming and bool(list_checkpoints(run.checkpoints))
        listener = ConsoleListener(console, stopped=lambda: bool(stop.signum))
        setup, state = prepare(config, options.data_dir, device, ranks, with_init=not begun, listener=listener)
        if resuming:
            checkpoint, warnings = load_newest(run.checkpoints, setup, state)
            if ranks.main:
                for warning in warnings:
                    console.print(f"warning: {warning}", markup=False)
                begins = f"resuming {path} after step {state.step:,}" if checkpoint else f"starting {path} again"
                console.print(begins, markup=False)
                run.remove_leftovers()
                run.cut_metrics(state.epochs_done)
                if state.best:
                    write_model(setup, state, run, [])
        net, compile_seconds = step_net(setup, state)
        seconds = measure(setup, state)
        if isinstance(state.pace, TimeBudget):
            state.pace.begin(state.step, state.seconds, seconds, lambda num: scoring_plan(setup, state, num))
        if ranks.main and not resuming:
            RunDirectory.create(path, setup.config, options.command or command_line())
            keep_copies(path, config)
            held.enter_context(hold(path))
        ranks.wait()
        if ranks.main:
            console.print(facts_table(facts(setup, state, path, seconds)))
        with Progress(console) as progress, tracking(config.track if ranks.main else "none", run) as track:
            end = state.end(setup.steps_per_epoch)
            done = setup.work(Point(), state.point)
            progress.begin(done, done + setup.work(state.point, end), end.epochs)
            try:
                fit(setup, state, net, run, progress, stop, track)
            except NonFiniteError as error:
                saved = list_checkpoints(run.checkpoints)
                where = f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint had been written yet"
                raise NonFiniteError(f"{error}; {where}. Try a lower optim.lr, a warm-up, or precision=fp32") from None
        if ranks.main and (early := early_end(setup, state)):
            console.print(early["note"], highlight=False)
        finish(setup, state, run, compile_seconds)
        ranks.wait()
        if options.others_follow and stop.requested(ranks):
            stop.leave()
    return run


def measure(setup: Setup, state: State, num_steps: int = 2) -> float:
    """Seconds that a training step at full size takes with its share of the augmentation, the optimiser's own work aside.

    What smaller pictures cost beside that goes to `setup.resizing.costs`. Measured on a copy of the net; nothing else of the run
    is changed by it. Of a large batch a CPU, which is about as fast with a small one, only sees a part: its user waits for this.
    """
    generators = rng_state(setup.device)
    net = copy.deepcopy(state.net).train()
    began = time.perf_counter()
    stream = batches(setup, state.epochs_done)
    batch = next(stream)
    augmenting = (time.perf_counter() - began) / min(setup.steps_per_chunk, setup.steps_per_epoch)
    images, targets = batch.images, batch.targets
    if setup.device.type == "cpu":
        images, targets = images[:PROBE], targets[:PROBE]
    seconds = {}
    for scale, place in setup.resizing.places().items():
        for number in range(num_steps + 1):  # the first is to warm up
            if number == 1:
                began = time.perf_counter()
            loss, _ = gradients(setup, net, setup.resizing.apply(images, place), targets, batch.share)
            net.zero_grad()
            loss.item()
        seconds[scale] = augmenting + (time.perf_counter() - began) / num_steps * len(batch.images) / len(images)
    set_rng_state(generators, setup.device)
    costs = torch.tensor([seconds[scale] / seconds[1.0] for scale in seconds], dtype=torch.float64)
    agreed = setup.ranks.sum(costs if setup.ranks.main else torch.zeros_like(costs)).tolist()
    setup.resizing.costs = dict(zip(seconds, agreed, strict=True))
    return seconds[1.0]


def scoring_seconds(setup: Setup, state: State, num: int = BATCH) -> float:
    """Seconds that scoring an image takes, measured on `num` training images."""
    split = setup.splits["train"]
    batch = split.subset(torch.arange(min(num, len(split))))
    for part in (batch.subset(torch.arange(min(20, len(batch)))), batch):  # the first is to warm up
        began = time.perf_counter()
        split_logits(state.scored_net, part, setup.preprocessing, precision=setup.precision).sum().item()
        seconds = time.perf_counter() - began
    return seconds / len(batch)


def scoring_plan(setup: Setup, state: State, num: int) -> tuple[float, int, int]:
    """(seconds of scoring an image, images to be scored after the last step, images of an epoch's validation)."""
    val, average = setup.config.data.val, ViewAverage(setup.config.tta)
    num_val = len(setup.splits.get("val", ()))
    known = average.plain and not val.augment and setup.ranks.size == 1 and not (state.best and state.best_logits is None)
    again = 0 if known or val.source == "test" else num_val
    num_test = 0 if known and val.source == "test" else len(setup.splits["test"])
    after_end = num_val + len(average.views) * (again + num_test)
    return scoring_seconds(setup, state, num), after_end, num_val


def facts(setup: Setup, state: State, path: Path, step_seconds: float) -> dict[str, str]:
    """What is about to happen, as told before it does."""
    config = setup.config
    params, budget = count_parameters(state.net), config.max_parameters
    limit = f"{budget:,} ({config.budget})" if isinstance(config.budget, str) else f"{budget:,}" if budget else "none"
    left = setup.work(state.point, state.end(setup.steps_per_epoch))
    num = ", ".join(f"{len(split):,} {name}" for name, split in setup.splits.items())
    if config.data.val.source == "test":
        num += " (val is test)"
    smallest, largest = (int(count) for count in counts(setup.splits["train"]).aminmax())
    unequal = f"{len(setup.splits['train'].class_names)}, of {smallest:,} to {largest:,} training images"
    hardware = environment(setup.device, setup.precision)
    speed = config.batch_size / step_seconds
    told = {
        "recipe": f"{config.name} ({config.label}), {length(setup, state)}, seed {config.seed}",
        "net": f"{params:,} parameters, budget {limit}",
        "data": f"{config.data.name}: {num}",
        **({"classes": f"{unequal} (data.balance: {config.data.balance})"} if largest > IMBALANCED * smallest else {}),
        "device": f"{setup.device.type} ({hardware['device']}, {hardware['threads']} threads), {setup.precision}",
        "ETA": f"{duration(left / speed)} ({speed:,.0f} images/s measured)",
        "run": str(path),
    }
    if origin := config.refit_of:
        told["refit"] = (
            f"of {origin.run}: epoch {origin.epoch} of {origin.epochs} was chosen there by {100 * origin.val_accuracy:.2f}% of "
            f"{origin.val_num:,} validation images, now trained on too: {setup.num_steps:,} steps instead of {origin.step:,}"
        )
    return told


def length(setup: Setup, state: State) -> str:
    """How long the run is, in words."""
    config, steps = setup.config, state.pace.steps
    if config.time_budget:
        passes = steps / setup.steps_per_epoch
        return f"time budget {duration(config.time_budget)}, about {steps:,} steps ({passes:.2f} epochs) as fast as now"
    if config.max_steps or config.pace:
        return f"{steps:,} steps ({steps / setup.steps_per_epoch:.2f} epochs)"
    return f"{config.epochs} epoch{'s' if config.epochs > 1 else ''}"


def finish(setup: Setup, state: State, run: RunDirectory, compile_seconds: float) -> None:
    """Score the chosen weights once on validation and test images, and write model, predictions and summary.

    All ranks must call: they share the images; the main one writes.
    """
    config, began = setup.config, time.perf_counter()
    net = chosen_net(state)
    weights_digest = digest(state.best_weights) if setup.ranks.main else ""
    scored = {}
    for name in ("val", "test"):
        if name not in setup.splits or (name == "val" and config.data.val.source == "test"):
            continue
        split, average = setup.splits[name], ViewAverage(config.tta)
        if state.best_logits is not None and average.plain and split.fingerprint == setup.splits["val"].fingerprint:
            logits = state.best_logits
            average.count_plain(len(split))
        else:
            logits = split_logits(net, split, setup.preprocessing, precision=setup.precision, tta=average, ranks=setup.ranks)
        scored[name] = split, average, logits
    if not setup.ranks.main:
        return
    figures = []
    for name, (split, average, logits) in scored.items():
        about = {"split": name, **average.figures(), "precision": setup.precision, "digest": weights_digest}
        figures.append({**about, **score(logits, split.labels), "fingerprint": split.fingerprint})
        run.write_predictions(name, logits.cpu(), split.labels.cpu(), split.ids, figures[-1])
    seconds = state.seconds + time.perf_counter() - began
    record_test_look(run, {**figures[-1], "epoch": state.best["epoch"] if state.best else 0}, "final")
    write_model(setup, state, run, figures)
    model = summarize(net, setup.preprocessing.size)
    run.write_summary(
        {
            "name": config.name,
            "label": config.label,
            "chosen": {"by": config.select, **(state.best or {})},
            "figures": {figure["split"]: figure for figure in figures},
            "parameters": model.params,
            "macs": model.macs,
            "weight_class": weight_class(model.params),
            "budget": config.max_parameters,
            "seed": config.seed,
            "split_seed": config.data.val.split_seed,
            "epochs": state.pace.num_epochs(setup.steps_per_epoch),
            "steps": state.step,
            "stopped_early": early_end(setup, state),
            "seconds": state.seconds,
            "wait_seconds": None if setup.resumed else time.perf_counter() - setup.loaded_at - compile_seconds,
            "compile_seconds": compile_seconds,
            "time_budget": budget_facts(setup, state, state.pace, seconds) if isinstance(state.pace, TimeBudget) else None,
            "refit_of": config.refit_of.model_dump(mode="json") if config.refit_of else None,
            "peak_memory_mb": peak_memory_mb(),
            "ranks": setup.ranks.size,
            "data": {name: {"num": len(s), "fingerprint": s.fingerprint} for name, s in setup.splits.items()},
            "weights_digest": weights_digest,
            "environment": environment(setup.device, setup.precision),
            "command": run.command(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )


def budget_facts(setup: Setup, state: State, pace: TimeBudget, seconds: float) -> dict[str, Any]:
    """What summary.json keeps of a time budget; `seconds` have passed from the first step to the end of the last scoring."""
    return {
        "budget_seconds": pace.seconds,
        "spent_seconds": seconds,
        "planned_steps": pace.plans[0][2],
        "steps": state.step,
        "epochs": state.step / setup.steps_per_epoch,
        "schedule_done": pace.progress(state.step),
        "repeatable": False,
        "note": "the clock set the number of steps, so a second run differs; "
        "the same config with time_budget: null and this pace makes the same steps at the same rates",
        "pace": pace.plans,
    }


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MB (2^20 bytes)."""
    return peak_memory() / 1024**2
