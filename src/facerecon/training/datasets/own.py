"""A data folder from anybody's photos with landmarks beside them."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.errors import DataError, ImageError
from facerecon.evaluation.annotations import read_points
from facerecon.geometry import FACE_TO_CAMERA, euler_from_matrix
from facerecon.image import read_image
from facerecon.training.datasets.labels import (
    BadData,
    FaceLabels,
    skip_or_refuse,
    write_labels,
)
from facerecon.training.fitting import FaceFit, FaceFitter, PointSet

__all__ = ["face_points", "fit_folder"]

_PHOTOS = (".jpg", ".jpeg", ".png")
_GOOD = 8.0
"""Largest residual of a fit that is marked as good, percent of the box."""


def face_points(file: str | Path) -> NDArray[np.float64]:
    """Landmarks of one face, (68, 2), (68, 3) or (468, 3) pixels; see :func:`read_points`.

    Raises:
        DataError: They cannot be read, or are something else.
    """
    points = read_points(file)
    if points.shape not in ((68, 2), (68, 3), (468, 3)):
        raise DataError(f"{file} holds {points.shape} points; (68, 2 or 3) or (468, 3) is needed")
    if np.isfinite(points).all(1).sum() < 6:
        raise DataError(f"{file} has fewer than six finite points")
    return points


def fit_folder(
    photos: str | Path,
    output: str | Path,
    model: str | Path,
    mediapipe: str | Path | None = None,
    *,
    validation: float = 0.05,
    seed: int = 0,
    bad: BadData = "refuse",
) -> dict[str, float]:
    """Fit the face model to photos with landmarks and write a data folder.

    Args:
        photos: Folder of pictures, each with its points beside it, see :func:`face_points`.
        output: The data folder, made when missing.
        model: ``ict_face.npz``.
        mediapipe: ``mediapipe468_ict.npz``; needed for (468, 3) points.
        validation: Share of the photos that become the split ``val``.
        seed: Of that choice.
        bad: What to do about unreadable photos, and points that are missing, malformed or mostly
            outside their photo.

    Returns:
        Counts of photos, and the median residual in percent.

    Raises:
        DataError: There is nothing to fit, or a bad photo and ``bad`` is ``refuse``.
    """
    files = sorted(p for p in Path(photos).iterdir() if p.suffix.lower() in _PHOTOS)
    found = [(file, points) for file in files if (points := _checked(file, bad)) is not None]
    if not found:
        raise DataError(f"{photos} holds no photo with points beside it")
    kinds = np.array([str(points.shape) for _, points in found])
    fits: list[tuple[int, FaceFit, int]] = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        points = np.stack([found[i][1] for i in rows])
        fitter = FaceFitter(model, [_point_set(points, model, mediapipe)])
        for start in tqdm(range(0, len(rows), 64), desc=f"fitting {kind}", unit="batch"):
            part = rows[start : start + 64]
            fit = fitter.fit([points[start : start + 64]])
            fits += [(int(row), fit, k) for k, row in enumerate(part)]
    fits.sort(key=lambda item: item[0])

    def rows_of(name: str) -> NDArray[np.float32]:
        return np.stack([getattr(fit, name)[k] for _, fit, k in fits]).astype(np.float32)

    residual, rotation = rows_of("residual"), rows_of("rotation")
    count = len(found)
    split = np.full(count, "train")
    chosen = np.random.default_rng(seed).permutation(count)[: round(validation * count)]
    split[chosen] = "val"
    hand = np.full((count, 68, 2), np.nan, np.float32)
    for i, (_, points) in enumerate(found):
        if len(points) == 68:
            hand[i] = points[:, :2]
    labels = FaceLabels(
        path=np.array([file.name for file, _ in found]),
        source=np.full(count, "own"),
        split=split,
        good=residual < _GOOD,
        yaw=np.array([euler_from_matrix(r @ FACE_TO_CAMERA)[0] for r in rotation], np.float32),
        rotation=rotation,
        scale=rows_of("scale"),
        translation=rows_of("translation"),
        identity=rows_of("identity"),
        expression=rows_of("expression"),
        hand_points=hand,
        hand_count=np.where(np.isfinite(hand).any((1, 2)), 68, 0).astype(np.int16),
        residual=residual,
    )
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    unfinished = target / "photos_own.partial"
    with tarfile.open(unfinished, "w") as tar:
        for file, _ in found:
            tar.add(file, file.name)
    unfinished.replace(target / "photos_own.tar")
    shutil.copyfile(model, target / "ict_face.npz")
    write_labels(labels, target / "labels.npz")
    return {
        "photos": count,
        "good": int(labels.good.sum()),
        "left_out": len(files) - count,
        "median_residual_percent": round(float(np.median(residual)), 3),
    }


def _checked(file: Path, bad: BadData) -> NDArray[np.float64] | None:
    """The points of a photo, or None for a bad one."""
    beside = [file.with_suffix(suffix) for suffix in (".pts", ".npy", ".txt")]
    existing = [path for path in beside if path.is_file()]
    if not existing:
        skip_or_refuse(bad, f"{file} has no {file.stem}.pts, .npy or .txt beside it")
        return None
    try:
        photo, points = read_image(file), face_points(existing[0])
    except (DataError, ImageError) as error:
        skip_or_refuse(bad, str(error))
        return None
    limit = np.array(photo.shape[1::-1]) - 1
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= limit)).all(1)
    if inside.mean() < 0.5:
        skip_or_refuse(bad, f"{existing[0]}: most points lie outside {file.name}")
        return None
    return points


def _point_set(
    points: NDArray[np.float64], model: str | Path, mediapipe: str | Path | None
) -> PointSet:
    if points.shape[1] == 68:
        return PointSet.landmarks68(model, 0.3 if points.shape[2] == 3 else 0.0)
    if mediapipe is None:
        raise DataError("468 points need mediapipe468_ict.npz: give it with --mediapipe")
    return PointSet.mediapipe468(mediapipe)
