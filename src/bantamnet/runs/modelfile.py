"""A model file: weights and everything needed to use them, to trust them and to make them again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bantamnet.config import AnyModel
from bantamnet.data.preprocess import Preprocessing
from bantamnet.errors import UserError
from bantamnet.models.build import build_to_count, kind_name, rebuild
from bantamnet.models.resnet import count_parameters
from bantamnet.runs.own import require
from bantamnet.runs.tensorfile import digest, read_tensors, write_tensors

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says beside its weights."""

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    chosen: str
    """Which epoch's weights these are, and what chose them."""
    label: str
    """clean, final or as published; see `RunConfig.label`."""
    config: dict[str, Any]
    """The whole run's config."""
    command: str
    figures: list[dict[str, Any]]
    """Measured on these weights: each names its split, number of images and the weights' digest."""


def save_model(path: Path, arch: AnyModel, weights: dict[str, Tensor], info: ModelInfo) -> str:
    """Write the file; returns the weights' digest. A figure of other weights is refused."""
    weights_digest = digest(weights)
    assert all(figure["digest"] == weights_digest for figure in info.figures), "a figure of other weights"
    net = build_to_count(arch, len(info.class_names))  # saving draws nothing from the generators of a run
    header = {
        "format_version": FORMAT_VERSION,
        "architecture": {"name": kind_name(arch), "model": arch.model_dump(mode="json")},
        "class_names": list(info.class_names),
        "preprocessing": info.preprocessing.as_dict(),
        "parameters": count_parameters(net),
        "weights_digest": weights_digest,
        "chosen": info.chosen,
        "label": info.label,
        "figures": info.figures,
        "repeat": {"command": info.command, "config": info.config},
    }
    write_tensors(path, weights, header)
    return weights_digest


def load_model(path: Path) -> tuple[nn.Module, ModelInfo, str]:
    """(net in evaluation mode, info, weights' digest); raises `UserError` for anything but an intact model file."""
    weights, header = read_tensors(path)
    if header.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {header.get('format_version')!r}, this bantamnet reads {FORMAT_VERSION}; "
            "is it a checkpoint, or from a newer bantamnet?"
        )
    architecture = header["architecture"]
    if architecture["name"] == "own":
        require("model", architecture["model"]["name"], header["repeat"]["config"], str(path))
    net = rebuild(architecture, weights, len(header["class_names"]))
    info = ModelInfo(
        class_names=tuple(header["class_names"]),
        preprocessing=Preprocessing.from_dict(header["preprocessing"]),
        chosen=header["chosen"],
        label=header["label"],
        config=header["repeat"]["config"],
        command=header["repeat"]["command"],
        figures=header["figures"],
    )
    return net.eval(), info, header["weights_digest"]
