from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from facerecon.errors import ConfigError
from facerecon.network import FaceNetwork, NetworkConfig
from facerecon.training.growing import grow_from

SMALL = NetworkConfig(
    name="small",
    input_size=32,
    stem_channels=4,
    stem_stride=2,
    growth=((3, 2), (2, 3)),
    bottleneck=2,
    transitions=(5,),
    decoder=(6, 4),
)
LARGER: dict[str, dict[str, Any]] = {
    "layers": {"growth": ((3, 2, 4), (2, 3, 1, 1))},
    "wider layers": {"growth": ((5, 2), (2, 7))},
    "transitions": {"transitions": (9,)},
    "decoder": {"decoder": (8, 5)},
    "all": {"growth": ((5, 4, 4), (4, 3, 3)), "transitions": (9,), "decoder": (8, 8)},
    "nothing": {},
}


def trained(config: NetworkConfig) -> FaceNetwork:
    """A network whose every parameter and running statistic has some value of its own."""
    torch.manual_seed(1)
    network = FaceNetwork(config)
    for name, tensor in network.state_dict().items():
        if not name.startswith("pixel") and tensor.is_floating_point():
            low, high = (0.5, 1.5) if name.endswith("running_var") else (-0.5, 0.5)
            tensor.uniform_(low, high)
    return network.eval()


@pytest.mark.parametrize("larger", LARGER)
@pytest.mark.parametrize("build", [{}, {"stem_stride": 4, "decoder_convolutions": 3}], ids=str)
def test_a_grown_network_answers_as_before(build: dict[str, int], larger: str) -> None:
    small = trained(dataclasses.replace(SMALL, **build))
    large = FaceNetwork(dataclasses.replace(small.config, **LARGER[larger])).eval()
    grow_from(large, small)
    pixels = torch.rand(3, 3, 32, 32) * 255
    with torch.no_grad():
        expected = small(pixels)
        torch.testing.assert_close(large(pixels), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01


def test_what_was_added_learns() -> None:
    large = FaceNetwork(dataclasses.replace(SMALL, **LARGER["all"]))
    grow_from(large, trained(SMALL))
    pixels, wanted = torch.rand(4, 3, 32, 32) * 255, torch.rand(4, 3, 32, 32)
    optimiser = torch.optim.SGD(large.parameters(), lr=0.01)
    for _ in range(8):  # what reads a channel learns first, then what makes it
        optimiser.zero_grad()
        nn.functional.mse_loss(large(pixels), wanted).backward()
        optimiser.step()
    for name, parameter in large.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    last = large.decoder.last
    assert isinstance(last, nn.ConvTranspose2d)
    assert last.weight[SMALL.decoder[-1] :].abs().min() > 0  # it read nothing of these before


@pytest.mark.parametrize(
    "change",
    [
        {"growth": ((3, 1), (2, 3))},
        {"growth": ((3,), (2, 3))},
        {"growth": ((3, 2), (2, 3), (2,)), "transitions": (5, 5)},
        {"transitions": (4,)},
        {"decoder": (6, 4, 4)},
        {"decoder": (6, 3)},
        {"stem_channels": 8},
        {"bottleneck": 4},
    ],
    ids=str,
)
def test_other_networks_are_refused_and_left_alone(change: dict[str, Any]) -> None:
    other = FaceNetwork(dataclasses.replace(SMALL, name="other", **change))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ConfigError, match="'small', 'other' is to be trained"):
        grow_from(other, trained(SMALL))
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, before[name]), name
