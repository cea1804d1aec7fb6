from __future__ import annotations

import dataclasses
from pathlib import Path

import facerecon
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
