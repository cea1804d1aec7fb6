"""Overlays on photos: landmarks, wireframe and pose axes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from facerecon.errors import ExportError

if TYPE_CHECKING:
    from facerecon.reconstructor import Face

__all__ = ["draw_face", "draw_faces", "write_png"]

# 300-W: jaw, brows, nose bridge, nose base, eyes, outer and inner lips; closed where it is a loop
_LINES = (
    (0, 17, False),
    (17, 22, False),
    (22, 27, False),
    (27, 31, False),
    (31, 36, False),
    (36, 42, True),
    (42, 48, True),
    (48, 60, True),
    (60, 68, True),
)
_POINT, _LINE, _WIRE = (60, 255, 90), (255, 255, 255), (70, 170, 255)
_AXES = ((255, 70, 70), (90, 230, 90), (80, 140, 255))
_SHIFT = 4  # OpenCV's sub-pixel bits


def draw_face(
    image: NDArray[np.uint8],
    face: Face,
    *,
    points: bool = True,
    wireframe: bool = True,
    axes: bool = True,
) -> NDArray[np.uint8]:
    """Draw a face on a copy of a photo.

    Args:
        image: (h, w, 3) RGB.
        face: The face, in that photo's pixels.
        points: The 68 landmarks and the lines between them.
        wireframe: Lines of the mesh's grid that the camera sees.
        axes: From the nose bridge: x to the person's left in red, y up in green, z out of the
            face in blue.

    Returns:
        (h, w, 3) RGB.
    """
    canvas = image.copy()
    size = float(np.sqrt((face.box[2:] - face.box[:2]).prod()))
    width = max(1, round(size / 220))
    if wireframe:
        canvas = _wireframe(canvas, face, size)
    if points:
        landmarks = face.landmarks[:, :2]
        for start, stop, closed in _LINES:
            line = [_fixed(landmarks[start:stop])]
            cv2.polylines(canvas, line, closed, _LINE, width, cv2.LINE_AA, _SHIFT)
        for point in landmarks:
            middle = _fixed(point).tolist()
            radius = int(max(1.2, size / 130) * 2**_SHIFT)
            cv2.circle(canvas, middle, radius, _POINT, -1, cv2.LINE_AA, _SHIFT)
    if axes:
        origin = face.landmarks[27]
        columns = face.pose.rotation @ np.diag([1.0, -1.0, -1.0])
        order = np.argsort(-columns[2])  # the axis nearest to the viewer is drawn last
        for k in order:
            tip = origin + columns[:, k] * size * 0.45
            ends = _fixed(np.stack([origin[:2], tip[:2]])).tolist()
            cv2.line(canvas, ends[0], ends[1], _AXES[k], width + 1, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_faces(image: NDArray[np.uint8], faces: Iterable[Face]) -> NDArray[np.uint8]:
    """All faces of a photo, as :func:`draw_face` draws them."""
    canvas = image
    for face in faces:
        canvas = draw_face(canvas, face)
    return canvas


def write_png(image: NDArray[np.uint8], path: str | os.PathLike[str]) -> None:
    """Write an RGB picture; aside first, then moved in place.

    Raises:
        ExportError: It cannot be written.
    """
    target = Path(path)
    content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as partial:
            unfinished = Path(partial) / target.name
            unfinished.write_bytes(content)
            os.replace(unfinished, target)
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error}") from error


def _wireframe(canvas: NDArray[np.uint8], face: Face, size: float) -> NDArray[np.uint8]:
    """Lines of constant u and v, as close together as the face's size in the photo allows."""
    mesh = face.mesh("grid", grid_size=int(np.clip(size / 7, 18, 44)))
    triangles = mesh.triangles
    sides = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [0, 2]]]), axis=1)
    step = np.abs(mesh.uv[sides[:, 0]] - mesh.uv[sides[:, 1]])
    straight = sides[step.min(1) < 1e-9]  # the diagonals are left out
    edges = np.unique(straight[mesh.visible[straight].all(1)], axis=0)
    layer = canvas.copy()
    lines = _fixed(mesh.vertices[:, :2][edges])
    cv2.polylines(layer, list(lines), False, _WIRE, 1, cv2.LINE_AA, _SHIFT)
    mixed = cv2.addWeighted(layer, 0.55, canvas, 0.45, 0)
    return np.asarray(mixed, dtype=np.uint8)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Coordinates in OpenCV's fixed point."""
    return np.rint(points * 2**_SHIFT).astype(np.int32)
