from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facerecon import Face, FaceReconstructor
from facerecon.cli import main
from facerecon.training.robustness import DISTURBANCES, disturbed


def run(photo: np.ndarray, points: np.ndarray, name: str, strength: float):
    return disturbed(photo, points, name, strength, np.random.default_rng(0))


def test_boxes_move_as_they_say(photo: np.ndarray, face: Face) -> None:
    points = face.landmarks
    _, same, box = run(photo, points, "none", 0.0)
    np.testing.assert_array_equal(same, points)
    size = box[2:] - box[:2]
    picture, same, shifted = run(photo, points, "box shifted, share of its size", 0.1)
    assert picture is photo and same is points
    np.testing.assert_allclose(
        np.linalg.norm((shifted - box)[:2]), 0.1 * np.sqrt(size.prod()), rtol=1e-9
    )
    np.testing.assert_allclose(shifted[2:] - shifted[:2], size)
    _, _, scaled = run(photo, points, "box scaled", 1.25)
    np.testing.assert_allclose(scaled[2:] - scaled[:2], 1.25 * size)
    np.testing.assert_allclose(scaled[:2] + scaled[2:], box[:2] + box[2:])


def test_a_turned_photo_carries_its_points(
    photo: np.ndarray, face: Face, reconstructor: FaceReconstructor
) -> None:
    picture, moved, box = run(photo, face.landmarks, "turned, degrees", 30.0)
    found = reconstructor.landmarks(picture, box)
    size = np.sqrt((box[2:] - box[:2]).prod())
    assert np.linalg.norm((found - moved)[:, :2], axis=1).mean() < 0.06 * size
    away = np.linalg.norm((moved - face.landmarks)[:, :2], axis=1).mean()
    assert away > 0.15 * size  # it did turn


@pytest.mark.parametrize(
    "name", [n for n in DISTURBANCES if not n.startswith(("none", "box", "turn"))]
)
def test_photos_get_worse_with_strength(photo: np.ndarray, face: Face, name: str) -> None:
    before = photo.copy()
    changes = []
    for strength in DISTURBANCES[name]:
        picture, points, _ = run(photo, face.landmarks, name, strength)
        assert picture.dtype == np.uint8 and picture.shape == photo.shape
        assert points is face.landmarks or (points == face.landmarks).all()
        changes.append(np.abs(picture.astype(float) - photo).mean())
    assert changes == sorted(changes) and changes[0] > 0
    np.testing.assert_array_equal(photo, before)


def test_unknown_disturbances(photo: np.ndarray, face: Face) -> None:
    with pytest.raises(ValueError, match="'fog' is no disturbance"):
        run(photo, face.landmarks, "fog", 1.0)


def test_robustness_command(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "robustness", str(data), "--count", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == 3
    assert len(told["rows"]) == sum(map(len, DISTURBANCES.values()))
    assert all(np.isfinite(row["mean_of_bins"]) for row in told["rows"])
