"""Checkpoints: the whole state of training in one safe file a step; the newest intact one is where a run goes on."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bantamnet.config import RunConfig
from bantamnet.errors import NonFiniteError, UserError
from bantamnet.runs.tensorfile import DamagedFileError, read_tensors, write_tensors
from bantamnet.runtime import key, rng_state, set_rng_state
from bantamnet.training.setup import Setup, State


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted((p for p in folder.glob("step-*.safetensors") if p.stem[5:].isdigit()), key=_step_of)


def save_checkpoint(folder: Path, setup: Setup, state: State) -> Path:
    """Write `step-N.safetensors` and drop all but the newest `checkpoint.keep`; weights that are not finite are refused.

    All ranks must call; the main one writes.
    """
    if not torch.stack([parameter.isfinite().all() for parameter in state.net.parameters()]).all():
        raise NonFiniteError(f"a weight is NaN or infinite after step {state.step}")
    if state.hard:
        state.hard.merge(setup.ranks)
    totals = setup.ranks.gather(state.totals)
    generators = {name: setup.ranks.gather(value) for name, value in rng_state(setup.device).items()}
    path = folder / f"step-{state.step}.safetensors"
    if not setup.ranks.main:
        return path
    parts: dict[str, dict[str, Tensor]] = {
        "net": state.net.state_dict(),
        "optim": state.optimizers.tensors(),
        "ema": state.ema.net.state_dict() if state.ema else {},
        "swa": state.swa.net.state_dict() if state.swa and state.swa.num_averaged else {},
        "best": state.best_weights,
        "hard": state.hard.tensors() if state.hard else {},
        "rng": {f"{name}/{rank}": value for name, values in generators.items() for rank, value in enumerate(values)},
        "train": {"totals": torch.stack(totals)},
    }
    parts["own"], own_optimizers = state.optimizers.own_state()
    tensors = {f"{part}:{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    header: dict[str, Any] = {
        "kind": "checkpoint",
        "step": state.step,
        "epochs_done": state.epochs_done,
        "best": state.best,
        "plateaus": state.optimizers.plateaus(),
        "own_optimizers": own_optimizers,
        "pace": state.pace.state(),
        "num_averaged": state.swa.num_averaged if state.swa else 0,
        "early_stop": state.early_stop.memory(),
        "seconds": state.seconds,
        "precision": setup.precision,
        "ranks": setup.ranks.size,
        "identity": identity(setup),
    }
    write_tensors(path, tensors, header)
    for old in list_checkpoints(folder)[: -setup.config.checkpoint.keep]:
        old.unlink(missing_ok=True)
    return path


FREE = {"about", "assumed", "claims", "checkpoint", "compile", "device", "precision", "init", "track", "tta"}
"""Keys that no step depends on."""


def identity(setup: Setup) -> dict[str, Any]:
    """What must be the same for a run to go on: every key that its steps depend on, the classes, the training images."""
    keys = {key: value for key, value in setup.config.dump().items() if key not in FREE}
    keys["data"] = {key: value for key, value in keys["data"].items() if key not in ("name", "keep", "skip_bad")}
    train = setup.splits["train"]
    return {**keys, "class_names": list(train.class_names), "data fingerprint": train.fingerprint}


def as_written_now(then: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """An identity that an earlier version may have written: keys that came later as the run has them, short forms in full."""
    now = setup.config.dump()
    known = {key: value for key, value in then.items() if key in now}
    try:
        tree = RunConfig.model_validate({**now, **known, "data": {**now["data"], **known["data"]}}).dump()
    except ValueError:  # it holds what this version does not know, and is told as it stands
        return then
    written = {**then, **{key: tree[key] for key in identity(setup) if key in tree}}
    written["data"] = {key: tree["data"][key] for key in identity(setup)["data"]}
    return written


def refuse_another_run(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise `UserError` naming the first field that differs between a checkpoint's identity and the run's."""
    field, was, found = _first_difference(then, now)
    if field:
        shown = [text if len(text) <= 40 else f"{text[:16]}…" for text in (repr(was), repr(found))]
        meaning = " (the run was trained on other images than those found now)" if field == "data fingerprint" else ""
        raise UserError(
            f"{path} belongs to another run: {field} was {shown[0]} and is {shown[1]} now{meaning}; put it back, or train anew"
        )


def _first_difference(then: Any, now: Any, path: str = "") -> tuple[str, Any, Any]:
    """(path, old, new) of the first value that differs, or three empty words; nested keys and list entries are looked into."""
    if then == now:
        return "", "", ""
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = {key: (then.get(key), now.get(key)) for key in {**then, **now}}
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = {str(index): pair for index, pair in enumerate(zip(then, now, strict=True))}
    else:
        return path, then, now
    key, (old, new) = next((key, pair) for key, pair in pairs.items() if pair[0] != pair[1])
    return _first_difference(old, new, f"{path}.{key}" if path else str(key))


def load_newest(folder: Path, setup: Setup, state: State) -> tuple[Path | None, list[str]]:
    """Put the newest intact checkpoint into `state`; (its path or None, a warning for each damaged one set aside)."""
    warnings: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            tensors, header = read_tensors(path)
        except DamagedFileError as error:
            setup.ranks.wait()  # for the others, who have to see it too
            if setup.ranks.main:
                path.rename(path.with_suffix(".damaged"))
            warnings.append(f"{error}; set aside, going back to the checkpoint before it")
            continue
        if header.get("kind") != "checkpoint":
            raise UserError(f"{path} is a file of bantamnet's, but no checkpoint; move it away")
        if header["precision"] != setup.precision:
            warnings.append(f"the run computed in {header['precision']}, and goes on in {setup.precision}: its end will differ")
        if header["ranks"] != setup.ranks.size:
            warnings.append(
                f"the run was on {header['ranks']} rank(s), and goes on with {setup.ranks.size}: the same samples in the same "
                "batches, but sums are rounded and dropout is drawn differently, so its end will differ a little"
            )
        then = {key: value for key, value in header["identity"].items() if key not in FREE}
        refuse_another_run(path, as_written_now(then, setup), identity(setup))
        _restore(tensors, header, setup, state)
        return path, warnings
    if warnings:
        raise UserError(f"{folder}: no checkpoint is intact; train again into another --out. " + "; ".join(warnings))
    return None, warnings


def _restore(tensors: dict[str, Tensor], header: dict[str, Any], setup: Setup, state: State) -> None:
    parts: dict[str, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        part, name = path.split(":", 1)
        parts.setdefault(part, {})[name] = tensor
    state.net.load_state_dict(parts["net"])
    if state.ema:
        state.ema.net.load_state_dict(parts["ema"])
    if state.swa and header["num_averaged"]:
        state.swa.net.load_state_dict(parts["swa"])
        state.swa.num_averaged = header["num_averaged"]
    if "early_stop" in header:
        state.early_stop.load(header["early_stop"])
    state.optimizers.load(parts.get("optim", {}), header["plateaus"])
    state.optimizers.load_own(parts.get("own", {}), header.get("own_optimizers", {}))
    if state.hard:
        state.hard.load(parts["hard"])
    state.best_weights = parts.get("best", {})
    rank, totals = setup.ranks.rank, parts["train"]["totals"]
    if header["ranks"] == setup.ranks.size:
        mine = {name.split("/")[0]: value for name, value in parts["rng"].items() if name.endswith(f"/{rank}")}
        set_rng_state(mine, setup.device)
        state.totals.copy_(totals[rank])
    else:
        torch.manual_seed(key(setup.config.seed, "dropout", rank, header["step"]))
        state.totals.copy_(totals.sum(0) if setup.ranks.main else torch.zeros(3))
    state.step, state.epochs_done = header["step"], header["epochs_done"]
    state.best, state.seconds = header["best"], header["seconds"]
    state.pace.load(header.get("pace"))
