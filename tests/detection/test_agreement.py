from __future__ import annotations

import numpy as np
import pytest

import facerecon
from facerecon import Detection, FaceReconstructor
from facerecon.detection import overlap
from facerecon.detection.agreement import VIEWS, spread, views_of
from facerecon.geometry import CropFrame

BOX = np.array([177.0, 87.0, 272.0, 174.5])


def test_spread_by_hand() -> None:
    square = np.zeros((68, 2))
    square[1], square[2], square[3] = (40, 0), (0, 10), (40, 10)  # sqrt(40 * 10) = 20 large
    assert spread([square, square]) == 0
    assert spread([square - [3, 0], square + [3, 0]]) == pytest.approx(3 / 20)


def test_the_views_differ_from_the_plain_crop() -> None:
    plain = CropFrame.from_points(np.reshape(BOX, (2, 2)), 1.4, 128, angle=7)
    views = views_of(plain)
    assert len(views) == len(VIEWS)
    for view, (turn, zoom, dx, dy) in zip(views, VIEWS, strict=True):
        assert view.angle == turn + 7 and view.side == pytest.approx(plain.side * zoom)
        moved = (view.centre_x - plain.centre_x, view.centre_y - plain.centre_y)
        assert moved == pytest.approx((dx * plain.side, dy * plain.side))


class Fixed:
    """Answers with boxes that were given beforehand."""

    def __init__(self, *found: Detection) -> None:
        self._found = list(found)

    def detect(self, image: np.ndarray) -> list[Detection]:
        assert image.ndim == 3
        return self._found


def test_doubtful_boxes_are_confirmed_by_the_network(
    reconstructor: FaceReconstructor, photo: np.ndarray
) -> None:
    nobody = np.array([20.0, 300.0, 110.0, 390.0])
    found = Fixed(Detection(BOX, 0.5), Detection(nobody, 0.5))
    careful = FaceReconstructor(reconstructor.checkpoint, detector=found)
    kept = careful.detect(photo)
    assert len(kept) == 1 and overlap(BOX, kept[0].box)[0] > 0.9
    assert kept[0].points is not None and kept[0].points.shape == (5, 2)
    assert len(careful.reconstruct_all(photo)) == 1
    trusting = FaceReconstructor(reconstructor.checkpoint, detector=found, confirm=False)
    assert len(trusting.detect(photo)) == 2
    sure = Fixed(Detection(BOX, 0.9), Detection(nobody, 0.9))
    assert len(FaceReconstructor(reconstructor.checkpoint, detector=sure).detect(photo)) == 2


def test_for_the_largest_face_only_larger_boxes_are_looked_at(
    reconstructor: FaceReconstructor, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = np.array([20.0, 300, 60, 340]), np.array([20.0, 20.0, 400.0, 400.0])
    found = Fixed(Detection(large, 0.4), Detection(BOX, 0.9), Detection(small, 0.5))
    careful = FaceReconstructor(reconstructor.checkpoint, detector=found)
    looked_at: list[float] = []
    seen_twice = careful._seen_twice

    def watched(photo: np.ndarray, frames: list[CropFrame]) -> np.ndarray:
        looked_at.extend(frame.side for frame in frames)
        return seen_twice(photo, frames)

    monkeypatch.setattr(careful, "_seen_twice", watched)
    largest = careful.reconstruct(photo)
    assert looked_at and min(looked_at) > 2 * (BOX[2] - BOX[0])  # not the small one
    everyone = careful.reconstruct_all(photo)
    assert min(looked_at) < 100  # now it was
    np.testing.assert_allclose(largest.landmarks, everyone[0].landmarks, atol=1e-3)


def test_nobody_left(reconstructor: FaceReconstructor, photo: np.ndarray) -> None:
    nobody = Fixed(Detection(np.array([20.0, 300.0, 110.0, 390.0]), 0.4))
    careful = FaceReconstructor(reconstructor.checkpoint, detector=nobody)
    assert careful.detect(photo) == []
    with pytest.raises(facerecon.NoFaceFound):
        careful.reconstruct(photo)
