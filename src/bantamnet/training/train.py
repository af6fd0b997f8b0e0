"""From a config to a finished run directory."""

import contextlib
import copy
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bantamnet.config import RunConfig
from bantamnet.data.augment import CHUNK
from bantamnet.data.sources import find_source
from bantamnet.errors import UserError
from bantamnet.evaluate.logits import split_logits
from bantamnet.evaluate.metrics import score
from bantamnet.evaluate.scoring import record_test_look
from bantamnet.evaluate.tta import ViewAverage
from bantamnet.models.build import build_to_count
from bantamnet.models.resnet import count_parameters
from bantamnet.models.summary import check_budget, summarize, weight_class
from bantamnet.runs.directory import RunDirectory, free_directory
from bantamnet.runs.lock import hold
from bantamnet.runs.own import check_parts, keep_copies, use_copies, with_files
from bantamnet.runtime import (
    autocast,
    command_line,
    environment,
    is_main_process,
    join_ranks,
    pick_device,
    rng_state,
    set_rng_state,
)
from bantamnet.training.checkpoints import NonFiniteError, list_checkpoints, load_newest
from bantamnet.training.keeping import write_model
from bantamnet.training.loop import batches, fit
from bantamnet.training.progress import SCORING_COST, Progress, duration, facts_table
from bantamnet.training.setup import Setup, State, prepare
from bantamnet.training.signals import listen


@dataclass(frozen=True)
class Options:
    """How a run is made, beside what it is."""

    data_dir: Path | None = None
    console: Console | None = None
    """Where to talk; None for silence."""
    command: str = ""
    """Recorded as how to repeat the run; empty takes the command line of this process."""
    rank_timeout: float = 600
    """Seconds after which a rank that the others wait for counts as lost."""


def train(config: RunConfig, out: Path | None = None, options: Options | None = None) -> RunDirectory:
    """Train from the start into `out` (default `runs/NAME`, numbered where taken)."""
    options = options or Options()
    config = with_files(config)
    net = build_to_count(config.model, len(find_source(config.data.name).class_names))
    check_budget(net, config.max_parameters)
    check_parts(config, net)
    max_restarts, restarts = (int(os.environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("MAX_RESTARTS", "RESTART_COUNT"))
    if max_restarts and out is None:
        raise UserError("--max-restarts: name the run directory with --out, so that a restart finds it")
    path = out or free_directory(Path("runs"), config.name)
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
            options.console.print(f"warning: {warning}")
    return _run(config, path, options, resuming=True)


def _run(config: RunConfig, path: Path, options: Options, resuming: bool) -> RunDirectory:
    console = options.console or Console(quiet=True)
    device = pick_device(config.device)
    with join_ranks(device, options.rank_timeout) as ranks, listen(path) as stop, contextlib.ExitStack() as held:
        run = RunDirectory(path)
        if ranks.main and resuming:
            held.enter_context(hold(path))
        begun = resuming and bool(list_checkpoints(run.checkpoints))
        setup, state = prepare(config, options.data_dir, device, ranks, with_init=not begun)
        if ranks.main and not resuming:
            RunDirectory.create(path, config, options.command or command_line())
            keep_copies(path, config)
            held.enter_context(hold(path))
        ranks.wait()
        if resuming:
            checkpoint, warnings = load_newest(run.checkpoints, setup, state)
            if ranks.main:
                for warning in warnings:
                    console.print(f"warning: {warning}")
                console.print(f"resuming {path} after step {state.step:,}" if checkpoint else f"starting {path} again")
                run.remove_leftovers()
                run.cut_metrics(state.epochs_done)
                if state.best:
                    write_model(setup, state, run, [])
        seconds = measure(setup, state)
        if ranks.main:
            console.print(facts_table(facts(setup, state, path, seconds)))
        with Progress(console if ranks.main else Console(quiet=True)) as progress:
            progress.begin(*_work(setup, state), config.epochs)
            try:
                fit(setup, state, run, progress, stop)
            except NonFiniteError as error:
                saved = list_checkpoints(run.checkpoints)
                where = f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint had been written yet"
                raise NonFiniteError(f"{error}; {where}. Try a lower optim.lr, a warm-up, or precision=fp32") from None
        if ranks.main:
            finish(setup, state, run)
        ranks.wait()
    return run


def measure(setup: Setup, state: State, num_steps: int = 2) -> float:
    """Seconds that a training step takes with its share of the augmentation, the optimiser's own work aside.

    Measured on a copy of the net; nothing of the run is changed by it.
    """
    generators = rng_state(setup.device)
    net = copy.deepcopy(state.net).train()
    began = time.perf_counter()
    stream = batches(setup, state.epochs_done)
    batch = next(stream)
    steps_of_chunk = max(1, CHUNK[setup.device.type] // setup.config.batch_size)
    augmenting = (time.perf_counter() - began) / min(steps_of_chunk, setup.steps_per_epoch)
    for number in range(num_steps + 1):
        if number == 1:
            began = time.perf_counter()
        images, targets, _ = batch
        with autocast(setup.device, setup.precision):
            loss, _ = setup.task(net, images, targets)
        loss.backward()
        net.zero_grad()
        loss.item()
    set_rng_state(generators, setup.device)
    return augmenting + (time.perf_counter() - began) / num_steps


def _work(setup: Setup, state: State) -> tuple[float, float]:
    """(done, total) in training images."""
    scoring = len(setup.splits["val"]) * SCORING_COST if "val" in setup.splits else 0.0
    batch = setup.config.batch_size
    done = state.step * batch + state.epochs_done * scoring
    return done, setup.num_steps * batch + setup.config.epochs * scoring


def facts(setup: Setup, state: State, path: Path, step_seconds: float) -> dict[str, str]:
    """What is about to happen, as told before it does."""
    config = setup.config
    params, budget = count_parameters(state.net), config.max_parameters
    limit = f"{budget:,} ({config.budget})" if isinstance(config.budget, str) else f"{budget:,}" if budget else "none"
    done, total = _work(setup, state)
    counts = ", ".join(f"{len(split):,} {name}" for name, split in setup.splits.items())
    if config.data.val.source == "test":
        counts += " (val is test)"
    hardware = environment(setup.device, setup.precision)
    speed = config.batch_size / step_seconds
    return {
        "recipe": f"{config.name} ({config.label}), {config.epochs} epochs, seed {config.seed}",
        "net": f"{params:,} parameters, budget {limit}",
        "data": f"{config.data.name}: {counts}",
        "device": f"{setup.device.type} ({hardware['device']}, {hardware['threads']} threads), {setup.precision}",
        "ETA": f"{duration((total - done) / speed)} ({speed:,.0f} images/s measured)",
        "run": str(path),
    }


def finish(setup: Setup, state: State, run: RunDirectory) -> None:
    """Score the chosen weights once on validation and test images, and write model, predictions and summary."""
    config = setup.config
    net, weights_digest = write_model(setup, state, run, [])
    figures = []
    for name in ("val", "test"):
        if name not in setup.splits or (name == "val" and config.data.val.source == "test"):
            continue
        split = setup.splits[name]
        average = ViewAverage(config.tta)
        logits = split_logits(net, split, setup.preprocessing, precision=setup.precision, tta=average)
        about = {"split": name, **average.figures(), "precision": setup.precision, "digest": weights_digest}
        figures.append({**about, **score(logits, split.labels), "fingerprint": split.fingerprint})
        run.write_predictions(name, logits.cpu(), split.labels.cpu(), split.ids, figures[-1])
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
            "epochs": config.epochs,
            "steps": state.step,
            "seconds": state.seconds,
            "peak_memory_mb": peak_memory_mb(),
            "ranks": setup.ranks.size,
            "data": {name: {"num": len(s), "fingerprint": s.fingerprint} for name, s in setup.splits.items()},
            "weights_digest": weights_digest,
            "environment": environment(setup.device, setup.precision),
            "command": run.command(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
