"""Colours of a face from its photo: per vertex, and as a UV texture image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.decode.visibility import visible_vertices
from facerecon.uv import UVLayout, codec_for

__all__ = ["sample_colors", "uv_texture"]


def sample_colors(image: NDArray[np.uint8], points: ArrayLike) -> NDArray[np.uint8]:
    """Bilinear RGB of a photo (h, w, 3) at (n, >=2) pixels, (n, 3); the photo's edge repeats."""
    height, width = image.shape[:2]
    xy = np.asarray(points, dtype=np.float64)[:, :2].clip(0, [width - 1, height - 1])
    low = np.minimum(np.floor(xy).astype(int), np.maximum([width - 2, height - 2], 0))
    fx, fy = (xy - low).T[:, :, None]
    x, y = low.T
    right, below = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
    top = image[y, x] * (1 - fx) + image[y, right] * fx
    bottom = image[below, x] * (1 - fx) + image[below, right] * fx
    return np.rint(top * (1 - fy) + bottom * fy).astype(np.uint8)


def uv_texture(
    image: NDArray[np.uint8],
    vertices: ArrayLike,
    layout: UVLayout,
    size: int = 512,
    fill_hidden: bool = True,
) -> NDArray[np.uint8]:
    """The photo unwrapped onto the face's UV square.

    Args:
        image: (h, w, 3) RGB photo.
        vertices: (v, 3) of the layout, photo pixels.
        layout: The face layout.
        size: Side of the texture, texels.
        fill_hidden: Show the mirrored other half where only that is seen by the camera; needs a
            layout with a mirror map.

    Returns:
        (size, size, 3) RGB; texels off the chart take the colour of their surroundings.
    """
    points = np.asarray(vertices, dtype=np.float64)
    codec = codec_for(layout, size)
    where = codec.encode(points[:, :2]).astype(np.float32)
    texture = np.asarray(
        cv2.remap(
            image, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ),
        dtype=np.uint8,
    )
    if fill_hidden and len(layout.mirror):
        seen = visible_vertices(points, layout.triangles).astype(np.float64)
        share = cv2.GaussianBlur(codec.encode(seen[:, None])[..., 0], (0, 0), size / 100)
        other = share[:, ::-1]
        blend = np.clip((other - share) * 2, 0, 1)[..., None]
        mixed = texture * (1 - blend) + texture[:, ::-1] * blend
        texture = np.rint(mixed).astype(np.uint8)
    return _bleed(texture, codec.mask)


def _bleed(texture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Continue the chart's colours outwards, so that mipmaps and seams show no black."""
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    filled: NDArray[np.uint8] = texture[nearest[0], nearest[1]]
    return filled
