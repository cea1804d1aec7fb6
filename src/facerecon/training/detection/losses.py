"""Which cell answers for which face, and the losses of its answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facerecon.detection.boxes import shared_and_union
from facerecon.detection.network import STRIDES, decode

__all__ = ["FACE", "IGNORED", "NOBODY", "assign", "detection_loss", "generalised_iou"]

NOBODY, FACE, IGNORED = 0, 1, 2
_LARGEST = (44.0, 88.0, 176.0, float("inf"))
_SMALLEST = (0.0, 36.0, 72.0, 144.0)
"""Sides of the faces that each stride answers for, pixels; where they overlap, both do."""
_POINTS = 12.0  # weight of the points: a mean over ten numbers, which weighs little by itself
_REACH = 0.9  # of the stride: how far from a face's centre a cell answers for it


def assign(cells: Tensor, boxes: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """The face that each cell answers for.

    Args:
        cells: (c, 3) centre x, y and stride.
        boxes: (n, k, 4) x0, y0, x1, y1.
        kinds: (n, k) ``NOBODY`` (an empty row), ``FACE`` or ``IGNORED``.

    Returns:
        (n, c) index of the face, -1 for none; (n, c) whether a cell's score does not matter.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    side = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1).sqrt()
    level = (cells[:, 2].log2() - 3).long()
    low = boxes.new_tensor(_SMALLEST)[level][:, None]
    high = boxes.new_tensor(_LARGEST)[level][:, None]
    away = (cells[None, :, None, :2] - centre[:, None]).abs()  # (n, c, k, 2)
    # no cell lies farther than half a stride from a centre, so every face has an answer
    reach = torch.minimum(_REACH * cells[:, 2:], (side / 2)[:, None].clamp(min=0.5))
    reach = torch.maximum(reach, 0.5 * cells[:, 2:])
    fits = (side[:, None] >= low) & (side[:, None] < high) & (kinds == FACE)[:, None]
    fits &= away.amax(-1) <= reach
    distance = torch.where(fits, away.square().sum(-1), torch.inf)
    nearest, index = distance.min(-1)
    index = torch.where(nearest.isfinite(), index, -1)
    inside = (cells[None, :, None, :2] >= boxes[:, None, :, :2]).all(-1)
    inside &= (cells[None, :, None, :2] <= boxes[:, None, :, 2:]).all(-1)
    ignored = (inside & (kinds == IGNORED)[:, None]).any(-1) & (index < 0)
    return index, ignored


def generalised_iou(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al., CVPR 2019) of boxes (n, 4), pair by pair."""
    shared, union = shared_and_union(boxes, others)
    low = torch.minimum(boxes[:, :2], others[:, :2])
    high = torch.maximum(boxes[:, 2:], others[:, 2:])
    hull = (high - low).prod(1).clamp(min=1e-6)
    iou = shared / union
    return iou, iou - (hull - union) / hull


def detection_loss(
    answers: Tensor, cells: Tensor, boxes: Tensor, points: Tensor, kinds: Tensor
) -> Tensor:
    """Score, box and point losses of a batch.

    A cell's score is taught to be the root of its box's IoU, so that of several boxes of one face
    the best one stays (after the quality focal loss, Li et al., NeurIPS 2020; there it is the IoU
    itself, which boxes of small faces hardly reach, and the focus is squared, which leaves a
    network this small too little to learn from).

    Args:
        answers: (n, c, 15) of the network.
        cells: (c, 3).
        boxes: (n, k, 4).
        points: (n, k, 5, 2).
        kinds: (n, k), see :func:`assign`.
    """
    index, ignored = assign(cells, boxes, kinds)
    logits, found, _ = decode(answers, cells)
    image, cell = (index >= 0).nonzero(as_tuple=True)
    face = index[image, cell]
    wanted = boxes[image, face]
    iou, giou = generalised_iou(found[image, cell], wanted)
    target = torch.zeros_like(logits)
    target[image, cell] = iou.detach().sqrt()
    focus = (target - logits.sigmoid()).abs()
    scores = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus
    count = max(1, len(image))
    loss = 3 * (scores * ~ignored).sum() / count
    if len(image):
        middle, half = (wanted[:, :2] + wanted[:, 2:]) / 2, (wanted[:, 2:] - wanted[:, :2]) / 2
        offsets = (points[image, face] - middle[:, None]) / half[:, None]
        told = answers[image, cell, 5:].unflatten(-1, (5, 2))
        points_loss = F.smooth_l1_loss(told, offsets, beta=0.1)
        loss = loss + 2 * (1 - giou).mean() + _POINTS * points_loss
    return loss


assert len(STRIDES) == len(_LARGEST) == len(_SMALLEST)
