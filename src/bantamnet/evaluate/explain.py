"""Where a net looks: class activation maps, as heat over the image."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.data.preprocess import Preprocessing
from bantamnet.errors import UserError, unknown
from bantamnet.evaluate.logits import batch_size
from bantamnet.models.resnet import ResNet

Method = Literal["gradcam", "cam"]
Stage = int | str
"""`last`; the number of a stage, 1 for the first; or the name of a layer, as `summary` shows it."""


def explain(
    net: nn.Module,
    images: Tensor,
    preprocessing: Preprocessing,
    classes: Tensor | None = None,
    *,
    method: str = "gradcam",
    stage: Stage = "last",
) -> Tensor:
    """uint8 images (N, 3, H, W) → heat float32 (N, H, W) in [0, 1] on their device: what speaks for `classes` int64 (N,).

    Each image's heat is scaled by its own maximum, so heats of two images do not compare; where nothing speaks for the class
    it is 0 everywhere. `classes` None takes the net's own answer. Computed in fp32, the net in evaluation mode and left as
    it was. Raises `UserError` for an unknown stage, for nets without feature maps, and for `cam` where the net ends otherwise
    than in global average pooling and one linear layer.
    """
    if method not in get_args(Method):
        raise UserError(f"--method: {unknown('method', method, get_args(Method))}")
    if method == "cam" and stage != "last":
        raise UserError("--stage: cam reads the maps that are pooled, those of the last stage; use --method gradcam for others")
    heats = []
    size = max(1, batch_size((images.shape[2], images.shape[3])) // 10)  # the graph keeps every layer's output
    wanted = [None] * len(images.split(size)) if classes is None else classes.split(size)
    for batch, chosen in zip(images.split(size), wanted, strict=True):
        pixels = preprocessing.normalize(batch)
        maps = cam_maps(net, pixels, chosen) if method == "cam" else gradcam_maps(net, pixels, chosen, stage)
        heats.append(to_heat(maps, (batch.shape[2], batch.shape[3])))
    return torch.cat(heats) if heats else torch.empty(0, *images.shape[2:], device=images.device)


def gradcam_maps(net: nn.Module, pixels: Tensor, classes: Tensor | None = None, stage: Stage = "last") -> Tensor:
    """Normalised pixels (N, 3, H, W) → float32 (N, h, w) at the stage's size, signed: Grad-CAM before its ReLU.

    Each channel of the stage counts by the mean, over its cells, of the class's logit's gradient (Selvaraju et al. 2017, arXiv
    1610.02391). `last` are the last maps of more than one cell; of a user's own net, stage N is the last map of the N-th
    largest size.
    """
    with torch.enable_grad():
        seen = _watch(net, pixels)
        maps = _choose(net, seen.maps, stage)
        said = _answers(seen.logits, classes)
        (gradient,) = torch.autograd.grad(said.sum(), maps, allow_unused=True)
    if gradient is None:
        raise UserError(f"--stage: the logits do not depend on the maps of {stage!r}; choose another")
    return (gradient.mean((2, 3), keepdim=True) * maps).sum(1).detach()


def cam_maps(net: nn.Module, pixels: Tensor, classes: Tensor | None = None) -> Tensor:
    """Normalised pixels (N, 3, H, W) → float32 (N, h, w), signed: the class's weights in the last layer over the maps that are
    pooled (Zhou et al. 2016, arXiv 1512.04150); their mean over cells is the logit, bias aside.
    """
    with torch.no_grad():
        seen = _watch(net, pixels)
        ending = seen.linear
        pooled = [] if ending is None else [maps for _, maps in _spread(seen.maps) if _is_mean(ending.inputs, maps)]
        if ending is None or not pooled or not torch.equal(ending.outputs, seen.logits):
            raise UserError(
                "--method: cam needs a net that ends in global average pooling and one linear layer; use --method gradcam"
            )
        chosen = seen.logits.argmax(1) if classes is None else classes.to(pixels.device)
        return torch.einsum("nk,nkhw->nhw", ending.layer.weight[chosen], pooled[-1])


def to_heat(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Signed maps (N, h, w) → heat (N, H, W) in [0, 1]: what is positive, bilinear to `size` (H, W), over its maximum."""
    heat = F.interpolate(maps.relu()[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    peak = heat.amax((1, 2), keepdim=True)
    return torch.where(peak > 0, heat / peak.clamp_min(torch.finfo(heat.dtype).tiny), heat)


class _Linear(NamedTuple):
    """The last linear layer that was gone through, what it was given and what it said."""

    layer: nn.Linear
    inputs: Tensor
    outputs: Tensor


class _Seen(NamedTuple):
    logits: Tensor
    maps: list[tuple[str, Tensor]]
    """Layer and output (N, C, h, w) of all that give such, in the order in which they were done."""
    linear: _Linear | None


def _watch(net: nn.Module, pixels: Tensor) -> _Seen:
    """One pass in evaluation mode, and every layer's feature maps."""
    maps: list[tuple[str, Tensor]] = []
    linears: list[_Linear] = []

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                maps.append((name, output))
            if isinstance(module, nn.Linear):
                linears.append(_Linear(module, inputs[0], output))

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in net.named_modules() if name]
    was_training = net.training
    try:
        # Gradients flow from the pixels too, so that frozen weights do not matter; no leaf, as a net may work in place.
        logits = net.eval()(pixels.requires_grad_().clone() if torch.is_grad_enabled() else pixels)
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    return _Seen(logits, maps, linears[-1] if linears else None)


def _spread(maps: list[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """Those of more than one cell; what has been pooled is no map any more."""
    return [(name, found) for name, found in maps if found.shape[2] * found.shape[3] > 1]


def _choose(net: nn.Module, maps: list[tuple[str, Tensor]], stage: Stage) -> Tensor:
    spread = _spread(maps)
    if not spread:
        raise UserError("no layer of this net gives feature maps (N, channels, height, width); there is nothing to explain it by")
    if stage == "last":
        return spread[-1][1]
    if isinstance(stage, str):
        by_name = dict(maps)
        if stage not in by_name:
            raise UserError(f"--stage: {unknown('layer with feature maps', stage, ['last', *by_name])}")
        return by_name[stage]
    if isinstance(net, ResNet):
        by_name = dict(maps)
        stages = [by_name[f"stages.{index}"] for index in range(len(net.stages))]
    else:
        by_size = {(found.shape[2], found.shape[3]): found for _, found in spread}
        stages = [by_size[size] for size in sorted(by_size, reverse=True)]
    if not 1 <= stage <= len(stages):
        raise UserError(f"--stage: this net has stages 1 to {len(stages)}, and `last`; got {stage}")
    return stages[stage - 1]


def _answers(logits: Tensor, classes: Tensor | None) -> Tensor:
    """(N,) the logit of each image's class."""
    chosen = logits.argmax(1) if classes is None else classes.to(logits.device)
    return logits.gather(1, chosen[:, None])[:, 0]


def _is_mean(vectors: Tensor, maps: Tensor) -> bool:
    """Whether `vectors` (N, C) are the means of the maps' channels."""
    if vectors.shape != maps.shape[:2]:
        return False
    return torch.allclose(vectors, maps.mean((2, 3)), rtol=1e-4, atol=1e-5 * max(1.0, float(vectors.abs().max())))
