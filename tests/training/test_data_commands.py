"""``facerecon data`` and ``facerecon train`` as a user types them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from facerecon.cli import main
from facerecon.errors import DataError
from facerecon.training.datasets import MorphableModel, pack, read_labels
from facerecon.training.datasets.pack import landmarks_in_photo
from facerecon.training.datasets.parts import write_parts
from facerecon.uv import UVLayout

SMALL = ["--set", "pack_size=64", "--set", "compile=false", "--set", "bfloat16=false"]


def test_smoke(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(data), "--cache", str(tmp_path / "cache")]
    assert main(["train", "fast", *where, *SMALL, "--set", "steps=60", "--smoke"]) == 0
    assert "it learns" in capsys.readouterr().out
    frozen = ["--set", "learning_rate=0.0", "--set", "steps=6"]
    assert main(["train", "fast", *where, *SMALL, *frozen, "--smoke"]) == 1
    assert "does NOT learn" in capsys.readouterr().out


def test_train_needs_an_output(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "fast", "--data", str(data), "--cache", str(tmp_path / "cache")]) == 2
    assert "-o OUTPUT" in capsys.readouterr().err
    assert main(["train", "fast", "--data", f"{data}=x", "--cache", str(tmp_path), "--smoke"]) == 2
    assert "'x' is no weight" in capsys.readouterr().err


def test_prepare_and_sheet(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["fast", "--data", str(data), "--cache", str(tmp_path / "cache"), *SMALL]
    options += ["--set", "profiled=4", "--set", "rendered=3", "--workers", "1"]
    assert main(["data", "prepare", *options]) == 0
    told = capsys.readouterr().out
    assert "photos          12 photos, 6 to train and 6 to validate, 60 %" in told
    assert "profiled         4 photos, 4 to train" in told
    assert "rendered         3 photos" in told
    sheet = tmp_path / "sheet.png"
    assert main(["data", "sheet", *options, "-o", str(sheet), "--count", "8"]) == 0
    picture = cv2.imread(str(sheet))
    assert picture.shape == (2 * 192, 6 * 192, 3)
    assert (picture == [90, 255, 60]).all(2).sum() > 500  # landmarks, in BGR


def test_parts_are_a_data_folder_of_small_files(
    data: Path, tmp_path: Path, layout: UVLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pack(data, tmp_path / "cache", layout, 64)
    command = ["data", "parts", str(data), "-o", str(tmp_path / "parts"), "--size", "90"]
    assert main([*command, "--megabytes", "10"]) == 0
    assert "labels.npz" in capsys.readouterr().out
    labels = read_labels(tmp_path / "parts")
    model = MorphableModel.load(data / "ict_face.npz", layout, 80)
    points = landmarks_in_photo(labels, model, layout)
    parts = pack(tmp_path / "parts", tmp_path / "cache2", layout, 64)
    for row in range(len(labels)):
        x, y, side = whole.frames[row]
        truth = landmarks_in_photo(whole.labels.take([row]), model, layout)[0]
        size = min(90, int(np.ceil(side)))
        expected = (truth[:, :2] - [x, y]) * size / side + size / 2 - 0.5
        np.testing.assert_allclose(points[row, :, :2], expected, atol=0.05)
        # the square that is packed is the same picture, but for JPEG and a second resampling
        difference = np.abs(parts.pixels[row].astype(int) - whole.pixels[row])
        assert difference.mean() < 4


def test_parts_split_archives(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be split"):
        write_parts(data, tmp_path / "parts", 64, megabytes=0.03)
    archives = sorted((tmp_path / "parts").glob("photos_*.tar"))
    assert len(archives) > 2
    assert all(file.stat().st_size <= 30_000 for file in archives)
