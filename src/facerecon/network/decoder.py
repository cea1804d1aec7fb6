"""The decoder: stages of transposed convolutions that double the side."""

from __future__ import annotations

from torch import Tensor, nn

from facerecon.network.activation import activation_layer
from facerecon.network.config import NetworkConfig

__all__ = ["Decoder"]


def _deconvolution(
    channels: int, out: int, kernel: int, stride: int, activation: str
) -> list[nn.Module]:
    """Transposed convolution with padding 1, BN, activation: o = stride (i - 1) + kernel - 2."""
    return [
        nn.ConvTranspose2d(channels, out, kernel, stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        activation_layer(activation),
    ]


class Decoder(nn.Module):
    """Features to an x, y, z map.

    The last convolution is linear: a face may reach beyond the crop, so coordinates are not
    squashed into a fixed range (PRNet's sigmoid is; the paper does not say).
    """

    def __init__(self, channels: int, config: NetworkConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for out in config.decoder:
            layers: list[nn.Module] = []
            if config.decoder_convolutions == 3:
                layers += _deconvolution(channels, channels, 3, 1, config.activation)
            layers += _deconvolution(channels, out, 4, 2, config.activation)
            layers += _deconvolution(out, out, 3, 1, config.activation)
            self.stages.append(nn.Sequential(*layers))
            channels = out
        kernel = config.last_kernel
        self.last = nn.ConvTranspose2d(channels, 3, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, s, s) to (n, 3, s * 2^stages, s * 2^stages)."""
        for stage in self.stages:
            x = stage(x)
        positions: Tensor = self.last(x)
        return positions
