from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import facerecon
from facerecon.cli import main
from facerecon.model_card import METRICS, model_card

ROOT = Path(__file__).parents[1]


def test_the_card_says_what_matters(reconstructor: facerecon.FaceReconstructor) -> None:
    card = model_card(reconstructor.checkpoint, "someone/faces")
    assert card.startswith("---\nlibrary_name: facerecon\n")
    assert "from_pretrained('someone/faces')" in card
    for words in ("research use only", "ICT-FaceKit, MIT", "code: MIT", "AFLW", "## Limits"):
        assert words in card


def test_the_packaged_weights_carry_their_measurements(
    reconstructor: facerecon.FaceReconstructor,
) -> None:
    tables = reconstructor.checkpoint.info[METRICS]
    assert {"Validation", "Robustness", "AFLW2000-3D"} <= set(tables)
    card = model_card(reconstructor.checkpoint)
    for table in tables.values():
        assert f"    {table['command']}" in card
        assert all(len(row) == len(table["columns"]) + 1 for row in table["rows"])
    assert "aflw, 68 fitted points" in card and "cfp, hand-made points" in card


def test_the_docs_show_the_packaged_card(reconstructor: facerecon.FaceReconstructor) -> None:
    page = (ROOT / "docs" / "model_card.md").read_text(encoding="utf-8")
    assert page == model_card(reconstructor.checkpoint, "fast")


def test_weights_that_say_nothing(reconstructor: facerecon.FaceReconstructor) -> None:
    card = model_card(dataclasses.replace(reconstructor.checkpoint, info={}))
    assert "weights: not stated" in card and "Not stated." in card


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
