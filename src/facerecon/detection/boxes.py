"""Boxes in torch: how much they overlap, and which of them remain; no torchvision needed."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["intersection_over_union", "non_maximum_suppression", "shared_and_union"]


def intersection_over_union(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of boxes (..., n, 4) with others (..., m, 4), giving (..., n, m)."""
    shared, union = shared_and_union(boxes.unsqueeze(-2), others.unsqueeze(-3))
    return shared / union


def shared_and_union(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Areas that boxes (..., 4) share with others (..., 4), and that both cover together."""
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (boxes, others)]
    return shared, (areas[0] + areas[1] - shared).clamp(min=1e-9)


def non_maximum_suppression(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy suppression: a box goes when a better one that stays overlaps it.

    Args:
        boxes: (n, 4) x0, y0, x1, y1.
        scores: (n,).
        threshold: Largest IoU of two boxes that both stay.

    Returns:
        Indices of those that stay, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    better = intersection_over_union(boxes[order], boxes[order]).triu(1) > threshold
    stays = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    while True:
        # the greedy answer is the one fixed point of "stays unless a better one that stays
        # overlaps"; from the front on, each round settles at least one more box
        settled = ~(better & stays[:, None]).any(0)
        if torch.equal(settled, stays):
            return order[stays]
        stays = settled
