"""Lookahead: slow weights that follow an optimiser's fast ones (Zhang et al. 2019, arXiv 1907.08610)."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Lookahead:
    """`slow` begins as the weights and goes `alpha` of the way to them every `k` steps; they then go on from there.

    The optimiser's momentum is left as it is, as the paper's experiments do.
    """

    def __init__(self, parameters: Mapping[str, Tensor], k: int, alpha: float) -> None:
        self.parameters, self.k, self.alpha = parameters, k, alpha
        self.slow = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def after(self, step: int) -> None:
        """What follows the optimiser's step number `step`, from 0."""
        if (step + 1) % self.k:
            return
        slow, fast = list(self.slow.values()), list(self.parameters.values())
        torch._foreach_lerp_(slow, fast, self.alpha)
        torch._foreach_copy_(fast, slow)
