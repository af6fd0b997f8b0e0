"""Mistakes that can be told from a config and the name of its data alone, before any image is read."""

from pathlib import Path

from bantamnet.config import RunConfig
from bantamnet.data.sources import find_source
from bantamnet.data.split import check_held_out
from bantamnet.models.build import build_to_count
from bantamnet.models.summary import check_budget
from bantamnet.optim.groups import Optimizers
from bantamnet.runs.own import check_parts
from bantamnet.training.setup import check_batch, initial_weights


def check_before_data(config: RunConfig) -> None:
    """Raise `UserError` for a net over its budget, groups that match nothing, an `init` of another net, or impossible counts.

    What is a user's own is tried in small.
    """
    source = find_source(config.data.name)
    net = build_to_count(config.model, len(source.class_names))
    check_budget(net, config.max_parameters)
    check_parts(config, net)
    Optimizers(config.optim, net, 1, config.epochs)
    if config.init:
        initial_weights(Path(config.init), net, config.model.name)
    if source.num_train is None:
        return
    tenth = max(1, round(source.num_train / 10))
    held_out = (config.data.val.count or tenth) if config.data.val.source == "train" else 0
    if held_out:
        check_held_out(held_out, source.num_train)
    check_batch(config, source.num_train - held_out)
