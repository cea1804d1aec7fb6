"""Hand-made 2D points: 300-W's 68, CFP's 30, AFLW's 21, by two normalisers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.errors import DataError
from facerecon.evaluation.annotations import annotation_distance, read_annotated, read_prediction
from facerecon.evaluation.metrics import INTER_OCULAR, bootstrap_interval
from facerecon.geometry import box_of_points
from facerecon.image import read_image
from facerecon.reconstructor import FaceReconstructor

__all__ = ["PointsReport", "evaluate_points"]


@dataclass(frozen=True)
class PointsReport:
    """Errors of one method on hand-made points.

    Attributes:
        method: Its name.
        names: The photos' names.
        counts: (n,) points of each photo's annotation: 68, 30 or 21.
        box: (n,) mean distance over sqrt(w h) of the true points' box, percent. Of 68 points the 51
            inner ones count: in turned faces 300-W's jaw follows the visible edge.
        inter_ocular: (n,) likewise over the distance of the outer eye corners; NaN where hidden.
    """

    method: str
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    box: NDArray[np.float64]
    inter_ocular: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Means with 95 % bootstrap intervals, by kind of annotation."""
        kinds: dict[str, Any] = {}
        for count in np.unique(self.counts):
            mine = self.counts == count
            kinds[str(count)] = {"photos": int(mine.sum())}
            for name in ("box", "inter_ocular"):
                errors = getattr(self, name)[mine]
                known = errors[np.isfinite(errors)]
                low, high = bootstrap_interval(errors)
                kinds[str(count)][name] = (
                    {"mean": float(known.mean()), "low": low, "high": high, "photos": len(known)}
                    if len(known)
                    else None
                )
        return {"method": self.method, "points": kinds}

    def to_text(self) -> str:
        """A table."""
        lines = [f"{self.method}: NME in percent, 95 % bootstrap interval"]
        for kind, values in self.to_dict()["points"].items():
            label = "51 inner of 68" if kind == "68" else kind
            line = f"{label} points, {values['photos']} photos:"
            for name, title in (("box", "box"), ("inter_ocular", "inter-ocular")):
                if v := values[name]:
                    line += f"  {title} {v['mean']:.2f} ({v['low']:.2f}-{v['high']:.2f})"
            lines.append(line)
        return "\n".join(lines)


def evaluate_points(
    reconstructor: FaceReconstructor, folder: str | Path, *, predictions: str | Path | None = None
) -> list[PointsReport]:
    """Measure on photos with hand-made points beside them.

    The crop is cut round the true points, then once more round the network's own 68.

    Args:
        reconstructor: What is measured.
        folder: Photos with NAME.pts, NAME.npy or NAME.txt beside them.
        predictions: Folder of another tool's 68 points, NAME.npz, .npy or .txt.

    Raises:
        DataError: Photos, points or predictions are missing or malformed.
    """
    samples = list(read_annotated(folder))
    own, peers = [], []
    for sample in tqdm(samples, desc="points", unit="photo", file=sys.stderr):
        known = sample.points[np.isfinite(sample.points).all(1)]
        if len(known) < 3:
            raise DataError(f"{sample.photo} has only {len(known)} known points")
        photo = read_image(sample.photo)
        first = reconstructor.reconstruct(photo, box_of_points(known))
        face = reconstructor.reconstruct(photo, box_of_points(first.landmarks))
        own.append(_errors(face.landmarks[:, :2], sample.points))
        if predictions is not None:
            points = read_prediction(predictions, sample.name)[:, :2]
            peers.append(_errors(points, sample.points))
    names = tuple(sample.name for sample in samples)
    counts = np.array([len(sample.points) for sample in samples])
    title = f"facerecon {reconstructor.checkpoint.network.config.name}"
    reports = [PointsReport(title, names, counts, *np.array(own).T)]
    if predictions is not None:
        reports.append(PointsReport(Path(predictions).name, names, counts, *np.array(peers).T))
    return reports


def _errors(found: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """Errors by box and by inter-ocular distance, percent."""
    count = len(truth)
    if found.shape != (68, 2):
        raise DataError(f"predictions are {found.shape}, 68 points are needed")
    distance = annotation_distance(found, truth)
    known = truth[np.isfinite(truth).all(1)]
    size = float(np.sqrt(np.ptp(known, axis=0).prod()))
    corners = {68: INTER_OCULAR, 30: (12, 12), 21: (6, 11)}[count]
    between = float(np.linalg.norm(truth[corners[0]] - truth[corners[1]]))
    return 100 * distance / size, 100 * distance / between if between > 0 else float("nan")
