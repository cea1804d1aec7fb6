"""How the error moves when the box or the photo gets worse, on the validation split."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.evaluation.metrics import YAW_BINS, mean_of_bins, point_errors, yaw_bin
from facerecon.geometry import box_of_points
from facerecon.reconstructor import FaceReconstructor
from facerecon.training.datasets import read_photos
from facerecon.training.validation import photos_of_split

__all__ = ["DISTURBANCES", "Robustness", "disturbed", "measure_robustness"]

DISTURBANCES: dict[str, tuple[float, ...]] = {
    "none": (0.0,),
    "box shifted, share of its size": (0.05, 0.1, 0.15),
    "box scaled": (0.8, 0.9, 1.1, 1.25),
    "turned, degrees": (15.0, 30.0, 45.0),
    "blur, share of the box": (0.01, 0.02, 0.03),
    "noise, of 255": (10.0, 20.0, 30.0),
    "JPEG quality": (40.0, 20.0, 10.0),
    "brightness": (0.5, 0.25, 0.12),
    "occluded, share of the box": (0.1, 0.2, 0.3),
}
"""What is done, and how strongly."""


@dataclass(frozen=True)
class Robustness:
    """Mean of bins of the 68-point 2D NME under each disturbance.

    Attributes:
        photos: How many photos were measured.
        errors: By disturbance and strength: means of the yaw bins and their mean, percent.
    """

    photos: int
    errors: dict[tuple[str, float], tuple[list[float], float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        rows = [
            {"disturbance": name, "strength": strength, "bins": bins, "mean_of_bins": mean}
            for (name, strength), (bins, mean) in self.errors.items()
        ]
        return {"photos": self.photos, "rows": rows}

    def to_text(self) -> str:
        """A table."""
        lines = [
            f"{self.photos} photos, evenly over yaw; 68-point 2D NME to the fits, percent",
            f"{'':34}{'strength':>9}{'[0,30]':>8}{'(30,60]':>9}{'>60':>7}{'bins':>7}",
        ]
        for (name, strength), (bins, mean) in self.errors.items():
            a, b, c = bins
            lines.append(f"{name:34}{strength:9g}{a:8.2f}{b:9.2f}{c:7.2f}{mean:7.2f}")
        return "\n".join(lines)


def measure_robustness(
    reconstructor: FaceReconstructor, data: str | Path, count: int = 90, seed: int = 0
) -> Robustness:
    """Measure weights under :data:`DISTURBANCES`.

    Args:
        reconstructor: What is measured.
        data: A data folder.
        count: Photos, a third of them from each yaw bin as far as there are.
        seed: Of their choice and of everything random in the disturbances.

    Raises:
        DataError: Data are missing, or nothing is in the split ``val``.
    """
    labels, truth = photos_of_split(data)
    rng = np.random.default_rng(seed)
    bins = yaw_bin(labels.yaw)
    groups = [rng.permutation(np.flatnonzero(bins == k)) for k in range(len(YAW_BINS))]
    rows = np.concatenate([group[: -(-count // 3)] for group in groups])
    labels, truth = labels.take(rows), truth[rows]
    photos = dict(read_photos(data, labels.path))
    bins = yaw_bin(labels.yaw)
    cases = [(name, strength) for name, levels in DISTURBANCES.items() for strength in levels]
    errors = {}
    for name, strength in tqdm(cases, desc="robustness", unit="case", file=sys.stderr):
        found, moved = [], []
        for i in range(len(rows)):
            photo, points, box = disturbed(
                photos[i], truth[i], name, strength, np.random.default_rng((seed, i))
            )
            found.append(reconstructor.landmarks(photo, box))
            moved.append(points)
        nme = point_errors(np.stack(found)[:, :, :2], np.stack(moved)[:, :, :2])
        means = [
            float(nme[bins == k].mean()) if (bins == k).any() else float("nan") for k in range(3)
        ]
        errors[name, strength] = means, mean_of_bins(nme, bins)
    return Robustness(len(rows), errors)


def disturbed(
    photo: NDArray[np.uint8],
    points: NDArray[np.float64],
    name: str,
    strength: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """A disturbed photo, where its points then are, and the box that is given to the network.

    Args:
        photo: (h, w, 3) RGB.
        points: (68, 3) photo pixels.
        name: One of :data:`DISTURBANCES`.
        strength: How strongly.
        rng: For directions, places and noise.

    Raises:
        ValueError: The disturbance is not known.
    """
    box = box_of_points(points)
    size = box[2:] - box[:2]
    side = float(np.sqrt(size.prod()))
    sign = float(rng.choice([-1.0, 1.0]))
    picture = photo.astype(np.float32)
    if name == "none":
        return photo, points, box
    if name.startswith("box shifted"):
        angle = rng.uniform(0, 2 * np.pi)
        shift = strength * side * np.array([np.cos(angle), np.sin(angle)])
        return photo, points, box + np.tile(shift, 2)
    if name == "box scaled":
        middle = (box[:2] + box[2:]) / 2
        half = size / 2 * strength
        return photo, points, np.concatenate([middle - half, middle + half])
    if name.startswith("turned"):
        centre = ((box[:2] + box[2:]) / 2).tolist()
        matrix = cv2.getRotationMatrix2D(centre, sign * strength, 1.0)
        extent = (photo.shape[1], photo.shape[0])
        turned = cv2.warpAffine(photo, matrix, extent, borderMode=cv2.BORDER_REPLICATE)
        moved = points.copy()
        moved[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        return np.asarray(turned, np.uint8), moved, box_of_points(moved)
    if name.startswith("blur"):
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), strength * side), np.float32)
    elif name.startswith("noise"):
        picture = picture + rng.normal(0, strength, picture.shape).astype(np.float32)
    elif name.startswith("JPEG"):
        options = [cv2.IMWRITE_JPEG_QUALITY, int(strength)]
        content = cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), options)[1]
        picture = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.float32)
    elif name == "brightness":
        picture = picture * strength
    elif name.startswith("occluded"):
        extent_xy = size * np.sqrt(strength)
        low = box[:2] + rng.uniform(0, 1, 2) * (size - extent_xy)
        x0, y0 = np.rint(low).astype(int).clip(0)
        x1, y1 = np.rint(low + extent_xy).astype(int).clip(0)
        picture[y0:y1, x0:x1] = rng.uniform(0, 255, 3)
    else:
        raise ValueError(f"{name!r} is no disturbance; known are {list(DISTURBANCES)}")
    return np.rint(picture).clip(0, 255).astype(np.uint8), points, box
