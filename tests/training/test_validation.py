from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerecon import FaceReconstructor
from facerecon.cli import main
from facerecon.errors import ConfigError, DataError
from facerecon.evaluation.annotations import from_68
from facerecon.training.datasets import MorphableModel, read_labels
from facerecon.training.datasets.pack import landmarks_in_photo
from facerecon.training.validation import validate, worst_photos
from facerecon.uv import UVLayout


def test_errors_by_source_and_yaw(
    data: Path,
    layout: UVLayout,
    reconstructor: FaceReconstructor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the hand-made points are the fitted ones, both errors are one and the same."""
    with np.load(data / "labels.npz") as archive:
        arrays = dict(archive)
    labels = read_labels(data)
    model = MorphableModel.load(data / "ict_face.npz", layout, 80)
    points = landmarks_in_photo(labels, model, layout)[:, :, :2]
    hand = np.full((len(labels), 68, 2), np.nan, "f4")
    hand[:, :21] = from_68(points, 21)
    arrays |= {"hand_points": hand, "hand_count": np.full(len(labels), 21, np.int16)}
    arrays["source"] = np.array(["left", "right"] * (len(labels) // 2))
    np.savez(data / "labels.npz", **arrays)
    report = validate(reconstructor, data)
    val = np.flatnonzero(labels.split == "val")
    assert len(report.yaw) == len(val)
    assert np.isfinite(report.fitted).all() and (report.fitted > 1).all()  # noise, not faces
    values = report.to_dict()
    assert set(values) == {"all", "left"}  # every other photo is in val
    assert sum(values["all"]["photos"]) == len(val)
    assert values["all"]["fitted"]["mean_of_samples"] == pytest.approx(report.fitted.mean())
    assert 0.3 < report.hand.mean() / report.fitted.mean() < 3
    assert main(["evaluate", "validation", str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["all"]["fitted"]["bins"] == pytest.approx(values["all"]["fitted"]["bins"])
    assert "all, hand" in report.to_text()
    picture = tmp_path / "worst.png"
    assert main(["evaluate", "validation", str(data), "--worst", str(picture)]) == 0
    assert cv2.imread(str(picture)).shape == (224, 2240, 3)  # six photos in a row of ten


def test_the_worst_come_first(
    data: Path, reconstructor: FaceReconstructor, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = validate(reconstructor, data)
    shown: list[np.ndarray] = []
    monkeypatch.setattr(
        "facerecon.training.validation.contact_sheet",
        lambda crops, found, truth, **_: shown.extend((crops, found, truth)),
    )
    worst_photos(report, data, 3)
    crops, found, truth = shown
    assert crops.shape == (3, 224, 224, 3)
    away = np.linalg.norm((found - truth)[:, :, :2], axis=2).mean(1)
    boxes = np.sqrt(np.ptp(truth[:, :, :2], axis=1).prod(1))
    np.testing.assert_allclose(100 * away / boxes, np.sort(report.fitted)[::-1][:3], rtol=1e-6)


def test_photos_that_were_trained_on(
    data: Path, reconstructor: FaceReconstructor, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = read_labels(data)
    mine = labels.path[labels.split == "train"]
    assert validate(reconstructor, data, split="train").path.tolist() == mine.tolist()
    few = validate(reconstructor, data, split="train", count=3)
    assert few.path.tolist() == [mine[0], mine[2], mine[5]]  # of six
    assert main(["evaluate", "validation", str(data), "--split", "train", "--count", "3"]) == 0
    assert capsys.readouterr().out == few.to_text() + "\n"
    assert few.to_text().startswith("split 'train'")
    with pytest.raises(ConfigError, match="count is 0"):
        validate(reconstructor, data, count=0)


def test_nothing_to_validate(data: Path, reconstructor: FaceReconstructor) -> None:
    with np.load(data / "labels.npz") as archive:
        arrays = dict(archive)
    arrays["split"] = np.array(["train"] * len(arrays["path"]))
    np.savez(data / "labels.npz", **arrays)
    with pytest.raises(DataError, match="'val'"):
        validate(reconstructor, data)
