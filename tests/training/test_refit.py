from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facerecon import Checkpoint, FaceNetwork, NetworkConfig
from facerecon.cli import main
from facerecon.errors import DataError
from facerecon.evaluation.annotations import from_68, single_landmarks
from facerecon.training.datasets import (
    MorphableModel,
    model_file,
    pack,
    read_labels,
)
from facerecon.training.datasets.pack import fitted_landmarks
from facerecon.training.refit import FacePoints, averaged_answers, refit, refit_labels
from facerecon.training.targets import TargetMaker
from facerecon.uv import UVCodec, UVLayout


class Oracle(nn.Module):
    """A network that has learnt its training targets by heart, view by view."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        make = TargetMaker.__call__

        def remember(maker, rows, draw):
            made = make(maker, rows, draw)
            self.maps = made[1]
            return made

        monkeypatch.setattr(TargetMaker, "__call__", remember)

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.maps


def test_views_and_mirror_images_come_back_to_the_photo(
    data: Path, tmp_path: Path, layout: UVLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = pack(data, tmp_path / "cache", layout, 64)
    model = MorphableModel.load(model_file(data), layout, 80)
    codec = UVCodec(layout, 64)
    targets = TargetMaker(photos, model, codec, 1.4, torch.device("cpu"))
    points = FacePoints.spread(layout, 40)
    rows = np.arange(len(photos.labels))

    found = averaged_answers(Oracle(monkeypatch), photos, targets, points, rows, 64)

    truth = fitted_landmarks(data, photos.labels, layout)
    truth[:, :, 2] -= truth[:, :, 2].mean(1, keepdims=True)
    # the map's texels are as large as the gaps between lips and lids: tenths of a pixel
    assert np.abs(found[:, :68] - truth).mean() < 0.1
    labels = photos.labels
    vertices = np.einsum("nij,vj->nvi", labels.rotation, model.mean[points.vertices])
    vertices = 4.0 * vertices + labels.translation[:, None]
    assert np.abs(found[:, 68:, :2] - vertices[:, :, :2]).mean() < 0.2


def test_points_are_spread_over_the_face(layout: UVLayout) -> None:
    points = FacePoints.spread(layout, 50)
    places = layout.canonical[points.vertices]
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min() > 1.5  # centimetres
    assert np.array_equal(points.of(layout.canonical)[68:], places)


def test_a_fit_between_wrong_labels_and_better_answers(data: Path, layout: UVLayout) -> None:
    truth = read_labels(data)
    rng = np.random.default_rng(0)
    truth = replace(truth, identity=rng.normal(size=truth.identity.shape).astype("f4") * 0.5)
    wrong = replace(
        truth,
        translation=truth.translation + rng.normal(size=(len(truth), 3)).astype("f4"),
        identity=truth.identity + rng.normal(size=truth.identity.shape).astype("f4") * 0.3,
    )
    points = FacePoints.spread(layout)
    model = MorphableModel.load(model_file(data), layout, 80)
    shapes = model.mean + np.tensordot(truth.identity, model.identity, 1)
    answers = points.of(np.einsum("nij,nvj->nvi", truth.rotation, 4.0 * shapes))
    answers += truth.translation[:, None]
    answers[:, :, 2] -= answers[:, :68, 2].mean(1, keepdims=True)

    def error(labels) -> float:
        found = fitted_landmarks(data, labels, layout)
        return float(np.linalg.norm((found - answers[:, :68])[:, :, :2], axis=2).mean())

    between = refit_labels(wrong, answers, points, model_file(data))
    trusting = refit_labels(wrong, answers, points, model_file(data), trust=20.0)
    assert error(between) < 0.7 * error(wrong)
    assert error(trusting) < 0.2 * error(wrong)
    assert np.median(between.residual) > 0.2

    by_hand = replace(
        wrong,
        hand_points=answers[:, :68, :2].astype("f4"),
        hand_count=np.full(len(wrong), 68, np.int16),
    )
    both = refit_labels(by_hand, answers, points, model_file(data))
    assert error(both) < 0.8 * error(between)


@pytest.mark.parametrize(("count", "mirrored"), [(30, False), (30, True), (21, False)])
def test_single_landmarks_invert_the_reading_from_68(count: int, mirrored: bool) -> None:
    landmarks = np.random.default_rng(0).uniform(0, 200, (68, 2))
    given = from_68(landmarks, count, mirrored)
    placed = single_landmarks(given, landmarks + 1)
    known = np.isfinite(placed[:, 0])
    assert known.sum() == {30: 30, 21: 16}[count]
    assert np.array_equal(placed[known], landmarks[known])


def test_refit_writes_a_data_folder(data: Path, tmp_path: Path, layout: UVLayout, capsys) -> None:
    torch.manual_seed(0)
    weights, output, cache = tmp_path / "weights", tmp_path / "better", tmp_path / "cache"
    Checkpoint(FaceNetwork(NetworkConfig.fast()).eval(), layout, 1.4).save(weights)
    command = ["data", "refit", str(data), "--weights", str(weights), "--cache", str(cache)]
    assert main([*command, "-o", str(output)]) == 0
    assert json.loads(capsys.readouterr().out)["photos"] == 6

    old, new = read_labels(data), read_labels(output)
    moved = np.abs(new.translation - old.translation).max(1) > 0
    assert np.array_equal(moved, old.split == "train")  # the validation split stays as it was
    assert np.array_equal(new.path, old.path)
    assert (output / "photos_made.tar").samefile(data / "photos_made.tar")
    assert len(pack(output, tmp_path / "cache2", layout, 64).pixels) == len(new)

    with pytest.raises(DataError, match="another folder"):
        refit(weights, data, data, cache)
