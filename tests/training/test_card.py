from __future__ import annotations

import json
from pathlib import Path

import pytest

import facerecon
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
