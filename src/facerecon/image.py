"""Whatever a user calls a picture, as (height, width, 3) uint8 RGB.

EXIF orientation is applied to files, bytes and PIL images. Alpha is dropped. 16-bit pictures are
scaled to 8 bits, floating ones must lie in [0, 1].
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from facerecon.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageInput", "read_image"]

ImageInput: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image", NDArray[Any], torch.Tensor]
"""A path, the bytes of a file, a PIL image, or an array or tensor of pixels."""


def read_image(source: ImageInput, *, bgr: bool = False) -> NDArray[np.uint8]:
    """Read a picture.

    Args:
        source: A path; the bytes of an image file; a PIL image; an array (h, w), (h, w, 1),
            (h, w, 3) or (h, w, 4); or a tensor of such a shape or with the channels first. Arrays
            and tensors are uint8, uint16, or floating in [0, 1]; RGB unless ``bgr``.
        bgr: Whether an array or tensor has OpenCV's channel order.

    Returns:
        (h, w, 3) uint8 RGB, never sharing memory with ``source`` where it was changed.

    Raises:
        ImageError: It cannot be read, is empty or truncated, or has another shape or type.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ImageError(f"cannot read the picture {path}: {reason}") from error
        return _decode(data, str(path))
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), "the given bytes")
    if isinstance(source, torch.Tensor):
        return _from_array(_channels_last(source), bgr)
    if isinstance(source, np.ndarray):
        return _from_array(source, bgr)
    if hasattr(source, "getexif") and hasattr(source, "convert"):
        return _from_pil(source)
    raise ImageError(
        f"a picture cannot be a {type(source).__name__}: give a path, bytes, a PIL image, "
        "an RGB array or a tensor"
    )


def _decode(data: bytes, name: str) -> NDArray[np.uint8]:
    if not data:
        raise ImageError(f"{name}: the file is empty")
    if _is_truncated(data):
        raise ImageError(f"{name}: the picture is truncated (its end is missing)")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageError(f"{name}: OpenCV cannot decode it: {error.err}") from error
    if image is None:
        raise ImageError(f"{name}: this is no picture that OpenCV can decode")
    return np.asarray(image, dtype=np.uint8)


def _is_truncated(data: bytes) -> bool:
    """Whether a JPEG, PNG or WebP lacks its end; OpenCV fills the rest in without an error."""
    if data.startswith(b"\xff\xd8"):
        # neither marker can occur inside entropy-coded data, where 0xFF is escaped
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-16:] and b"IEND\xaeB`\x82" not in data
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    return False


def _from_pil(source: Any) -> NDArray[np.uint8]:
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(source)
        if upright.mode.startswith("I;16"):
            return _from_array(np.asarray(upright).astype(np.uint16), False)
        return _from_array(np.asarray(upright.convert("RGB")), False)
    except OSError as error:
        raise ImageError(f"the PIL image cannot be read: {error}") from error


def _channels_last(tensor: torch.Tensor) -> NDArray[Any]:
    """(c, h, w) tensors to arrays (h, w, c); (h, w) and (h, w, c) as they are."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
    return array.transpose(1, 2, 0) if first and array.shape[2] not in (3, 4) else array


def _from_array(array: NDArray[Any], bgr: bool) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"a picture of shape {array.shape} cannot be used: (height, width), or (height, "
            "width, channels) with 1, 3 or 4 channels is needed"
        )
    if 0 in array.shape:
        raise ImageError(f"the picture is empty: its shape is {array.shape}")
    pixels = _to_uint8(array)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    pixels = pixels[:, :, :3]
    return np.ascontiguousarray(pixels[:, :, ::-1] if bgr else pixels)


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ImageError("the picture holds NaN or infinite values")
        low, high = float(array.min()), float(array.max())
        if low < 0 or high > 1:
            raise ImageError(
                f"a floating picture must lie in [0, 1], this one spans [{low:.4g}, {high:.4g}]; "
                "convert it, for example with .astype('uint8') where it holds 0 to 255"
            )
        return np.round(array * 255).astype(np.uint8)
    raise ImageError(
        f"a picture of type {array.dtype} cannot be used: uint8, uint16, or floating in [0, 1]"
    )
