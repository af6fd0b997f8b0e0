"""Mistakes that can be told from a config and the name of its data alone, before any image is read."""

from pathlib import Path

import torch
from torch import nn

from bantamnet.config import OwnModel, RunConfig
from bantamnet.data.sources import find_source
from bantamnet.data.split import check_held_out
from bantamnet.errors import UserError
from bantamnet.models.build import build_to_count
from bantamnet.models.own import check_forward
from bantamnet.models.summary import check_budget
from bantamnet.optim.groups import Optimizers
from bantamnet.runs.own import check_parts
from bantamnet.training.resizing import Resizing
from bantamnet.training.setup import check_batch, initial_weights


def check_before_data(config: RunConfig) -> None:
    """Raise `UserError` for a net over its budget or too deep for its pictures, groups that match nothing, an `init` of another
    net, or impossible counts. What is a user's own is tried in small.
    """
    source = find_source(config.data.name)
    net = build_to_count(config.model, len(source.class_names))
    check_budget(net, config.max_parameters)
    size = (config.data.size, config.data.size) if config.data.size else source.size
    check_sizes(config, net, size, len(source.class_names))
    check_parts(config, size)
    Optimizers(config.optim, net, 1, config.epochs)
    if config.init:
        initial_weights(Path(config.init).expanduser(), net, config.model.name)
    if source.num_train is None:
        return
    tenth = max(1, round(source.num_train / 10))
    held_out = (config.data.val.count or tenth) if config.data.val.source == "train" else 0
    if held_out:
        check_held_out(held_out, source.num_train)
    check_batch(config, source.num_train - held_out)


def check_sizes(config: RunConfig, net: nn.Module, size: tuple[int, int], num_classes: int) -> None:
    """Raise `UserError` unless the net turns pictures of every size that the run shows it into logits."""
    resizing = Resizing(config.progressive_resizing)
    for scale, place in resizing.places().items():
        height, width = resizing.size(size, place)
        if isinstance(config.model, OwnModel):
            check_forward(config.model.name, net, (height, width), num_classes)
            continue
        try:
            net.eval()(torch.zeros(2, 3, height, width, device="meta"))
        except RuntimeError:
            larger = "data.size" if scale == 1 else f"the scale {scale:g} of progressive_resizing"
            raise UserError(
                f"pictures of {height} × {width} are too small for {config.model.name}; make {larger} larger or the net shallower"
            ) from None
