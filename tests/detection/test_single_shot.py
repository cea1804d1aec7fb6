"""The packaged detector on pictures: what it must find, and what it must not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from faceless import faceless_pictures

import facerecon
from facerecon.detection import Detector, SingleShot, overlap
from facerecon.errors import ConfigError

BOX = np.array([177.0, 87.0, 272.0, 174.5])  # round the example's 68 landmarks
EYES = np.array([[204.0, 110.0], [247.0, 108.0]])


@pytest.fixture
def detector(reconstructor: facerecon.FaceReconstructor) -> facerecon.FaceReconstructor:
    """The packaged detector, its doubtful faces confirmed by the face network: the default."""
    return reconstructor


def framed(photo: np.ndarray, scale: float, height: int, width: int) -> tuple[np.ndarray, float]:
    """The example's head at a scale in the middle of a grey picture."""
    centre = (BOX[:2] + BOX[2:]) / 2
    matrix = np.array([[scale, 0, width / 2 - scale * centre[0]],
                       [0, scale, height / 2 - scale * centre[1]]])  # fmt: skip
    blurred = cv2.GaussianBlur(photo, (0, 0), 0.4 / scale) if scale < 1 else photo
    picture = cv2.warpAffine(
        blurred, matrix, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=(110,) * 3
    )
    half = (BOX[2:] - BOX[:2]) / 2 * scale
    middle = np.array([width, height]) / 2
    return picture, np.concatenate([middle - half, middle + half])


@pytest.mark.parametrize("side", [24, 28, 45, 90, 180, 350, 560])
def test_faces_of_every_size(detector: Detector, photo: np.ndarray, side: float) -> None:
    picture, expected = framed(photo, side / 91, 600, 640)
    found = detector.detect(picture)
    assert len(found) == 1
    assert overlap(expected, found[0].box)[0] > 0.6


@pytest.mark.parametrize("angle", [-45, -20, 20, 45])
def test_leaning_heads(detector: Detector, photo: np.ndarray, angle: float) -> None:
    matrix = cv2.getRotationMatrix2D((224.5, 130.0), angle, 1)
    turned = cv2.warpAffine(photo, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    found = detector.detect(turned)
    assert found
    middle = (found[0].box[:2] + found[0].box[2:]) / 2
    assert np.linalg.norm(middle - [224.5, 130.0]) < 30


def test_points_lie_where_they_are_named(detector: Detector, photo: np.ndarray) -> None:
    points = detector.detect(photo)[0].points
    assert points is not None
    np.testing.assert_allclose(points[:2], EYES, atol=20)  # rough: a fifth of the face
    nose, right, left = points[2:]
    assert EYES[0, 1] < nose[1] < right[1]
    assert right[0] < nose[0] < left[0]


def test_a_mirrored_photo_gives_the_mirrored_answer(detector: Detector, photo: np.ndarray) -> None:
    there, back = detector.detect(photo)[0], detector.detect(photo[:, ::-1])[0]
    expected = np.array([511 - there.box[2], there.box[1], 511 - there.box[0], there.box[3]])
    assert overlap(expected, back.box)[0] > 0.8
    assert back.points is not None
    assert back.points[0, 0] < back.points[1, 0]  # still the person's own right eye first


def test_several_faces_largest_first(detector: Detector, photo: np.ndarray) -> None:
    head = photo[20:240, 110:340]
    scene = np.full((420, 640, 3), 128, np.uint8)
    scene[10:230, 20:250] = head
    scene[200:400, 420:610] = cv2.resize(head, (190, 200), interpolation=cv2.INTER_AREA)
    scene[20:86, 400:469] = cv2.resize(head, (69, 66), interpolation=cv2.INTER_AREA)
    found = detector.detect(scene)
    assert len(found) == 3
    assert [d.area for d in found] == sorted((d.area for d in found), reverse=True)
    expected = BOX - [110, 20, 110, 20] + [20, 10, 20, 10]
    assert overlap(expected, found[0].box)[0] > 0.7
    assert found[1].box[0] > 420 and found[2].box[3] < 100


def test_min_size_and_threshold(photo: np.ndarray) -> None:
    """A small face in a large photo needs a smaller min_size; a large min_size leaves it out."""
    single = SingleShot(threshold=0.4)
    picture, expected = framed(photo, 24 / 91, 1800, 2400)
    assert single.detect(picture) == []  # 24 pixels of 2400 are 6 of 640
    found = single.detect(picture, min_size=20)
    assert max(overlap(expected, d.box)[0] for d in found) > 0.5
    assert single.detect(picture, min_size=60) == []
    picture, expected = framed(photo, 20 / 91, 600, 640)
    assert max(overlap(expected, d.box)[0] for d in single.detect(picture, min_size=20)) > 0.5
    assert single.detect(photo, threshold=0.9999) == []
    with pytest.raises(ConfigError, match="threshold"):
        single.detect(photo, threshold=2)
    with pytest.raises(ConfigError, match="min_size"):
        single.detect(photo, min_size=-1)


def test_at_most_two_false_alarms_on_200_faceless_pictures(
    reconstructor: facerecon.FaceReconstructor,
) -> None:
    pictures = list(faceless_pictures())
    assert len(pictures) == 200
    alarms = [name for name, picture in pictures if reconstructor.detect(picture)]
    assert len(alarms) <= 2, alarms
