"""Turned photos and rendered heads show what their labels say."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerecon.geometry import FACE_TO_CAMERA, euler_from_matrix, matrix_from_euler
from facerecon.training.datasets import FaceLabels, PackedPhotos, pack
from facerecon.training.rendering import profile_photos, render_heads, turn_square
from facerecon.training.rendering import profiling as profiling_module
from facerecon.training.rendering.head import HeadModel
from facerecon.training.rendering.heads import HeadPainter
from facerecon.training.rendering.profiling import CENTRE, turned_labels
from facerecon.uv import UVLayout

SIZE = 160


@pytest.fixture(scope="module")
def ball() -> HeadModel:
    """A head that is an ellipsoid, 16 x 20 x 18 cm, with a patch of skin for eyes."""
    rows, columns = 60, 80
    theta = np.linspace(0.02, np.pi - 0.02, rows)[:, None]
    phi = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None, :]
    sphere = np.stack(
        np.broadcast_arrays(
            np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)
        ),
        -1,
    )
    vertices = (sphere * [8, 10, 9] + CENTRE).reshape(-1, 3).astype("f4")
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1], np.roll(index[:-1], -1, 1)
    d, c = index[1:], np.roll(index[1:], -1, 1)
    quads = np.stack([a, d, c, b], -1).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    none = np.zeros((1, len(vertices), 3), "f4")
    return HeadModel(vertices, none, none, triangles, len(vertices) - 10)


def placed(head: HeadModel, yaw: float) -> np.ndarray:
    rotation = matrix_from_euler(yaw, 0, 0) @ FACE_TO_CAMERA
    about = head.mean - np.array(CENTRE)
    return 4.0 * about @ rotation.T + [SIZE / 2, SIZE / 2, 0]


@pytest.mark.parametrize("yaw", [-50.0, 25.0, 60.0])
def test_dots_on_a_head_turn_with_it(ball: HeadModel, yaw: float) -> None:
    before = placed(ball, 0)
    centre = np.array([SIZE / 2, SIZE / 2, 0.0])
    turn = matrix_from_euler(yaw, 0, 0)
    checked = 0
    for longitude in (-40, -15, 0, 20, 45):
        for latitude in (-25, 0, 30):
            a, b = np.radians([longitude, latitude])
            # a point on the side of the head that faces the camera (-z)
            point = centre + 4 * np.array(
                [8 * np.cos(b) * np.sin(a), 10 * np.sin(b), -9 * np.cos(b) * np.cos(a)]
            )
            normal = (point - centre) / np.array([8.0, 10, 9]) ** 2
            moved = turn @ (point - centre) + centre
            if (turn @ normal)[2] / np.linalg.norm(normal) > -0.4:
                continue  # turned away
            square = np.zeros((SIZE, SIZE, 3), np.uint8)
            spot = np.rint(point[:2] * 16).astype(int).tolist()
            cv2.circle(square, spot, 40, (255,) * 3, -1, cv2.LINE_AA, 4)
            turned = turn_square(square, before, ball.triangles, turn, centre)[..., 0].astype(float)
            rows, columns = np.mgrid[:SIZE, :SIZE]
            found = np.array([(turned * columns).sum(), (turned * rows).sum()]) / turned.sum()
            assert np.linalg.norm(found - moved[:2]) < 1.0
            checked += 1
    assert checked >= 6


def test_no_turn_changes_nothing_and_edges_stay(ball: HeadModel) -> None:
    rng = np.random.default_rng(0)
    noise = cv2.resize(rng.integers(0, 256, (20, 20, 3), np.uint8), (SIZE, SIZE))
    before, centre = placed(ball, 0), np.array([SIZE / 2, SIZE / 2, 0.0])
    same = turn_square(noise, before, ball.triangles, np.eye(3), centre)
    assert np.abs(same.astype(int) - noise).max() <= 2
    turned = turn_square(noise, before, ball.triangles, matrix_from_euler(70, 0, 0), centre)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert np.abs(turned[edge].astype(int) - noise[edge]).max() <= 2
    assert np.abs(turned.astype(int) - noise).mean() > 10


def labels_of(yaws: list[float]) -> FaceLabels:
    count = len(yaws)
    rotation = np.stack([matrix_from_euler(y, 5, -10) @ FACE_TO_CAMERA for y in yaws])
    return FaceLabels(
        path=np.array([f"made/{i}.jpg" for i in range(count)]),
        source=np.array(["made"] * count),
        split=np.array(["train"] * count),
        good=np.ones(count, bool),
        yaw=np.array(yaws, "f4"),
        rotation=rotation.astype("f4"),
        scale=np.full(count, 7, "f4"),
        translation=np.tile(np.array([50, 60, 0], "f4"), (count, 1)),
        identity=np.zeros((count, 80), "f4"),
        expression=np.zeros((count, 53), "f4"),
        hand_points=np.full((count, 68, 2), np.nan, "f4"),
        hand_count=np.zeros(count, np.int16),
        residual=np.full(count, np.nan, "f4"),
    )


def test_turned_labels_turn_further_about_the_head() -> None:
    labels = labels_of([0.0, 20.0, -30.0, 80.0])
    rows, turned = turned_labels(labels, 300, seed=0)
    assert set(rows) == {0, 1, 2}  # what is in profile already is left alone
    for row, i in zip(rows, range(300), strict=True):
        yaw, pitch, roll = euler_from_matrix(turned.rotation[i] @ FACE_TO_CAMERA)
        assert yaw == pytest.approx(turned.yaw[i], abs=0.1)
        assert abs(yaw) >= abs(labels.yaw[row]) + 11 and abs(yaw) <= 90.1
        assert row == 0 or np.sign(yaw) == np.sign(labels.yaw[row])
        assert abs(pitch - 5) < 12.1 and roll == pytest.approx(-10, abs=0.1)
        before, after = (
            part.scale[k] * part.rotation[k] @ np.array(CENTRE) + part.translation[k]
            for part, k in ((labels, row), (turned, i))
        )
        np.testing.assert_allclose(before, after, atol=1e-3)
    assert (np.sign(turned.yaw[rows == 0]) > 0).mean() == pytest.approx(0.5, abs=0.15)


def test_skin_comes_back_from_a_rendered_head(ball: HeadModel) -> None:
    rng = np.random.default_rng(2)
    painter = HeadPainter(ball)
    colors = 128 + 80 * np.sin(ball.mean @ rng.normal(size=(3, 3)) * 0.3)
    background = np.full((SIZE, SIZE, 3), 77, np.uint8)
    posed = placed(ball, 20)
    picture = painter.render(posed, colors, background, np.zeros(3))
    assert (picture[:8] == 77).all() and (picture[:, -8:] == 77).all()
    skin = painter.skin(picture, posed)
    # facing the camera: its own colour comes back; hidden: a colour from the seen side
    outwards = (posed - posed.mean(0)) / [8, 10, 9]
    front = (outwards[: ball.skin, 2] / np.linalg.norm(outwards[: ball.skin], axis=1)) < -0.6
    assert np.abs(skin[front] - colors[: ball.skin][front]).mean() < 3
    assert (skin.max(1) > 0).all()


def test_light_comes_from_its_direction(ball: HeadModel) -> None:
    painter = HeadPainter(ball)
    background = np.zeros((SIZE, SIZE, 3), np.uint8)
    grey = np.full(ball.mean.shape, 120.0)
    picture = painter.render(placed(ball, 0), grey, background, np.array([0.7, 0.0, -0.3]))
    middle = SIZE // 2
    left, right = picture[middle, middle - 20, 0], picture[middle, middle + 20, 0]
    assert right > 1.5 * left


@pytest.fixture
def photos(data: Path, tmp_path: Path, layout: UVLayout) -> PackedPhotos:
    return pack(data, tmp_path / "photos", layout, 64)


def test_interrupted_turning_goes_on(
    data: Path, photos: PackedPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, count = data / "ict_face.npz", 6
    whole = profile_photos(photos, file, tmp_path / "whole", count)
    original, made = profiling_module._turn, []

    def failing(*arguments: object) -> np.ndarray:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(1)
        return original(*arguments)

    packing = importlib.import_module("facerecon.training.datasets.pack")
    monkeypatch.setattr(packing, "PROGRESS_EVERY", 2)
    monkeypatch.setattr(profiling_module, "_turn", failing)
    with pytest.raises(KeyboardInterrupt):
        profile_photos(photos, file, tmp_path / "halves", count)
    monkeypatch.setattr(profiling_module, "_turn", lambda *a: made.append(1) or original(*a))
    halves = profile_photos(photos, file, tmp_path / "halves", count)
    assert len(made) == 4 + 2
    np.testing.assert_array_equal(halves.pixels, whole.pixels)
    assert not (tmp_path / "halves" / "progress.json").exists()


def test_rendered_heads_lie_where_their_labels_say(
    data: Path, photos: PackedPhotos, tmp_path: Path, layout: UVLayout
) -> None:
    bright = PackedPhotos(
        np.full_like(photos.pixels, 200), photos.frames, dataclasses.replace(photos.labels)
    )
    heads = render_heads(bright, data / "ict_face.npz", layout, tmp_path / "heads", 3)
    assert heads.pixels.shape == (3, 64, 64, 3)
    assert (heads.labels.source == "rendered").all()
    # darker or brighter than the plain background somewhere within the face's own square
    assert all(np.abs(p[20:44, 20:44].astype(int) - 200).max() > 20 for p in heads.pixels)
    # in two processes as in one
    again = render_heads(bright, data / "ict_face.npz", layout, tmp_path / "again", 3, workers=2)
    np.testing.assert_array_equal(heads.pixels, again.pixels)
