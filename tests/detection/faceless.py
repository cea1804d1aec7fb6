"""200 pictures without faces: scikit-image's scenes, objects and textures, and drawn ones.

Training draws its own; these are made by other means and were never trained on.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import skimage.data

PHOTOS = ("brick", "chelsea", "coffee", "grass", "gravel", "page", "rocket", "text")
"""Of scikit-image; those that its wheel does not carry are left out. chelsea is a cat; coins shows
heads and is not among them."""


def _available() -> dict[str, np.ndarray]:
    found = {}
    for name in PHOTOS:
        try:
            picture = getattr(skimage.data, name)()
        except (AttributeError, OSError, ModuleNotFoundError):  # needs a download: not here
            continue
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, 2)
        found[name] = np.ascontiguousarray(picture[..., :3].astype(np.uint8))
    return found


def _drawn(rng: np.random.Generator, kind: int) -> np.ndarray:
    size = 320
    rows, columns = np.mgrid[:size, :size] / size
    if kind == 0:  # marble
        wave = np.sin(12 * (columns + 0.3 * np.sin(9 * rows + rng.uniform(0, 6))))
        field = np.stack([wave, wave * 0.8, rows], -1)
    elif kind == 1:  # rings
        x, y = rng.uniform(0.2, 0.8, 2)
        field = np.sin(rng.uniform(20, 90) * np.hypot(columns - x, rows - y))[..., None]
        field = field * rng.uniform(0.3, 1, 3)
    elif kind == 2:  # smooth noise
        field = cv2.GaussianBlur(rng.normal(size=(size, size, 3)), (0, 0), rng.uniform(1, 20))
    elif kind == 3:  # chequers
        count = rng.integers(3, 30)
        board = ((rows * count).astype(int) + (columns * count).astype(int)) % 2
        field = board[..., None] * rng.uniform(0.2, 1, 3)
    else:  # a still life: balls and boxes before a wall
        field = np.full((size, size, 3), rng.uniform(0, 1, 3))
        for _ in range(rng.integers(2, 9)):
            at, reach = rng.integers(40, 280, 2).tolist(), int(rng.integers(10, 70))
            color = rng.uniform(0, 1, 3).tolist()
            if rng.random() < 0.5:
                cv2.circle(field, at, reach, color, -1)
                cv2.circle(
                    field, (at[0] - reach // 3, at[1] - reach // 3), reach // 5, (1, 1, 1), -1
                )
            else:
                cv2.rectangle(field, at, (at[0] + reach, at[1] + 2 * reach), color, -1)
    low, high = field.min(), field.max()
    return np.rint(255 * (field - low) / max(high - low, 1e-9)).astype(np.uint8)


def faceless_pictures(count: int = 200) -> Iterator[tuple[str, np.ndarray]]:
    """Names and RGB pictures: first each photo whole, then parts of them and drawn ones."""
    rng = np.random.default_rng(2024)
    photos = _available()
    yield from photos.items()
    names = list(photos)
    for i in range(len(photos), count):
        if i % 2:
            yield f"drawn {i}", _drawn(rng, i // 2 % 5)
            continue
        name = names[i // 2 % len(names)]
        photo = photos[name]
        height, width = photo.shape[:2]
        side = int(min(height, width) * rng.uniform(0.3, 0.9))
        y, x = (int(rng.integers(0, extent - side + 1)) for extent in (height, width))
        part = photo[y : y + side, x : x + side]
        part = np.rot90(part, rng.integers(4)) if rng.random() < 0.3 else part
        yield f"{name} {i}", np.asarray(cv2.resize(np.ascontiguousarray(part), (320, 320)))
