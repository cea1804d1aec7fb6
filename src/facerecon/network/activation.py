"""The activations a network can have."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "activation_layer"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "silu": F.silu}
"""By the names of ``NetworkConfig.activation``."""


def activation_layer(name: str) -> nn.Module:
    """The activation as a layer."""
    return nn.ReLU(inplace=True) if name == "relu" else nn.SiLU(inplace=True)
