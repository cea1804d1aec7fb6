"""The detector's network: an anchor-free single-shot detector with a small feature pyramid.

Every cell of four grids (strides 8 to 64) answers whether a face is centred on it, and where its
box and five points lie (after FCOS, Tian et al., ICCV 2019, and YuNet, Wu et al., Machine
Intelligence Research 20, 2023; the layers and sizes are our own).
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facerecon.errors import ConfigError

__all__ = ["ANSWERS", "STRIDES", "DetectorConfig", "DetectorNetwork", "decode", "fused"]

STRIDES = (8, 16, 32, 64)
"""Pixels from cell to cell of each grid."""
ANSWERS = 15
"""Numbers a cell answers: a score's logit, box centre and log size, five points."""


@dataclass(frozen=True)
class DetectorConfig:
    """The shape of a detector.

    Attributes:
        stem: Channels of the first convolution.
        channels: Channels at the strides 4, 8, 16, 32 and 64.
        blocks: Residual blocks at each of them.
        width: Channels of the feature pyramid.
        pixel_mean: Mean of the input's pixels, 0 to 255, in R, G, B.
        pixel_scale: Divisor of the centred pixels.
    """

    stem: int = 16
    channels: tuple[int, ...] = (32, 48, 64, 80, 80)
    blocks: tuple[int, ...] = (1, 2, 3, 2, 1)
    width: int = 48
    pixel_mean: tuple[float, ...] = (123.7, 116.3, 103.5)
    pixel_scale: float = 58.0

    def __post_init__(self) -> None:
        sizes = (self.stem, self.width, *self.channels)
        if len(self.channels) != 5 or len(self.blocks) != 5 or min(sizes) < 1:
            raise ConfigError("a detector has five levels of one or more channels")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DetectorConfig:
        """The configuration of :meth:`to_dict`'s values.

        Raises:
            ConfigError: Keys are missing or unknown, or values do not fit.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            raise ConfigError(f"a detector has the keys {sorted(names)}, these are {list(values)}")
        listed: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**listed)


def _convolution(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    )


class Block(nn.Module):
    """A depthwise 5x5 and a 1x1 convolution beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = _convolution(channels, channels, 5, groups=channels)
        self.mixing = _convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c, h, w)."""
        return torch.relu(x + self.mixing(torch.relu(self.spatial(x))))


class DetectorNetwork(nn.Module):
    """Pixels to the answers of all cells.

    Input: (n, 3, h, w) RGB, 0 to 255, uint8 or floating, h and w multiples of 64.
    Output: (n, cells, 15) raw answers; :meth:`cells` says where each cell is, :func:`decode` turns
    the answers into boxes.
    """

    pixel_mean: Tensor
    pixel_scale: Tensor

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DetectorConfig()
        width = config.width
        self.stem = nn.Sequential(_convolution(3, config.stem, 3, 2), nn.ReLU(inplace=True))
        self.levels = nn.ModuleList()
        channels = config.stem
        for out, count in zip(config.channels, config.blocks, strict=True):
            down = nn.Sequential(_convolution(channels, out, 3, 2), nn.ReLU(inplace=True))
            self.levels.append(nn.Sequential(down, *[Block(out) for _ in range(count)]))
            channels = out
        self.lateral = nn.ModuleList([_convolution(c, width, 1) for c in config.channels[1:]])
        self.merged = nn.ModuleList([Block(width) for _ in STRIDES])
        self.heads = nn.ModuleList(
            [nn.Sequential(Block(width), nn.Conv2d(width, ANSWERS, 1)) for _ in STRIDES]
        )
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(1, 3, 1, 1))
        self.register_buffer("pixel_scale", torch.tensor(config.pixel_scale))
        self.apply(_initialise)
        for head in self.heads:
            last: nn.Conv2d = head[-1]  # type: ignore[index]
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                last.bias[0] = -4.6  # type: ignore[index]  # a face is rare: 0.01 (RetinaNet)
                last.bias[3:5] = 1.0  # type: ignore[index]

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (n, 3, h, w) to answers (n, cells, 15)."""
        x = (pixels.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_scale
        x = self.levels[0](self.stem(x))
        features = []
        for level, lateral in zip(self.levels[1:], self.lateral, strict=True):
            x = level(x)
            features.append(lateral(x))
        answers: list[Tensor] = []
        above: Tensor | None = None
        for k in reversed(range(len(STRIDES))):
            merged = features[k]
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
            above = self.merged[k](torch.relu(merged))
            answers.insert(0, self.heads[k](above).flatten(2).transpose(1, 2))
        return torch.cat(answers, 1)

    @staticmethod
    def cells(height: int, width: int, device: torch.device | None = None) -> Tensor:
        """Where each cell is, in the order of the answers: (cells, 3) centre x, y and stride."""
        parts = []
        for stride in STRIDES:
            y = (torch.arange(height // stride, device=device) + 0.5) * stride - 0.5
            x = (torch.arange(width // stride, device=device) + 0.5) * stride - 0.5
            grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2).flip(1)
            parts.append(F.pad(grid, (0, 1), value=float(stride)))
        return torch.cat(parts)


def decode(answers: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Answers to faces.

    Args:
        answers: (..., cells, 15).
        cells: (cells, 3), see :meth:`DetectorNetwork.cells`.

    Returns:
        Score logits (..., cells), boxes x0, y0, x1, y1 (..., cells, 4) and the points: right eye,
        left eye, nose tip, right and left corner of the mouth (the person's own sides),
        (..., cells, 5, 2); all in pixels of the network's input.
    """
    at, stride = cells[:, :2], cells[:, 2:]
    centre = at + answers[..., 1:3] * stride
    half = answers[..., 3:5].clamp(-4, 6).exp() * stride / 2
    # points are told in half box sizes from the box's centre: faces differ little there
    offsets = answers[..., 5:].unflatten(-1, (5, 2))
    points = centre.unsqueeze(-2) + offsets * half.unsqueeze(-2)
    return answers[..., 0], torch.cat([centre - half, centre + half], -1), points


def fused(network: DetectorNetwork) -> DetectorNetwork:
    """A copy for inference, its normalisations folded into the convolutions before them."""
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(folded.modules()):
        for name, child in module.named_children():
            pair = list(child) if isinstance(child, nn.Sequential) else []
            if [type(part) for part in pair] == [nn.Conv2d, nn.BatchNorm2d]:
                convolution, norm = pair
                assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
    return folded


def _initialise(module: nn.Module) -> None:
    """He initialisation for the ReLUs (He et al., ICCV 2015)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # fan_out counts a depthwise kernel once for every group
        if module.groups > 1:
            nn.init.normal_(module.weight, std=(2.0 / module.weight[0].numel()) ** 0.5)
