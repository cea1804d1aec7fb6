"""A page of an evaluation: cumulative error curves, and its worst and median cases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facerecon.errors import MissingDependency
from facerecon.evaluation.metrics import cumulative_curve
from facerecon.geometry import CropFrame, box_of_points
from facerecon.image import read_image

if TYPE_CHECKING:
    from facerecon.evaluation.report import Report

__all__ = ["write_page"]

_LIMIT, _CASES = 10.0, 4


def write_page(report: Report, path: str | Path) -> None:
    """Write the page as PNG.

    Args:
        report: The evaluation; the cases are those of its first row.
        path: Where to.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            "the report's page needs matplotlib: pip install facerecon[report]"
        ) from error
    figure: Any = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, _CASES, height_ratios=[1.5, 1, 1])
    curves = figure.add_subplot(grid[0, :])
    limits = np.linspace(0, _LIMIT, 201)
    for row in report.rows:
        shares = 100 * cumulative_curve(row.nme_2d, limits.tolist())
        curves.plot(limits, shares, label=f"{row.method}, {row.crop}")
    curves.set(
        xlim=(0, _LIMIT),
        ylim=(0, 100),
        xlabel="68-point 2D NME, %",
        ylabel="photos with at most that, %",
        title=report.protocol,
    )
    curves.grid(alpha=0.3)
    curves.legend(loc="lower right")
    row = report.rows[0]
    found = np.flatnonzero(np.isfinite(row.nme_2d))
    order = found[np.argsort(row.nme_2d[found])]
    middle = max(0, len(order) // 2 - _CASES // 2)
    for line, (title, cases) in enumerate(
        {"worst": order[::-1][:_CASES], "median": order[middle : middle + _CASES]}.items(), 1
    ):
        for column, case in enumerate(cases[: len(report.photos)]):
            axes = figure.add_subplot(grid[line, column])
            photo = read_image(report.photos[case])
            frame = CropFrame.from_box(box_of_points(row.truth[case]), 1.6, 240)
            axes.imshow(frame.warp(photo))
            for points, color in ((row.truth[case], "tab:red"), (row.points[case], "lime")):
                at = (frame.to_normalised(points)[:, :2] + 0.5) * 240 - 0.5
                axes.plot(at[:, 0], at[:, 1], ".", color=color, markersize=3)
            axes.set(xlim=(0, 239), ylim=(239, 0), xticks=[], yticks=[])
            axes.set_title(f"{title}: {report.names[case]}, {row.nme_2d[case]:.2f} %", fontsize=8)
    figure.supxlabel("red: truth, green: answer", fontsize=8)
    target = Path(path)
    unfinished = target.with_name(f"{target.name}.partial")
    figure.savefig(unfinished, dpi=100, format="png")
    os.replace(unfinished, target)
