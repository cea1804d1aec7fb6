"""A small data folder in the real formats."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerecon.geometry import FACE_TO_CAMERA, matrix_from_euler
from facerecon.uv import UVLayout

COUNT = 12


def write_head(file: Path, layout: UVLayout) -> None:
    """A face model in the ICT model's format: the layout's face, made-up directions, two eyes."""
    rng = np.random.default_rng(1)
    vertices = np.zeros((11248, 3), "f4")
    # the model's own axes lie higher than where its face looks
    tilt = FACE_TO_CAMERA @ matrix_from_euler(0, -8.8, 0) @ FACE_TO_CAMERA
    vertices[layout.source_index] = layout.canonical @ tilt.T

    def directions(count: int) -> np.ndarray:
        # smooth pushes, as a real model's are: a linear and a wavy part of the place
        linear = rng.normal(size=(count, 3, 3)) * 0.01
        linear = linear + linear.transpose(0, 2, 1)  # stretches and shears, but no turns
        linear -= np.trace(linear, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)  # nor zooms
        waves = np.sin(vertices @ rng.normal(size=(count, 3, 3)) * 0.6) * 0.1
        return (vertices @ linear + waves).astype("f2")

    triangles = layout.source_index[layout.triangles]
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    eye = np.concatenate([ring, [[0, 0, 1]]])
    sclera = np.concatenate([eye + [3, 3, 7], eye + [-3, 3, 7]]).astype("f4")
    fan = [[8, k, (k + 1) % 8, (k + 1) % 8] for k in range(8)]
    np.savez(
        file,
        vertices=vertices,
        identity=directions(80),
        expression=directions(53),
        quads=np.column_stack([triangles, triangles[:, 2]]).astype("i4"),
        sclera_vertices=sclera,
        sclera_identity=np.zeros((80, 18, 3), "f2"),
        sclera_quads=np.concatenate([fan, np.add(fan, 9)]).astype("i4"),
        landmarks68_300w_triangles=layout.source_index[layout.landmark_vertices],
        landmarks68_300w_barycentric=layout.landmark_weights,
    )


@pytest.fixture
def data(tmp_path: Path, layout: UVLayout) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    names = np.array([f"made/{i:02}.jpg" for i in range(COUNT)])
    with tarfile.open(folder / "photos_made.tar", "w") as tar:
        for name in names:
            pixels = cv2.resize(rng.integers(0, 256, (12, 10, 3), np.uint8), (100, 120))
            content = cv2.imencode(".jpg", pixels)[1].tobytes()
            member = tarfile.TarInfo(str(name))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    yaw = np.linspace(-80, 80, COUNT).astype("f4")
    np.savez(
        folder / "labels.npz",
        path=names,
        source=np.array(["made"] * COUNT),
        split=np.array(["val", "train"] * (COUNT // 2)),
        good=np.ones(COUNT, bool),
        yaw=yaw,
        rotation=np.stack([matrix_from_euler(y, 0, 0) @ FACE_TO_CAMERA for y in yaw]).astype("f4"),
        scale=np.full(COUNT, 4.0, "f4"),
        translation=np.tile(np.array([50, 60, 0], "f4"), (COUNT, 1)),
        identity=np.zeros((COUNT, 80), "f2"),
        expression=np.zeros((COUNT, 53), "f2"),
        hand_points=np.full((COUNT, 68, 2), np.nan, "f4"),
        hand_count=np.zeros(COUNT, np.int16),
    )
    write_head(folder / "ict_face.npz", layout)
    return folder
