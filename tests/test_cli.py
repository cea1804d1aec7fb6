from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerecon.cli import main


def test_run_writes_overlay_mesh_and_numbers(
    photo_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(photo_path), "-o", str(tmp_path / "out"), "--json"]) == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {f"astronaut{s}" for s in (".obj", ".mtl", ".png", ".json", "_overlay.png")}
    printed = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "out" / "astronaut.json").read_text())
    assert printed == stored
    face = stored["faces"][0]
    assert np.shape(face["landmarks"]) == (68, 3)
    assert set(face["pose"]) >= {"yaw", "pitch", "roll", "rotation", "scale", "translation"}
    overlay = cv2.imread(str(tmp_path / "out" / "astronaut_overlay.png"))
    assert overlay.shape == (512, 512, 3)
    changed = (overlay != cv2.imread(str(photo_path))).any(2)
    assert changed[87:174, 177:272].mean() > 0.1
    assert not changed[300:].any()


def test_folders_globs_formats_and_exit_codes(
    photo_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(photo_path, photos / "a.jpg")
    cv2.imwrite(str(photos / "nobody.png"), np.full((80, 80, 3), 77, np.uint8))
    (photos / "notes.txt").write_text("not a picture")
    out = tmp_path / "out"
    assert main(["run", str(photos), "-o", str(out), "--format", "ply"]) == 3
    assert {p.name for p in out.iterdir()} == {"a.ply", "a_overlay.png", "a.json"}
    assert "nobody.png" in capsys.readouterr().err
    assert main(["run", str(photos / "a.*"), "-o", str(out), "--format", "glb"]) == 0
    assert (out / "a.glb").exists()


def test_errors_are_one_line_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "bad.jpg"), "-o", str(out)]) == 2
    assert "bad.jpg" in capsys.readouterr().err
    assert not list(out.iterdir())
    assert main(["run", str(tmp_path / "none*.jpg"), "-o", str(out)]) == 2
    assert main(["run", "x.jpg", "-o", str(out), "--weights", "/no/where"]) == 2
    assert "Hub" in capsys.readouterr().err


def test_photos_of_one_name_do_not_overwrite_each_other(photo_path: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(photo_path, tmp_path / folder / "me.jpg")
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(out)]) == 0
    assert {"me.json", "me_2.json"} <= {p.name for p in out.iterdir()}


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for word in ("facerecon", "torch", "cpu", "license", "research use", "fast"):
        assert word in printed


def test_evaluate_names_missing_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "aflw2000", str(tmp_path)]) == 2
    assert ".mat" in capsys.readouterr().err


def test_train_names_missing_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(tmp_path), "--cache", str(tmp_path / "c"), "-o", str(tmp_path / "o")]
    assert main(["train", "fast", *options]) == 2
    assert "labels.npz" in capsys.readouterr().err
    assert main(["train", "nothing", *options]) == 2
    assert "nothing" in capsys.readouterr().err
