"""A wider or deeper network that starts out answering as a given one does.

Net2Net's idea (Chen, Goodfellow & Shlens, ICLR 2016), which dense blocks make simple: a new channel
is computed by random weights and read with zero weights, so nothing changes until training reads
it. A new layer of a dense block is nothing but new channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facerecon.errors import ConfigError
from facerecon.network import FaceNetwork, NetworkConfig
from facerecon.network.encoder import DenseLayer, Transition

__all__ = ["grow_from"]


@torch.no_grad()
def grow_from(large: FaceNetwork, small: FaceNetwork) -> None:
    """Give a freshly initialised network the answers of a smaller one of the same build.

    Args:
        large: Has at least the layers and channels of ``small`` everywhere; is written into.
        small: Stays as it is.

    Raises:
        ConfigError: ``large`` differs in more than having more layers and channels.
    """
    if not _contains(large.config, small.config):
        raise ConfigError(
            f"the weights to start from are of the network {small.config.name!r}, "
            f"{large.config.name!r} is to be trained, and it is not the same with more channels "
            f"or more layers in its dense blocks: {large.config} after {small.config}"
        )
    large.encoder.stem.load_state_dict(small.encoder.stem.state_dict())
    kept = torch.arange(small.config.stem_channels)
    for i, (block, old_block) in enumerate(
        zip(large.encoder.blocks, small.encoder.blocks, strict=True)
    ):
        for layer, old_layer in zip(block.children(), old_block.children(), strict=False):
            kept = _grow_layer(layer, old_layer, kept)
        if i < len(small.encoder.transitions):
            new, old = large.encoder.transitions[i], small.encoder.transitions[i]
            assert isinstance(new, Transition) and isinstance(old, Transition)
            _place_norm(new.norm, old.norm, kept)
            kept = _place(new.conv, old.conv, kept)
    _place_norm(large.encoder.norm, small.encoder.norm, kept)
    for stage, old_stage in zip(large.decoder.stages, small.decoder.stages, strict=True):
        for part, old_part in zip(stage.children(), old_stage.children(), strict=True):
            if isinstance(old_part, nn.ConvTranspose2d):
                kept = _place(part, old_part, kept)
            elif isinstance(old_part, nn.BatchNorm2d):
                _place_norm(part, old_part, kept)
    _place(large.decoder.last, small.decoder.last, kept)


def _grow_layer(layer: nn.Module, old: nn.Module, kept: Tensor) -> Tensor:
    """Grow a dense layer; which channels of its output are the old layer's."""
    assert isinstance(layer, DenseLayer) and isinstance(old, DenseLayer)
    _place_norm(layer.norm1, old.norm1, kept)
    inner = _place(layer.conv1, old.conv1, kept)
    _place_norm(layer.norm2, old.norm2, inner)
    own = layer.norm1.num_features  # a layer's own channels come after its input's
    return torch.cat([kept, own + _place(layer.conv2, old.conv2, inner)])


def _place(new: nn.Module, old: nn.Module, inputs: Tensor) -> Tensor:
    """Put a convolution's kernels where its old input channels are; its old output channels.

    The old output channels read the new input channels with zeros.
    """
    assert isinstance(new, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(old, nn.Conv2d | nn.ConvTranspose2d)
    weight, theirs = new.weight, old.weight
    if isinstance(new, nn.ConvTranspose2d):  # its kernels have the input's channels first
        weight, theirs = weight.transpose(0, 1), theirs.transpose(0, 1)
    outputs = torch.arange(len(theirs))
    weight[outputs] = 0
    weight[outputs[:, None], inputs] = theirs
    if old.bias is not None and new.bias is not None:
        new.bias[outputs] = old.bias
    return outputs


def _place_norm(new: nn.Module, old: nn.Module, kept: Tensor) -> None:
    tensors = new.state_dict()
    for name, theirs in old.state_dict().items():
        tensors[name][kept if theirs.dim() else ...] = theirs


def _contains(new: NetworkConfig, old: NetworkConfig) -> bool:
    """Whether a network differs from another only in having more layers and channels."""
    alike = ("stem_channels", "stem_stride", "bottleneck", "decoder_convolutions", "last_kernel")
    rows = [*zip(new.growth, old.growth, strict=False)]
    rows += [(new.transitions, old.transitions), (new.decoder, old.decoder)]
    return (
        all(getattr(new, name) == getattr(old, name) for name in alike)
        and len(new.growth) == len(old.growth)
        and len(new.decoder) == len(old.decoder)
        and all(len(more) >= len(less) for more, less in rows)
        and all(a >= b for more, less in rows for a, b in zip(more, less, strict=False))
    )
