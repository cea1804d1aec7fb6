"""Rebuild everything that is packaged under src/facerecon/assets, from a data folder.

    python tools/build_weights.py DATA WORK [--yunet FILE] [--only fast detector] [--device cpu]

Trains `fast` in seven runs and the detector in two, every one resumed where it was interrupted,
copies the weights into the package, measures them, and writes docs/model_card.md and the golden
outputs. About eight hours on two CPU cores. Seeds are fixed; other processors round
differently, so weights come out alike, not equal.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from make_golden import ROOT, write_golden

from facerecon import Checkpoint
from facerecon.checkpoint import CONFIG_NAME
from facerecon.model_card import model_card
from facerecon.training import TrainConfig, train
from facerecon.training.card import write_card

NARROW = "shape.growth=[[12,12,12],[16,16,16],[24,24,24],[32,32,32],[48,48,48]]"
RELU = [NARROW, 'shape.activation="relu"']
CROPS = ["zoom=0.16", "shift=0.055", "warmup=150", "decay=0.65"]

# each run starts from the one before: its name and what differs from the shipped configuration;
# the first three were made when `fast` had ReLUs, the first five before it grew
RUNS: dict[str, dict[str, list[str]]] = {
    "fast": {
        "first": RELU,
        "second": [*RELU, "steps=1900", "learning_rate=1e-3", "warmup=100", "decay=0.6"],
        "third": [*RELU, *CROPS, "harsh=0.3", "steps=6000", "seed=4"],
        "fourth": [
            *[NARROW, *CROPS, "harsh=0.3", "steps=600", "learning_rate=1e-3", "warmup=60"],
            *["ema=0.99", "seed=7"],
        ],
        "fifth": [NARROW, *CROPS, "harsh=0.3", "steps=4600", "seed=5"],
        "sixth": [*CROPS, "harsh=0.4", "steps=5600", "seed=8"],
        "seventh": [*CROPS, "harsh=0.5", "steps=7800", "seed=9"],
    },
    "detector": {
        "first": [],
        "second": ["steps=4300", "warmup=150", "decay=0.45", "seed=3"],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path, help="folder of packs and runs")
    parser.add_argument("--yunet", default="", help="for unlabelled people in the photos")
    parser.add_argument("--aflw2000", type=Path, help="photos to measure on")
    parser.add_argument("--only", nargs="+", choices=["fast", "detector"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--into", type=Path, default=ROOT, help="source tree to write into")
    parser.add_argument("--set", action="append", default=[], help="for a trial: steps=20")
    options = parser.parse_args()
    assets = options.into / "src" / "facerecon" / "assets"
    cache = options.work / "cache"
    for name in options.only or ["detector", "fast"]:
        weights: Path | None = None
        for run, changes in RUNS[name].items():
            lines = [*changes, *options.set, *([f"start={weights}"] if weights else [])]
            lines += [f"yunet={options.yunet}"] if name == "detector" else []
            config, output = TrainConfig.from_toml(name, lines), options.work / name / run
            weights = train(config, options.data, cache, output, options.device)
        assert weights is not None
        package(weights, assets / name)
        if name == "fast":
            write_card(assets / name, options.data, options.aflw2000)
            card = model_card(Checkpoint.load(assets / name), name)
            (options.into / "docs").mkdir(exist_ok=True)
            (options.into / "docs" / "model_card.md").write_text(card, encoding="utf-8")
    write_golden(assets)


def package(weights: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in weights.iterdir():
        shutil.copyfile(file, target / file.name)
    config = json.loads((target / CONFIG_NAME).read_text(encoding="utf-8"))
    config["info"].pop("started_from", None)  # a folder of this machine
    (target / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
