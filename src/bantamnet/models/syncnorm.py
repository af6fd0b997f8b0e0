"""BatchNorm over the batch of all ranks together, so that the number of ranks does not change what a net computes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bantamnet.errors import UserError


class _SumOverRanks(torch.autograd.Function):
    """The sum of every rank's tensor; each rank's gradient is the sum of all gradients."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum(tensor: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(tensor)  # type: ignore[no-untyped-call]
    return total


class SyncBatchNorm2d(nn.BatchNorm2d):
    """As `nn.SyncBatchNorm`, which is for GPUs alone; the variance is taken about the common mean, in fp32 or better."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape and type; N may differ from rank to rank."""
        if not self.training:
            return super().forward(input)
        images = input if input.dtype == torch.float64 else input.float()
        num = torch.tensor(float(images.numel() / images.shape[1]), dtype=torch.float64, device=images.device)
        dist.all_reduce(num)
        count = num.to(images.dtype)
        mean = _sum(images.sum((0, 2, 3))) / count
        centred = images - mean[:, None, None]
        variance = _sum(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        out: Tensor = (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)
        return out

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased, momentum)


def synchronise(net: nn.Module, device: torch.device) -> nn.Module:
    """`net` with BatchNorm over all ranks; parameters, buffers and their names stay the same."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return converted
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            if not (module.affine and module.track_running_stats):
                raise UserError("a BatchNorm without weights or running statistics cannot be shared; set sync_batchnorm: false")
            module.__class__ = SyncBatchNorm2d
    return net
