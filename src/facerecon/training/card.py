"""Measure weights and note the tables in their ``config.json``, for the model card."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from facerecon.checkpoint import Checkpoint
from facerecon.evaluation import evaluate_aflw2000
from facerecon.model_card import METRICS, model_card
from facerecon.reconstructor import FaceReconstructor
from facerecon.training.robustness import Robustness, measure_robustness
from facerecon.training.validation import Validation, validate

__all__ = ["write_card"]

_BINS = ["[0, 30]", "(30, 60]", "beyond 60"]


def write_card(
    weights: str | Path, data: str | Path, aflw2000: str | Path | None = None, count: int = 90
) -> str:
    """Measure the weights of a folder and write the tables into its ``config.json``.

    Args:
        weights: Folder of a checkpoint; its tensors stay as they are.
        data: A data folder, whose split ``val`` is measured on.
        aflw2000: AFLW2000-3D, or some of its photos.
        count: Photos for the robustness.

    Returns:
        The model card.

    Raises:
        CheckpointNotFound: There are no weights in the folder.
        DataError: Data are missing or damaged.
    """
    checkpoint = Checkpoint.load(weights)
    reconstructor = FaceReconstructor(checkpoint)
    tables = {
        "Validation": _validation(validate(reconstructor, data)),
        "Robustness": _robustness(measure_robustness(reconstructor, data, count)),
    }
    if aflw2000 is not None:
        tables["AFLW2000-3D"] = _aflw2000(reconstructor, aflw2000)
    info = MappingProxyType({**checkpoint.info, METRICS: tables})
    checkpoint = dataclasses.replace(checkpoint, info=info)
    checkpoint.save(weights, torch.float16)
    return model_card(checkpoint)


def _rounded(values: list[float | None]) -> list[float | None]:
    return [None if v is None or math.isnan(v) else round(v, 2) for v in values]


def _validation(report: Validation) -> dict[str, Any]:
    names = {"fitted": "68 fitted points", "hand": "hand-made points"}
    rows = []
    for source, values in report.to_dict().items():
        for kind, name in names.items():
            numbers = [*values[kind]["bins"], values[kind]["mean_of_bins"]]
            if any(v is not None for v in numbers):
                photos = "/".join(map(str, values["photos"]))
                rows.append([f"{source}, {name}", photos, *_rounded(numbers)])
    return {
        "protocol": "Mean 2D distance in percent of the box by |yaw|, on photos held out from "
        "training (LFPW's test set, 30 people of CFP, every 29th AFLW photo), crops round the true "
        "boxes. The fits have errors of their own.",
        "command": "facerecon evaluate validation DATA",
        "columns": ["photos", *_BINS, "mean of bins"],
        "rows": rows,
    }


def _robustness(report: Robustness) -> dict[str, Any]:
    rows = [
        [f"{name} {strength:g}" if name != "none" else "undisturbed", *_rounded([*bins, mean])]
        for (name, strength), (bins, mean) in report.errors.items()
    ]
    return {
        "protocol": f"68-point 2D NME against the fits on {report.photos} of these photos, evenly "
        "over yaw, with the box or the photo made worse.",
        "command": "facerecon evaluate robustness DATA",
        "columns": [*_BINS, "mean of bins"],
        "rows": rows,
    }


def _aflw2000(reconstructor: FaceReconstructor, folder: str | Path) -> dict[str, Any]:
    report = evaluate_aflw2000(reconstructor, folder, crops=("max", "detected"))
    rows = []
    photos = "0/0/0"
    for row in report.rows:
        values = row.to_dict()
        boxes = "detected boxes" if row.crop.startswith("detected") else "true boxes"
        photos = "/".join(map(str, values["samples"]))
        for kind, name in (("nme_2d", "2D"), ("nme_3d", "3D")):
            summary = values[kind]
            numbers = [*summary["bins"], summary["mean_of_bins"], summary["mean_of_samples"]]
            rows.append([f"{name}, {boxes}", values["failures"], *_rounded(numbers)])
    return {
        "protocol": f"68-point NME in percent of the box on {photos} photos of AFLW2000-3D by "
        "|yaw|, never used for training or for a choice.",
        "command": "facerecon evaluate aflw2000 AFLW2000 --crops max detected",
        "columns": ["not found", *_BINS, "mean of bins", "mean of photos"],
        "rows": rows,
    }
