"""How well detectors find faces, and what their boxes cost the face network."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.detection import Detector, overlap
from facerecon.errors import DataError
from facerecon.evaluation.metrics import YAW_BINS, point_errors, yaw_bin
from facerecon.geometry import box_of_points
from facerecon.reconstructor import FaceReconstructor
from facerecon.training.datasets import read_photos
from facerecon.training.detection.photos import WholePhotos, whole_photos
from facerecon.training.detection.scenes import SceneMaker
from facerecon.training.validation import photos_of_split

__all__ = ["SIZES", "DetectorReport", "measure_detectors"]

SIZES = (20.0, 40.0, 80.0, 160.0, 320.0)
"""Sides of the faces in the scenes, pixels."""
TURNS = (0.0, 45.0)
"""In-plane turns of the photos in the scenes, degrees."""
SCENE = 640
_RIGHT = 0.5  # IoU of a face found


@dataclass(frozen=True)
class DetectorReport:
    """What detectors did on the same pictures.

    Attributes:
        photos: How many photos of each yaw bin the scenes show.
        recall: By detector: (turns, sizes, yaw bins) share of the faces found, IoU above 0.5.
        false_alarms: By detector: (turns, sizes, yaw bins) boxes per scene that lie on no face.
        nme: By where the boxes come from, ``true`` or a detector: means of the 68-point 2D NME in
            the yaw bins, percent, on the validation photos in which every detector found the
            face; None where there is none.
        missed: By detector: photos of each yaw bin in which it did not.
    """

    photos: list[int]
    recall: dict[str, NDArray[np.float64]]
    false_alarms: dict[str, NDArray[np.float64]]
    nme: dict[str, list[float | None]]
    missed: dict[str, list[int]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        recall = {name: values.tolist() for name, values in self.recall.items()}
        alarms = {name: values.tolist() for name, values in self.false_alarms.items()}
        axes = {"turns": TURNS, "sizes": SIZES, "yaw_bins": YAW_BINS}
        return {**self.__dict__, "recall": recall, "false_alarms": alarms, "axes": axes}

    def to_text(self) -> str:
        """Tables."""
        bins = [f"[{low},{high}]" for low, high in YAW_BINS]
        lines = [
            f"scenes of {SCENE} pixels with one of {'/'.join(map(str, self.photos))} validation "
            "photos each; faces found at IoU 0.5, percent",
            f"{'':12}{'turn':>6}{'yaw':>9}" + "".join(f"{size:7g} px" for size in SIZES),
        ]
        for name, recall in self.recall.items():
            for t, turn in enumerate(TURNS):
                for b, title in enumerate(bins):
                    cells = "".join(f"{100 * share:10.1f}" for share in recall[t, :, b])
                    lines.append(f"{name:12}{turn:6g}{title:>9}{cells}")
        lines.append("false alarms a scene: all, by size of the face, by its yaw")
        for name, alarms in self.false_alarms.items():
            by_size = np.average(alarms, axis=2, weights=self.photos).mean(0)
            means = [float(by_size.mean()), *by_size, *alarms.mean((0, 1))]
            lines.append(f"{name:12}" + "".join(f"{mean:8.3f}" for mean in means))
        lines.append("validation photos as they are, 68-point 2D NME in percent with whose box")
        for name, means in self.nme.items():
            cells = "".join("       -" if mean is None else f"{mean:8.2f}" for mean in means)
            missed = "/".join(map(str, self.missed[name])) if name in self.missed else "-"
            lines.append(f"{name:12}{cells}   missed {missed}")
        return "\n".join(lines)


def measure_detectors(
    reconstructor: FaceReconstructor,
    detectors: Mapping[str, Detector],
    data: str | Path,
    cache: str | Path,
    count: int = 40,
    seed: int = 0,
) -> DetectorReport:
    """Measure detectors on the validation split.

    Args:
        reconstructor: Whose landmarks are measured with their boxes.
        detectors: By name.
        data: A data folder.
        cache: Folder of the packed whole photos.
        count: Photos of each yaw bin in the scenes.
        seed: Of their choice and of the scenes.

    Raises:
        DataError: Data are missing, or nothing is in the split ``val``.
    """
    photos = whole_photos(data, Path(cache) / "whole", None)
    labels = photos.labels
    usable = np.flatnonzero(labels.good & (labels.split == "val"))
    if not len(usable):
        raise DataError(f"{data} has no good photo with split 'val'")
    rng = np.random.default_rng(seed)
    groups = [usable[yaw_bin(labels.yaw[usable]) == k] for k in range(len(YAW_BINS))]
    rows = [rng.permutation(group)[:count] for group in groups]
    recall, alarms = _in_scenes(detectors, photos, usable, rows, seed)
    nme, missed = _in_photos(reconstructor, detectors, data)
    return DetectorReport([len(r) for r in rows], recall, alarms, nme, missed)


def _in_scenes(
    detectors: Mapping[str, Detector],
    photos: WholePhotos,
    usable: NDArray[np.int64],
    rows: Sequence[NDArray[np.int64]],
    seed: int,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    even = np.full(len(usable), 1 / len(usable))
    maker = SceneMaker(photos, usable, even, SCENE)
    shape = (len(TURNS), len(SIZES), len(YAW_BINS))
    found = {name: np.zeros(shape) for name in detectors}
    alarms = {name: np.zeros(shape) for name in detectors}
    cases = [
        (t, s, b, int(row))
        for t in range(len(TURNS))
        for s in range(len(SIZES))
        for b, part in enumerate(rows)
        for row in part
    ]
    for t, s, b, row in tqdm(cases, desc="scenes", unit="scene", file=sys.stderr):
        scene = maker.single(row, SIZES[s], np.random.default_rng((seed, t, s, row)), TURNS[t])
        own = scene.boxes[scene.rows == row]
        for name, detector in detectors.items():
            boxes = [d.box for d in detector.detect(scene.pixels)]
            found[name][t, s, b] += len(own) and overlap(own[0], boxes).max(initial=0) > _RIGHT
            # somebody unlabelled in the photo's background is no false alarm
            nobody = [overlap(box, scene.boxes).max(initial=0) < 0.3 for box in boxes]
            alarms[name][t, s, b] += sum(nobody)
    count = np.array([max(1, len(part)) for part in rows])
    return (
        {name: hits / count for name, hits in found.items()},
        {name: wrong / count for name, wrong in alarms.items()},
    )


def _in_photos(
    reconstructor: FaceReconstructor, detectors: Mapping[str, Detector], data: str | Path
) -> tuple[dict[str, list[float | None]], dict[str, list[int]]]:
    labels, truth = photos_of_split(data)
    bins = yaw_bin(labels.yaw)
    errors = {name: np.full(len(labels), np.nan) for name in ("true boxes", *detectors)}
    bar = tqdm(read_photos(data, labels.path), total=len(labels), desc="photos", file=sys.stderr)
    for i, photo in bar:
        own = box_of_points(truth[i])
        boxes = {"true boxes": own}
        for name, detector in detectors.items():
            there = [d.box for d in detector.detect(photo)]
            shared = overlap(own, there)
            if shared.max(initial=0) > 0.3:
                boxes[name] = there[int(shared.argmax())]
        for name, box in boxes.items():
            points = reconstructor.landmarks(photo, box)
            errors[name][i] = point_errors(points[None, :, :2], truth[i, None, :, :2])[0]
    all_found = np.isfinite(list(errors.values())).all(0)
    nme = {
        name: [_mean(values[all_found & (bins == k)]) for k in range(len(YAW_BINS))]
        for name, values in errors.items()
    }
    missed = {
        name: [int(np.isnan(errors[name][bins == k]).sum()) for k in range(len(YAW_BINS))]
        for name in detectors
    }
    return nme, missed


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
