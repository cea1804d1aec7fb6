from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facerecon.errors import LayoutError
from facerecon.uv import ICT_LAYOUT_SHA256, UVLayout


def test_the_packaged_layout_is_the_one_the_weights_were_trained_on(layout: UVLayout) -> None:
    assert layout.digest == ICT_LAYOUT_SHA256
    assert layout.vertex_count == 7168
    assert layout.landmark_vertices.shape == (68, 3)


def test_it_is_symmetric(layout: UVLayout) -> None:
    np.testing.assert_array_equal(layout.mirror[layout.mirror], np.arange(layout.vertex_count))
    np.testing.assert_allclose(layout.uv[layout.mirror, 0], 1 - layout.uv[:, 0], atol=1e-6)
    np.testing.assert_allclose(layout.mirrored(layout.canonical), layout.canonical, atol=1e-5)
    mirrored = {tuple(sorted(t)) for t in layout.mirror[layout.triangles].tolist()}
    assert mirrored == {tuple(sorted(t)) for t in layout.triangles.tolist()}


def test_triangles_do_not_overlap_in_uv_and_face_outwards(layout: UVLayout) -> None:
    a, b, c = layout.uv[layout.triangles].transpose(1, 0, 2).astype(float)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    assert (area < 0).all()  # counter-clockwise seen with v down
    # no overlap: their areas add up to that of the chart
    from facerecon.uv import UVCodec

    covered = UVCodec(layout, 512).chart.mean()
    assert -area.sum() / 2 == pytest.approx(covered, rel=2e-3)


def test_landmarks_lie_where_their_names_say(layout: UVLayout) -> None:
    points = layout.landmarks_of(layout.canonical)
    assert points[30, 2] == points[:, 2].max()  # the nose tip is foremost
    assert points[8, 1] == points[:17, 1].min()  # the chin is the lowest of the jaw
    assert points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0]  # right eye, left eye
    assert points[57, 1] < points[62, 1] < points[33, 1] < points[27, 1]  # lip, mouth, nose


def test_cheeks_are_rigid_and_lips_are_not(layout: UVLayout) -> None:
    rigidity = layout.landmarks_of(layout.rigidity[:, None])[:, 0]
    assert rigidity[27] > 0.5 > 0.05 > rigidity[48:].max()


def test_save_and_load(layout: UVLayout, tmp_path: Path) -> None:
    layout.save(tmp_path / "layout.safetensors")
    assert UVLayout.load(tmp_path / "layout.safetensors").digest == layout.digest


def test_a_damaged_layout_is_refused(layout: UVLayout, tmp_path: Path) -> None:
    path = tmp_path / "layout.safetensors"
    path.write_bytes(b"no layout")
    with pytest.raises(LayoutError, match="safetensors"):
        UVLayout.load(path)
    with pytest.raises(LayoutError, match="cannot read"):
        UVLayout.load(tmp_path / "missing")


def test_prnet_files(tmp_path: Path) -> None:
    """PRNet's file formats, on a square patch of its 256 x 256 map."""
    rows, columns = np.mgrid[100:140, 90:150]
    texels = (rows * 256 + columns).ravel()
    np.savetxt(tmp_path / "face_ind.txt", texels)
    np.savetxt(tmp_path / "triangles.txt", [[0, 1, 60], [1, 61, 60]])
    x, y = np.arange(95, 95 + 68) % 50 + 95, np.full(68, 120)
    np.savetxt(tmp_path / "uv_kpt_ind.txt", np.stack([x, y]))
    np.save(tmp_path / "canonical_vertices.npy", np.random.default_rng(0).normal(size=(2400, 3)))
    layout = UVLayout.from_prnet(tmp_path)
    assert layout.vertex_count == 2400
    np.testing.assert_allclose(layout.landmark_uv[0] * 256, [x[0] + 0.5, 120.5])
    from facerecon.uv import UVCodec

    values = np.random.default_rng(1).normal(size=(256, 256, 3))
    decoded = UVCodec(layout, 256).decode(values)
    np.testing.assert_allclose(decoded, values.reshape(-1, 3)[texels], atol=1e-4)
    np.savetxt(tmp_path / "uv_kpt_ind.txt", np.stack([y, x]))
    with pytest.raises(LayoutError, match="face_ind"):
        UVLayout.from_prnet(tmp_path)
    with pytest.raises(LayoutError, match="no mirror"):
        layout.mirrored(layout.canonical)
