from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from facerecon.errors import ConfigError
from facerecon.network import FaceNetwork, NetworkConfig

# Table 1 of the paper: (channels, side) after each stage; the transitions' 1x1 convolution, pooling
TABLE_1 = {
    "stem": (16, 256),
    "blocks.0": (96, 256),
    "transitions.0.conv": (48, 256),
    "transitions.0": (48, 128),
    "blocks.1": (200, 128),
    "transitions.1.conv": (104, 128),
    "transitions.1": (104, 64),
    "blocks.2": (256, 64),
    "transitions.2.conv": (160, 64),
    "transitions.2": (160, 32),
    "blocks.3": (328, 32),
    "transitions.3.conv": (232, 32),
    "transitions.3": (232, 16),
    "blocks.4": (528, 16),
    "transitions.4.conv": (336, 16),
    "transitions.4": (336, 8),
    "blocks.5": (512, 8),
}
PRNET_PARAMETERS = 13.35e6


def on_meta(config: NetworkConfig) -> FaceNetwork:
    with torch.device("meta"):
        return FaceNetwork(config)


def shapes_of(network: FaceNetwork, part: nn.Module) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in part.named_modules():
        module.register_forward_hook(
            lambda _m, _i, out, name=name: shapes.__setitem__(name, tuple(out.shape))
        )
    size = network.config.input_size
    shapes["out"] = tuple(network(torch.empty(1, 3, size, size, device="meta")).shape)
    return shapes


def test_paper_has_table_1s_output_sizes() -> None:
    network = on_meta(NetworkConfig.paper())
    shapes = shapes_of(network, network.encoder)
    for stage, (channels, side) in TABLE_1.items():
        assert shapes[stage] == (1, channels, side, side), stage
    assert shapes["out"] == (1, 3, 256, 256)


def test_papers_decoder_has_five_modules_of_three_transposed_convolutions() -> None:
    decoder = on_meta(NetworkConfig.paper()).decoder
    assert len(decoder.stages) == 5
    for stage in decoder.stages:
        found = [m for m in stage if isinstance(m, nn.ConvTranspose2d)]
        assert [(m.kernel_size[0], m.stride[0], m.padding[0]) for m in found] == [
            (3, 1, 1),
            (4, 2, 1),
            (3, 1, 1),
        ]


def test_parameter_counts(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {
        name: sum(p.numel() for p in on_meta(NetworkConfig.named(name)).parameters())
        for name in ("paper", "fast")
    }
    with capsys.disabled():
        print(
            f"\nparameters: paper {counts['paper'] / 1e6:.2f} M, "
            f"fast {counts['fast'] / 1e6:.2f} M, PRNet {PRNET_PARAMETERS / 1e6:.2f} M"
        )
    # the paper says 18.7 % fewer than PRNet, 10.86 M
    assert counts["paper"] == pytest.approx(10.86e6, rel=0.05)
    assert counts["fast"] == pytest.approx(3.22e6, rel=0.01)


def test_bottleneck_is_four_times_the_growth() -> None:
    for block in on_meta(NetworkConfig.paper()).encoder.blocks:
        for layer in block:
            assert layer.conv1.out_channels == 4 * layer.conv2.out_channels


@pytest.mark.parametrize("name", ["fast", "paper"])
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    network = FaceNetwork(NetworkConfig.named(name))
    pixels = torch.rand(2, 3, 64, 64) * 255  # fully convolutional: a small input will do
    network(pixels).square().mean().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


def test_normalisation_travels_with_the_weights() -> None:
    network = FaceNetwork(NetworkConfig.fast()).eval()
    assert {"pixel_mean", "pixel_scale"} <= set(network.state_dict())
    pixels = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), network(pixels.float()))


@pytest.mark.parametrize("name", ["fast", "paper"])
def test_configuration_round_trips_through_json(name: str) -> None:
    config = NetworkConfig.named(name)
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "change",
    [
        {"colour": 1},
        {"input_size": 100},
        {"transitions": [1, 2]},
        {"stem_stride": 3},
        {"growth": [[12], [0]]},
        {"growth": 5},
        {"input_size": "big"},
        {"activation": "tanh"},
    ],
)
def test_bad_configurations_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        NetworkConfig.from_dict({**NetworkConfig.fast().to_dict(), **change})


def test_the_activation_is_that_of_every_layer() -> None:
    """SiLU is x / 2 for small x: a fresh network of nothing else is odd; one with a ReLU is not."""

    def evenness(activation: str) -> float:
        torch.manual_seed(0)
        config = NetworkConfig.fast().changed({"activation": activation})
        network = FaceNetwork(config).double().eval()
        small = torch.randn(1, 3, 128, 128, dtype=torch.float64) * 1e-6
        with torch.no_grad():
            there, back = network(127.5 + small), network(127.5 - small)
        return float((there + back).abs().max() / there.abs().max())

    assert evenness("silu") < 1e-4
    assert evenness("relu") > 0.1


def test_missing_keys_and_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="missing"):
        NetworkConfig.from_dict({"name": "x"})
    with pytest.raises(ConfigError, match="fast"):
        NetworkConfig.named("huge")
