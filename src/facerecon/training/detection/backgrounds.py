"""Pictures without faces: drawn ones, parts of photos beside the face, photos in pieces."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["background", "drawn", "faceless_patch", "scrambled"]


def background(
    rng: np.random.Generator, size: int, patch: Callable[[], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """A square without a face: drawn, a patch of a photo, or many patches.

    Args:
        rng: Decides.
        size: Side, pixels.
        patch: Gives a part of a photo without a face, any size.
    """
    kind = rng.random()
    if kind < 0.25:
        return drawn(rng, size)
    if kind < 0.5:  # one patch over the whole square
        whole = cv2.resize(patch(), (size, size), interpolation=cv2.INTER_LINEAR)
        return np.asarray(whole, np.uint8)
    if kind < 0.6:
        # again and again, as wallpaper is; not mirrored: half a face and its mirror are a face
        side = int(rng.integers(size // 8, size // 2))
        tile = cv2.resize(patch(), (side, side), interpolation=cv2.INTER_AREA)
        count = -(-size // side)
        return np.asarray(np.tile(tile, (count, count, 1))[:size, :size], np.uint8)
    return _collage(rng, size, patch)


def _collage(
    rng: np.random.Generator, size: int, patch: Callable[[], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Many patches of all sizes over each other: things of the world, and their edges."""
    pixels = np.array(cv2.resize(patch(), (size, size), interpolation=cv2.INTER_LINEAR))
    for _ in range(int(rng.integers(6, 30))):
        piece = np.rot90(patch(), int(rng.integers(4)))
        width, height = np.exp(rng.uniform(np.log(8), np.log(size * 0.7), 2)).astype(int).tolist()
        x = int(rng.integers(-width // 2, size - width // 2))
        y = int(rng.integers(-height // 2, size - height // 2))
        laid = cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA)
        left, top = max(0, -x), max(0, -y)
        inside = laid[top : size - y, left : size - x]
        pixels[max(0, y) : max(0, y) + inside.shape[0], max(0, x) : max(0, x) + inside.shape[1]] = (
            inside
        )
    return np.asarray(pixels, np.uint8)


def faceless_patch(
    rng: np.random.Generator, photo: NDArray[np.uint8], faces: NDArray[np.float64]
) -> NDArray[np.uint8] | None:
    """The largest of some random rectangles of a photo that touch none of the faces.

    Args:
        rng: Decides.
        photo: (h, w, 3).
        faces: (k, 4) boxes to stay away from, photo pixels.
    """
    height, width = photo.shape[:2]
    a, b = rng.uniform(0, 1, (24, 2)), rng.uniform(0, 1, (24, 2))
    low, high = np.minimum(a, b) * [width, height], np.maximum(a, b) * [width, height]
    low, high = np.floor(low), np.ceil(high)
    apart = (high[:, None] <= faces[:, :2]) | (low[:, None] >= faces[:, 2:])
    free = apart.any(2).all(1) & ((high - low).min(1) >= 16)
    if not free.any():
        return None
    area = (high - low).prod(1) * free
    best = int(area.argmax())
    x0, y0, x1, y1 = np.concatenate([low[best], high[best]]).astype(int).tolist()
    return photo[y0:y1, x0:x1]


def scrambled(rng: np.random.Generator, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photo cut into pieces that change places: skin, hair and eyes, but no face."""
    across = int(rng.integers(5, 11))  # larger pieces would hold half a face
    side = max(4, min(photo.shape[:2]) // across)
    across, down = photo.shape[1] // side, photo.shape[0] // side
    pieces = photo[: down * side, : across * side].reshape(down, side, across, side, 3)
    pieces = pieces.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3)
    pieces = pieces[rng.permutation(len(pieces))]
    if rng.random() < 0.5:  # upside down too
        pieces = np.where(rng.random((len(pieces), 1, 1, 1)) < 0.5, pieces[:, ::-1], pieces)
    whole = pieces.reshape(down, across, side, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(whole.reshape(down * side, across * side, 3))


def drawn(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A drawn picture: a colour, a gradient, clouds, stripes or noise, with shapes or writing."""
    kind = rng.integers(5)
    first, second = rng.uniform(0, 255, (2, 3))
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, np.pi)
    ramp = np.cos(angle) * x + np.sin(angle) * y
    if kind == 0:
        share = np.zeros((size, size))
    elif kind == 1:
        share = (ramp - ramp.min()) / np.ptp(ramp)
    elif kind == 2:
        share = _clouds(rng, size)
    elif kind == 3:
        share = (np.sin(ramp * rng.uniform(10, 200)) > rng.uniform(-0.7, 0.7)).astype(float)
    else:
        share = rng.random((size, size))
    picture = first + share[..., None] * (second - first)
    pixels = np.ascontiguousarray(np.rint(picture.clip(0, 255)).astype(np.uint8))
    if rng.random() < 0.35:
        _write_page(rng, pixels)
    for _ in range(int(rng.integers(0, 12))):
        _draw_shape(rng, pixels)
    return pixels


def _clouds(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Noise of several sizes added up, 0 to 1."""
    total = np.zeros((size, size))
    for octave in range(2, 8):
        grid = rng.random((2**octave, 2**octave)).astype(np.float32)
        cloud = np.asarray(
            cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float64
        )
        total += cloud / 1.7**octave
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-9))


def _draw_shape(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> None:
    """One shape into a picture: some are round with dots in them, as faces are."""
    size = len(pixels)
    colour = rng.integers(0, 256, 3).tolist()
    x, y = rng.integers(0, size, 2).tolist()
    reach = int(np.exp(rng.uniform(np.log(4), np.log(size / 3))))
    kind = rng.integers(5)
    if kind == 0:
        cv2.rectangle(pixels, (x, y), (x + reach, y + int(reach * rng.uniform(0.3, 2))), colour, -1)
    elif kind == 1:
        end = rng.integers(0, size, 2).tolist()
        cv2.line(pixels, (x, y), end, colour, max(1, reach // 8), cv2.LINE_AA)
    elif kind == 2:
        text = "".join(rng.choice(list("ABCDEFGHKMNPRSTXYZaeikmnorstu0123456789%&+:"), 8))
        cv2.putText(pixels, text, (x - reach, y), 0, reach / 30, colour, max(1, reach // 15))
    else:
        axes = (reach, int(reach * rng.uniform(0.6, 1.5)))
        cv2.ellipse(pixels, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        if kind == 4:
            for _ in range(int(rng.integers(1, 6))):
                at = (np.array([x, y]) + rng.uniform(-0.6, 0.6, 2) * axes).astype(int).tolist()
                dark = rng.integers(0, 256, 3).tolist()
                cv2.circle(pixels, at, max(1, int(reach * rng.uniform(0.05, 0.3))), dark, -1)


_LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789      .,:;%&+?@")


def _write_page(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> None:
    """Lines of writing: small dark things in rows look like eyes and mouths."""
    size, font = len(pixels), int(rng.integers(8))
    height = float(np.exp(rng.uniform(np.log(6), np.log(60))))
    colour = rng.integers(0, 256, 3).tolist()
    thick = max(1, int(height * rng.uniform(0.04, 0.2)))
    x, y = int(rng.integers(-10, size // 3)), float(rng.uniform(0, height))
    while y < size + height:
        text = "".join(rng.choice(_LETTERS, int(rng.integers(3, 60))))
        cv2.putText(pixels, text, (x, int(y)), font, height / 25, colour, thick, cv2.LINE_AA)
        y += height * rng.uniform(1.2, 1.8)
