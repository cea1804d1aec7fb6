"""The face network: pixels in, position map out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facerecon.network.config import NetworkConfig
from facerecon.network.decoder import Decoder
from facerecon.network.encoder import Encoder

__all__ = ["FaceNetwork"]


class FaceNetwork(nn.Module):
    """Encoder and decoder with pixel normalisation in buffers.

    Input: (n, 3, input_size, input_size) RGB, 0 to 255, uint8 or floating.
    Output: (n, 3, map_size, map_size) x, y, z in crop-normalised coordinates
    (see :mod:`facerecon.geometry.crop`): x and y in [-1/2, 1/2] inside the crop, z into the scene.
    """

    pixel_mean: Tensor
    pixel_scale: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(self.encoder.channels, config)
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(1, 3, 1, 1))
        self.register_buffer("pixel_scale", torch.tensor(config.pixel_scale))
        self.apply(_initialise)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (n, 3, h, w) to position maps (n, 3, h', w')."""
        x = (pixels.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_scale
        positions: Tensor = self.decoder(self.encoder(x))
        return positions


def _initialise(module: nn.Module) -> None:
    """He initialisation for the ReLUs (He et al., ICCV 2015); BN starts at weight 1, bias 0.

    The paper leaves the initialisation open.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(module, nn.ConvTranspose2d):
        # a transposed convolution's output sums in_channels * (kernel / stride)^2 products
        taps = module.kernel_size[0] * module.kernel_size[1] / (module.stride[0] * module.stride[1])
        nn.init.normal_(module.weight, std=(2.0 / (module.in_channels * taps)) ** 0.5)
        if module.bias is not None:
            # the last layer: start near the mean of a position map, not at random places
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
