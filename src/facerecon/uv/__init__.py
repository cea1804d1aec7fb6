"""The UV face layout and the codec between vertices and position maps."""

from facerecon.uv.codec import RING_TEXELS, UVCodec, codec_for, sample_map
from facerecon.uv.layout import (
    ICT_LAYOUT_EARLIER,
    ICT_LAYOUT_SHA256,
    REGION_WEIGHTS,
    UVLayout,
)

__all__ = [
    "ICT_LAYOUT_EARLIER",
    "ICT_LAYOUT_SHA256",
    "REGION_WEIGHTS",
    "RING_TEXELS",
    "UVCodec",
    "UVLayout",
    "codec_for",
    "sample_map",
]
