from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facerecon import FaceReconstructor
from facerecon.cli import main
from facerecon.errors import DataError
from facerecon.evaluation.annotations import from_68
from facerecon.training.datasets import MorphableModel, read_labels
from facerecon.training.datasets.pack import landmarks_in_photo
from facerecon.training.validation import validate
from facerecon.uv import UVLayout


def test_errors_by_source_and_yaw(
    data: Path,
    layout: UVLayout,
    reconstructor: FaceReconstructor,
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


def test_nothing_to_validate(data: Path, reconstructor: FaceReconstructor) -> None:
    with np.load(data / "labels.npz") as archive:
        arrays = dict(archive)
    arrays["split"] = np.array(["train"] * len(arrays["path"]))
    np.savez(data / "labels.npz", **arrays)
    with pytest.raises(DataError, match="'val'"):
        validate(reconstructor, data)
