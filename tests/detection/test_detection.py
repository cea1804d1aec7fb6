from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import facerecon
from facerecon.detection import (
    Cascade,
    Detection,
    Detector,
    SingleShot,
    YuNet,
    overlap,
    suppress,
)
from facerecon.errors import DetectorUnavailable

BOX = np.array([177.0, 87.0, 272.0, 174.5])


def test_overlap_and_suppression() -> None:
    np.testing.assert_allclose(
        overlap([0, 0, 2, 2], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]]), [1, 1 / 3, 0]
    )
    small, large = np.array([50.0, 50, 60, 60]), np.array([0.0, 0, 30, 30])
    found = suppress([Detection(small, 0.9), Detection(large + 1, 0.5), Detection(large, 0.6)])
    assert [d.score for d in found] == [0.6, 0.9]  # largest first, the worse copy gone


@pytest.fixture(params=["confirmed", "SingleShot", "YuNet"])
def detector(
    request: pytest.FixtureRequest, reconstructor: facerecon.FaceReconstructor
) -> Detector:
    """Each detector, and the default one as the face network confirms it, under the same tests."""
    if request.param == "confirmed":
        return reconstructor
    if request.param == "SingleShot":
        return SingleShot(threshold=0.8)  # without the face network to confirm the others
    folder: Path = request.getfixturevalue("data_folder")
    return YuNet(folder.parent / "models" / "yunet_n_dynamic.onnx")


def test_the_face_of_the_example(detector: Detector, photo: np.ndarray) -> None:
    found = detector.detect(photo)
    assert len(found) == 1
    assert overlap(BOX, found[0].box)[0] > 0.7
    assert 0 < found[0].score <= 1


def test_two_faces_largest_first(detector: Detector, photo: np.ndarray) -> None:
    head = photo[20:240, 110:340]
    scene = np.full((420, 640, 3), 128, np.uint8)
    scene[10:230, 20:250] = head
    scene[200:400, 420:610] = cv2.resize(head, (190, 200), interpolation=cv2.INTER_AREA)
    found = detector.detect(scene)
    assert len(found) == 2
    expected = BOX - [110, 20, 110, 20] + [20, 10, 20, 10]
    assert overlap(expected, found[0].box)[0] > 0.7
    assert found[1].box[0] > 420


def test_large_photos_give_boxes_in_their_own_pixels(detector: Detector, photo: np.ndarray) -> None:
    large = cv2.resize(photo, None, fx=5, fy=5, interpolation=cv2.INTER_LINEAR)
    found = detector.detect(large)
    assert len(found) == 1
    assert overlap(BOX * 5, found[0].box)[0] > 0.7


def test_the_picture_is_not_written_into(detector: Detector, photo: np.ndarray) -> None:
    before = photo.copy()
    detector.detect(photo)
    np.testing.assert_array_equal(photo, before)


def faceless() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    flat = np.full((200, 240, 3), 120, np.uint8)
    noise = rng.integers(0, 256, (200, 200, 3), np.uint8)
    rows, columns = np.mgrid[:200, :200]
    gradient = np.stack([rows, columns, rows], -1).astype(np.uint8)
    stripes = np.repeat(((rows // 12 + columns // 9) % 2 * 255)[..., None], 3, 2).astype(np.uint8)
    circles = np.full((220, 220, 3), 60, np.uint8)
    for _ in range(12):
        at = rng.integers(0, 220, 2).tolist()
        cv2.circle(circles, at, int(rng.integers(5, 40)), rng.integers(0, 256, 3).tolist(), -1)
    return [flat, noise, gradient, stripes, circles]


@pytest.mark.parametrize("index", range(5))
def test_nobody_is_found_where_nobody_is(detector: Detector, index: int) -> None:
    assert detector.detect(faceless()[index]) == []


def test_tiny_pictures_have_no_faces(detector: Detector) -> None:
    for size in (1, 5, 20):
        assert detector.detect(np.zeros((size, size, 3), np.uint8)) == []


def test_yunet_without_its_file() -> None:
    with pytest.raises(DetectorUnavailable, match="no YuNet file"):
        YuNet("/no/such/file.onnx")


def test_yunet_with_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "wrong.onnx").write_bytes(b"no network")
    with pytest.raises(DetectorUnavailable, match="cannot load"):
        YuNet(tmp_path / "wrong.onnx")


def test_the_packaged_one_is_the_default(reconstructor: facerecon.FaceReconstructor) -> None:
    assert isinstance(reconstructor.detector, SingleShot)


def test_cascade_where_opencv_has_it(photo: np.ndarray) -> None:
    try:
        cascade = Cascade()
    except DetectorUnavailable as error:
        assert cv2.__version__ in str(error)
    else:
        assert max(overlap(BOX, d.box)[0] for d in cascade.detect(photo)) > 0.5
