"""Scenes with many faces and with none, composed from single photos.

The photos of a data folder show one labelled face each, most of them closely cut. A scene lays
some of them, shrunk, turned and mirrored, over a background without faces, among patches that
hold no face either, so that a patch's edge tells nothing. All is drawn from one random generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from facerecon.detection import five_points
from facerecon.detection.network import DetectorConfig
from facerecon.training.detection.backgrounds import background, faceless_patch, scrambled
from facerecon.training.detection.photos import WholePhotos

__all__ = ["Scene", "SceneMaker", "SceneRange"]


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        pixels: (s, s, 3) RGB.
        boxes: (k, 4) round the 68 landmarks, scene pixels.
        points: (k, 5, 2) eyes, nose tip and mouth corners.
        counts: (k,) whether a face is to be found; others are neither right nor wrong.
        rows: (k,) the photo each face is from, -1 for unlabelled ones.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    counts: NDArray[np.bool_]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class SceneRange:
    """What is drawn.

    Attributes:
        smallest: Side of the smallest face, scene pixels.
        turn: Largest in-plane turn, degrees; half of the faces stay within a quarter of it.
        empty: Share of scenes without faces.
        framed: Share of scenes that are one photo with padding beyond its edges.
    """

    smallest: float = 9.0
    turn: float = 60.0
    empty: float = 0.2
    framed: float = 0.12


_PADDING = np.rint(DetectorConfig().pixel_mean).astype(np.uint8)
"""What the detector puts beyond a photo's edges."""


@dataclass(frozen=True)
class _Cover:
    """How much of each pixel a patch covers, from a corner x, y of the canvas on."""

    x: int
    y: int
    share: NDArray[np.float32]


@dataclass
class _Canvas:
    """A scene in the making."""

    pixels: NDArray[np.uint8]
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    points: list[NDArray[np.float64]] = field(default_factory=list)
    counts: list[bool] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def lay(self, patch: NDArray[np.uint8], matrix: NDArray[np.float64], feather: float) -> _Cover:
        """Warp a patch over the canvas."""
        shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        steps = int(1 / shrink) if shrink > 0 else 1
        if steps >= 2:  # bilinear sampling alone would alias
            small = (max(1, patch.shape[1] // steps), max(1, patch.shape[0] // steps))
            factor = np.array([patch.shape[1] / small[0], patch.shape[0] / small[1]])
            patch = cv2.resize(patch, small, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
            linear = matrix[:, :2] * factor
            matrix = np.column_stack([linear, matrix[:, 2] + matrix[:, :2] @ (0.5 * factor - 0.5)])
        x0, y0, x1, y1 = self._reach(patch.shape, matrix, 3 * feather)
        if x1 <= x0 or y1 <= y0:
            return _Cover(0, 0, np.zeros((0, 0), np.float32))
        matrix = np.column_stack([matrix[:, :2], matrix[:, 2] - [x0, y0]])
        extent = (x1 - x0, y1 - y0)
        warped = cv2.warpAffine(patch, matrix, extent, borderMode=cv2.BORDER_REPLICATE)
        inside = np.full(patch.shape[:2], 255, np.uint8)
        cover = np.asarray(cv2.warpAffine(inside, matrix, extent), np.uint8)
        if feather > 0.5:
            cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), feather), np.uint8)
        alpha = cover.astype(np.float32) / np.float32(255)
        under = self.pixels[y0:y1, x0:x1]
        mixed = under + alpha[..., None] * (warped.astype(np.float32) - under)
        self.pixels[y0:y1, x0:x1] = np.rint(mixed).astype(np.uint8)
        return _Cover(x0, y0, alpha)

    def _reach(
        self, shape: tuple[int, ...], matrix: NDArray[np.float64], margin: float
    ) -> list[int]:
        """The part of the canvas that a patch comes to lie on: x0, y0, x1, y1."""
        height, width = shape[:2]
        corners = np.array([[-1, -1], [width, -1], [-1, height], [width, height]])
        box = _box(corners @ matrix[:, :2].T + matrix[:, 2]) + [-margin, -margin, margin, margin]
        box[2:] += 1
        limit = np.tile(self.pixels.shape[1::-1], 2)
        edges: list[int] = np.rint(box).clip(0, limit).astype(int).tolist()
        return edges

    def hide(self, cover: _Cover) -> None:
        """Faces that lie under what was just laid: half hidden ones do not count."""
        for k in reversed(range(len(self.boxes))):
            hidden = _share(self.boxes[k], cover)
            if hidden > 0.75:
                for values in (self.boxes, self.points, self.counts, self.rows):
                    del values[k]
            elif hidden > 0.35:
                self.counts[k] = False


class SceneMaker:
    """Composes scenes from whole photos.

    Args:
        photos: The photos.
        rows: Which of them are shown.
        chance: (n,) how likely each of them is, adding up to 1.
        size: Side of the scenes, pixels.
        limits: What is drawn.
    """

    def __init__(
        self,
        photos: WholePhotos,
        rows: NDArray[np.int64],
        chance: NDArray[np.float64],
        size: int = 320,
        limits: SceneRange | None = None,
    ) -> None:
        self._photos, self._rows, self.size = photos, rows, size
        self._cumulated = np.cumsum(chance)
        self._limits = limits or SceneRange()
        low, high = photos.landmarks[:, :, :2].min(1), photos.landmarks[:, :, :2].max(1)
        self._side = np.sqrt((high - low).prod(1))
        # photos that show much besides the face: backgrounds are cut from them
        room = photos.extent.min(1) / self._side
        self._wide = rows[room[rows] > 2.2]

    def make(self, rng: np.random.Generator) -> Scene:
        """One scene."""
        canvas = _Canvas(background(rng, self.size, lambda: self._somewhere(rng)))
        kind = rng.random()
        if kind < self._limits.empty:
            for _ in range(int(rng.integers(0, 10))):
                self._lay_faceless(canvas, rng)
        elif kind < self._limits.empty + self._limits.framed:
            canvas.pixels[:] = _PADDING
            self._lay_framed(canvas, rng)
        elif kind < 0.48:
            self._lay_large(canvas, rng)
            for _ in range(int(rng.integers(0, 3))):
                self._lay_scattered(canvas, rng)
        elif kind < 0.64:
            self._lay_grid(canvas, rng)
        else:
            for _ in range(int(rng.integers(1, 9))):
                if rng.random() < 0.3:
                    self._lay_faceless(canvas, rng)
                else:
                    self._lay_scattered(canvas, rng)
        return self._finished(canvas)

    def single(self, row: int, side: float, rng: np.random.Generator, angle: float = 0.0) -> Scene:
        """A background with one photo somewhere on it, its face ``side`` pixels large."""
        canvas = _Canvas(background(rng, self.size, lambda: self._somewhere(rng)))
        scale = side / self._side[row]
        room = (self.size - self._photos.extent[row] * scale) / 2
        centre = self.size / 2 + rng.uniform(-1, 1, 2) * np.maximum(room, 0)
        self._lay_photo(canvas, rng, row, scale, centre, angle, False, cut=False)
        return self._finished(canvas)

    def _finished(self, canvas: _Canvas) -> Scene:
        count = len(canvas.boxes)
        return Scene(
            canvas.pixels,
            np.array(canvas.boxes).reshape(count, 4),
            np.array(canvas.points).reshape(count, 5, 2),
            np.array(canvas.counts, bool),
            np.array(canvas.rows, np.int64),
        )

    def _pick(self, rng: np.random.Generator) -> int:
        place = int(np.searchsorted(self._cumulated, rng.random(), side="right"))
        return int(self._rows[min(place, len(self._rows) - 1)])

    def _somewhere(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A part of a photo that shows no known face, or a photo in pieces."""
        if len(self._wide) and rng.random() < 0.7:
            row = int(rng.choice(self._wide))
            found = faceless_patch(rng, self._photos.photo(row), self._known(row))
            if found is not None:
                return found
        return scrambled(rng, self._photos.photo(self._pick(rng)))

    def _known(self, row: int) -> NDArray[np.float64]:
        """All known faces of a photo, with the hair round them, pixels of the photo."""
        box = _box(self._photos.landmarks[row, :, :2])
        boxes = np.concatenate([box[None], self._photos.others[row]])
        sides = boxes[:, 2:] - boxes[:, :2]
        wider = np.concatenate(
            [boxes[:, :2] - sides * [0.15, 0.5], boxes[:, 2:] + sides * [0.15, 0.1]], 1
        )
        return wider - np.tile(self._photos.corner(row), 2)

    def _turn(self, rng: np.random.Generator) -> float:
        reach = self._limits.turn * (0.25 if rng.random() < 0.5 else 1.0)
        return float(rng.uniform(-reach, reach))

    def _lay_large(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """A photo over most of the scene."""
        row = self._pick(rng)
        scale = self.size / self._photos.extent[row].min() * np.exp(rng.uniform(-0.5, 0.6))
        scale = min(scale, self.size * 1.05 / self._side[row])
        centre = self.size / 2 + rng.uniform(-0.25, 0.25, 2) * self.size
        turn = self._turn(rng)
        self._lay_photo(canvas, rng, row, scale, centre, turn, rng.random() < 0.5)

    def _lay_framed(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """A photo as the detector is given one: in the corner, with padding beyond its edges."""
        row = self._pick(rng)
        scale = self.size / self._photos.extent[row].max() * np.exp(rng.uniform(-1.0, 0.05))
        corner = np.array([-0.5, -0.5])
        self._lay_photo(canvas, rng, row, scale, corner, 0.0, rng.random() < 0.5, framed=True)

    def _lay_grid(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """Photos side by side, as in a gallery; some of the cells hold no face."""
        across = int(rng.integers(2, 8))
        cell = self.size / across
        for k in rng.permutation(across**2)[: rng.integers(2, across**2 + 1)][:24]:
            if rng.random() < 0.2:
                self._lay_faceless(canvas, rng, cell)
                continue
            row = self._pick(rng)
            scale = cell / self._photos.extent[row].max() * rng.uniform(0.8, 1.2)
            if scale * self._side[row] < self._limits.smallest:
                continue
            centre = (np.array([k % across, k // across]) + 0.5) * cell
            self._lay_photo(canvas, rng, row, scale, centre, 0.0, rng.random() < 0.5)

    def _lay_scattered(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """A face anywhere, of any size up to half the scene."""
        row = self._pick(rng)
        low, high = np.log(self._limits.smallest), np.log(0.5 * self.size)
        # half of them small: uniform in the logarithm, then squared towards the small end
        share = rng.random() ** (1.6 if rng.random() < 0.5 else 1.0)
        scale = float(np.exp(low + (high - low) * share)) / self._side[row]
        centre = rng.uniform(0.02, 0.98, 2) * self.size
        self._lay_photo(canvas, rng, row, scale, centre, self._turn(rng), rng.random() < 0.5)

    def _lay_faceless(
        self, canvas: _Canvas, rng: np.random.Generator, side: float | None = None
    ) -> None:
        """A patch without a face, laid as those with one are."""
        patch = self._somewhere(rng)
        side = side or float(np.exp(rng.uniform(np.log(16), np.log(0.8 * self.size))))
        scale, centre = side / max(patch.shape[:2]), rng.uniform(0, 1, 2) * self.size
        middle = (np.array(patch.shape[1::-1]) - 1) / 2
        matrix = _similarity(scale, self._turn(rng), False, middle, centre)
        canvas.hide(canvas.lay(_recoloured(rng, patch), matrix, _feather(rng, side)))

    def _lay_photo(
        self,
        canvas: _Canvas,
        rng: np.random.Generator,
        row: int,
        scale: float,
        centre: NDArray[np.float64],
        angle: float,
        mirror: bool,
        cut: bool = True,
        framed: bool = False,
    ) -> None:
        """Lay a photo with the middle of its face at a place, or its corner where it is framed."""
        photos = self._photos
        corner = np.array(photos.corner(row))
        landmarks = photos.landmarks[row, :, :2] - corner
        patch, others = photos.photo(row), photos.others[row] - np.tile(corner, 2)
        box = _box(landmarks)
        if cut and rng.random() < 0.6:  # more or less of what is round the face
            x0, y0, x1, y1 = _cut(rng, box, patch.shape)
            patch, origin = patch[y0:y1, x0:x1], np.array([x0, y0])
            landmarks, others = landmarks - origin, others - np.tile(origin, 2)
            box = _box(landmarks)
        if framed:
            pivot = np.array([patch.shape[1] - 0.5 if mirror else -0.5, -0.5])
            scale *= photos.extent[row].max() / max(patch.shape[:2])
        elif cut:  # the scene's middle must be the face's where little of the photo is shown
            pivot = (box[:2] + box[2:]) / 2
        else:
            pivot = (np.array(patch.shape[1::-1]) - 1) / 2
        matrix = _similarity(scale, angle, mirror, pivot, centre)
        side = scale * self._side[row]
        patch = _recoloured(rng, patch)
        if cut and rng.random() < 0.15:
            patch = _partly_covered(rng, patch, box, self._somewhere(rng))
        cover = canvas.lay(patch, matrix, _feather(rng, side) if cut and not framed else 0.0)
        canvas.hide(cover)
        placed = landmarks @ matrix[:, :2].T + matrix[:, 2]
        five = five_points(placed)
        if mirror:
            five = five[[1, 0, 2, 4, 3]]
        visible = _share(_box(placed), cover)
        if visible > 0.25 and side >= 4:
            canvas.boxes.append(_box(placed))
            canvas.points.append(five)
            canvas.counts.append(bool(visible > 0.6 and side >= self._limits.smallest - 1))
            canvas.rows.append(row)
        for other in others:
            edges = other.reshape(2, 2)
            corners = np.array([[x, y] for x in edges[:, 0] for y in edges[:, 1]])
            there = _box(corners @ matrix[:, :2].T + matrix[:, 2])
            if _share(there, cover) > 0.2:
                canvas.boxes.append(there)
                canvas.points.append(np.zeros((5, 2)))
                canvas.counts.append(False)
                canvas.rows.append(-1)


def _box(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([points.min(0), points.max(0)])


def _share(box: NDArray[np.float64], cover: _Cover) -> float:
    """How much of a box is covered; what lies outside the picture is not."""
    x0, y0 = np.floor(box[:2]).astype(int)
    x1, y1 = np.ceil(box[2:]).astype(int) + 1
    left, top, right, bottom = (
        max(0, edge - origin)
        for edge, origin in zip((x0, y0, x1, y1), (cover.x, cover.y) * 2, strict=True)
    )
    inside = cover.share[top:bottom, left:right]
    return float(inside.sum() / max(1, (x1 - x0) * (y1 - y0)))


def _similarity(
    scale: float,
    angle: float,
    mirror: bool,
    pivot: NDArray[np.float64],
    target: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(2, 3) matrix that mirrors, turns (clockwise) and scales about a pivot, then moves it."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    linear = scale * np.array([[cos, -sin], [sin, cos]])
    if mirror:
        linear = linear * [-1.0, 1.0]
    return np.column_stack([linear, target - linear @ pivot])


def _cut(
    rng: np.random.Generator, box: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """A part of a photo that holds the face and more or less of its surroundings."""
    limit = np.array([0, 0, *shape[1::-1]])
    sides = np.tile(box[2:] - box[:2], 2)
    least = box + np.array([-0.08, -0.15, 0.08, 0.08]) * sides
    shares = rng.uniform(0, 1, 4)
    x0, y0, x1, y1 = np.rint(least + shares * (limit - least)).astype(int).tolist()
    height, width = shape[:2]
    x0, y0 = min(max(0, x0), width - 2), min(max(0, y0), height - 2)
    return x0, y0, max(x0 + 2, min(x1, width)), max(y0 + 2, min(y1, height))


def _feather(rng: np.random.Generator, side: float) -> float:
    return float(rng.uniform(0, 0.08) * side) if rng.random() < 0.4 else 0.0


def _recoloured(rng: np.random.Generator, patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Other light, and sometimes no colour: patches of one scene differ."""
    gain, gamma = np.exp(rng.uniform(-0.35, 0.35, (2,)))
    table = 255 * np.clip((np.arange(256) / 255) ** gamma * gain, 0, 1)
    changed = cv2.LUT(patch, np.rint(table).astype(np.uint8))
    if rng.random() < 0.12:
        changed = np.repeat(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    return np.asarray(changed, np.uint8)


def _partly_covered(
    rng: np.random.Generator,
    patch: NDArray[np.uint8],
    box: NDArray[np.float64],
    cover: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Something before a part of the face."""
    sides = box[2:] - box[:2]
    extent = sides * rng.uniform(0.2, 0.6, 2)
    low = box[:2] + rng.uniform(-0.1, 1, 2) * (sides - 0.9 * extent)
    height, width = patch.shape[:2]
    x0, y0 = np.clip(np.rint(low), 0, [width - 1, height - 1]).astype(int).tolist()
    x1, y1 = np.clip(np.rint(low + extent), 0, [width, height]).astype(int).tolist()
    if x1 <= x0 or y1 <= y0:
        return patch
    covered = patch.copy()
    covered[y0:y1, x0:x1] = (
        cv2.resize(cover, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5
        else rng.integers(0, 256, 3)
    )
    return covered
