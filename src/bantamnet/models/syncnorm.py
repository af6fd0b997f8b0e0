"""BatchNorm over the batch of all ranks together, so that the number of ranks does not change what a net computes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bantamnet.errors import UserError
from bantamnet.kernels.norm import track


class _Normalise(torch.autograd.Function):
    """BatchNorm with the mean and variance of all ranks' images, in the fused kernels of one rank's."""

    @staticmethod
    def forward(
        context: Any, images: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, num: Tensor, eps: float
    ) -> Tensor:
        context.save_for_backward(images, weight, mean, variance, num)
        context.eps = eps
        return torch.batch_norm(images, weight, bias, mean, variance, False, 0.0, eps, False)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, variance, num = context.saved_tensors
        # The sums over this rank's images that belong to weight and bias.
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], images, weight, mean, variance, None, None, False, context.eps, [False, True, True]
        )
        # What an image does by itself, and what it does through the mean and variance of every rank's images: a line in it.
        totals = torch.stack([of_weight, of_bias])
        dist.all_reduce(totals)
        scale = torch.rsqrt(variance + context.eps)
        slope = -weight * scale.square() * totals[0] / num
        offset = -weight * scale * totals[1] / num - slope * mean
        zeros, ones = torch.zeros_like(mean), torch.ones_like(mean)
        line = torch.batch_norm(images, slope, offset, zeros, ones, False, 0.0, 0.0, False)
        by_itself = (weight * scale)[:, None, None].to(images.dtype)
        return line.addcmul_(gradients[0], by_itself), of_weight, of_bias, None, None, None, None


class SyncBatchNorm2d(nn.BatchNorm2d):
    """As `nn.SyncBatchNorm`, which is for GPUs alone; the variance is taken about the common mean, in fp32 or better."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape and type; N may differ from rank to rank."""
        if not self.training:
            return super().forward(input)
        with torch.no_grad():
            mean, variance, num = self._statistics(input)
            if self.track_running_stats:
                track(self, mean, variance * (num / (num - 1)))
        out: Tensor = _Normalise.apply(input, self.weight, self.bias, mean, variance, num, self.eps)  # type: ignore[no-untyped-call]
        return out

    def _statistics(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(mean, variance, number of values) of each channel over all ranks, from those of each rank."""
        scratch = torch.zeros_like(self.weight)  # its type is that of the statistics: fp32 for bf16 images
        mean, variance = torch.batch_norm_update_stats(images, scratch, scratch.clone(), 0.0)
        num = torch.full_like(mean, images.numel() / images.shape[1])
        mine = torch.stack([mean, variance, num])
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine)
        means, variances, nums = torch.stack(parts, 1)
        total = nums.sum(0)
        mean = (means * nums).sum(0) / total
        return mean, ((variances + (means - mean).square()) * nums).sum(0) / total, total


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
