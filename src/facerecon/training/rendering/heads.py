"""Rendered heads: synthetic samples with exact labels.

A head of the face model with a random identity and expression is dressed in the skin of a photo
(the colours at the vertices of its fitted head), given eyes, lit, turned and put before a corner
of another photo.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facerecon.decode.texture import sample_colors
from facerecon.geometry import FACE_TO_CAMERA, matrix_from_euler, rasterise, vertex_normals
from facerecon.training.datasets import FaceLabels, MorphableModel, PackedPhotos
from facerecon.training.datasets.pack import landmarks_in_photo, make_pack, squares_round
from facerecon.training.rendering.head import HeadModel, posed_in_square
from facerecon.training.rendering.workers import made_in_order
from facerecon.uv import UVLayout

__all__ = ["HeadPainter", "drawn_labels", "render_heads"]

_IRIS_RADIUS, _PUPIL_RADIUS = 0.6, 0.25  # centimetres
_IRISES = ((70, 45, 30), (95, 70, 45), (90, 110, 130), (80, 100, 75), (50, 35, 25))


@dataclass(frozen=True)
class HeadPainter:
    """Skins from photos and pictures of heads."""

    head: HeadModel

    @cached_property
    def _mirror(self) -> NDArray[np.int64]:
        skin = self.head.mean[: self.head.skin].astype(np.float64)
        return np.asarray(cKDTree(skin).query(skin * [-1.0, 1.0, 1.0])[1], np.int64)

    def skin(self, square: NDArray[np.uint8], posed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Colours (skin vertices, 3) that a photo shows on its fitted head.

        What is hidden takes the colour of its mirror image, or else of the nearest vertex seen.

        Args:
            square: (s, s, 3) RGB photo.
            posed: (v, 3) the fitted head in its pixels.
        """
        count, size = self.head.skin, square.shape[0]
        raster = rasterise(posed, self.head.triangles, size, size)
        depth = raster.interpolate(posed[:, 2:])[..., 0]
        column, row = np.rint(posed[:count, :2]).clip(0, size - 1).astype(int).T
        normals = vertex_normals(posed, self.head.triangles)[:count]
        slack = 0.03 * np.ptp(posed[:, 1])
        seen = (posed[:count, 2] <= depth[row, column] + slack) & raster.covered[row, column]
        seen &= (normals[:, 2] * np.sign(np.median(normals[:, 2][seen]))) > 0.25
        colors = sample_colors(square, posed[:count]).astype(np.float64)
        source = np.where(seen, np.arange(count), np.where(seen[self._mirror], self._mirror, -1))
        known = np.flatnonzero(source >= 0)
        if len(known):
            canonical = self.head.mean[:count]
            near = cKDTree(canonical[known]).query(canonical)[1]
            source = np.where(source >= 0, source, source[known[near]])
        picked: NDArray[np.float64] = colors[np.maximum(source, 0)]
        return picked

    def eyes(self, brightness: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Colours (eyeball vertices, 3): white, iris and pupil, both looking the same way."""
        balls = self.head.mean[self.head.skin :].astype(np.float64)
        iris = np.array(_IRISES[rng.integers(len(_IRISES))], float) * rng.uniform(0.7, 1.3)
        gaze = np.array([rng.normal(0, 0.2), rng.normal(0, 0.1), 1.0])
        gaze /= np.linalg.norm(gaze)
        colors = np.full((len(balls), 3), 215.0) * np.array([1.0, 0.97, 0.95])
        for side in (balls[:, 0] > 0, balls[:, 0] <= 0):
            if not side.any():
                continue
            out = balls[side] - (balls[side].min(0) + balls[side].max(0)) / 2
            front = out @ gaze > 0
            away = np.linalg.norm(out - (out @ gaze)[:, None] * gaze, axis=1)
            painted = colors[side]
            painted[front & (away < _IRIS_RADIUS)] = iris
            painted[front & (away < _PUPIL_RADIUS)] = 12.0
            colors[side] = painted
        return colors * np.clip(brightness / 190, 0.25, 1.1)

    def render(
        self,
        posed: NDArray[np.float64],
        colors: NDArray[np.float64],
        background: NDArray[np.uint8],
        light: NDArray[np.float64],
    ) -> NDArray[np.uint8]:
        """Picture of a head.

        Args:
            posed: (v, 3) pixels, z into the scene.
            colors: (v, 3) RGB.
            background: (s, s, 3).
            light: (3,) towards the light, as long as it is strong (0 to 1), camera's frame.
        """
        size = background.shape[0]
        normals = vertex_normals(posed, self.head.triangles)
        if normals[np.argmin(posed[:, 2]), 2] > 0:  # the nearest point faces the camera
            normals = -normals
        strength = float(np.linalg.norm(light))
        lit = 1 - 0.55 * strength + 1.1 * np.clip(normals @ light, 0, None)
        raster = rasterise(posed, self.head.triangles, size, size)
        picture = raster.interpolate(colors * lit[:, None])
        alpha = raster.covered[..., None].astype(np.float64)
        share = cv2.GaussianBlur(alpha, (0, 0), 0.7)[..., None]
        spread = cv2.GaussianBlur(picture * alpha, (0, 0), 0.7) / np.maximum(share, 1e-6)
        foreground = np.where(alpha > 0, picture, spread)
        mixed = foreground * share + background * (1 - share)
        return np.rint(mixed).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Job:
    """One head to render: its label, its skin's photo and its background's."""

    label: FaceLabels
    frame: NDArray[np.float64]
    skin: NDArray[np.uint8]
    skin_label: FaceLabels
    skin_frame: NDArray[np.float64]
    scene: NDArray[np.uint8]
    seed: tuple[int, int]


def drawn_labels(labels: FaceLabels, count: int, seed: int) -> tuple[NDArray[np.int64], FaceLabels]:
    """Draw heads: (count,) rows of the photos that give the skin, and the heads' labels.

    Identities are those of fitted faces, moved by half a standard deviation; expressions are
    those of other fitted faces, sometimes exaggerated; yaw is even over +-95 degrees.
    """
    rng = np.random.default_rng(seed)
    usable = np.flatnonzero(labels.good & (labels.split == "train"))
    plain = usable[np.abs(labels.yaw[usable]) < 25]
    skins, shapes, faces = (rng.choice(rows, count) for rows in (plain, usable, usable))
    spread = labels.identity[usable].std(0)
    identity = labels.identity[shapes] + rng.normal(0, 0.5, (count, len(spread))) * spread
    strong = np.where(rng.random(count) < 0.3, rng.uniform(1, 1.6, count), 1.0)
    expression = (labels.expression[faces] * strong[:, None]).clip(-0.1, 1)
    yaw, pitch = rng.uniform(-95, 95, count), rng.normal(0, 14, count).clip(-40, 40)
    rotation = np.stack(
        [matrix_from_euler(y, p, 0.0) @ FACE_TO_CAMERA for y, p in zip(yaw, pitch, strict=True)]
    )
    base = labels.take(skins)
    return skins, replace(
        base,
        path=np.array([f"rendered/{i}" for i in range(count)]),
        source=np.array(["rendered"] * count),
        yaw=yaw.astype(np.float32),
        rotation=rotation.astype(np.float32),
        scale=np.full(count, 10, np.float32),
        translation=np.zeros((count, 3), np.float32),
        identity=identity.astype(np.float32),
        expression=expression.astype(np.float32),
        hand_points=np.full_like(base.hand_points, np.nan),
        hand_count=np.zeros_like(base.hand_count),
        residual=np.zeros(count, np.float32),
    )


def render_heads(
    photos: PackedPhotos,
    model: str | Path,
    layout: UVLayout,
    cache: str | Path,
    count: int,
    seed: int = 0,
    workers: int = 1,
) -> PackedPhotos:
    """A pack of rendered heads, made once.

    Args:
        photos: The packed photos that give skins and backgrounds.
        model: File of the ICT face model with its head.
        layout: The face layout.
        cache: Folder of the new pack.
        count: How many.
        seed: Of the draw.
        workers: Processes to use.

    Raises:
        DataError: The face model has no head.
    """
    skins, labels = drawn_labels(photos.labels, count, seed)
    identities = labels.identity.shape[1]
    head = HeadModel.load(model, identities)
    points = landmarks_in_photo(labels, MorphableModel.load(model, layout, identities), layout)
    frames = squares_round(points)
    size = photos.pixels.shape[1]
    scenes = np.random.default_rng(seed + 1).choice(len(photos.labels), count)

    def job(i: int) -> _Job:
        row = int(skins[i])
        return _Job(
            labels.take([i]),
            frames[i],
            photos.pixels[row],
            photos.labels.take([row]),
            photos.frames[row],
            photos.pixels[scenes[i]],
            (seed, i),
        )

    def squares(start: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        return made_in_order(_paint, HeadPainter(head), job, range(start, count), workers)

    recipe = {"kind": "rendered", "size": size, "count": count, "seed": seed, "version": 1}
    return make_pack(
        cache, recipe, labels, frames, size, squares, "rendering heads", resumable=True
    )


def _paint(painter: HeadPainter, job: _Job) -> NDArray[np.uint8]:
    rng = np.random.default_rng(job.seed)
    size = job.skin.shape[0]
    skin = painter.skin(
        job.skin, posed_in_square(painter.head, job.skin_label, job.skin_frame, size)
    )
    eyes = painter.eyes(float(skin.mean(1)[skin.mean(1) > 20].mean() or 100), rng)
    direction = rng.normal(size=3) * [1.0, 1.0, 0.5] + [0.0, -0.4, -0.8]
    light = direction / np.linalg.norm(direction) * rng.uniform(0, 0.8)
    posed = posed_in_square(painter.head, job.label, job.frame, size)
    side = int(size * rng.uniform(0.2, 0.4))
    y, x = (int(rng.choice([0, size - side])) for _ in range(2))
    corner = job.scene[y : y + side, x : x + side]
    background = cv2.resize(corner, (size, size), interpolation=cv2.INTER_CUBIC)
    return painter.render(
        posed, np.concatenate([skin, eyes]), np.asarray(background, np.uint8), light
    )
