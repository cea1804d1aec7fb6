"""The face's surface for meshes: the canonical face's detail and a smoothed deviation from it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.decode.pose import HeadPose
from facerecon.uv import UVLayout, codec_for

__all__ = ["smooth_surface"]


def smooth_surface(
    position_map: ArrayLike, layout: UVLayout, pose: HeadPose, smoothing: float
) -> NDArray[np.float64]:
    """Vertices of the layout from a position map that is coarser and noisier than a face.

    What the map says beyond the posed canonical face is smoothed in uv by a Gaussian, normalised
    to the chart, and added to the canonical face's own vertices. So detail that the map's texels
    cannot hold (eyelids, nostrils, lips) comes from the canonical face, and the network's
    texel noise does not reach the mesh.

    Args:
        position_map: (s, s, 3) photo pixels.
        layout: The face layout.
        pose: The pose fitted to the map's vertices.
        smoothing: Standard deviation of the Gaussian, texels of a 64 x 64 map; 0 for none.

    Returns:
        (v, 3) photo pixels.
    """
    positions = np.asarray(position_map, dtype=np.float64)
    codec = codec_for(layout, len(positions))
    posed = pose.project(layout.canonical)
    inside = codec.mask.astype(np.float64)
    deviation = (positions - codec.encode(posed)) * inside[..., None]
    if smoothing > 0:
        sigma = smoothing * codec.size / 64
        zero = cv2.BORDER_CONSTANT
        total = cv2.GaussianBlur(deviation, (0, 0), sigma, borderType=zero)
        share = cv2.GaussianBlur(inside, (0, 0), sigma, borderType=zero)
        deviation = total / np.where(inside > 0, share, 1.0)[..., None] * inside[..., None]
    return posed + codec.decode(deviation)
