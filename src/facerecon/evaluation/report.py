"""What an evaluation found: numbers with intervals, as text, Markdown, JSON and a picture."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerecon.evaluation.metrics import (
    YAW_BINS,
    balanced_draw,
    bootstrap_interval,
    mean_of_bins,
    point_errors,
)
from facerecon.evaluation.published import PUBLISHED

__all__ = ["Report", "Row"]


@dataclass(frozen=True)
class Row:
    """Errors of one method under one crop.

    Attributes:
        method: Its name.
        crop: Where its crops came from.
        truth: (n, 68, 3) true points.
        points: (n, 68, 3) its answers, NaN where no face was found.
        bins: (n,) yaw bin of each sample.
        angles: (n, 3) absolute pitch, yaw, roll errors in degrees, NaN where none; or None.
        reconstruction: Errors (n,) in percent by the name of their reading.
        seed: Of bootstrap and balanced draw.
    """

    method: str
    crop: str
    truth: NDArray[np.float64]
    points: NDArray[np.float64]
    bins: NDArray[np.int64]
    angles: NDArray[np.float64] | None = None
    reconstruction: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    seed: int = 0

    @cached_property
    def nme_2d(self) -> NDArray[np.float64]:
        """(n,) percent, NaN where no face was found."""
        return point_errors(self.points[:, :, :2], self.truth[:, :, :2])

    @cached_property
    def nme_3d(self) -> NDArray[np.float64]:
        """(n,) percent, mean z removed."""
        return point_errors(self.points, self.truth)

    def by_bin(self, errors: NDArray[np.float64]) -> list[float]:
        """Mean error of each yaw bin; NaN for an empty one."""
        inside = [errors[(self.bins == k) & np.isfinite(errors)] for k in range(len(YAW_BINS))]
        return [float(e.mean()) if len(e) else float("nan") for e in inside]

    def summary(self, errors: NDArray[np.float64]) -> dict[str, Any]:
        """Means of some errors with 95 % bootstrap intervals."""
        found = errors[np.isfinite(errors)]
        rows = balanced_draw(self.bins, self.seed)
        drawn = errors[rows][np.isfinite(errors[rows])]
        return {
            "bins": self.by_bin(errors),
            "mean_of_bins": mean_of_bins(errors, self.bins),
            "mean_of_bins_95": bootstrap_interval(errors, self.bins, seed=self.seed),
            "mean_of_samples": float(found.mean()) if len(found) else float("nan"),
            "mean_of_samples_95": bootstrap_interval(errors, seed=self.seed),
            "balanced": {
                "samples": len(rows),
                "seed": self.seed,
                "mean": float(drawn.mean()) if len(drawn) else float("nan"),
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """The means as JSON-ready values."""
        values: dict[str, Any] = {
            "method": self.method,
            "crop": self.crop,
            "samples": np.bincount(self.bins, minlength=len(YAW_BINS)).tolist(),
            "failures": int((~np.isfinite(self.nme_2d)).sum()),
            "nme_2d": self.summary(self.nme_2d),
            "nme_3d": self.summary(self.nme_3d),
        }
        if self.angles is not None and np.isfinite(self.angles).any():
            values["pitch_yaw_roll"] = np.nanmean(self.angles, axis=0).tolist()
            values["pose_samples"] = int(np.isfinite(self.angles).all(1).sum())
        if self.reconstruction:
            values["reconstruction"] = {
                name: self.summary(errors) for name, errors in self.reconstruction.items()
            }
        return values


@dataclass(frozen=True)
class Report:
    """Rows of one evaluation, and how it was made.

    Attributes:
        protocol: One line.
        rows: What was measured.
        photos: The samples' pictures, for drawing.
        names: The samples' names.
    """

    protocol: str
    rows: tuple[Row, ...]
    photos: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; what is not defined is None."""
        published = [
            {k: v for k, v in vars(row).items() if v not in (None, ())} for row in PUBLISHED
        ]
        rows = [row.to_dict() for row in self.rows]
        plain: dict[str, Any] = _plain(
            {"protocol": self.protocol, "rows": rows, "published": published}
        )
        return plain

    def to_text(self) -> str:
        """A table for a terminal."""
        return "\n".join([self.protocol, *_aligned(self._table()), *self._notes()])

    def to_markdown(self) -> str:
        """Tables with the published rows below the measured ones."""
        head, *rows = self._table()
        lines = [f"# {self.protocol}", "", *_markdown(head, rows), "", *self._notes(), ""]
        lines += ["## Published elsewhere, not measured here", ""]
        head = ["method", "[0,30]", "(30,60]", ">60", "mean", "ICP / interocular", "pose", "source"]
        published = []
        for row in PUBLISHED:
            bins = [f"{b:.2f}" for b in row.bins] or ["", "", ""]
            numbers = [row.mean, row.reconstruction, row.pose]
            cells = ["" if n is None else f"{n:g}" for n in numbers]
            published.append([row.method, *bins, *cells, f"{row.source}; {row.protocol}"])
        return "\n".join([*lines, *_markdown(head, published), ""])

    def write(self, folder: str | Path) -> list[Path]:
        """Write report.json, report.md and page.png; each is written aside and moved.

        Raises:
            MissingDependency: The page needs matplotlib (``facerecon[report]``).
        """
        from facerecon.evaluation.page import write_page

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        texts = {
            "report.json": json.dumps(self.to_dict(), indent=1) + "\n",
            "report.md": self.to_markdown(),
        }
        for name, text in texts.items():
            unfinished = target / f"{name}.partial"
            unfinished.write_text(text, encoding="utf-8")
            os.replace(unfinished, target / name)
        write_page(self, target / "page.png")
        return [target / name for name in (*texts, "page.png")]

    def _table(self) -> list[list[str]]:
        head = ["", "crop", "[0,30]", "(30,60]", ">60", "bins", "95 %", "samples", "balanced"]
        table = [[*head, "failed"]]
        for row in self.rows:
            values = row.to_dict()
            kinds = {"2D NME": values["nme_2d"], "3D NME": values["nme_3d"]}
            kinds |= {f"{k}": v for k, v in values.get("reconstruction", {}).items()}
            for name, v in kinds.items():
                low, high = v["mean_of_bins_95"]
                numbers = [*v["bins"], v["mean_of_bins"]]
                cells = [f"{n:.2f}" for n in numbers]
                cells += [f"{low:.2f}-{high:.2f}", f"{v['mean_of_samples']:.2f}"]
                cells += [f"{v['balanced']['mean']:.2f}", str(values["failures"])]
                table.append([f"{row.method} {name}", row.crop, *cells])
        return table

    def _notes(self) -> list[str]:
        notes = []
        for row in self.rows:
            values = row.to_dict()
            if "pitch_yaw_roll" in values:
                pitch, yaw, roll = values["pitch_yaw_roll"]
                notes.append(
                    f"{row.method}, {row.crop}: pose error in degrees pitch {pitch:.2f}, "
                    f"yaw {yaw:.2f}, roll {roll:.2f}, mean {(pitch + yaw + roll) / 3:.2f} "
                    f"({values['pose_samples']} samples with all angles within +-99)"
                )
        values = self.rows[0].to_dict()
        counts = " / ".join(map(str, values["samples"]))
        drawn = values["nme_2d"]["balanced"]
        return [
            *notes,
            f"samples per bin: {counts}; balanced: {drawn['samples']} drawn evenly from the bins, "
            f"seed {drawn['seed']}; 95 %: bootstrap interval of the mean of bins; all in percent",
        ]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _plain(value: Any) -> Any:
    """The value with None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
