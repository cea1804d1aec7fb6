"""Scenes for the detector: what is drawn must be where the labels say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from facerecon.detection import five_points
from facerecon.training.detection import SceneMaker, WholePhotos, whole_photos
from facerecon.training.detection.backgrounds import drawn, faceless_patch, scrambled
from facerecon.training.detection.scenes import SceneRange


@pytest.fixture
def photos(data: Path, tmp_path: Path) -> WholePhotos:
    return whole_photos(data, tmp_path / "cache" / "whole")


@pytest.fixture
def marked(photos: WholePhotos) -> WholePhotos:
    """Photos of one dull colour in which the face's box is bright green, its eye red."""
    pixels = np.full(photos.pixels.shape, 40, np.uint8)
    for i, points in enumerate(photos.landmarks):
        x0, y0 = np.rint(points[:, :2].min(0)).astype(int)
        x1, y1 = np.rint(points[:, :2].max(0)).astype(int)
        pixels[i, y0 : y1 + 1, x0 : x1 + 1] = (0, 255, 0)
        x, y = np.rint(five_points(points)[0]).astype(int).tolist()
        cv2.circle(pixels[i], (x, y), 12, (255, 0, 0), -1)
    return WholePhotos(pixels, photos.extent, photos.landmarks, photos.others, photos.labels)


def maker(photos: WholePhotos, **limits: float) -> SceneMaker:
    rows = np.arange(len(photos.labels))
    return SceneMaker(photos, rows, np.full(len(rows), 1 / len(rows)), 320, SceneRange(**limits))


def test_whole_photos_lie_as_the_frames_say(photos: WholePhotos) -> None:
    assert photos.pixels.shape[1:] == (256, 256, 3)
    np.testing.assert_allclose(photos.extent[0], [100 * 256 / 120, 256])
    assert photos.corner(0) == (21, 0)
    assert photos.photo(0).shape == (256, 213, 3)
    # 4 pixels per centimetre in a photo of 120 pixels
    low, high = photos.landmarks[5, :, :2].min(0), photos.landmarks[5, :, :2].max(0)
    assert 60 < (high - low).max() < 160
    assert [len(o) for o in photos.others] == [0] * len(photos.labels)


def test_a_survey_is_kept_and_made_anew_for_another_question(
    data: Path, tmp_path: Path, photos: WholePhotos
) -> None:
    file = tmp_path / "cache" / "whole" / "survey.json"
    stamp = file.stat().st_mtime_ns
    whole_photos(data, tmp_path / "cache" / "whole")
    assert file.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_a_single_face_is_where_its_box_is(marked: WholePhotos, angle: float) -> None:
    scene = maker(marked).single(3, 70.0, np.random.default_rng(1), angle)
    assert scene.counts.tolist() == [True] and scene.rows.tolist() == [3]
    box = scene.boxes[0]
    if not angle:
        assert np.sqrt((box[2:] - box[:2]).prod()) == pytest.approx(70, rel=1e-6)
    x, y = np.rint(scene.points[0, 0]).astype(int)
    red = scene.pixels[y, x].astype(int)
    assert red[0] > 2 * red[1] + 40 and red[0] > 2 * red[2] + 40
    inside = np.rint((box[:2] + box[2:]) / 2).astype(int)
    green = scene.pixels[inside[1], inside[0]].astype(int)
    assert green[1] > 2 * max(green[0], green[2]) + 20


def test_every_face_that_counts_can_be_seen(marked: WholePhotos) -> None:
    """The red spot of each face lies under its first or, mirrored, its second point."""
    made = maker(marked, empty=0.0)
    seen = []
    for seed in range(40):
        scene = made.make(np.random.default_rng(seed))
        assert scene.pixels.shape == (320, 320, 3)
        for box, points, counts in zip(scene.boxes, scene.points, scene.counts, strict=True):
            if not counts or np.sqrt((box[2:] - box[:2]).prod()) < 60:
                continue
            spots = []
            for x, y in np.rint(points[:2]).astype(int):
                patch = scene.pixels[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].astype(int)
                spots.append((patch[..., 0] - patch[..., 1]).max(initial=-255))
            seen.append(max(spots) > 25)
    assert len(seen) > 30
    assert np.mean(seen) > 0.75  # the others are grey, or have something before the eye


def test_a_framed_photo_lies_in_the_corner_with_padding_beyond(marked: WholePhotos) -> None:
    """As the detector pads a photo; the face's green lies where its box says, mirrored or not."""
    made = maker(marked, empty=0.0, framed=1.0)
    padded = 0
    for seed in range(24):
        scene = made.make(np.random.default_rng(seed))
        padding = (scene.pixels == [124, 116, 104]).all(2)
        rows, columns = ((~padding).any(axis).nonzero()[0] for axis in (1, 0))
        assert rows[0] == columns[0] == 0
        padded += padding[rows[-1] + 1 :].size + padding[:, columns[-1] + 1 :].size > 0
        for box, counts in zip(scene.boxes, scene.counts, strict=True):
            if counts:
                x, y = np.rint((box[:2] + box[2:]) / 2).astype(int)
                assert x <= columns[-1] and y <= rows[-1]
    assert padded > 18


def test_scenes_depend_on_their_generator_alone(photos: WholePhotos) -> None:
    made = maker(photos)
    first, again = (made.make(np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.pixels, made.make(np.random.default_rng(5)).pixels)


def test_faces_have_the_sizes_asked_for(photos: WholePhotos) -> None:
    made = maker(photos, smallest=20.0)
    sides = []
    for seed in range(30):
        scene = made.make(np.random.default_rng(seed))
        boxes = scene.boxes[scene.counts]
        sides += np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1)).tolist()
    assert min(sides) >= 19
    assert max(sides) > 100 and np.median(sides) < 100


def test_a_hidden_face_does_not_count(photos: WholePhotos) -> None:
    from facerecon.training.detection.scenes import _Canvas, _Cover

    canvas = _Canvas(np.zeros((100, 100, 3), np.uint8))
    for x in (0, 40):
        canvas.boxes.append(np.array([x, 0.0, x + 29, 29]))
        canvas.points.append(np.zeros((5, 2)))
        canvas.counts.append(True)
        canvas.rows.append(x)
    canvas.hide(_Cover(0, 0, np.ones((30, 15), np.float32)))
    assert (canvas.rows, canvas.counts) == ([0, 40], [False, True])
    canvas.hide(_Cover(35, 0, np.ones((40, 40), np.float32)))
    assert canvas.rows == [0]


def test_faceless_patches_touch_no_face() -> None:
    photo = np.zeros((120, 160, 3), np.uint8)
    photo[30:90, 50:110] = 255
    face = np.array([[50.0, 30, 110, 90]])
    for seed in range(30):
        patch = faceless_patch(np.random.default_rng(seed), photo, face)
        assert patch is None or patch.max() == 0
    everywhere = np.array([[0.0, 0, 160, 120]])
    assert faceless_patch(np.random.default_rng(0), photo, everywhere) is None


def test_scrambled_photos_keep_their_pixels() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    for seed in range(5):
        mixed = scrambled(np.random.default_rng(seed), photo)
        height, width = mixed.shape[:2]
        expected = np.sort(photo[:height, :width].ravel())
        np.testing.assert_array_equal(np.sort(mixed.ravel()), expected)
        assert (mixed != photo[:height, :width]).mean() > 0.5


def test_drawn_pictures_differ() -> None:
    pictures = [drawn(np.random.default_rng(seed), 64) for seed in range(8)]
    assert all(p.shape == (64, 64, 3) and p.dtype == np.uint8 for p in pictures)
    assert len({p.tobytes() for p in pictures}) == 8
