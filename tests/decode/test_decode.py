from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facerecon.decode import (
    depth_image,
    fit_pose,
    sample_colors,
    smooth_surface,
    uv_texture,
    visible_vertices,
)
from facerecon.geometry import matrix_from_aflw2000, matrix_from_euler
from facerecon.uv import UVLayout, codec_for


def test_pose_sweep(layout: UVLayout, posed) -> None:
    for yaw in range(-90, 91, 15):
        for pitch in (-40, 0, 40):
            for roll in (-60, 0, 60):
                pose = fit_pose(posed(yaw, pitch, roll), layout)
                found = (pose.yaw, pose.pitch, pose.roll)
                np.testing.assert_allclose(found, (yaw, pitch, roll), atol=1e-4)
                assert pose.scale == pytest.approx(10, rel=1e-6)
    np.testing.assert_allclose(pose.translation, [150, 140, 20], atol=1e-4)
    np.testing.assert_allclose(pose.project(layout.canonical), posed(90, 40, 60), atol=1e-3)


def test_pose_to_aflw2000_and_quaternion(layout: UVLayout, posed) -> None:
    pose = fit_pose(posed(30, 10, 5), layout)
    np.testing.assert_allclose(matrix_from_aflw2000(*pose.to_aflw2000()), pose.rotation, atol=1e-9)
    assert pose.to_aflw2000()[1] < 0 < pose.yaw
    assert np.linalg.norm(pose.quaternion) == pytest.approx(1)


def test_a_moved_jaw_hardly_moves_the_pose(layout: UVLayout, posed) -> None:
    vertices = posed(20)
    mouth = layout.rigidity < 0.05
    vertices[mouth, 1] += 8  # the jaw drops by 8 mm
    pose = fit_pose(vertices, layout)
    assert abs(pose.pitch) < 1
    assert pose.yaw == pytest.approx(20, abs=1)


def test_depth_image_of_a_slanted_square() -> None:
    corners = np.array([[1, 1, 0], [8, 1, 7], [8, 8, 7], [1, 8, 0]], float)
    image = depth_image(corners, [[0, 1, 2], [0, 2, 3]], 10, 10)
    assert np.isnan(image[0]).all() and np.isnan(image[9]).all()
    np.testing.assert_allclose(image[4, 1:9], np.arange(8), atol=1e-5)


def test_the_nearer_of_two_surfaces_wins() -> None:
    near = np.array([[0, 0, 1], [9, 0, 1], [0, 9, 1]], float)
    far = near + [0, 0, 5]
    both = np.concatenate([far, near])
    assert np.nanmax(depth_image(both, [[0, 1, 2], [3, 4, 5]], 10, 10)) == 1


def test_a_turned_head_hides_its_far_side(layout: UVLayout, posed) -> None:
    left = layout.canonical[:, 0] > 3  # the person's own left cheek
    right = layout.canonical[:, 0] < -3
    turned = visible_vertices(posed(70), layout.triangles)
    assert turned[left].mean() < 0.1 < 0.5 < turned[right].mean()
    frontal = visible_vertices(posed(0), layout.triangles)
    assert frontal.mean() > 0.6
    nose_tip = layout.canonical[:, 2].argmax()
    assert frontal[nose_tip]


def test_colors_are_bilinear_and_repeat_at_the_edge() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 10
    colors = sample_colors(image, [[0, 0], [0.5, 0], [5, 5], [-3, 0.5]])
    np.testing.assert_array_equal(colors, [[0, 10, 20], [15, 25, 35], [90, 100, 110], [30, 40, 50]])
    assert sample_colors(np.full((1, 1, 3), 7, np.uint8), [[0.3, 0.2]]).tolist() == [[7, 7, 7]]


def test_texture_shows_the_photo_where_the_surface_is(layout: UVLayout, posed) -> None:
    rows, columns = np.mgrid[:300, :300]
    photo = np.stack([columns * 0.8, rows * 0.8, rows * 0], -1).astype(np.uint8)
    vertices = posed(0)
    texture = uv_texture(photo, vertices, layout, 256, fill_hidden=False)
    u, v = (layout.landmark_uv * 256).astype(int).T
    points = layout.landmarks_of(vertices)[:, :2]
    np.testing.assert_allclose(texture[v, u, :2], points * 0.8, atol=4)


def test_hidden_half_is_filled_from_the_seen_one(layout: UVLayout, posed) -> None:
    photo = np.full((300, 300, 3), 40, np.uint8)
    photo[:, :150] = 200
    texture = uv_texture(photo, posed(75), layout, 256)
    plain = uv_texture(photo, posed(75), layout, 256, fill_hidden=False)
    assert (texture != plain).any()
    cheek = texture[120:160, 40:60].mean(), texture[120:160, 196:216].mean()
    assert cheek[0] == pytest.approx(cheek[1], abs=3)
    assert matrix_from_euler(75, 0, 0)[0, 2] < 0


def test_people_who_look_into_the_camera_look_straight_ahead(
    data_folder: Path, layout: UVLayout
) -> None:
    """CFP's frontal photos of people whom the canonical face's axes were not taken from."""
    labels = np.load(data_folder / "labels.npz")
    rows = (labels["source"] == "cfp") & (labels["split"] == "val") & labels["good"]
    rows &= np.abs(labels["yaw"]) < 20
    mean_face = np.load(data_folder / "ict_face.npz")["vertices"][layout.source_index]
    poses = [
        fit_pose(scale * mean_face @ rotation.T + shift, layout)
        for rotation, scale, shift in zip(
            *(labels[key][rows] for key in ("rotation", "scale", "translation")), strict=True
        )
    ]
    assert len(poses) > 100
    for angle in ("yaw", "pitch"):
        assert abs(np.median([getattr(pose, angle) for pose in poses])) < 1


def test_smoothing_keeps_the_canonical_face_exactly(layout: UVLayout, posed) -> None:
    """What equals the canonical face has no deviation: even its finest detail comes back."""
    vertices = posed(25, 10, -15)
    encoded = codec_for(layout, 64).encode(vertices)
    for smoothing in (0.0, 1.5):
        found = smooth_surface(encoded, layout, fit_pose(vertices, layout), smoothing)
        np.testing.assert_allclose(found, vertices, atol=1e-3)


def test_smoothing_removes_texel_noise_and_keeps_broad_changes(layout: UVLayout, posed) -> None:
    rng = np.random.default_rng(0)
    codec = codec_for(layout, 64)
    wider = posed(0)
    wider[:, 0] += (layout.canonical[:, 0] / 7) ** 3 * 4  # wider cheeks, up to 4 mm
    noise = rng.normal(size=(64, 64, 3))
    pose = fit_pose(posed(0), layout)
    rough = smooth_surface(codec.encode(wider) + noise, layout, pose, 0.0)
    smooth = smooth_surface(codec.encode(wider) + noise, layout, pose, 1.5)
    assert np.abs(smooth - wider).mean() < 0.5 * np.abs(rough - wider).mean()


def test_a_constant_deviation_survives_up_to_the_edge(layout: UVLayout, posed) -> None:
    pose = fit_pose(posed(0), layout)
    found = smooth_surface(codec_for(layout, 64).encode(posed(0) + 3.0), layout, pose, 2.0)
    np.testing.assert_allclose(found, posed(0) + 3.0, atol=1e-3)
