from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import facerecon
from facerecon.checkpoint import golden_difference
from facerecon.cli import main
from facerecon.model_card import METRICS, model_card


def test_the_card_command_notes_what_it_measures(
    data: Path, tmp_path: Path, reconstructor: facerecon.FaceReconstructor,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    weights = tmp_path / "weights"
    reconstructor.save_pretrained(weights)
    config = json.loads((weights / "config.json").read_text())
    config["info"].pop(METRICS, None)
    (weights / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", "card", str(data), "--weights", str(weights), "--count", "3"]) == 0
    told = capsys.readouterr().out
    again = facerecon.FaceReconstructor.from_pretrained(weights, device="cpu").checkpoint
    assert told == model_card(again)
    rows = again.info[METRICS]["Validation"]["rows"]
    assert rows[0][0] == "all, 68 fitted points" and rows[0][1] == "2/2/2"
    assert again.info[METRICS]["Robustness"]["rows"][0][0] == "undisturbed"


def test_one_command_rebuilds_all_that_is_packaged(data: Path, tmp_path: Path) -> None:
    """A trial of a few steps: all runs, packaged, measured, with card and golden outputs."""
    tree = tmp_path / "tree"
    small = ["steps=2", "batch=4", "validate_every=2", "compile=false", "bad_data='skip'"]
    command = [sys.executable, "tools/build_weights.py", data, tmp_path / "work", "--into", tree]
    for line in small:
        command += ["--set", line]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    assets = tree / "src" / "facerecon" / "assets"
    assert sorted(p.name for p in assets.iterdir()) == ["detector", "fast"]
    info = facerecon.Checkpoint.load(assets / "fast").info
    assert info["samples_seen"] == 56 and "started_from" not in info
    assert "Validation" in info[METRICS]
    detector = facerecon.SingleShot.from_folder(assets / "detector")
    assert detector.detect(np.zeros((64, 64, 3), np.uint8)) == []
    network = facerecon.Checkpoint.load(assets / "fast").network
    assert golden_difference(assets / "fast", network) == 0
    assert "# facerecon weights: fast" in (tree / "docs" / "model_card.md").read_text()
