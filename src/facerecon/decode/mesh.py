"""The dense mesh of a face, and its files."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facerecon.decode.texture import sample_colors, uv_texture
from facerecon.decode.visibility import visible_vertices
from facerecon.errors import ExportError
from facerecon.geometry import vertex_normals
from facerecon.uv import UVLayout

if TYPE_CHECKING:
    import trimesh

__all__ = ["MESH_SUFFIXES", "FaceMesh"]

MESH_SUFFIXES = (".obj", ".ply", ".glb", ".stl")
"""What :meth:`FaceMesh.export` writes."""


@dataclass(frozen=True, eq=False)
class FaceMesh:
    """A triangle mesh in photo pixels, with what the photo says about its surface.

    Attributes:
        vertices: (v, 3) photo pixels: x right, y down, z into the scene.
        triangles: (t, 3) vertex indices, counter-clockwise seen from outside.
        uv: (v, 2) texture coordinates, origin top left.
        photo: (h, w, 3) RGB photo that colours come from.
        layout: The face layout whose chart ``uv`` lies on.
        layout_vertices: (n, 3) the layout's own vertices of this face, photo pixels.
        texture_size: Side of the texture image, texels.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int32]
    uv: NDArray[np.float64]
    photo: NDArray[np.uint8] = field(repr=False)
    layout: UVLayout = field(repr=False)
    layout_vertices: NDArray[np.float64] = field(repr=False)
    texture_size: int = 512

    @cached_property
    def normals(self) -> NDArray[np.float64]:
        """(v, 3) unit normals pointing out of the face."""
        return vertex_normals(self.vertices, self.triangles)

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """(v,) whether the camera sees each vertex."""
        return visible_vertices(self.vertices, self.triangles)

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """(v, 3) RGB of the photo at each vertex, whether seen or not."""
        return sample_colors(self.photo, self.vertices)

    @cached_property
    def texture(self) -> NDArray[np.uint8]:
        """(texture_size, texture_size, 3) RGB; hidden parts show the mirrored other half."""
        return uv_texture(self.photo, self.layout_vertices, self.layout, self.texture_size)

    def to_trimesh(self, texture: bool = True) -> trimesh.Trimesh:
        """A ``trimesh.Trimesh`` with y up and z towards the viewer, in pixels.

        Args:
            texture: Carry the texture image; per-vertex colours otherwise.
        """
        return self._trimesh(texture, "face")

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the mesh; the suffix chooses the format.

        ``.obj`` gets its material and texture beside it, under the same name with ``.mtl`` and
        ``.png``; ``.glb`` carries the texture inside; ``.ply`` has per-vertex colours; ``.stl``
        only the shape. Axes are turned by 180 degrees about x (y up, z towards the viewer),
        never mirrored. Files are written aside and moved in place.

        Returns:
            The path.

        Raises:
            ExportError: An unknown suffix, a missing folder, or a folder that cannot be written.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in MESH_SUFFIXES:
            raise ExportError(f"cannot write {target.name}: the suffixes are {MESH_SUFFIXES}")
        if not target.parent.is_dir():
            raise ExportError(f"the folder {target.parent} does not exist: make it first")
        files = self._files(target.name, suffix)
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
                for name, content in files.items():
                    (Path(partial) / name).write_bytes(content)
                for name in files:
                    os.replace(Path(partial) / name, target.parent / name)
        except OSError as error:
            raise ExportError(f"cannot write {target}: {error}") from error
        return target

    def _files(self, name: str, suffix: str) -> dict[str, bytes]:
        if suffix != ".obj":
            mesh = self._trimesh(suffix == ".glb", Path(name).stem)
            return {name: _as_bytes(mesh.export(file_type=suffix[1:]))}
        from trimesh.exchange.obj import export_obj

        stem = Path(name).stem.replace(" ", "_")  # a space would end the name inside the files
        text, extra = export_obj(
            self._trimesh(True, stem), return_texture=True, mtl_name=f"{stem}.mtl"
        )
        return {name: _as_bytes(text), **{key: _as_bytes(value) for key, value in extra.items()}}

    def _trimesh(self, texture: bool, name: str) -> trimesh.Trimesh:
        import trimesh
        from PIL import Image
        from trimesh.visual.material import SimpleMaterial

        turned = self.vertices * [1.0, -1.0, -1.0]
        visual: Any
        if texture:
            picture = Image.fromarray(self.texture)
            uv = np.column_stack([self.uv[:, 0], 1.0 - self.uv[:, 1]])
            simple = SimpleMaterial(image=picture, name=name, diffuse=[255, 255, 255, 255])
            visual = trimesh.visual.TextureVisuals(uv=uv, material=simple)
        else:
            visual = trimesh.visual.ColorVisuals(vertex_colors=self.colors)
        return trimesh.Trimesh(
            vertices=turned,
            faces=self.triangles,
            vertex_normals=self.normals * [1.0, -1.0, -1.0],
            visual=visual,
            process=False,
        )


def _as_bytes(content: Any) -> bytes:
    return content.encode() if isinstance(content, str) else bytes(content)
