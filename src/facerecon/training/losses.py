"""Losses between position maps (n, 3, s, s)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SSIM_WINDOW", "ssim_loss", "ssim_map", "weighted_l1", "weighted_l2"]

SSIM_WINDOW = 7
"""Side of SSIM's uniform window, texels. The paper gives none; 7 is the usual window of uniform
SSIM (Wang et al., IEEE TIP 13(4), 2004, as scikit-image implements it)."""


def _weighted_mean(errors: Tensor, weights: Tensor) -> Tensor:
    """Mean of (n, 3, s, s) errors under (s, s) weights."""
    total = weights.sum() * errors.shape[0] * errors.shape[1]
    return (errors * weights).sum() / total


def weighted_l1(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean absolute error under (s, s) weights."""
    return _weighted_mean((predicted - target).abs(), weights)


def weighted_l2(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error under (s, s) weights (PRNet, Feng et al., ECCV 2018, eq. 3)."""
    return _weighted_mean((predicted - target) ** 2, weights)


def ssim_map(
    x: Tensor, y: Tensor, c1: float = 0.026, c2: float = 0.058, window: int = SSIM_WINDOW
) -> Tensor:
    """Structural similarity at each texel, statistics with 1 / (N - 1) (the paper's eq. 4-8).

    SSIM = (2 mu_x mu_y + C1)(2 s_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(s_x^2 + s_y^2 + C2)).
    At the border the window is cut to what lies inside the map.

    Args:
        x: (n, c, s, s).
        y: Likewise.
        c1: The paper's C1.
        c2: The paper's C2.
        window: Odd side of the uniform window.

    Returns:
        (n, c, s, s), at most 1.
    """

    def mean(values: Tensor) -> Tensor:
        pad = window // 2
        return F.avg_pool2d(values, window, 1, pad, count_include_pad=False)

    count = F.avg_pool2d(torch.ones_like(x[:1, :1]), window, 1, window // 2) * window**2
    unbias = count / (count - 1)
    mean_x, mean_y = mean(x), mean(y)
    variance_x = (mean(x * x) - mean_x**2) * unbias
    variance_y = (mean(y * y) - mean_y**2) * unbias
    covariance = (mean(x * y) - mean_x * mean_y) * unbias
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))


def ssim_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The paper's eq. 9, ``1 - SSIM . W``, read as the weighted mean of ``1 - SSIM``.

    Coordinates are moved from [-1/2, 1/2] to [0, 1], the range C1 and C2 are meant for.
    Where the weight is 0 the prediction is replaced by the target, so that windows that reach
    over the chart's edge are not disturbed by what the network answers outside.
    """
    inside = weights > 0
    x = torch.where(inside, predicted, target) + 0.5
    return _weighted_mean(1 - ssim_map(x, target + 0.5), weights)
