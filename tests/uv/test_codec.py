from __future__ import annotations

import numpy as np
import pytest

from facerecon.errors import LayoutError
from facerecon.geometry import matrix_from_euler
from facerecon.uv import UVCodec, UVLayout, codec_for, sample_map


@pytest.mark.parametrize("size", [64, 96, 128, 256])
def test_samples_read_only_the_chart_and_its_ring(layout: UVLayout, size: int) -> None:
    codec = codec_for(layout, size)
    outside = ~codec.mask.ravel()
    for matrix in (codec.decode_matrix, codec.landmark_matrix):
        assert (matrix @ outside.astype(float)).max() == 0
        np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(codec.encode_matrix.sum(1)[codec.mask.ravel()], 1)
    assert (codec.chart <= codec.mask).all()


def test_affine_functions_of_uv_round_trip_exactly(layout: UVLayout) -> None:
    """Interpolation, extrapolation and sampling are all exact on affine functions."""
    values = layout.uv.astype(float) @ [[2.0, -1.0, 0.5], [0.3, 4.0, 7.0]] + [1.0, 2.0, 3.0]
    for size in (64, 128):
        codec = codec_for(layout, size)
        np.testing.assert_allclose(codec.decode(codec.encode(values)), values, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "landmark_mm", "vertex_mm"), [(64, 0.6, 1.1), (128, 0.3, 0.7), (256, 0.2, 0.3)]
)
def test_a_face_round_trips_better_the_larger_the_map(
    layout: UVLayout, size: int, landmark_mm: float, vertex_mm: float
) -> None:
    codec = codec_for(layout, size)
    encoded = codec.encode(layout.canonical)
    error = np.linalg.norm(codec.decode(encoded) - layout.canonical, axis=1)
    assert error.mean() * 10 < vertex_mm
    points = np.linalg.norm(
        codec.decode_landmarks(encoded) - layout.landmarks_of(layout.canonical), axis=1
    )
    assert points.mean() * 10 < landmark_mm


def test_encoding_commutes_with_poses_and_mirrors(layout: UVLayout) -> None:
    codec = codec_for(layout, 64)
    rotation = matrix_from_euler(40, 10, -20)
    moved = codec.encode(layout.canonical @ rotation.T * 3 + [5, 6, 7])
    expected = codec.encode(layout.canonical) @ rotation.T * 3 + [5, 6, 7]
    np.testing.assert_allclose(moved[codec.mask], expected[codec.mask], atol=1e-9)
    lopsided = layout.canonical + np.random.default_rng(0).normal(size=layout.canonical.shape)
    flipped = codec.encode(lopsided)[:, ::-1] * [-1, 1, 1]
    np.testing.assert_allclose(codec.encode(layout.mirrored(lopsided)), flipped, atol=1e-4)


def test_loss_weights_are_16_4_3_0(layout: UVLayout) -> None:
    codec = codec_for(layout, 64)
    weights = codec.weights
    assert set(np.unique(weights)) == {0, 3, 4, 16}
    assert (weights[~codec.mask] == 0).all()
    assert (weights[codec.mask] > 0).all()
    plain = (weights < 16) & (weights[:, ::-1] < 16)  # the landmarks are not quite symmetric
    np.testing.assert_array_equal(weights[plain], weights[:, ::-1][plain])
    for u, v in layout.landmark_uv:
        assert weights[int(v * 64), int(u * 64)] == 16


def test_grid_triangles_face_outwards_like_the_layouts(layout: UVLayout) -> None:
    codec = codec_for(layout, 128)
    assert len(codec.grid_uv) == codec.chart.sum()
    a, b, c = codec.grid_uv[codec.grid_triangles].transpose(1, 0, 2)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    assert (area < 0).all()


def test_sampling_a_map_at_its_texels_is_the_map() -> None:
    values = np.random.default_rng(0).normal(size=(16, 16, 3))
    rows, columns = np.mgrid[:16, :16]
    uv = (np.stack([columns, rows], -1).reshape(-1, 2) + 0.5) / 16
    np.testing.assert_allclose(sample_map(values, uv), values.reshape(-1, 3))
    np.testing.assert_allclose(sample_map(values, [[1 / 16, 0.5 / 16]])[0], values[0, :2].mean(0))


def test_wrong_shapes_are_named(layout: UVLayout) -> None:
    codec = UVCodec(layout, 64)
    with pytest.raises(LayoutError, match="7168"):
        codec.encode(np.zeros((10, 3)))
    with pytest.raises(LayoutError, match="64"):
        codec.decode(np.zeros((32, 32, 3)))
