"""The whole head of the face model: skin, skull, neck and eyeballs as one mesh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facerecon.errors import DataError
from facerecon.training.datasets import FaceLabels

__all__ = ["HeadModel", "posed_in_square", "to_square"]


@dataclass(frozen=True)
class HeadModel:
    """The full head; its first vertices are the face model's own.

    Attributes:
        mean: (v, 3) centimetres, canonical face axes.
        identity: (i, v, 3).
        expression: (e, v, 3); 0 on the eyeballs.
        triangles: (t, 3).
        skin: Number of vertices that are skin; the eyeballs' follow.
    """

    mean: NDArray[np.float32]
    identity: NDArray[np.float32]
    expression: NDArray[np.float32]
    triangles: NDArray[np.int64]
    skin: int

    @classmethod
    def load(cls, path: str | Path, identities: int) -> HeadModel:
        """Read the ICT face model's file.

        Raises:
            DataError: It is missing or is no ICT face model with its head.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                parts = {
                    name: archive[name]
                    for name in (
                        "vertices",
                        "identity",
                        "expression",
                        "quads",
                        "sclera_vertices",
                        "sclera_identity",
                        "sclera_quads",
                    )
                }
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"cannot read the head of {path}: {error}; turning and rendering heads needs the "
                "ICT face model with head and eyeballs"
            ) from error
        skin = len(parts["vertices"])
        identity = np.concatenate(
            [parts["identity"][:identities], parts["sclera_identity"][:identities]], 1
        )
        still = np.zeros((len(parts["expression"]), len(parts["sclera_vertices"]), 3))
        quads = np.concatenate([parts["quads"], parts["sclera_quads"] + skin]).astype(np.int64)
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        a, b, c = triangles.T
        return cls(
            mean=np.concatenate([parts["vertices"], parts["sclera_vertices"]]).astype(np.float32),
            identity=identity.astype(np.float32),
            expression=np.concatenate([parts["expression"], still], 1).astype(np.float32),
            triangles=triangles[(a != b) & (b != c) & (a != c)],
            skin=skin,
        )

    def vertices(self, identity: ArrayLike, expression: ArrayLike) -> NDArray[np.float64]:
        """(v, 3) centimetres of one head's coefficients."""
        moved: NDArray[np.float32] = (
            self.mean
            + np.tensordot(np.asarray(identity, np.float32), self.identity, 1)
            + np.tensordot(np.asarray(expression, np.float32), self.expression, 1)
        )
        return moved.astype(np.float64)


def posed_in_square(
    head: HeadModel, label: FaceLabels, frame: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Vertices (v, 3) of one labelled head in the pixels of its packed square."""
    canonical = head.vertices(label.identity[0], label.expression[0])
    posed = label.scale[0] * canonical @ label.rotation[0].T.astype(np.float64)
    return to_square(posed + label.translation[0], frame, size)


def to_square(
    points: NDArray[np.float64], frame: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Photo points (..., 3) to the pixels of a packed square; z scaled alike."""
    offset = np.array([frame[0], frame[1], 0.0])
    moved: NDArray[np.float64] = (points - offset) * (size / frame[2])
    return moved + np.array([size / 2 - 0.5, size / 2 - 0.5, 0.0])
