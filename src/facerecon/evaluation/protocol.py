"""AFLW2000-3D's 68-point protocol (Zhu et al., CVPR 2016; Feng et al., ECCV 2018)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.detection import overlap
from facerecon.errors import DataError, NoFaceFound
from facerecon.evaluation.aflw2000 import AFLW2000Sample, read_aflw2000
from facerecon.evaluation.metrics import angle_error, nme, yaw_bin
from facerecon.geometry import box_of_points
from facerecon.reconstructor import FaceReconstructor

__all__ = ["Report", "Row", "evaluate_aflw2000"]


@dataclass(frozen=True)
class Row:
    """Errors of one method.

    Attributes:
        method: Its name.
        nme_2d: (n,) percent, NaN where no face was found.
        nme_3d: (n,) percent, mean z removed.
        angles: (n, 3) absolute pitch, yaw, roll errors in degrees, or None.
        bins: (n,) yaw bin of each sample.
    """

    method: str
    nme_2d: NDArray[np.float64]
    nme_3d: NDArray[np.float64]
    angles: NDArray[np.float64] | None
    bins: NDArray[np.int64]

    def by_bin(self, errors: NDArray[np.float64]) -> list[float]:
        """Mean error of each yaw bin; NaN for an empty one."""
        inside = [errors[(self.bins == k) & np.isfinite(errors)] for k in range(3)]
        return [float(e.mean()) if len(e) else float("nan") for e in inside]

    def to_dict(self) -> dict[str, Any]:
        """The means as JSON-ready values."""
        found = np.isfinite(self.nme_2d)
        values: dict[str, Any] = {
            "method": self.method,
            "samples": np.bincount(self.bins, minlength=3).tolist(),
            "failures": int((~found).sum()),
        }
        for name, errors in (("nme_2d", self.nme_2d), ("nme_3d", self.nme_3d)):
            bins = self.by_bin(errors)
            values[name] = {
                "bins": bins,
                "mean_of_bins": float(np.mean(bins)),
                "mean_of_samples": float(errors[found].mean()) if found.any() else float("nan"),
            }
        if self.angles is not None and np.isfinite(self.angles).any():
            values["pitch_yaw_roll"] = np.nanmean(self.angles, axis=0).tolist()
        return values


@dataclass(frozen=True)
class Report:
    """Rows of one evaluation, and how it was made."""

    protocol: str
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"protocol": self.protocol, "rows": [row.to_dict() for row in self.rows]}

    def to_text(self) -> str:
        """A table."""
        lines = [
            self.protocol,
            f"{'':24}{'[0,30]':>8}{'(30,60]':>9}{'>60':>7}{'bins':>7}{'samples':>9}{'failed':>8}",
        ]
        for row in self.rows:
            values = row.to_dict()
            for key, label in (("nme_2d", "2D NME %"), ("nme_3d", "3D NME %")):
                v = values[key]
                a, b, c = v["bins"]
                lines.append(
                    f"{row.method + ' ' + label:24}{a:8.2f}{b:9.2f}{c:7.2f}"
                    f"{v['mean_of_bins']:7.2f}{v['mean_of_samples']:9.2f}{values['failures']:8d}"
                )
            if "pitch_yaw_roll" in values:
                pitch, yaw, roll = values["pitch_yaw_roll"]
                mean = (pitch + yaw + roll) / 3
                lines.append(
                    f"{row.method} pose error, degrees: pitch {pitch:.2f}, yaw {yaw:.2f}, "
                    f"roll {roll:.2f}, mean {mean:.2f} (all angles within +-99)"
                )
        counts = self.rows[0].to_dict()["samples"]
        lines.append(f"samples per bin: {' / '.join(map(str, counts))}")
        return "\n".join(lines)


def evaluate_aflw2000(
    reconstructor: FaceReconstructor,
    folder: str | Path,
    *,
    predictions: str | None = None,
    predictions_z: Literal["into", "towards"] = "into",
    detected: bool = False,
    origin: Literal["published", "corrected"] = "published",
) -> Report:
    """Measure a reconstructor, and another tool's predictions, on AFLW2000-3D.

    Args:
        reconstructor: What is measured.
        folder: Photos and Matlab files.
        predictions: Suffix of text files ``NAME<suffix>`` with (68, 3) points of another tool.
        predictions_z: Whether their z points into the scene or, as PRNet's, towards the viewer.
        detected: Take boxes from the detector; the ground truth's by default. A detected face
            counts when it is the right one (IoU with the true box of 0.3 or more), and is a
            failure otherwise.
        origin: See :func:`read_aflw2000`.

    Raises:
        DataError: Photos, labels or predictions are missing or have other content.
    """
    samples = list(read_aflw2000(folder, origin))
    bins = yaw_bin([sample.yaw for sample in samples])
    rows = [_measure(reconstructor, samples, bins, detected)]
    if predictions is not None:
        sign = 1.0 if predictions_z == "into" else -1.0
        files = [Path(folder) / f"{sample.name}{predictions}" for sample in samples]
        points = [_read_points(file) * [1.0, 1.0, sign] for file in files]
        rows.append(_row(predictions.split(".")[0].strip("_-"), samples, points, None, bins))
    crop = "detected boxes" if detected else "ground-truth boxes"
    title = f"AFLW2000-3D, 68 points, {len(samples)} photos, {crop}, labels' origin {origin}"
    return Report(title, tuple(rows))


def _measure(
    reconstructor: FaceReconstructor,
    samples: Sequence[AFLW2000Sample],
    bins: NDArray[np.int64],
    detected: bool,
) -> Row:
    points: list[NDArray[np.float64] | None] = []
    angles = np.full((len(samples), 3), np.nan)
    for i, sample in enumerate(tqdm(samples, desc="AFLW2000-3D", unit="photo", file=sys.stderr)):
        box = None if detected else box_of_points(sample.landmarks)
        try:
            face = reconstructor.reconstruct(sample.photo, box)
        except NoFaceFound:
            points.append(None)
            continue
        if detected and overlap(face.box, box_of_points(sample.landmarks))[0] < 0.3:
            points.append(None)  # another face, or none
            continue
        points.append(face.landmarks)
        if np.abs(sample.pose).max() <= 99:
            angles[i] = angle_error(face.pose.to_aflw2000(), sample.pose)
    name = f"facerecon {reconstructor.checkpoint.network.config.name}"
    return _row(name, samples, points, angles, bins)


def _row(
    method: str,
    samples: Sequence[AFLW2000Sample],
    points: Sequence[NDArray[np.float64] | None],
    angles: NDArray[np.float64] | None,
    bins: NDArray[np.int64],
) -> Row:
    errors = np.full((len(samples), 2), np.nan)
    for i, (sample, found) in enumerate(zip(samples, points, strict=True)):
        if found is not None:
            truth = sample.landmarks
            errors[i] = nme(found[:, :2], truth[:, :2]), nme(found, truth)
    return Row(method, errors[:, 0], errors[:, 1], angles, bins)


def _read_points(path: Path) -> NDArray[np.float64]:
    try:
        points = np.loadtxt(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the prediction {path}: {error}") from error
    if points.shape != (68, 3):
        raise DataError(f"{path} holds {points.shape} numbers, (68, 3) is needed")
    return points
