"""The configuration of a training run, read from TOML."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from facerecon.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["TrainConfig"]

_CHOICES = {
    "loss": ("weighted_l1", "weighted_l2", "l2", "ssim"),
    "schedule": ("cosine", "trapezoid", "steps"),
    "optimiser": ("adamw", "adam"),
    "bad_data": ("refuse", "skip"),
}


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        network: ``fast`` or ``paper``, or ``detector``, which leaves aside what is about position
            maps.
        shape: Values of the named network's :class:`~facerecon.NetworkConfig` to change, such as
            ``shape.input_size = 128``.
        start: Weights to start from: an embedded name, a folder or a Hub repository; empty for
            random ones. They may be those of the same network with fewer channels, or fewer layers
            in its dense blocks: see :mod:`facerecon.training.growing`.
        steps: Optimiser steps in all.
        batch: Samples a step.
        learning_rate: Peak of the schedule.
        optimiser: ``adamw`` or ``adam``.
        schedule: ``cosine`` to 0, ``trapezoid``: constant, then linear to 0, or ``steps``:
            multiplied by ``drop`` at each of the ``milestones``.
        milestones: Shares of the steps at which ``steps`` drops, rising, in (0, 1).
        drop: Factor of the learning rate at a milestone.
        warmup: Steps of linear rise at the start.
        decay: Share of the steps that a trapezoid falls over, (0, 1].
        weight_decay: AdamW's.
        clip: Largest gradient norm.
        loss: ``weighted_l1``, ``weighted_l2`` (PRNet's), ``ssim`` (the paper's), or ``l2``: each
            texel of the chart alike.
        landmark_loss: Weight of the L1 distance of the 68 bilinearly sampled landmarks.
        depth_weight: Weight of z beside x and y in the L1 and L2 losses.
        ema: Decay of the averaged weights; 0 for none.
        balance: How far samples are balanced over |yaw|, 0 (as they come) to 1 (evenly).
        noise: Residual of a fit, percent of the box, at which a sample is drawn half as often; 0
            to trust all fits alike.
        max_yaw: Photos that look further aside, degrees, are not trained on; turned photos and
            rendered heads are not limited.
        bad_data: What happens to bad labels and photos: ``refuse`` stops and names the first,
            ``skip`` names and leaves out each.
        profiled: How many photos are turned out of plane beforehand; 0 for none.
        profiled_share: Share of the samples that are drawn from them.
        rendered: How many heads are rendered beforehand; 0 for none.
        rendered_share: Share of the samples that are drawn from them.
        margin: Side of the crop as a multiple of the larger side of the 68 points' box.
        turn: Largest in-plane rotation, degrees.
        zoom: The crop's side is multiplied by up to 1 + zoom or divided by it.
        shift: Largest shift of the crop, as a share of its side.
        appearance: Change colours, sharpness, noise and JPEG quality, and occlude.
        harsh: Share of the batches, 0 to 1, in which they are changed more: darker, blurrier,
            noisier, with more and larger occluders.
        mirror: Mirror half of the samples; only with a face layout that has a mirror map.
        pack_size: Side of the packed photos, pixels.
        scene_size: Side of the detector's scenes, pixels; a multiple of 64.
        yunet: YuNet's file, to note unlabelled people in the detector's photos; empty for none.
        bfloat16: Autocast the network to bfloat16, on CPU and CUDA.
        compile: torch.compile the network (needs a C++ compiler on the CPU).
        seed: Of initialisation, sampling and augmentation.
        validate_every: Steps between validations.
        checkpoint_every: Steps between checkpoints.
        trained_on: What the data are; goes into the weights' config.json.
        license: The weights' terms; likewise.
    """

    network: str = "fast"
    shape: dict[str, Any] = dataclasses.field(default_factory=dict)
    start: str = ""
    steps: int = 6000
    batch: int = 48
    learning_rate: float = 1.5e-3
    optimiser: str = "adamw"
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    drop: float = 0.01
    warmup: int = 200
    decay: float = 0.3
    weight_decay: float = 1e-4
    clip: float = 1.0
    loss: str = "weighted_l1"
    landmark_loss: float = 1.0
    depth_weight: float = 0.5
    ema: float = 0.998
    balance: float = 0.5
    noise: float = 0.0
    max_yaw: float = 180.0
    bad_data: Literal["refuse", "skip"] = "refuse"
    profiled: int = 0
    profiled_share: float = 0.25
    rendered: int = 0
    rendered_share: float = 0.15
    margin: float = 1.41421356
    turn: float = 60.0
    zoom: float = 0.2
    shift: float = 0.07
    appearance: bool = True
    harsh: float = 0.0
    mirror: bool = True
    pack_size: int = 224
    scene_size: int = 320
    yunet: str = ""
    bfloat16: bool = True
    compile: bool = False
    seed: int = 0
    validate_every: int = 1000
    checkpoint_every: int = 250
    trained_on: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.milestones, list):  # TOML has no tuples
            object.__setattr__(self, "milestones", tuple(self.milestones))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            number = isinstance(default, float) and isinstance(value, int)
            if type(value) is not type(default) and not (number and not isinstance(value, bool)):
                wanted = type(default).__name__
                raise ConfigError(f"{field.name} is {value!r}; {wanted} is needed")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; one of {known} is needed")
        if min(self.steps, self.batch, self.validate_every, self.checkpoint_every) < 1:
            raise ConfigError("steps, batch, validate_every and checkpoint_every must be 1 or more")
        if not 0 < self.decay <= 1 or not 0 <= self.ema < 1:
            raise ConfigError("decay must be in (0, 1], ema in [0, 1)")
        if not 0 <= self.balance <= 1 or not 0 <= self.harsh <= 1:
            raise ConfigError("balance and harsh must be in [0, 1]")
        shares = (self.profiled_share, self.rendered_share)
        if min(shares) < 0 or sum(shares) >= 1 or min(self.profiled, self.rendered) < 0:
            raise ConfigError(
                "profiled_share and rendered_share must be 0 or more and leave some for the "
                "photos; profiled and rendered are counts"
            )
        steps = self.milestones
        if list(steps) != sorted(steps) or not all(0 < m < 1 for m in steps):
            raise ConfigError(f"milestones are {steps}; rising shares in (0, 1) are needed")

    @classmethod
    def from_toml(cls, path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
        """Read a file, or a shipped configuration by its name, such as ``fast``.

        Args:
            path: The file or name.
            changes: Lines of TOML that go over the file's, such as ``steps = 800``; a value that
                is no TOML is taken as a string.

        Raises:
            ConfigError: The file is missing or no TOML, or a key is unknown or has a wrong value.
        """
        source = Path(path)
        if not source.exists() and source.suffix == "":
            shipped = resources.files("facerecon") / "training" / "configs" / f"{path}.toml"
            text = shipped.read_text() if shipped.is_file() else None
        else:
            text = source.read_text() if source.is_file() else None
        if text is None:
            raise ConfigError(
                f"no configuration {path}: give a TOML file, or 'fast', 'paper' or 'detector'"
            )
        try:
            values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is no TOML: {error}") from error
        for change in changes:
            new = _changed(change)
            if isinstance(new.get("shape"), dict):
                new["shape"] = {**values.get("shape", {}), **new["shape"]}
            values |= new
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise ConfigError(f"{path}: unknown keys {sorted(unknown)}; known are {sorted(known)}")
        return cls(**values)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, 0 <= step < steps."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        if self.schedule == "cosine":
            fall = (1 + math.cos(math.pi * step / self.steps)) / 2
        elif self.schedule == "steps":
            fall = self.drop ** sum(step >= m * self.steps for m in self.milestones)
        else:
            fall = min(1.0, (1 - step / self.steps) / self.decay)
        return self.learning_rate * rise * fall


def _changed(line: str) -> dict[str, Any]:
    name, equals, value = line.partition("=")
    if not equals:
        raise ConfigError(f"{line!r} changes nothing: NAME=VALUE is needed")
    try:
        return tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return {name.strip(): value.strip()}
