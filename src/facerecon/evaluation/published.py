"""Published numbers on AFLW2000-3D, to stand beside measured ones. None was measured here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "PublishedRow"]

_PAPER = "Computer Systems & Applications 30(7), 2021, pp. 184-189"


@dataclass(frozen=True)
class PublishedRow:
    """One method's numbers, as published.

    Attributes:
        method: Its name.
        source: Where the numbers stand.
        protocol: How they were measured, as far as is said there.
        bins: 68-point 2D NME in percent by |yaw| [0, 30], (30, 60], (60, 90]; empty if not given.
        mean: Mean of the bins; None if not given.
        reconstruction: Error after ICP over the outer interocular distance, percent.
        pose: Mean absolute error of pitch, yaw and roll, degrees.
    """

    method: str
    source: str
    protocol: str
    bins: tuple[float, ...] = ()
    mean: float | None = None
    reconstruction: float | None = None
    pose: float | None = None


_TABLE = f"{_PAPER}, Tables 2 and 3"
_68 = "68 points, box of the true points"

PUBLISHED = (
    PublishedRow("the paper", _TABLE, _68, (2.75, 3.48, 4.55), 3.59, 3.9372),
    PublishedRow("PRNet", _TABLE, _68, (2.75, 3.51, 4.61), 3.62, 3.9625),
    PublishedRow("3DDFA", _TABLE, _68, (3.78, 4.54, 7.93), 5.42, 5.3695),
    PublishedRow("3DDFA+SDM", _TABLE, _68, (3.43, 4.24, 7.17), 4.94),
    PublishedRow("DeFA", f"{_PAPER}, Table 3", "ICP, outer interocular", reconstruction=5.6454),
    PublishedRow("3DDFA_V2", "Guo et al., ECCV 2020", _68, mean=3.51),
    PublishedRow("SADRNet", "Ruan et al., IEEE TIP 30, 2021", _68, mean=3.46),
    PublishedRow("SynergyNet", "Wu et al., 3DV 2021", _68, mean=3.41, pose=3.31),
    PublishedRow("6DRepNet", "Hempel et al., ICIP 2022", "angles within +-99", pose=3.97),
    PublishedRow("DSFNet", "Li et al., CVPR 2023", "angles within +-99", pose=3.25),
)
