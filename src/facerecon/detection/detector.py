"""What a detector is.

Convention:
    A detection's box is x0, y0, x1, y1 in photo pixels, the tight box round the face's 68
    landmarks: from the eyebrows to the chin, from one jaw line to the other. Each detector
    converts its own kind of box to this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from facerecon.detection.boxes import intersection_over_union, non_maximum_suppression

__all__ = ["Detection", "Detector", "five_points", "overlap", "suppress"]


@dataclass(frozen=True)
class Detection:
    """One face.

    Attributes:
        box: (4,) x0, y0, x1, y1 round the 68 landmarks, photo pixels.
        score: Confidence, 0 to 1; scales differ between detectors.
        points: (5, 2) right eye, left eye, nose tip, right and left corner of the mouth (the
            person's own sides), photo pixels; None where a detector gives none.
    """

    box: NDArray[np.float64]
    score: float
    points: NDArray[np.float64] | None = None

    @property
    def area(self) -> float:
        """Area of the box, square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


class Detector(Protocol):
    """Finds faces."""

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Faces in an RGB photo (h, w, 3), largest first; [] when there is none."""


def five_points(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eyes, nose tip and mouth corners (..., 5, 2) of the 68 landmarks (..., 68, 2 or more)."""
    xy = landmarks[..., :2]
    eyes = [xy[..., 36:42, :].mean(-2), xy[..., 42:48, :].mean(-2)]
    return np.stack([*eyes, xy[..., 30, :], xy[..., 48, :], xy[..., 54, :]], -2)


def overlap(box: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of a box (4,) with boxes (n, 4), giving (n,)."""
    a, b = _tensor(box), _tensor(others)
    return intersection_over_union(a, b)[0].numpy()


def _tensor(boxes: ArrayLike) -> Tensor:
    return torch.from_numpy(np.asarray(boxes, np.float64).reshape(-1, 4))


def suppress(detections: Sequence[Detection], threshold: float = 0.3) -> list[Detection]:
    """Keep the best of overlapping detections (IoU above ``threshold``); largest first."""
    boxes = _tensor([d.box for d in detections])
    scores = torch.tensor([d.score for d in detections], dtype=torch.float64)
    kept = [detections[k] for k in non_maximum_suppression(boxes, scores, threshold).tolist()]
    return sorted(kept, key=lambda d: -d.area)
