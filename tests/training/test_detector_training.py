"""The detector is trained by the same engine, on scenes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facerecon import SingleShot
from facerecon.cli import main
from facerecon.detection.network import DetectorNetwork, decode
from facerecon.errors import ConfigError
from facerecon.training import TrainConfig, smoke_test, train
from facerecon.training.detection.losses import (
    FACE,
    IGNORED,
    NOBODY,
    assign,
    detection_loss,
    generalised_iou,
)

SMALL = TrainConfig(
    network="detector",
    steps=2,
    batch=2,
    validate_every=2,
    checkpoint_every=2,
    warmup=1,
    scene_size=128,
    bfloat16=False,
)


def test_training_writes_a_detector(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facerecon.training.detection.task._VALIDATION", 16)
    weights = train(SMALL, data, tmp_path / "cache", tmp_path / "run")
    detector = SingleShot.from_folder(weights)
    assert isinstance(detector.detect(np.zeros((80, 100, 3), np.uint8)), list)
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert rows[0] == "step,loss,recall,recall_under_24,false_alarms,iou"
    picture = cv2.imread(str(tmp_path / "run" / "pictures" / "0000002.png"))
    assert picture.shape == (3 * 128, 4 * 128, 3)


def test_it_overfits_one_batch(data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, learning_rate=3e-3)
    first, last = smoke_test(config, data, tmp_path / "cache", steps=25)
    assert last < first / 2


def test_batches_come_in_parts(data: Path, tmp_path: Path) -> None:
    from facerecon.training.task import open_task

    config = dataclasses.replace(SMALL, batch=4)
    cpu = torch.device("cpu")
    task = open_task(config, [(data, 1.0)], tmp_path / "cache", 1, cpu)
    whole = task.batch(0, slice(0, 4))
    for part, all_of_it in zip(task.batch(0, slice(2, 4)), whole, strict=True):
        torch.testing.assert_close(part, all_of_it[2:], rtol=0, atol=1e-3)
    with pytest.raises(ConfigError, match="multiple of 64"):
        other = dataclasses.replace(config, scene_size=100)
        open_task(other, [(data, 1.0)], tmp_path / "cache", 1, cpu)
    with pytest.raises(ConfigError, match="one data folder"):
        open_task(config, [(data, 1.0)] * 2, tmp_path / "cache", 1, cpu)


def test_a_sheet_of_scenes(data: Path, tmp_path: Path) -> None:
    where = ["--data", str(data), "--cache", str(tmp_path / "cache")]
    target = tmp_path / "sheet.png"
    assert main(["data", "sheet", "detector", *where, "--count", "4", "-o", str(target)]) == 0
    assert cv2.imread(str(target)).shape == (320, 4 * 320, 3)
    assert main(["data", "prepare", "detector", *where]) == 0


@pytest.mark.parametrize("side", [6.0, 12, 24, 40, 70, 100, 150, 300, 500])
def test_every_face_has_a_cell_wherever_it_lies(side: float) -> None:
    cells = DetectorNetwork.cells(320, 320)
    rng = np.random.default_rng(int(side))
    centre = torch.from_numpy(rng.uniform(30, 290, (50, 1, 2))).float()
    boxes = torch.cat([centre - side / 2, centre + side / 2], 2)
    index, ignored = assign(cells, boxes, torch.full((50, 1), FACE))
    counts = (index >= 0).sum(1)
    assert counts.min() >= 1 and counts.max() <= 24
    assert not ignored.any()
    strides = cells[(index >= 0).any(0), 2]
    assert (side / strides).min() < 8 and len(strides.unique()) <= 2


def test_the_nearer_face_and_the_ignored_one() -> None:
    cells = DetectorNetwork.cells(64, 64)
    boxes = torch.tensor([[[10.0, 10, 22, 22], [14, 10, 26, 22], [30, 30, 60, 60], [0, 0, 0, 0]]])
    kinds = torch.tensor([[FACE, FACE, IGNORED, NOBODY]])
    index, ignored = assign(cells, boxes, kinds)
    answering = {
        tuple(c[:2].tolist()): int(i) for c, i in zip(cells, index[0], strict=True) if i >= 0
    }
    assert answering[(11.5, 19.5)] == 0 and answering[(19.5, 19.5)] == 1
    inside = ((cells[:, :2] >= 30) & (cells[:, :2] <= 60)).all(1)
    torch.testing.assert_close(ignored[0], inside)


def test_generalised_iou_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    others = torch.tensor([[1.0, 0, 3, 2], [2, 0, 3, 1]])
    iou, giou = generalised_iou(boxes, others)
    # the second pair is apart: hull 3, union 2
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(giou, torch.tensor([1 / 3, -1 / 3]))


def test_right_answers_cost_nothing() -> None:
    cells = DetectorNetwork.cells(128, 128)
    boxes = torch.tensor([[[20.0, 30, 80, 100]]])
    points = torch.tensor([[[[35.0, 50], [65, 50], [50, 65], [38, 80], [62, 80]]]])
    kinds = torch.tensor([[FACE]])
    index, _ = assign(cells, boxes, kinds)
    answers = torch.zeros(1, len(cells), 15)
    answers[..., 0] = torch.where(index >= 0, 12.0, -12.0)
    centre, half = torch.tensor([50.0, 65.0]), torch.tensor([30.0, 35.0])
    answers[..., 1:3] = (centre - cells[:, :2]) / cells[:, 2:]
    answers[..., 3:5] = (2 * half / cells[:, 2:]).log()
    answers[..., 5:] = ((points[0, 0] - centre) / half).flatten()
    _, found, there = decode(answers, cells)
    torch.testing.assert_close(found[0, 0], boxes[0, 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(there[0, 0], points[0, 0], atol=1e-3, rtol=0)
    assert detection_loss(answers, cells, boxes, points, kinds) < 1e-4
    worse = answers.clone()
    worse[..., 1] += 0.5
    assert detection_loss(worse, cells, boxes, points, kinds) > 0.1
    unsure = answers.clone()
    unsure[0, 0, 0] = 3.0  # a false alarm
    loss = detection_loss(unsure, cells, boxes, points, kinds)
    assert loss > 0.1
    # the same where an ignored face is: costs nothing
    with_ignored = torch.cat([boxes, torch.tensor([[[0.0, 0, 12, 12]]])], 1)
    both = torch.cat([points, torch.zeros(1, 1, 5, 2)], 1)
    kinds = torch.tensor([[FACE, IGNORED]])
    assert detection_loss(unsure, cells, with_ignored, both, kinds) < 1e-4


def test_nobody_is_a_lesson_too() -> None:
    cells = DetectorNetwork.cells(64, 64)
    answers = torch.zeros(1, len(cells), 15, requires_grad=True)
    empty = torch.zeros(1, 2, 4), torch.zeros(1, 2, 5, 2), torch.full((1, 2), NOBODY)
    loss = detection_loss(answers, cells, *empty)
    loss.backward()
    assert torch.isfinite(loss) and answers.grad is not None
    assert (answers.grad[..., 0] > 0).all()


def test_detector_report(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    where = [str(data), "--cache", str(tmp_path / "cache"), "--count", "1"]
    assert main(["evaluate", "detector", *where, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert np.shape(told["recall"]["SingleShot"]) == (2, 5, 3)
    assert np.shape(told["false_alarms"]["confirmed"]) == (2, 5, 3)
    assert set(told["nme"]) == {"true boxes", "confirmed", "SingleShot"}
    assert main(["evaluate", "detector", *where]) == 0
    assert "false alarms a scene" in capsys.readouterr().out


def test_the_same_batch_again_and_again(data: Path, tmp_path: Path) -> None:
    """A step's scenes depend on the seed and the step alone, however many threads compose them."""
    from facerecon.training.task import open_task

    task = open_task(SMALL, [(data, 1.0)], tmp_path / "cache", 1, torch.device("cpu"))
    first, again = task.batch(5, slice(0, 2)), task.batch(5, slice(0, 2))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(first[0], task.batch(6, slice(0, 2))[0])
