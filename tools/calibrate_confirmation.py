"""What each limit of the confirmation keeps: faces and false alarms among doubtful candidates.

    python tools/calibrate_confirmation.py DATA CACHE [--weights FOLDER] [--yunet FILE] [--scenes N]

For `_SPREAD` in src/facerecon/reconstructor.py, to be chosen anew with every face network: one
that is better on bad photos also agrees with itself more often where there is no face. Composed
scenes of the split `val`; candidates of the packaged detector with scores between `_CANDIDATE`
and `_SURE`, faces by an IoU of 0.5 with a true box, false alarms by less than 0.3 with any.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facerecon import FaceReconstructor
from facerecon.detection import overlap
from facerecon.detection.agreement import spread
from facerecon.reconstructor import _CANDIDATE, _HOPELESS, _SURE
from facerecon.training import TrainConfig
from facerecon.training.detection import whole_photos
from facerecon.training.detection.task import scene_maker

LIMITS = (0.04, 0.045, 0.05, 0.055, 0.06, 0.065, 0.07, 0.08, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--weights", default="fast")
    parser.add_argument("--yunet", default="", help="so that unlabelled people are no false alarms")
    parser.add_argument("--scenes", type=int, default=160)
    options = parser.parse_args()
    reconstructor = FaceReconstructor.from_pretrained(options.weights, device="cpu")
    photos = whole_photos(options.data, options.cache / "whole", options.yunet, "refuse")
    maker = scene_maker(photos, "val", TrainConfig.from_toml("detector"))
    faces: list[list[float]] = []
    alarms: list[list[float]] = []
    for i in tqdm(range(options.scenes), desc="scenes", unit="scene"):
        scene = maker.make(np.random.default_rng((9, i)))
        for candidate in reconstructor.detector.detect(scene.pixels):
            if not _CANDIDATE <= candidate.score < _SURE:
                continue
            looks = looked_at(reconstructor, scene.pixels, candidate.box)
            row = [candidate.score, *(away / candidate.score for away in looks)]
            wanted = scene.boxes[scene.counts]
            if overlap(candidate.box, wanted).max(initial=0) > 0.5:
                faces.append(row)
            elif overlap(candidate.box, scene.boxes).max(initial=0) < 0.3:
                alarms.append(row)
    print(f"{len(faces)} faces, {len(alarms)} false alarms")
    for limit in LIMITS:
        kept = [sum(min(row[1:]) < limit for row in rows) for rows in (faces, alarms)]
        print(f"spread below {limit:.3f} of the score: {kept[0]} faces, {kept[1]} false alarms")
    for least in (0.4, 0.5, 0.6, 0.7):
        kept = [sum(row[0] >= least for row in rows) for rows in (faces, alarms)]
        print(f"score from {least} alone: {kept[0]} faces, {kept[1]} false alarms")


def looked_at(reconstructor: FaceReconstructor, photo: np.ndarray, box: np.ndarray) -> list[float]:
    """Spreads of the first look, and of the second where the reconstructor takes one."""
    views = reconstructor._seen_twice(photo, [reconstructor._frame(box)])[0]
    away, points = spread(views), views.mean(0)
    if away >= _HOPELESS:
        return [away]
    upright = reconstructor._upright_frame(points)
    return [away, spread(reconstructor._seen_twice(photo, [upright])[0])]


if __name__ == "__main__":
    main()
