"""Weights trained elsewhere become a model file: names rewritten by a table, everything checked, nothing claimed."""

import hashlib
import io
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from bantamnet.config import AnyModel, Data, Imported, Model, Origin, Validation
from bantamnet.configfile import read_yaml
from bantamnet.data.foldersource import FolderSource
from bantamnet.data.pictures import Resize
from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.sources import find_source
from bantamnet.errors import UserError, WriteError
from bantamnet.models.build import build
from bantamnet.models.resnet import build_on_meta, count_parameters
from bantamnet.models.summary import weight_class
from bantamnet.runs.lookup import find, resolve, resolve_model
from bantamnet.runs.modelfile import ModelInfo, save_model
from bantamnet.runtime import command_line

Rules = Sequence[tuple[str, str | None]]
"""Regular expressions and what takes their place, applied one after another to a whole name; None leaves the tensor out."""

_OUTSIDE: Rules = [
    (r"^conv1\.", "stem.0."),
    (r"^bn1\.", "stem.1."),
    *((rf"^layer{number + 1}\.", f"stages.{number}.") for number in range(4)),
    (r"^(linear|fc)\.", "head."),
    (r"\.downsample\.", ".shortcut."),
]
_BLOCK = r"^(stages\.\d+\.\d+)\."


def _in_blocks(**places: str) -> Rules:
    return [(rf"{_BLOCK}{name}\.", rf"\1.{place}.") for name, place in places.items()]


_POST: Rules = [
    *_OUTSIDE,
    *_in_blocks(conv1="residual.0", bn1="residual.1", conv2="residual.3", bn2="residual.4", conv3="residual.6", bn3="residual.7"),
]
_PRE: Rules = [
    *_OUTSIDE,
    *_in_blocks(bn1="before.0", conv1="residual.0", bn2="residual.1", conv2="residual.3", bn3="residual.4", conv3="residual.6"),
]
_BARE_SHORTCUT: Rules = [(rf"{_BLOCK}shortcut\.0\.", r"\1.shortcut.")]

NAMINGS: dict[str, Rules] = {
    "bantamnet": [],
    "kuangliu": _POST,
    "kuangliu, bare shortcut": [*_POST, *_BARE_SHORTCUT],
    "kuangliu, pre-activation": [*_PRE, *_BARE_SHORTCUT],
}
"""How others name the tensors of a residual network.

*kuangliu* is github.com/kuangliu/pytorch-cifar (resnet.py; preact_resnet.py), github.com/akamaster/pytorch_resnet_cifar10 (whose
shortcuts of option A have no weights) and, with fc and downsample, torchvision.
"""

WRAPPERS = ("net", "state_dict", "model_state_dict", "model", "weights")
"""Keys under which checkpoints keep the state dict."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""What kuangliu/pytorch-cifar normalises with (akamaster/pytorch_resnet_cifar10 takes ImageNet's instead)."""


@dataclass(frozen=True)
class Weights:
    """Tensors of a file by their names there, and the plain values beside them."""

    tensors: dict[str, Tensor]
    says: dict[str, Any]
    sha256: str


@dataclass
class Match:
    """How well names and shapes fit a net once rewritten."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_weights(path: Path) -> Weights:
    """The state dict of a .pth or .safetensors file; a pickle that would run code is refused, unread.

    It may lie under `net`, `state_dict` or the like, and have DataParallel's `module.` before its names.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        if path.suffix == ".safetensors":
            loaded: Any = safetensors.torch.load(content)
        else:
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if asks := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} is refused, unread: beside tensors and plain values it asks for {asks[1]}, and what a pickle asks for "
                "can run any code. Where it was made, save the state dict alone: torch.save(net.state_dict(), FILE)"
            ) from None
        raise UserError(f"{path}: not a file of weights that can be read") from None
    except Exception as error:
        raise UserError(f"{path}: not a file of weights that can be read ({type(error).__name__})") from None
    outer = loaded if isinstance(loaded, Mapping) else {}
    inside = next((outer[key] for key in WRAPPERS if isinstance(outer.get(key), Mapping)), None)
    state = outer if inside is None else inside
    says = {} if inside is None else {str(key): plain for key, v in outer.items() if (plain := _plain(v)) is not None}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(state):
        odd = next((f"{name!r} is a {type(v).__name__}" for name, v in state.items() if not isinstance(v, Tensor)), "it has none")
        raise UserError(f"{path}: expected a state dict, names with tensors, at the top or under {', '.join(WRAPPERS)}; {odd}")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return Weights(tensors, says, hashlib.sha256(content).hexdigest())


def _plain(value: Any) -> Any:
    """A number or a word, as `acc` and `epoch` are; None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, float) and value not in (float("inf"), float("-inf")) and value == value:
        return value
    return value if isinstance(value, bool | int) or (isinstance(value, str) and len(value) < 200) else None


def read_rules(path: Path) -> Rules:
    """A user's map: YAML of regular expressions and replacements, in order; null leaves what matches out."""
    rules = []
    for pattern, replacement in read_yaml(path).items():
        try:
            re.compile(str(pattern))
        except re.error as error:
            raise UserError(f"{path}: {pattern!r} is no regular expression ({error})") from None
        if replacement is not None and not isinstance(replacement, str):
            raise UserError(f"{path}: {pattern!r}: takes a replacement, or null to leave out, got {replacement!r}")
        rules.append((str(pattern), replacement))
    return rules


def rewrite(name: str, rules: Rules) -> str | None:
    """The name after all rules, or None where one leaves it out."""
    for pattern, replacement in rules:
        if replacement is None:
            if re.search(pattern, name):
                return None
        else:
            try:
                name = re.sub(pattern, replacement, name)
            except (re.error, IndexError) as error:
                raise UserError(f"{pattern!r}: {replacement!r} is no replacement for it ({error})") from None
    return name


def fit_names(tensors: Mapping[str, Tensor], rules: Rules, wanted: Mapping[str, Tensor]) -> Match:
    """Rewrite names and hold them against a net's; every tensor that is missing, left over, doubled or of another shape is named.

    Counts of batches, which old files lack and nothing reads, may be missing.
    """
    match, sources = Match(), dict[str, str]()
    for name, tensor in tensors.items():
        target = rewrite(name, rules)
        if target is None:
            match.left_out.append(name)
        elif target in sources:
            match.faults.append(f"{sources[target]} and {name} both become {target}")
        elif target not in wanted:
            match.faults.append(f"left over: {name}" + (f" (as {target})" if target != name else ""))
        elif tensor.shape != wanted[target].shape:
            shapes = f"{tuple(tensor.shape)} in the file, {tuple(wanted[target].shape)} in the net"
            match.faults.append(f"another shape: {name} is {shapes}")
            sources[target] = name
        else:
            match.tensors[target], sources[target] = tensor, name
    optional = ".num_batches_tracked"
    match.faults += [f"missing: {name}" for name in wanted if name not in sources and not name.endswith(optional)]
    return match


def import_weights(
    path: Path,
    name: str,
    out: Path,
    *,
    sets: Sequence[str] = (),
    classes: str = "cifar10",
    mean: Iterable[float] | None = None,
    std: Iterable[float] | None = None,
    size: int | None = None,
    resize: Resize = "crop",
    rules_file: Path | None = None,
) -> dict[str, Any]:
    """Write the model file `out` with the weights in `path` as the net, or recipe's net, `name`; what it took, as plain values.

    `size` (height and width, default 32) and `resize` say how pictures of a folder of `classes` are read.

    Raises `UserError` unless every weight of the net is there in its shape, and nothing else.
    """
    if out.exists():
        raise UserError(f"--out: {out} exists already; choose another name")
    if others := [one for one in sets if not one.startswith("model")]:
        raise UserError(f"--set {others[0]}: weights are imported into a net; only model.… keys can be set")
    model = _residual(resolve(name, sets).model if find(name).kind == "recipe" else resolve_model(name, sets), name)
    source = find_source(classes)
    preprocessing, known_from = _preprocessing(classes, mean, std, size, resize)
    weights = read_weights(path)
    wanted = build_on_meta(model, len(source.class_names)).state_dict()
    tables = {str(rules_file): read_rules(rules_file)} if rules_file else NAMINGS
    matches = {naming: fit_names(weights.tensors, rules, wanted) for naming, rules in tables.items()}
    naming = min(matches, key=lambda one: len(matches[one].faults))
    match = matches[naming]
    if match.faults:
        told = "\n  ".join(match.faults)
        hint = "" if rules_file else "; name another net with --as, change it with --set, or give a map of names: --map FILE.yaml"
        raise UserError(f"{path} does not fit {name} with {len(source.class_names)} classes, read as {naming}{hint}:\n  {told}")
    if bad := [key for key, tensor in match.tensors.items() if not bool(tensor.isfinite().all())]:
        raise UserError(f"{path}: {', '.join(bad)} hold NaN or infinite numbers")
    with torch.random.fork_rng(devices=[]):
        net = build(model, len(source.class_names))
    net.load_state_dict(match.tensors, strict=False)
    config = Imported(
        name=model.name,
        imported=Origin(file=str(path), sha256=weights.sha256, naming=naming, says=weights.says),
        data=Data(
            name=str(source.root.resolve()) if isinstance(source, FolderSource) else classes,
            size=size,
            resize=resize,
            val=Validation(source="none"),
            mean=preprocessing.mean,
            std=preprocessing.std,
        ),
        model=model,
    )
    info = ModelInfo(
        class_names=source.class_names,
        preprocessing=preprocessing,
        chosen=f"imported from {path.name} (sha256 {weights.sha256[:12]}…); who chose these weights by which images is not known",
        label=config.label,
        config=config.dump(),
        command=command_line(),
        figures=[],
    )
    try:
        digest = save_model(out, model, net.state_dict(), info)
    except OSError as error:
        raise WriteError(out, error) from None
    params = count_parameters(net)
    return {
        "model": str(out),
        "net": model.name,
        "naming": naming,
        "tensors": len(match.tensors),
        "left_out": match.left_out,
        "parameters": params,
        "weight_class": weight_class(params),
        "classes": classes,
        "num_classes": len(source.class_names),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "preprocessing": known_from,
        "says": weights.says,
        "label": config.label,
        "digest": digest,
    }


def _residual(model: AnyModel, name: str) -> Model:
    if not isinstance(model, Model):
        raise UserError(f"--as {name}: weights are imported into residual networks; {name} is a net of your own")
    return model


def _preprocessing(
    classes: str, mean: Iterable[float] | None, std: Iterable[float] | None, size: int | None, resize: Resize
) -> tuple[Preprocessing, str]:
    """What the images go through, and where that is known from: a state dict does not say."""
    source = find_source(classes)
    if size is not None and not 8 <= size <= 1024:
        raise UserError(f"--size: takes 8 to 1024, got {size}")
    if (size or resize != "crop") and not isinstance(source, FolderSource):
        raise UserError(f"--size and --resize are for folders of pictures; those of {classes} have the size they have")
    usual = (CIFAR10_MEAN, CIFAR10_STD) if classes == "cifar10" else (source.mean, source.std)
    means, stds = tuple(mean or usual[0] or ()), tuple(std or usual[1] or ())
    if len(means) != 3 or len(stds) != 3 or min(stds) <= 0:
        raise UserError(
            f"--mean and --std take three numbers each, those of std above 0 (a folder needs both); got {means} and {stds}"
        )
    where = "assumed, as in kuangliu/pytorch-cifar" if classes == "cifar10" else f"assumed, those of {classes}"
    if max(*means, *stds) > 1:
        raise UserError(f"--mean and --std are of pixels in [0, 1]; divide {means} and {stds} by 255")
    if mean and std:
        where = "as given"
    elif mean or std:
        where = f"{'std' if mean else 'mean'} {where}"
    return Preprocessing((size, size) if size else source.size, means, stds, resize), where
