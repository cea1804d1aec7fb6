"""The model card: what weights are, what they were trained on, and what they reach.

Everything in it comes from the checkpoint itself; ``facerecon evaluate card`` measures and notes it
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facerecon.checkpoint import Checkpoint

__all__ = ["METRICS", "model_card"]

METRICS = "metrics"
"""Key of ``info`` under which measured tables lie, by title: ``protocol``, ``command``, ``columns``
and ``rows``."""

_LIMITS = (
    "Eyes closed or looking aside are not followed well: the fitted models held the gaze still.",
    "Beyond 75 degrees of yaw the hidden half of the face is the face model's guess.",
    "The position map holds no wrinkles; the mesh's finest detail is that of the mean face.",
    "Ears and neck were not seen in training; the mesh ends before them.",
    "The photos come from the web of the 2000s and from celebrities: ages, skins and cultures are "
    "not evenly shown, and nobody measured the error by group. Measure on your own photos first.",
    "Depth is relative, and scale is that of a mean head: neither is a measurement of a person.",
)


def model_card(checkpoint: Checkpoint, name: str = "owner/name") -> str:
    """The README of a Hub repository, Markdown with its metadata.

    Args:
        checkpoint: The weights; ``info`` may hold measured tables under :data:`METRICS`.
        name: What ``from_pretrained`` is given to load them.
    """
    network, info = checkpoint.network, checkpoint.info
    config = network.config
    count = sum(p.numel() for p in network.parameters())
    facts = [
        f"- network: `{config.name}`, a DenseNet encoder and a transposed-convolution decoder, "
        f"{count / 1e6:.2f} M parameters",
        f"- input: RGB, {config.input_size} x {config.input_size}, a square of "
        f"{checkpoint.margin:.3f} x the larger side of the box round the 68 landmarks",
        f"- output: a {config.map_size} x {config.map_size} position map of the "
        f"`{checkpoint.layout.name}` face layout ({len(checkpoint.layout.canonical)} vertices)",
    ]
    if "samples_seen" in info:
        facts.append(f"- samples seen in training: {info['samples_seen']:,}".replace(",", " "))
    if info.get("started_from"):
        facts.append(f"- training started from: {info['started_from']}")
    parts = [
        "---\nlibrary_name: facerecon\nlicense: other\nlicense_name: see-below\n"
        "tags: [face-alignment, 3d-face, head-pose, position-map]\n---",
        f"# facerecon weights: {config.name}",
        "A 3D face from one photo: 68 landmarks, a dense mesh and the head pose.",
        "    import facerecon\n"
        f"    reconstructor = facerecon.FaceReconstructor.from_pretrained({name!r})\n"
        '    reconstructor.landmarks("photo.jpg")  # (68, 3)',
        "## What they are\n\n" + "\n".join(facts),
        f"## Training data\n\n{info.get('trained_on') or 'Not stated.'}",
        "## Licences\n\n"
        "- code: MIT\n"
        "- geometry: the `ict` face layout is derived from ICT-FaceKit, MIT\n"
        f"- **weights: {info.get('license') or 'not stated'}**",
        *(_table(title, table) for title, table in info.get(METRICS, {}).items()),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _LIMITS),
    ]
    return "\n\n".join(parts) + "\n"


def _table(title: str, table: Mapping[str, Any]) -> str:
    head = "| | " + " | ".join(table["columns"]) + " |"
    rule = "|---" * (len(table["columns"]) + 1) + "|"
    rows = [
        f"| {name} | "
        + " | ".join(
            "-" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in values
        )
        + " |"
        for name, *values in table["rows"]
    ]
    lines = [f"## {title}", "", table["protocol"], "", head, rule, *rows, ""]
    return "\n".join([*lines, f"    {table['command']}"])
