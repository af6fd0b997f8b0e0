"""The net as `torch.compile` runs it in training steps: fused kernels, and on a GPU steps that are replayed as CUDA graphs."""

import copy
import time

import torch
from torch import nn

from bantamnet.errors import UserError
from bantamnet.runtime import rng_state, set_rng_state
from bantamnet.training.loop import batches
from bantamnet.training.setup import Setup, State
from bantamnet.training.step import gradients


def step_net(setup: Setup, state: State) -> tuple[nn.Module, float]:
    """(the net as training steps call it, seconds that compiling it took).

    Compiling happens here, for every size of batch and of picture that the run will see, on noise. Nothing of the run changes by
    it: weights, statistics and random states are put back. Raises `UserError` where `torch.compile` finds no working compiler.
    """
    net, kind = state.net.train(), setup.config.compile
    if kind == "none":
        return net, 0.0
    from torch._dynamo.exc import TorchDynamoException  # a second of start-up that other runs need not wait for

    began = time.perf_counter()
    faster: nn.Module = torch.compile(net, mode=None if kind == "default" else kind, dynamic=False)  # type: ignore[assignment]
    weights, generators = copy.deepcopy(state.net.state_dict()), rng_state(setup.device)
    places = [0.0, *(stretch.until for stretch in setup.resizing.stretches)]
    for first_step in {0, setup.steps_per_epoch - 1}:  # the last batch of an epoch may be short
        batch = next(batches(setup, 0, first_step))
        for place in places:
            images = setup.resizing.apply(torch.randn_like(batch.images), place)
            for _ in range(3):  # a CUDA graph is recorded in the second
                try:
                    gradients(setup, faster, images, batch.targets, batch.share)
                except TorchDynamoException as error:
                    reason = " ".join(str(error).split("\n")[:2])
                    raise UserError(f"compile: torch.compile fails here ({reason}); set compile=none") from error
                net.zero_grad(set_to_none=True)
    state.net.load_state_dict(weights)
    set_rng_state(generators, setup.device)
    return faster, time.perf_counter() - began
