"""Whether a face network agrees with itself that a box holds a face.

Two crops of one box, turned, scaled and shifted against each other, are given to the face network.
Round a face both answers are the same points of the photo; where there is no face the answer
sticks to the crop. tools/calibrate_confirmation.py counts how well that tells them apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.geometry import CropFrame, box_of_points

__all__ = ["VIEWS", "spread", "views_of"]

VIEWS = ((20.0, 1.12, 0.05, 0.0), (-20.0, 0.92, 0.0, 0.06))
"""Turn in degrees, zoom, shift in sides (x, y) of each view."""


def views_of(plain: CropFrame) -> list[CropFrame]:
    """The crops by which one crop is judged."""
    return [plain.varied(*view) for view in VIEWS]


def spread(landmarks: ArrayLike) -> float:
    """Mean distance of the views' landmarks from their middle, over the face's size.

    Args:
        landmarks: (views, 68, 2 or more) photo pixels.
    """
    views = np.asarray(landmarks, dtype=np.float64)[:, :, :2]
    middle: NDArray[np.float64] = views.mean(0)
    x0, y0, x1, y1 = box_of_points(middle)
    size = float(np.sqrt((x1 - x0) * (y1 - y0)))
    return float(np.linalg.norm(views - middle, axis=2).mean()) / max(size, 1e-6)
