"""Augmentation: random parameters are drawn once, then applied purely, batched on the device."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from facerecon.training.targets import CropDraw

__all__ = ["PhotoDraw", "apply_photo_draw", "cut_crops", "draw_crops", "draw_photos", "rows_of"]


def draw_crops(
    count: int, turn: float, zoom: float, shift: float, generator: torch.Generator
) -> CropDraw:
    """Turns (half of them within a quarter of the range), zooms, shifts and mirrors."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    reach = torch.where(torch.rand(count, generator=generator) < 0.5, turn / 4, turn)
    return CropDraw(
        turn=uniform(count) * reach,
        zoom=torch.exp(uniform(count) * math.log1p(zoom)),
        shift=uniform(count, 2) * shift,
        mirror=torch.rand(count, generator=generator) < 0.5,
    )


def cut_crops(squares: Tensor, theta: Tensor, mirror: Tensor, size: int) -> Tensor:
    """Cut crops out of packed squares.

    Args:
        squares: (n, s, s, 3) uint8.
        theta: (n, 2, 3) square-normalised from crop-normalised coordinates.
        mirror: (n,) crops to mirror.
        size: Side of the crops.

    Returns:
        (n, 3, size, size) float32, 0 to 255.
    """
    # affine_grid works in [-1, 1]: linear parts are the same, offsets double
    scaled = torch.cat([theta[:, :, :2], theta[:, :, 2:] * 2], 2)
    grid = F.affine_grid(scaled, [len(theta), 3, size, size], align_corners=False)
    pixels = squares.permute(0, 3, 1, 2).float()
    crops = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return torch.where(mirror[:, None, None, None], crops.flip(3), crops)


@dataclass(frozen=True)
class PhotoDraw:
    """What is done to the pixels of a batch; each (n, ...) on the batch's device.

    Attributes:
        gain: (n, 3) factor per channel.
        bias: (n, 1) added, in units of 255.
        gamma: (n, 1) exponent.
        saturation: (n, 1) 0 is grey, 1 unchanged.
        boxes: (n, k, 4) occluders x0, y0, x1, y1 in crop pixels; empty where x1 <= x0.
        fill: (n, k, 3) their colours, 0 to 255.
        patch: (n, k) whether an occluder shows another place of the photo instead.
        round: (n, k) whether an occluder is the ellipse in its box.
        blur: (n,) standard deviation in pixels, 0 for none.
        coarse: (n,) rows of a lower resolution, the side of ``coarse_size``.
        coarse_size: One lower resolution for the whole batch, pixels.
        jpeg: (n,) quality 1 to 100, 0 for none.
        noise: (n,) standard deviation, 0 to 255.
        grain: (n, 2) where in the batch's tile of noise each photo's lies, 0 to 1.
        seed: Of that tile.
    """

    gain: Tensor
    bias: Tensor
    gamma: Tensor
    saturation: Tensor
    boxes: Tensor
    fill: Tensor
    patch: Tensor
    round: Tensor
    blur: Tensor
    coarse: Tensor
    coarse_size: int
    jpeg: Tensor
    noise: Tensor
    grain: Tensor
    seed: int


@dataclass(frozen=True)
class _Strength:
    """How far a batch's photos are changed: chances and upper limits.

    Attributes:
        dark: How likely a photo gets up to ten times darker.
        occluder: Sides of the smallest and the largest occluder, as shares of the crop's.
        occluded: How likely there is a first and a second one.
        softened: How likely a photo is blurred; as likely it gets noise.
        blur: Highest standard deviation, pixels.
        coarse: Lowest resolution, as a share of the crop's.
        jpeg: Lowest quality.
        noise: Lowest and highest standard deviation.
        rare_noise: Exponent of the share between them: 2 makes strong noise rarer.
    """

    dark: float
    occluder: tuple[float, float]
    occluded: tuple[float, float]
    softened: float
    blur: float
    coarse: float
    jpeg: float
    noise: tuple[float, float]
    rare_noise: float


_MILD = _Strength(
    dark=0.0,
    occluder=(0.1, 0.5),
    occluded=(0.35, 0.1),
    softened=0.25,
    blur=1.8,
    coarse=0.25,
    jpeg=15.0,
    noise=(1.0, 14.0),
    rare_noise=1.0,
)
_HARSH = _Strength(
    dark=0.2,
    occluder=(0.25, 0.65),
    occluded=(0.7, 0.25),
    softened=0.35,
    blur=4.0,
    coarse=0.15,
    jpeg=8.0,
    noise=(1.0, 40.0),
    rare_noise=1.5,
)


def draw_photos(
    count: int, size: int, generator: torch.Generator, harshness: float = 0.0
) -> PhotoDraw:
    """Draw the appearance changes of a batch of ``count`` crops of ``size`` pixels.

    Args:
        count: Crops.
        size: Their side, pixels.
        generator: Of all that is random.
        harshness: How likely the batch is changed more: darker, blurrier, noisier, harder pressed,
            with more and larger occluders.
    """
    harsh = torch.rand((), generator=generator).item() < harshness
    strength = _HARSH if harsh else _MILD

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*(shape or (count,)), generator=generator)

    def sometimes(share: float, values: Tensor) -> Tensor:
        keep = torch.rand(values.shape[0], generator=generator) < share
        return torch.where(keep.view(-1, *[1] * (values.dim() - 1)), values, torch.zeros(()))

    light = torch.exp(sometimes(strength.dark, uniform(math.log(0.1), 0, count, 1)))
    common = light * torch.exp(uniform(-0.35, 0.35, count, 1))
    gain = common * torch.exp(uniform(-0.12, 0.12, count, 3))
    saturation = sometimes(0.9, uniform(0.5, 1.4, count, 1))
    least, most = (math.log(share) for share in strength.occluder)
    extent = torch.exp(uniform(least, most, count, 2, 2)) * size
    centre = uniform(0.05, 0.95, count, 2, 2) * size
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], 2)
    for k, share in enumerate(strength.occluded):
        boxes[:, k] = sometimes(share, boxes[:, k])
    quiet, loud = strength.noise
    return PhotoDraw(
        gain=gain,
        bias=uniform(-0.12, 0.12, count, 1) * light,  # or a dark photo would be black
        gamma=torch.exp(uniform(-0.4, 0.4, count, 1)),
        saturation=saturation,
        boxes=boxes,
        fill=uniform(0, 255, count, 2, 3),
        patch=uniform(0, 1, count, 2) < 0.5,
        round=uniform(0, 1, count, 2) < 0.5,
        blur=sometimes(strength.softened, uniform(0.4, strength.blur)),
        coarse=uniform(0, 1) < 0.15,
        coarse_size=int(size * uniform(strength.coarse, 0.75, 1).item()),
        jpeg=sometimes(0.2, uniform(strength.jpeg, 80)),
        noise=sometimes(
            strength.softened, quiet + (loud - quiet) * uniform(0, 1) ** strength.rare_noise
        ),
        seed=int(torch.randint(2**31, (1,), generator=generator)),
        grain=uniform(0, 1, count, 2),
    )


def apply_photo_draw(crops: Tensor, draw: PhotoDraw) -> Tensor:
    """Crops (n, 3, s, s) of 0 to 255, changed as drawn; the order is that of a camera."""
    x = _occlude(crops, draw)
    x = (x / 255).clamp(1e-4, 1) ** draw.gamma[:, :, None, None]
    grey = (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    x = grey + (x - grey) * draw.saturation[:, :, None, None]
    x = (x * draw.gain[:, :, None, None] + draw.bias[:, :, None, None]).clamp(0, 1) * 255
    x = _blur(x, draw.blur)
    if draw.coarse.any():
        small = F.interpolate(x[draw.coarse], size=draw.coarse_size, mode="area")
        back = F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)
        x = x.index_copy(0, draw.coarse.nonzero()[:, 0], back)
    noisy = draw.noise > 0
    if noisy.any():
        noise = _grain(x.shape[1:], draw, noisy) * draw.noise[noisy][:, None, None, None]
        x = x.index_add(0, noisy.nonzero()[:, 0], noise).clamp(0, 255)
    pressed = draw.jpeg > 0
    if pressed.any():
        rows = pressed.nonzero()[:, 0]
        x = x.index_copy(0, rows, _jpeg(x[rows], draw.jpeg[rows]))
    return x


def _grain(shape: torch.Size, draw: PhotoDraw, rows: Tensor) -> Tensor:
    """Unit noise for some photos, each a different part of one tile.

    A photo's noise depends on the draw alone, not on which photos it is processed with.
    """
    channels, height, width = shape
    device = draw.noise.device
    generator = torch.Generator(device).manual_seed(draw.seed)
    tile = torch.randn(channels, 2 * height, 2 * width, generator=generator, device=device)
    corners = (draw.grain[rows].cpu() * torch.tensor([height, width])).int().tolist()
    return torch.stack([tile[:, y : y + height, x : x + width] for y, x in corners])


def _occlude(crops: Tensor, draw: PhotoDraw) -> Tensor:
    size = crops.shape[-1]
    at = torch.arange(size, device=crops.device, dtype=crops.dtype) + 0.5
    x = crops
    for k in range(draw.boxes.shape[1]):
        x0, y0, x1, y1 = draw.boxes[:, k].unbind(1)
        rows = (x1 > x0).nonzero()[:, 0]
        x0, y0, x1, y1 = (edge[rows, None] for edge in (x0, y0, x1, y1))
        # how far pixels' middles are from the occluder's, in half extents
        across, down = (2 * at - x0 - x1) / (x1 - x0), (2 * at - y0 - y1) / (y1 - y0)
        across, down = across[:, None, :], down[:, :, None]
        curved = draw.round[rows, k, None, None]
        inside = torch.where(curved, across**2 + down**2 < 1, across.abs().maximum(down.abs()) < 1)
        inside = inside[:, None]
        fill = draw.fill[rows, k, :, None, None]
        other = crops[rows].roll((size // 3, size // 2), (2, 3)).flip(2)
        cover = torch.where(draw.patch[rows, k, None, None, None], other, fill)
        x = x.index_copy(0, rows, torch.where(inside, cover, x[rows]))
    return x


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    rows = (sigma > 0).nonzero()[:, 0]
    if not len(rows):
        return x
    reach = 9
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-(at**2) / (2 * sigma[rows, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    picked = x[rows].flatten(0, 1)[None]
    picked = F.pad(picked, (reach,) * 4, mode="replicate")
    groups = picked.shape[1]
    picked = F.conv2d(picked, kernel[:, None, :, None], groups=groups)
    picked = F.conv2d(picked, kernel[:, None, None, :], groups=groups)
    return x.index_copy(0, rows, picked[0].unflatten(0, (len(rows), 3)))


# ITU-T T.81 (JPEG), Annex K.1: luminance and chrominance quantisation at quality 50
_LUMA = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
_CHROMA = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def _jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """JPEG's loss without its files: blockwise DCT, quantisation, inverse; no subsampling."""
    chroma = x.new_full((8, 8), 99.0)
    chroma[:4, :4] = x.new_tensor(_CHROMA)
    table = torch.stack([x.new_tensor(_LUMA), chroma, chroma])
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    steps = (table * factor[:, None, None, None] + 0.5).floor().clamp(1, 255)[:, :, None, None]
    to_ycc = x.new_tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    k = torch.arange(8, device=x.device, dtype=x.dtype)
    dct = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    dct[0] /= math.sqrt(2)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, x - 128 * x.new_tensor(1.0))
    blocks = ycc.unflatten(2, (-1, 8)).unflatten(4, (-1, 8)).transpose(3, 4)
    spectrum = (dct @ blocks @ dct.T / steps).round() * steps
    blocks = dct.T @ spectrum @ dct
    ycc = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), ycc)
    return (rgb + 128).clamp(0, 255)


_Draw = TypeVar("_Draw", CropDraw, PhotoDraw)


def rows_of(draw: _Draw, rows: slice, device: torch.device) -> _Draw:
    """Some rows of a draw, on a device."""
    values = {f.name: getattr(draw, f.name) for f in dataclasses.fields(draw)}
    moved: dict[str, Any] = {
        k: v[rows].to(device) for k, v in values.items() if isinstance(v, Tensor)
    }
    return dataclasses.replace(draw, **moved)
