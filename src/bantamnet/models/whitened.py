"""A plain net for speed, with a stem that whitens: that of cifar10-airbench (Jordan 2024, arXiv 2404.00498)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.config import Whitened
from bantamnet.kernels import chain
from bantamnet.models.blocks import activation
from bantamnet.models.members import check_recorded, find_member
from bantamnet.models.resnet import count_parameters

PATCH = 2
"""Height and width of the stem's patches."""


class WhitenedNet(nn.Module):
    """Whitening stem, groups of convolutions, max-pool, a linear layer without bias, a factor on the logits.

    The stem's weights are drawn at random until `whiten` sets them; they and BatchNorm's scales are never trained. `arch` is the
    description it was built from; `num_classes` the length of its logits.
    """

    def __init__(self, model: Whitened, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.arch, self.num_classes = model, num_classes
        channels = 2 * in_channels * PATCH**2
        whitening = nn.Conv2d(in_channels, channels, PATCH)
        whitening.weight.requires_grad_(False)
        padding = [nn.ReflectionPad2d((0, 1, 0, 1))] if model.stem_padding else []
        self.stem = nn.Sequential(*padding, whitening, activation(model.activation))
        groups = []
        for width, convs in zip(model.groups, model.convs_of_groups, strict=True):
            groups.append(Group(model, channels, width, convs))
            channels = width
        self.groups = nn.Sequential(*groups)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, num_classes, bias=False)
        with torch.no_grad():
            self.head.weight /= self.head.weight.std()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) float → logits (N, classes)."""
        logits: Tensor = self.head(self.flatten(self.pool(self.groups(self.stem(images)))))
        return logits * self.arch.logit_scale

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Let the stem whiten the patches of these normalised images (N, 3, H, W): each of its filters, and its negative."""
        filters = whitening_filters(images, self.arch.whiten_eps)
        whitening = next(layer for layer in self.stem if isinstance(layer, nn.Conv2d))
        whitening.weight.copy_(torch.cat([filters, -filters]))


def build(model: Whitened, num_classes: int) -> WhitenedNet:
    """The net; a named one built as named must have its recorded parameter count."""
    net = WhitenedNet(model, num_classes)
    member = find_member(model.name)
    if member and model == Whitened(name=model.name, **member.keys):
        check_recorded(model.name, num_classes, count_parameters(net))
    return net


class Group(nn.Sequential):
    """Convolutions, each with BatchNorm and activation, the first with a max-pool; perhaps a residual over the others."""

    def __init__(self, model: Whitened, in_channels: int, width: int, convs: int) -> None:
        layers: list[nn.Module] = []
        for index in range(convs):
            layers.append(identity_convolution(width if index else in_channels, width))
            if index == 0:
                layers.append(nn.MaxPool2d(2))
            norm = nn.BatchNorm2d(width, eps=1e-12, momentum=model.norm_momentum)
            norm.weight.requires_grad_(False)
            layers += [norm, activation(model.activation)]
        super().__init__(*layers)
        self.residual = model.residual

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → (N, width, H // 2, W // 2)."""
        layers = [*self]
        if not self.residual:
            return chain(layers, images)
        first = chain(layers[:4], images)
        return layers[-1](chain(layers[4:-1], first) + first)  # type: ignore[no-any-return]


def identity_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A "same" 3×3 convolution without bias whose first `in_channels` filters hand the channels on, the others being random."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[:in_channels])
    return conv


def whitening_filters(images: Tensor, eps: float) -> Tensor:
    """(K, C, 2, 2) filters, K = 4 C, whose responses to the patches of `images` (N, C, H, W) are uncorrelated, of power 1.

    They are the eigenvectors of the patches' second moments (no mean is subtracted), each divided by the root of its eigenvalue
    plus `eps`; the strongest comes first.
    """
    num_values = images.shape[1] * PATCH**2
    moments = torch.zeros(num_values, num_values, dtype=torch.float64, device=images.device)
    num_patches = 0
    for part in images.split(1000):
        patches = F.unfold(part.double(), PATCH).transpose(1, 2).reshape(-1, num_values)
        moments += patches.T @ patches
        num_patches += len(patches)
    eigenvalues, eigenvectors = torch.linalg.eigh(moments / num_patches)
    filters: Tensor = eigenvectors.T / (eigenvalues.clamp(min=0) + eps).sqrt()[:, None]
    return filters.flip(0).reshape(num_values, -1, PATCH, PATCH)
