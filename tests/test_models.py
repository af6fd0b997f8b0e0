"""Published parameter counts, shapes, budgets, summaries."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bantamnet
from bantamnet.config import WEIGHT_CLASSES, Model
from bantamnet.errors import UserError
from bantamnet.models.blocks import PadShortcut
from bantamnet.models.members import MEMBERS
from bantamnet.models.resnet import build, build_on_meta, complete, count_parameters
from bantamnet.models.summary import check_budget, summarize, weight_class
from bantamnet.runs.lookup import resolve_model

PUBLISHED = {
    "resnet-variant": 2_777_674,
    "modified-resnet": 2_777_674,
    "improved-resnet": 4_903_082,
    "resnet-small": 4_754_218,
    "dreamfire": 4_918_602,
    "resnet18": 11_173_962,
    "resnet20": 269_722,
    "resnet8": 78_186,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name: str) -> None:
    net = bantamnet.build(name)
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name] == MEMBERS[name].params
    summary = summarize(net, (32, 32))
    assert sum(layer.params for layer in summary.layers) == summary.params == PUBLISHED[name]
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_wrong_recorded_count_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEMBERS, "resnet8", MEMBERS["resnet8"]._replace(params=78_187))
    with pytest.raises(AssertionError, match="78186"):
        bantamnet.build("resnet8")


def test_settings_change_the_net() -> None:
    assert count_parameters(bantamnet.build("resnet20", {"model.blocks": [5, 5, 5]})) == 464_154  # ResNet-32
    assert bantamnet.build("resnet20", num_classes=100).head.out_features == 100
    assert count_parameters(bantamnet.build("dreamfire", {"model.blocks": [2, 2, 2, 2]})) == PUBLISHED["resnet18"]


def plain_resnet18() -> nn.Module:
    """ResNet-18 with the CIFAR stem, written out by hand; parameters in the order of ours."""

    def block(i: int, o: int, stride: int) -> nn.ModuleList:
        body = nn.Sequential(
            nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
            nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o),
        )  # fmt: skip
        same = stride == 1 and i == o
        short = nn.Identity() if same else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        return nn.ModuleList([body, short])

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
            shapes = [
                (64, 64, 1),
                (64, 64, 1),
                (64, 128, 2),
                (128, 128, 1),
                (128, 256, 2),
                (256, 256, 1),
                (256, 512, 2),
                (512, 512, 1),
            ]
            self.blocks = nn.ModuleList([block(*shape) for shape in shapes])
            self.head = nn.Linear(512, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            for body, short in self.blocks:  # type: ignore[misc]
                x = torch.relu(body(x) + short(x))
            return self.head(x.mean((2, 3)))

    return Net()


def test_resnet18_computes_what_a_plain_one_does() -> None:
    torch.manual_seed(0)
    net, twin = bantamnet.build("resnet18"), plain_resnet18()
    ours, theirs = net.state_dict(), twin.state_dict()
    assert [t.shape for t in ours.values()] == [t.shape for t in theirs.values()]
    twin.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    images = torch.randn(4, 3, 32, 32)
    for mode in (True, False):
        torch.testing.assert_close(net.train(mode)(images), twin.train(mode)(images), rtol=1e-4, atol=1e-5)


def test_bottleneck_computes_one_by_one_three_by_three_one_by_one() -> None:
    net = bantamnet.build("improved-resnet")
    kinds = [m for m in net.stages[1][0].residual if isinstance(m, nn.Conv2d)]
    assert [(m.kernel_size[0], m.stride[0], m.out_channels) for m in kinds] == [(1, 1, 128), (3, 2, 128), (1, 1, 512)]
    assert isinstance(net.stages[0][-1], nn.Dropout)
    slopes = {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.01}
    changed = bantamnet.build("improved-resnet", {"model.slope": 0.2, "model.dropout": [0, 0, 0]})
    assert {m.negative_slope for m in changed.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert not any(isinstance(m, nn.Dropout) for m in changed.modules())


THIN_STRIDED = """
import torch
from bantamnet.models.blocks import conv_bn
torch.manual_seed(0)
for precision in (torch.bfloat16, torch.float32):
    conv = conv_bn(8, 20, 1, 2, True)[0].to(memory_format=torch.channels_last)
    twin = torch.nn.Conv2d(8, 20, 1, 2).double()
    twin.load_state_dict(conv.state_dict())
    images = torch.randn(93, 8, 32, 32).contiguous(memory_format=torch.channels_last)
    for module, pixels in ((conv, images.requires_grad_()), (twin, images.detach().double().requires_grad_())):
        with torch.autocast("cpu", precision, enabled=module is conv and precision == torch.bfloat16):
            module(pixels).double().square().mean().backward()
        module.pixels = pixels
    for ours, theirs in ((conv.weight, twin.weight), (conv.bias, twin.bias), (conv.pixels, twin.pixels)):
        assert (ours.grad - theirs.grad).abs().max() <= 0.03 * theirs.grad.abs().max()
"""


def test_thin_strided_pointwise_convolution_is_right_and_does_not_crash() -> None:
    """In a process of its own: without `ThinStrided` this corrupts memory on some processors."""
    done = subprocess.run([sys.executable, "-c", THIN_STRIDED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pad_shortcut_is_strided_identity_between_zeros() -> None:
    images = torch.randn(2, 16, 8, 8)
    out = PadShortcut(16, 32, 2)(images)
    assert torch.equal(out[:, 8:24], images[:, :, ::2, ::2]) and not out[:, :8].any() and not out[:, 24:].any()
    with pytest.raises(UserError, match="shortcut: pad"):
        bantamnet.build("resnet20", {"model.widths": [64, 32, 16], "model.stem_width": 64})


def test_imagenet_stem_halves_twice() -> None:
    net = bantamnet.build("resnet18", {"model.stem": "imagenet"})
    shapes = {layer.name: layer.shape for layer in summarize(net, (224, 224)).layers}
    assert shapes["stem.0"] == (64, 112, 112) and shapes["stem.3"] == (64, 56, 56) and shapes["pool"] == (512, 1, 1)
    assert count_parameters(build_on_meta(net.arch, 1000)) == 11_689_512  # torchvision's resnet18


def test_architecture_with_inner_widths_rebuilds_a_thinner_net() -> None:
    full = complete(Model(name="resnet20", **MEMBERS["resnet20"].keys))
    assert full.inner == [[[16]] * 3, [[32]] * 3, [[64]] * 3] and full.strides == [1, 2, 2]
    thin = full.model_copy(update={"inner": [[[5], [16], [7]], *full.inner[1:]]})
    net = build(thin, 10)
    assert net.stages[0][0].residual[0].weight.shape == (5, 16, 3, 3)
    removed = (11 + 9) * (16 * 9 + 16 * 9 + 2)
    assert count_parameters(net) == 269_722 - removed
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_macs_and_memory_of_a_net_counted_by_hand() -> None:
    model = Model(stem_width=4, widths=[8], blocks=[1], conv_bias=True)
    summary = summarize(build(model, 10), (16, 16))
    pixels = 256
    assert summary.macs == pixels * (4 * 27 + 8 * 36 + 8 * 72 + 8 * 4) + 80
    assert summary.params == (4 * 28 + 8) + (8 * 37 + 16) + (8 * 73 + 16) + (8 * 5 + 16) + 90
    outputs = pixels * (4 * 3 + 8 * 5 + 8 * 2 + 8) + 8 + 8 + 10
    assert summary.forward_backward_mb == pytest.approx(outputs * 8 / 2**20)
    assert summary.input_mb == pytest.approx(3 * 256 * 4 / 2**20)


def test_macs_of_a_layer_over_tokens_are_those_of_each_token() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.along, self.head = nn.Conv2d(3, 8, 4, 4), nn.Conv1d(8, 8, 3, padding=1), nn.Linear(8, 16)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.along(self.embed(images).flatten(2)).mT).mean(1)

    summary = summarize(Tokens(), (32, 32))
    assert summary.macs == 64 * (8 * 48 + 8 * 24 + 8 * 16)


def exact_net(num_params: int) -> Model:
    """A net of exactly so many parameters: inner widths take up the bulk, the stem's width what is left."""
    fixed: dict[str, Any] = {"name": "custom", "widths": [13, 100, 300], "blocks": [1, 1, 2]}
    for stem in range(1, 60):
        inner = [[[1]], [[1]], [[1], [1]]]
        rest = num_params - count_parameters(build_on_meta(Model(stem_width=stem, inner=inner, **fixed), 10))
        costs = [9 * stem + 9 * 13 + 2, 9 * 13 + 9 * 100 + 2, 9 * 100 + 9 * 300 + 2, 9 * 300 + 9 * 300 + 2]
        for a in range(200):
            for b in range(200):
                for c in range(0, 300, 1):
                    left = rest - a * costs[0] - b * costs[1] - c * costs[2]
                    if left < 0:
                        break
                    if left % costs[3] == 0:
                        inner = [[[1 + a]], [[1 + b]], [[1 + c], [1 + left // costs[3]]]]
                        return Model(stem_width=stem, inner=inner, **fixed)
    raise AssertionError("no such net found")


@pytest.mark.parametrize("num_params", [5_000_000, 5_000_001])
def test_the_budget_is_exact(num_params: int) -> None:
    net = build_on_meta(exact_net(num_params), 10)
    assert count_parameters(net) == num_params
    if num_params > 5_000_000:
        with pytest.raises(UserError, match=r"5,000,001 parameters are 1 over the budget of 5,000,000; costliest layers: stages"):
            check_budget(net, WEIGHT_CLASSES["light"])
    else:
        check_budget(net, WEIGHT_CLASSES["light"])
    check_budget(net, None)


def test_weight_classes() -> None:
    assert [weight_class(n) for n in (1, 78_186, 78_187, 481_530, 481_531, 1_000_000, 5_000_000)] == [
        "fly", "fly", "bantam", "bantam", "feather", "feather", "light",
    ]  # fmt: skip
    assert weight_class(5_000_001) is None
    mlperf_40 = build_on_meta(resolve_model("resnet8", ["model.widths=[40, 80, 160]", "model.stem_width=40"]), 10)
    assert count_parameters(mlperf_40) == WEIGHT_CLASSES["bantam"]
