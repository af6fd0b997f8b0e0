"""What a net is made of and what it costs: layers, parameters, multiply-adds, memory, weight class."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bantamnet.config import WEIGHT_CLASSES
from bantamnet.errors import UserError
from bantamnet.models.resnet import count_parameters

MB = 1024**2


@dataclass(frozen=True)
class Layer:
    """A row: output shape without the batch, parameters, multiply-adds of one image."""

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """Layers and totals; sizes are in MB (2^20 bytes) of fp32, for one image."""

    layers: list[Layer]
    params: int
    trainable: int
    macs: int
    input_mb: float
    forward_backward_mb: float
    params_mb: float
    weight_class: str | None
    margin: int | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def weight_class(params: int) -> str | None:
    """The smallest weight class that holds so many parameters, or None above them all."""
    return next((name for name, most in WEIGHT_CLASSES.items() if params <= most), None)


def summarize(net: nn.Module, size: tuple[int, int], in_channels: int = 3) -> Summary:
    """Run one image of `size` (height, width) through `net` and write down each leaf layer; a net on meta costs no memory.

    Forward/backward memory counts every layer's output twice (value and gradient), as torchsummary does.
    """
    layers: list[Layer] = []
    counted: set[int] = set()

    def record(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            output = output if isinstance(output, Tensor) else output[0]
            macs = 0
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                macs = output[0].numel() * module.weight[0].numel()
            elif isinstance(module, nn.Linear):
                macs = output[0].numel() * module.in_features  # of each token
            new = [p for p in module.parameters() if id(p) not in counted]  # a layer gone through twice has its weights once
            counted.update(map(id, new))
            layers.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), sum(p.numel() for p in new), macs))

        return hook

    handles = []
    seen: set[int] = set()
    for name, module in net.named_modules():
        if not any(True for _ in module.children()) and id(module) not in seen:
            seen.add(id(module))
            handles.append(module.register_forward_hook(record(name, module)))
    was_training = net.training
    device = next(net.parameters()).device
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, in_channels, *size, device=device))
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    outputs = sum(torch.Size(layer.shape).numel() for layer in layers)
    for name, module in net.named_modules():  # what belongs to no leaf, or to one that was not gone through
        if rest := [p for p in module.parameters(recurse=False) if id(p) not in counted]:
            counted.update(map(id, rest))
            layers.append(Layer(name, type(module).__name__, (), sum(p.numel() for p in rest), 0))
    params = count_parameters(net)
    class_name = weight_class(params)
    return Summary(
        layers=layers,
        params=params,
        trainable=sum(p.numel() for p in net.parameters() if p.requires_grad),
        macs=sum(layer.macs for layer in layers),
        input_mb=in_channels * size[0] * size[1] * 4 / MB,
        forward_backward_mb=outputs * 2 * 4 / MB,
        params_mb=params * 4 / MB,
        weight_class=class_name,
        margin=WEIGHT_CLASSES[class_name] - params if class_name else None,
    )


def check_budget(net: nn.Module, budget: int | None, num_costliest: int = 5) -> None:
    """Raise `UserError`, with the layers that cost most, when the net has more parameters than `budget`."""
    params = count_parameters(net)
    if budget is None or params <= budget:
        return
    modules = [(sum(p.numel() for p in m.parameters(recurse=False)), name) for name, m in net.named_modules()]
    largest = sorted(modules, reverse=True)[:num_costliest]
    costliest = ", ".join(f"{name or 'the net itself'} {count:,}" for count, name in largest if count)
    raise UserError(
        f"{params:,} parameters are {params - budget:,} over the budget of {budget:,}; costliest layers: {costliest}. "
        "Make model.widths, model.blocks or model.args smaller, or set budget to a larger class, a number, or null"
    )
