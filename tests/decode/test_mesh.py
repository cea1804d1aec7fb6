from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

import facerecon
from facerecon.errors import ConfigError, ExportError

FLIP = np.array([1.0, -1.0, -1.0])


def test_topologies(face: facerecon.Face) -> None:
    model, grid = face.mesh(), face.mesh("grid")
    assert len(model.vertices) == 7168
    assert len(grid.vertices) > 43_867  # PRNet's
    assert len(face.mesh("grid", grid_size=64).vertices) < 4096
    for mesh in (model, grid):
        assert mesh.uv.shape == (len(mesh.vertices), 2)
        assert mesh.normals.shape == mesh.vertices.shape
        assert mesh.colors.shape == mesh.vertices.shape
        assert mesh.colors.dtype == np.uint8
        assert 0.3 < mesh.visible.mean() < 1
        # seen surfaces face the camera, whose z is into the scene
        assert (mesh.normals[mesh.visible, 2] < 0).all()
    with pytest.raises(ConfigError, match="topology"):
        face.mesh("sphere")  # type: ignore[arg-type]


def test_obj_has_texture_material_and_relative_names(face: facerecon.Face, tmp_path: Path) -> None:
    mesh = face.mesh()
    mesh.export(tmp_path / "my face.obj")
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"my face.obj", "my_face.mtl", "my_face.png"}
    text = (tmp_path / "my face.obj").read_text()
    assert "mtllib my_face.mtl" in text
    assert "map_Kd my_face.png" in (tmp_path / "my_face.mtl").read_text()
    again = trimesh.load_mesh(tmp_path / "my face.obj", process=False, maintain_order=True)
    np.testing.assert_allclose(again.vertices, mesh.vertices * FLIP, atol=1e-4)
    np.testing.assert_array_equal(again.faces, mesh.triangles)
    np.testing.assert_allclose(again.visual.uv[:, 1], 1 - mesh.uv[:, 1], atol=1e-5)
    np.testing.assert_array_equal(np.asarray(again.visual.material.image), mesh.texture)


def test_ply_has_colors(face: facerecon.Face, tmp_path: Path) -> None:
    mesh = face.mesh()
    mesh.export(tmp_path / "face.ply")
    again = trimesh.load_mesh(tmp_path / "face.ply", process=False)
    np.testing.assert_allclose(again.vertices, mesh.vertices * FLIP, atol=1e-4)
    np.testing.assert_array_equal(again.visual.vertex_colors[:, :3], mesh.colors)


def test_glb_has_its_texture_inside(face: facerecon.Face, tmp_path: Path) -> None:
    mesh = face.mesh()
    mesh.export(tmp_path / "face.glb")
    assert [p.name for p in tmp_path.iterdir()] == ["face.glb"]
    again = trimesh.load_mesh(tmp_path / "face.glb", process=False)
    np.testing.assert_allclose(again.vertices, mesh.vertices * FLIP, atol=1e-3)
    assert again.visual.material.baseColorTexture.size == (512, 512)


def test_stl_has_the_shape_and_it_is_not_mirrored(face: facerecon.Face, tmp_path: Path) -> None:
    mesh = face.mesh()
    mesh.export(tmp_path / "face.stl")
    again = trimesh.load_mesh(tmp_path / "face.stl", process=False)
    assert len(again.faces) == len(mesh.triangles)
    # outward normals: over the whole face, they look to the viewer (+z in the file)
    assert (again.face_normals * again.area_faces[:, None]).sum(0)[2] > 0


@pytest.mark.parametrize("name", ["face.fbx", "face", "missing/face.obj"])
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    face: facerecon.Face, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ExportError):
        face.mesh().export(tmp_path / name)
    assert not list(tmp_path.iterdir())
