from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from facerecon.detection import SingleShot
from facerecon.detection.boxes import intersection_over_union, non_maximum_suppression
from facerecon.detection.network import ANSWERS, DetectorConfig, DetectorNetwork, decode, fused
from facerecon.detection.single_shot import load_detector, save_detector
from facerecon.errors import CheckpointInvalid, CheckpointNotFound, ConfigError


@pytest.fixture(scope="module")
def network() -> DetectorNetwork:
    torch.manual_seed(0)
    return DetectorNetwork().eval()


def test_it_is_small(network: DetectorNetwork) -> None:
    assert sum(p.numel() for p in network.parameters()) < 300_000
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 320, 320))
    assert 0.1e9 < counter.get_total_flops() / 2 < 0.2e9


def test_every_parameter_learns(network: DetectorNetwork) -> None:
    learning = copy.deepcopy(network).train()
    learning(torch.rand(2, 3, 128, 64) * 255).square().sum().backward()
    assert [n for n, p in learning.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_folded_normalisation_answers_alike(network: DetectorNetwork) -> None:
    learned = copy.deepcopy(network).train()
    with torch.no_grad():
        learned(torch.rand(4, 3, 64, 64) * 255)  # other statistics than the initial ones
        learned.eval()
        folded = fused(learned)
        pixels = torch.rand(1, 3, 64, 128) * 255
        torch.testing.assert_close(folded(pixels), learned(pixels), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in learned.modules())


def test_cells_match_the_answers(network: DetectorNetwork) -> None:
    """Answers change round the place where the picture does."""
    cells = network.cells(256, 320)
    picture = torch.full((1, 3, 256, 320), 120.0)

    def centre_of_change(x: int, y: int) -> torch.Tensor:
        changed = picture.clone()
        changed[:, :, y : y + 8, x : x + 8] = 255
        with torch.no_grad():
            moved = (network(changed) - network(picture))[0].square().sum(1) * (cells[:, 2] == 8)
        return (cells[:, :2] * moved[:, None]).sum(0) / moved.sum()

    middle = centre_of_change(128, 128)
    right, below = centre_of_change(224, 128) - middle, centre_of_change(128, 192) - middle
    assert right[0] > 40 and abs(right[1]) < 12
    assert below[1] > 15 and abs(below[0]) < 12
    first = cells[cells[:, 2] == 16][:2]
    assert first.tolist() == [[7.5, 7.5, 16], [23.5, 7.5, 16]]


def test_decoding_by_hand() -> None:
    answers = torch.zeros(1, ANSWERS)
    answers[0, :5] = torch.tensor([2.0, 0.5, -0.25, np.log(3.0), np.log(2.0)])
    answers[0, 5:7] = torch.tensor([1.0, -1.0])  # a point on the box's upper right corner
    score, boxes, points = decode(answers, torch.tensor([[11.5, 19.5, 8.0]]))
    assert score.item() == 2
    # centre 11.5 + 0.5 * 8, 19.5 - 0.25 * 8; width 3 * 8, height 2 * 8
    torch.testing.assert_close(boxes, torch.tensor([[3.5, 9.5, 27.5, 25.5]]))
    torch.testing.assert_close(points[0, 0], torch.tensor([27.5, 9.5]))
    torch.testing.assert_close(points[0, 1], torch.tensor([15.5, 17.5]))


def test_overlap_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2]])
    others = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]])
    shared = intersection_over_union(boxes, others)
    torch.testing.assert_close(shared, torch.tensor([[1, 1 / 3, 0, 0]]))


def greedy(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """The textbook's loop."""
    left, kept = scores.argsort(descending=True, stable=True).tolist(), []
    while left:
        best = left.pop(0)
        kept.append(best)
        shared = intersection_over_union(boxes[best : best + 1], boxes)[0]
        left = [i for i in left if shared[i] <= threshold]
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_suppression_is_the_greedy_one(count: int, threshold: float) -> None:
    rng = np.random.default_rng(count)
    low = rng.uniform(0, 60, (count, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + rng.uniform(5, 30, (count, 2))], 1))
    scores = torch.from_numpy(rng.random(count).round(1))  # with ties
    kept = non_maximum_suppression(boxes, scores, threshold)
    assert kept.tolist() == greedy(boxes, scores, threshold)


def test_a_chain_of_boxes() -> None:
    """The middle one goes, and so does not take the last one with it."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    kept = non_maximum_suppression(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.3)
    assert kept.tolist() == [0, 2]


def test_files_there_and_back(network: DetectorNetwork, tmp_path: Path) -> None:
    save_detector(network, tmp_path, {"license": "none"})
    again, info = load_detector(tmp_path)
    assert info == {"license": "none"}
    pixels = torch.rand(1, 3, 64, 128) * 255
    with torch.no_grad():
        torch.testing.assert_close(again(pixels), network(pixels), atol=2e-2, rtol=2e-2)
    assert (tmp_path / "model.safetensors").stat().st_size < 1_000_000
    with pytest.raises(CheckpointNotFound):
        SingleShot.from_folder(tmp_path / "other")
    (tmp_path / "config.json").write_text('{"format": "facerecon-1"}')
    with pytest.raises(CheckpointInvalid, match="facerecon-detector-1"):
        SingleShot.from_folder(tmp_path)


def test_wrong_shapes_are_named() -> None:
    values = DetectorConfig().to_dict()
    assert DetectorConfig.from_dict(values) == DetectorConfig()
    with pytest.raises(ConfigError, match="five levels"):
        DetectorConfig.from_dict({**values, "channels": [8, 8]})
    with pytest.raises(ConfigError, match="keys"):
        DetectorConfig.from_dict({"stem": 8})


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"threshold": 1.5}, {"min_size": 0}, {"max_side": 3}]
)
def test_wrong_options(network: DetectorNetwork, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SingleShot(network, **options)  # type: ignore[arg-type]


def test_the_given_network_stays_as_it_is(network: DetectorNetwork) -> None:
    SingleShot(network)
    assert all(p.requires_grad for p in network.parameters())
