"""Which weights a run keeps as its model, and the model file they become."""

import copy
from typing import Any

from torch import Tensor, nn

from bantamnet.models.build import architecture
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.modelfile import ModelInfo, save_model
from bantamnet.training.setup import Setup, State


def keep_best(setup: Setup, state: State, epoch: int, figures: dict[str, Any] | None, logits: Tensor | None = None) -> bool:
    """Remember these weights when they are to be chosen, the first of the highest accuracy or the last; whether they were.

    `logits` are what they say of the plain validation images.
    """
    if setup.config.select == "last":
        chosen = state.early_stop.over or epoch + 1 == state.pace.num_epochs(setup.steps_per_epoch)
    else:
        assert figures is not None
        chosen = state.best is None or figures["accuracy"] > state.best["accuracy"]
    if chosen:
        state.best = {"epoch": epoch + 1, "step": state.step, **(figures or {})}
        state.best_weights = {name: t.detach().clone() for name, t in state.scored_net.state_dict().items()}
        state.best_logits = logits
    return chosen


def early_end(setup: Setup, state: State) -> dict[str, Any] | None:
    """What is told of a run that was stopped early, or None."""
    num_epochs = state.pace.num_epochs(setup.steps_per_epoch)
    return state.early_stop.report(state.epochs_done, num_epochs, state.pace.progress(state.step))


def chosen_net(state: State) -> nn.Module:
    """A copy of the net with the chosen weights."""
    net = copy.deepcopy(state.scored_net)
    net.load_state_dict(state.best_weights)
    return net


def write_model(setup: Setup, state: State, run: RunDirectory, figures: list[dict[str, Any]]) -> str:
    """Write best.safetensors from the chosen weights; returns the weights' digest."""
    assert state.best is not None
    config = setup.config
    num_epochs, early = state.pace.num_epochs(setup.steps_per_epoch), early_end(setup, state)
    ending = f"; a time budget of {config.time_budget:g} s set the number of steps" if config.time_budget else ""
    ending += f"; stopped early after epoch {early['epoch']}" if early else ""
    by = {"best-val": "highest validation accuracy", "best-test": "highest test accuracy", "last": "last epoch"}
    info = ModelInfo(
        class_names=setup.splits["train"].class_names,
        preprocessing=setup.preprocessing,
        chosen=f"epoch {state.best['epoch']} of {num_epochs}: {by[config.select]}{ending}",
        label=config.label,
        config=config.dump(),
        command=run.command(),
        figures=figures,
    )
    return save_model(run.best, architecture(state.net, config.model), state.best_weights, info)
