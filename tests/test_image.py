from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from facerecon import read_image
from facerecon.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def encoded(suffix: str = ".png", pixels: np.ndarray = PIXELS) -> bytes:
    return cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


def test_every_kind_of_input_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "ünïcode photo.png"
    path.write_bytes(encoded())
    tensor = torch.from_numpy(PIXELS)
    sources = [path, str(path), encoded(), Image.fromarray(PIXELS), PIXELS, tensor]
    sources += [tensor.permute(2, 0, 1), tensor.permute(2, 0, 1).double() / 255, PIXELS / 255]
    sources += [PIXELS.astype(np.uint16) * 257]
    for source in sources:
        np.testing.assert_array_equal(read_image(source), PIXELS)
    np.testing.assert_array_equal(read_image(PIXELS[..., ::-1], bgr=True), PIXELS)


def test_grey_alpha_and_16_bit(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    for source in (grey, grey[..., None], encoded(pixels=grey), Image.fromarray(grey)):
        np.testing.assert_array_equal(read_image(source), np.repeat(grey[..., None], 3, 2))
    alpha = np.dstack([PIXELS, grey])
    np.testing.assert_array_equal(read_image(alpha), PIXELS)
    rgba = io.BytesIO()
    Image.fromarray(alpha).save(rgba, "PNG")
    np.testing.assert_array_equal(read_image(rgba.getvalue()), PIXELS)
    deep = cv2.imencode(".png", PIXELS[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(read_image(deep), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # a white top left quarter
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(buffer, "JPEG", exif=exif, quality=95)
    for source in (buffer.getvalue(), Image.open(io.BytesIO(buffer.getvalue()))):
        found = read_image(source)
        assert found.shape == upright.shape
        assert np.abs(found.astype(int) - upright).mean() < 4


def test_broken_files_are_named(tmp_path: Path, photo_path: Path) -> None:
    jpeg = photo_path.read_bytes()
    cases = {
        "empty.jpg": b"",
        "text.jpg": b"this is no picture\n" * 50,
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": encoded(".png", np.tile(PIXELS, (9, 9, 1)))[:-40],
        "truncated.webp": encoded(".webp", np.tile(PIXELS, (9, 9, 1)))[:-40],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)
        with pytest.raises(ImageError, match="bytes"):
            read_image(content)
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 128.0), r"\[0, 1\]"),
        (np.zeros((4, 4, 2), np.uint8), "channels"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (torch.zeros(2, 3, 4, 4), "shape"),
        (None, "NoneType"),
        (7, "int"),
    ],
)
def test_what_is_no_picture_is_refused(source: object, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        read_image(source)  # type: ignore[arg-type]


def test_the_input_is_never_changed_or_shared_when_converted() -> None:
    pixels = PIXELS.copy()
    result = read_image(pixels, bgr=True)
    result[:] = 0
    np.testing.assert_array_equal(pixels, PIXELS)
