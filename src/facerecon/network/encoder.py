"""The DenseNet encoder: a stem, dense blocks, and transitions that halve the side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facerecon.network.activation import ACTIVATIONS, activation_layer
from facerecon.network.config import NetworkConfig

__all__ = ["DenseBlock", "DenseLayer", "Encoder", "Transition"]


class DenseLayer(nn.Module):
    """BN, ReLU, 1x1 convolution, BN, ReLU, 3x3 convolution; its output joins its input.

    Pre-activation as in DenseNet-BC (Huang et al., CVPR 2017); the paper does not name the
    activation or a second normalisation.
    """

    def __init__(
        self, channels: int, growth: int, bottleneck: int, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        inner = bottleneck * growth
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c + growth, h, w)."""
        inner = self.conv1(self.activation(self.norm1(x)))
        new = self.conv2(self.activation(self.norm2(inner)))
        return torch.cat([x, new], 1)


class DenseBlock(nn.Sequential):
    """Dense layers, one after the other."""

    def __init__(
        self,
        channels: int,
        growth: tuple[int, ...],
        bottleneck: int,
        activation: str = "relu",
    ) -> None:
        layers: list[nn.Module] = []
        for g in growth:
            layers.append(DenseLayer(channels, g, bottleneck, activation))
            channels += g
        super().__init__(*layers)
        self.channels = channels


class Transition(nn.Module):
    """BN, ReLU, 1x1 convolution, 2x2 average pooling of stride 2."""

    def __init__(self, channels: int, out: int, activation: str = "relu") -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, out, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, out, h / 2, w / 2)."""
        pooled: Tensor = self.pool(self.conv(self.activation(self.norm(x))))
        return pooled


def _stem(channels: int, stride: int, activation: str) -> nn.Module:
    """A 3x3 convolution of stride 1 or 2, or two of stride 2 for stride 4."""
    if stride < 4:
        return nn.Conv2d(3, channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(
        nn.Conv2d(3, channels // 2, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(channels // 2),
        activation_layer(activation),
        nn.Conv2d(channels // 2, channels, 3, 2, padding=1, bias=False),
    )


class Encoder(nn.Module):
    """Stem, then dense blocks with transitions between them.

    Attributes:
        channels: Channels of the output.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels = config.stem_channels
        self.stem = _stem(channels, config.stem_stride, config.activation)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for i, growth in enumerate(config.growth):
            block = DenseBlock(channels, growth, config.bottleneck, config.activation)
            self.blocks.append(block)
            channels = block.channels
            if i < len(config.transitions):
                self.transitions.append(
                    Transition(channels, config.transitions[i], config.activation)
                )
                channels = config.transitions[i]
        self.norm = nn.BatchNorm2d(channels)
        self.activation = ACTIVATIONS[config.activation]
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pixels (n, 3, s, s) to features (n, channels, s / r, s / r)."""
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i < len(self.transitions):
                x = self.transitions[i](x)
        return self.activation(self.norm(x))
