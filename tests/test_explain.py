"""Class activation maps against slow twins."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.config import Model
from bantamnet.data.preprocess import Preprocessing
from bantamnet.errors import UserError
from bantamnet.evaluate.explain import cam_maps, explain, gradcam_maps, to_heat
from bantamnet.models.members import MEMBERS
from bantamnet.models.resnet import ResNet

PLAIN = Preprocessing((16, 16), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def small(**keys: Any) -> ResNet:
    """A trained-looking net: BatchNorm's statistics and weights are not those of a fresh one."""
    torch.manual_seed(0)
    net = ResNet(Model(**{"name": "custom", "stem_width": 6, "widths": [6, 8, 10], "blocks": [1, 1, 1], **keys}), 5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


def pictures(num: int = 4, size: int = 16) -> Tensor:
    return torch.randint(0, 256, (num, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def slow_gradcam(net: ResNet, pixels: Tensor, classes: Tensor, stage: int) -> Tensor:
    """Image by image and channel by channel: the logit's derivative by each channel as a whole, from a pass cut at the stage."""
    rows = []
    for image, label in zip(pixels, classes.tolist(), strict=True):
        maps = net.stem(image[None])
        for index in range(stage):
            maps = net.stages[index](maps)
        channels = [maps[0, channel].detach().requires_grad_() for channel in range(maps.shape[1])]
        rest = torch.stack(channels)[None]
        for index in range(stage, len(net.stages)):
            rest = net.stages[index](rest)
        if net.final is not None:
            rest = net.final(rest)
        logit = net.head(rest.mean((2, 3)))[0, label]
        total = torch.zeros_like(channels[0])
        for channel in channels:
            (gradient,) = torch.autograd.grad(logit, channel, retain_graph=True)
            total = total + gradient.sum() / gradient.numel() * channel.detach()
        rows.append(total)
    return torch.stack(rows).detach()


@pytest.mark.parametrize("keys", [{}, {"order": "pre", "shortcut": "conv"}, {"block": "bottleneck", "se_reduction": 2}], ids=str)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradcam_is_the_slow_loop_over_channels(keys: dict[str, Any], stage: int) -> None:
    net, pixels = small(**keys), PLAIN.normalize(pictures())
    classes = torch.tensor([0, 3, 4, 3])
    torch.testing.assert_close(gradcam_maps(net, pixels, classes, stage), slow_gradcam(net, pixels, classes, stage))


@pytest.mark.parametrize(
    "keys", [{}, {"order": "pre", "shortcut": "conv"}, {"order": "pyramid", "shortcut": "pool-pad"}], ids=str
)
def test_cam_is_gradcam_of_the_last_maps_up_to_their_number_of_cells(keys: dict[str, Any]) -> None:
    net, images = small(**keys), pictures()
    pixels, classes = PLAIN.normalize(images), torch.tensor([1, 1, 2, 0])
    signed = cam_maps(net, pixels, classes)
    cells = signed.shape[1] * signed.shape[2]
    assert cells == 16 and signed.min() < 0 < signed.max()
    torch.testing.assert_close(signed, cells * gradcam_maps(net, pixels, classes))
    heats = [explain(net, images, PLAIN, classes, method=method) for method in ("cam", "gradcam")]
    torch.testing.assert_close(*heats)
    logits = net(pixels).gather(1, classes[:, None])[:, 0] - net.head.bias[classes]
    torch.testing.assert_close(signed.mean((1, 2)), logits.detach())


def test_heat_is_between_0_and_1_on_every_image_and_leaves_the_net_as_it_was() -> None:
    net, images = small(), pictures(60)
    with torch.no_grad():
        net.head.bias -= net(PLAIN.normalize(images)).mean(0)  # so that not every image gets the same answer
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        heat = explain(net, images, PLAIN)
    assert heat.shape == (60, 16, 16) and heat.dtype == torch.float32 and not heat.requires_grad
    peaks = heat.amax((1, 2))
    assert heat.min() >= 0 and set(peaks.unique().tolist()) <= {0.0, 1.0} and peaks.sum() > 10
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    # The net's own answer is what is explained where no class is named, and batches change nothing.
    answers = net.eval()(PLAIN.normalize(images)).argmax(1)
    assert len(answers.unique()) > 1
    torch.testing.assert_close(explain(net, images, PLAIN, answers), heat)
    torch.testing.assert_close(torch.cat([explain(net, image[None], PLAIN) for image in images]), heat)
    assert explain(net, images[:0], PLAIN).shape == (0, 16, 16)


def test_heat_of_a_map() -> None:
    maps = torch.tensor([[[-1.0, 0.0], [0.0, 4.0]], [[-1.0, -2.0], [-3.0, -4.0]]])
    heat = to_heat(maps, (2, 2))
    assert heat.tolist() == [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    torch.testing.assert_close(
        to_heat(maps[:1], (6, 6))[0] * 4, F.interpolate(maps[:1, None].relu(), (6, 6), mode="bilinear")[0, 0]
    )


class Patchwork(nn.Module):
    """A net of a user's own: one activation used everywhere, work in place, frozen weights; ends as cam likes it or not."""

    def __init__(self, ends_in_mean: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1) if ends_in_mean else nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(6, 5)
        self.unused = nn.Conv2d(3, 2, 1)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        images.mul_(0.5)
        self.unused(images)
        maps = self.act(self.second(self.act(self.first(images))))
        logits: Tensor = self.head(self.pool(maps).flatten(1))
        return logits


def test_own_nets_are_explained_by_their_last_maps() -> None:
    torch.manual_seed(2)
    net, images = Patchwork(ends_in_mean=True).eval(), pictures()
    assert gradcam_maps(net, PLAIN.normalize(images)).shape == (4, 8, 8)
    torch.testing.assert_close(explain(net, images, PLAIN), explain(net, images, PLAIN, method="cam"))
    torch.testing.assert_close(explain(net, images, PLAIN), explain(net, images, PLAIN, stage=2))
    assert gradcam_maps(net, PLAIN.normalize(images), stage=1).shape == (4, 16, 16)
    assert gradcam_maps(net, PLAIN.normalize(images), stage="first").shape == (4, 16, 16)
    with pytest.raises(UserError, match="do not depend"):
        explain(net, images, PLAIN, stage="unused")
    other = Patchwork(ends_in_mean=False).eval()
    assert explain(other, images, PLAIN).shape == (4, 16, 16)
    with pytest.raises(UserError, match="cam needs a net that ends in global average pooling"):
        explain(other, images, PLAIN, method="cam")


def test_what_cannot_be_explained_is_told() -> None:
    net, images = small(), pictures()
    with pytest.raises(UserError, match=r"stages 1 to 3, and `last`; got 4"):
        explain(net, images, PLAIN, stage=4)
    with pytest.raises(UserError, match=r"did you mean 'stages\.1'"):
        explain(net, images, PLAIN, stage="stage.1")
    with pytest.raises(UserError, match="unknown method 'gradcan'; did you mean 'gradcam'"):
        explain(net, images, PLAIN, method="gradcan")
    with pytest.raises(UserError, match="cam reads the maps that are pooled"):
        explain(net, images, PLAIN, method="cam", stage=1)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    with pytest.raises(UserError, match="no layer of this net gives feature maps"):
        explain(flat, images, PLAIN)


@pytest.mark.parametrize("name", ["dreamfire", "resnet8", "preactresnet18"])
def test_named_nets_have_the_stages_of_their_rows(name: str) -> None:
    keys = MEMBERS[name].keys
    thin = {"stem_width": 4, "widths": [4] * len(keys["widths"])}
    net = ResNet(Model(**{"name": "custom", **keys, **thin}), 10).eval()
    sizes = [gradcam_maps(net, PLAIN.normalize(pictures(1)), stage=number + 1).shape[1] for number in range(len(net.stages))]
    strides = net.arch.strides or []
    # a stage without blocks has the maps of the one before
    expected, side = [], 16
    for blocks, stride in zip(keys["blocks"], strides, strict=True):
        side = side // stride if blocks else side
        expected.append(side)
    assert sizes == expected
    assert gradcam_maps(net, PLAIN.normalize(pictures(1))).shape[1] == expected[-1]
