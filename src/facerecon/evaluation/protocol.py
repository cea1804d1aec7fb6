"""AFLW2000-3D's protocols (Zhu et al., CVPR 2016; Feng et al., ECCV 2018)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from facerecon.detection import overlap
from facerecon.errors import DataError, NoFaceFound
from facerecon.evaluation.aflw2000 import AFLW2000Sample, read_aflw2000
from facerecon.evaluation.annotations import read_points, read_prediction
from facerecon.evaluation.basel import BaselModel, FittedMat
from facerecon.evaluation.metrics import angle_error, yaw_bin
from facerecon.evaluation.reconstruction import (
    reconstruction_corresponding,
    reconstruction_icp,
    reconstruction_sparse,
)
from facerecon.evaluation.report import Report, Row
from facerecon.geometry import box_of_points
from facerecon.image import read_image
from facerecon.reconstructor import Face, FaceReconstructor

__all__ = ["CROPS", "evaluate_aflw2000"]

Crop = Literal["max", "mean", "detected"]
CROPS: tuple[Crop, ...] = ("max", "mean", "detected")
"""``max``: a square of sqrt(2) x the larger side of the true box (3DDFA); ``mean``: of 1.6 x the
mean side (PRNet); ``detected``: the detector's box."""

_DENSE_STEP = 4
"""Every how many-th vertex of a mesh takes part in the ICP."""


def evaluate_aflw2000(
    reconstructor: FaceReconstructor,
    folder: str | Path,
    *,
    crops: Sequence[Crop] = ("max",),
    predictions: str | None = None,
    predictions_z: Literal["into", "towards"] = "into",
    detected: bool = False,
    origin: Literal["published", "corrected"] = "published",
    labels: str | Path | None = None,
    yaws: str | Path | None = None,
    basel: tuple[str | Path, str | Path] | None = None,
    seed: int = 0,
) -> Report:
    """Measure a reconstructor, and another tool's predictions, on AFLW2000-3D.

    Args:
        reconstructor: What is measured.
        folder: Photos and Matlab files.
        crops: Where crops come from, see :data:`CROPS`. A detected face counts when it is the
            right one (IoU with the true box of 0.3 or more), and is a failure otherwise.
        predictions: Another tool's points: a folder of NAME.npz, .npy or .txt, or the suffix of
            text files ``NAME<suffix>`` beside the photos; (68, 3) or (68, 2).
        predictions_z: Whether their z points into the scene or, as PRNet's, towards the viewer.
        detected: Short for ``crops=("detected",)``.
        origin: See :func:`read_aflw2000`.
        labels: Other labels, such as the re-annotated ones: .npy of (n, 2 or 3, 68), in the
            photos' name order. z stays the original one where they have none.
        yaws: Other yaws to sort into bins, such as the older file: .npy of (n,) degrees.
        basel: BFM.mat and BFM_UV.mat, for the reconstruction error against the dense truth; it
            is against the 68 points without.
        seed: Of the bootstrap and the balanced draw.

    Raises:
        DataError: Photos, labels or predictions are missing or have other content.
    """
    samples = list(read_aflw2000(folder, origin))
    truth = np.stack([sample.landmarks for sample in samples])
    if labels is not None:
        truth = _other_labels(Path(labels), truth, origin)
    yaw = [sample.yaw for sample in samples] if yaws is None else _other_yaws(yaws, len(samples))
    bins = yaw_bin(yaw)
    model = None if basel is None else BaselModel.load(*basel)
    rows = [
        _measure(reconstructor, samples, truth, bins, crop, model, seed)
        for crop in (("detected",) if detected else crops)
    ]
    if predictions is not None:
        points = np.stack([_prediction(folder, s.name, predictions) for s in samples])
        if predictions_z == "towards":
            points = points * [1.0, 1.0, -1.0]
        name = Path(predictions).stem.strip("_-")
        errors = _reconstruction(points, truth)
        rows.append(Row(name, "its own", truth, points, bins, None, errors, seed))
    kind = "" if labels is None else f", labels {Path(labels).name}"
    kind += "" if yaws is None else f", bins by {Path(yaws).name}"
    title = f"AFLW2000-3D, 68 points, {len(samples)} photos, labels' origin {origin}{kind}"
    photos = tuple(sample.photo for sample in samples)
    return Report(title, tuple(rows), photos, tuple(sample.name for sample in samples))


def _measure(
    reconstructor: FaceReconstructor,
    samples: Sequence[AFLW2000Sample],
    truth: NDArray[np.float64],
    bins: NDArray[np.int64],
    crop: Crop,
    model: BaselModel | None,
    seed: int,
) -> Row:
    points = np.full((len(samples), 68, 3), np.nan)
    angles = np.full((len(samples), 3), np.nan)
    dense: dict[str, NDArray[np.float64]] = {}
    if model is not None:
        dense = {name: np.full(len(samples), np.nan) for name in ("icp (Table 3)", "sparse")}
    bar = tqdm(samples, desc=f"AFLW2000-3D, {crop}", unit="photo", file=sys.stderr)
    for i, sample in enumerate(bar):
        photo = read_image(sample.photo)
        face = _face(reconstructor, photo, truth[i], crop)
        if face is None:
            continue
        points[i] = face.landmarks
        if np.abs(sample.pose).max() <= 99:
            angles[i] = angle_error(face.pose.to_aflw2000(), sample.pose)
        if model is not None:
            fitted = FittedMat.load(sample.photo.with_suffix(".mat"))
            true = fitted.vertices(model, photo.shape[0])
            mesh = face.vertices
            dense["icp (Table 3)"][i] = reconstruction_icp(mesh[::_DENSE_STEP], true, truth[i])
            dense["sparse"][i] = reconstruction_sparse(mesh, true)
    name = f"facerecon {reconstructor.checkpoint.network.config.name}"
    errors = {**_reconstruction(points, truth), **dense}
    label = {"max": "sqrt2 max", "mean": "1.6 mean", "detected": "detected"}[crop]
    return Row(name, label, truth, points, bins, angles, errors, seed)


def _face(
    reconstructor: FaceReconstructor,
    photo: NDArray[np.uint8],
    truth: NDArray[np.float64],
    crop: Crop,
) -> Face | None:
    """The face of one photo, or None where the detector did not find it."""
    box = box_of_points(truth)
    if crop == "max":
        return reconstructor.reconstruct(photo, box)
    if crop == "mean":
        # the box whose crop, margin x its side, is PRNet's square
        centre = (box[:2] + box[2:]) / 2
        half = 0.8 * (box[2:] - box[:2]).mean() / reconstructor.checkpoint.margin
        return reconstructor.reconstruct(photo, np.concatenate([centre - half, centre + half]))
    try:
        face = reconstructor.reconstruct(photo)
    except NoFaceFound:
        return None
    return face if overlap(face.box, box)[0] >= 0.3 else None


def _reconstruction(
    points: NDArray[np.float64], truth: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """The readings that need no dense truth."""
    readings: dict[str, Callable[[ArrayLike, ArrayLike, ArrayLike], float]] = {
        "icp, 68 points": reconstruction_icp,
        "corresponding, 68 points": reconstruction_corresponding,
    }
    errors = {name: np.full(len(points), np.nan) for name in readings}
    for i, (found, true) in enumerate(zip(points, truth, strict=True)):
        if np.isfinite(found).all():
            for name, reading in readings.items():
                errors[name][i] = reading(found, true, true)
    return errors


def _prediction(folder: str | Path, name: str, where: str) -> NDArray[np.float64]:
    """Another tool's (68, 3) points of one photo; z is 0 where it gives none."""
    if Path(where).is_dir():
        points = read_prediction(where, name)
    else:
        points = read_points(Path(folder) / f"{name}{where}")
    if len(points) != 68:
        raise DataError(f"{name}: {where} holds {points.shape} numbers, (68, 2 or 3) is needed")
    return np.pad(points, ((0, 0), (0, 3 - points.shape[1])))


def _other_labels(
    file: Path, truth: NDArray[np.float64], origin: Literal["published", "corrected"]
) -> NDArray[np.float64]:
    values = _load(file)
    if (
        values.ndim != 3
        or values.shape[0] != len(truth)
        or values.shape[1:] not in ((2, 68), (3, 68))
    ):
        raise DataError(f"{file} holds {values.shape}; ({len(truth)}, 2 or 3, 68) is needed")
    changed = truth.copy()
    changed[:, :, :2] = values[:, :2].transpose(0, 2, 1) - (origin == "corrected")
    if values.shape[1] == 3:
        changed[:, :, 2] = -values[:, 2]
    return changed


def _other_yaws(file: str | Path, count: int) -> NDArray[np.float64]:
    values = _load(Path(file))
    if values.shape != (count,):
        raise DataError(f"{file} holds {values.shape} yaws; ({count},) are needed")
    return values


def _load(file: Path) -> NDArray[np.float64]:
    try:
        values = np.load(file, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if not np.isfinite(values).all():
        raise DataError(f"{file} holds numbers that are not finite")
    return np.asarray(values, np.float64)
