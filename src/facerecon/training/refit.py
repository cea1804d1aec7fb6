"""Better labels from a network that has outgrown them: fit the face model once more.

A network's answers, averaged over crops, turns and mirrored views, err otherwise than the fits it
was trained on. Both, and the hand-made points, are points of the same face: the model is fitted to
all of them at once.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from facerecon.checkpoint import Checkpoint
from facerecon.errors import DataError
from facerecon.evaluation.annotations import INNER_51, single_landmarks
from facerecon.geometry import FACE_TO_CAMERA, euler_from_matrix
from facerecon.training.augment import cut_crops
from facerecon.training.datasets import (
    FaceLabels,
    MorphableModel,
    PackedPhotos,
    model_file,
    pack,
    read_labels,
    read_layout,
    write_labels,
)
from facerecon.training.fitting import FaceFitter, PointSet
from facerecon.training.targets import CropDraw, TargetMaker
from facerecon.uv import UVLayout, codec_for

__all__ = ["FacePoints", "averaged_answers", "refit", "refit_labels"]

_DENSE = 160
"""Points spread over the face beside the 68 landmarks."""

_VIEWS = ((0.0, 1.0), (12.0, 1.06), (-8.0, 0.95))
"""Turn in degrees and zoom of the crops that a network answers, each also mirrored."""


@dataclass(frozen=True)
class FacePoints:
    """The 68 landmarks and some vertices of a layout, as points to fit to.

    Attributes:
        layout: The face layout.
        vertices: (k,) the vertices.
    """

    layout: UVLayout
    vertices: NDArray[np.int64]

    @classmethod
    def spread(cls, layout: UVLayout, count: int = _DENSE) -> FacePoints:
        """Vertices spread evenly: each the farthest from those before it, on the mean face."""
        places = layout.canonical.astype(np.float64)
        chosen = [int(layout.landmark_vertices[30, 0])]  # the tip of the nose
        distance = np.full(len(places), np.inf)
        for _ in range(count - 1):
            distance = np.minimum(distance, ((places - places[chosen[-1]]) ** 2).sum(1))
            chosen.append(int(distance.argmax()))
        return cls(layout, np.array(chosen))

    def of(self, shapes: NDArray[np.float64]) -> NDArray[np.float64]:
        """From all vertices (..., v, 3) to the points (..., 68 + k, 3)."""
        return np.concatenate(
            [self.layout.landmarks_of(shapes), shapes[..., self.vertices, :]], axis=-2
        )

    def sampler(self, size: int) -> Tensor:
        """(68 + k, size^2) from the texels of a position map."""
        codec = codec_for(self.layout, size)
        rows = [codec.landmark_matrix.toarray(), codec.decode_matrix[self.vertices].toarray()]
        return torch.from_numpy(np.concatenate(rows)).float()

    def kind(self, sigma: float) -> PointSet:
        """Where they lie on the face model, with the error that is expected of one."""
        source = self.layout.source_index.astype(np.int64)
        single = np.zeros((len(self.vertices), 3))
        single[:, 0] = 1
        return PointSet(
            np.concatenate(
                [
                    source[self.layout.landmark_vertices],
                    np.repeat(source[self.vertices][:, None], 3, axis=1),
                ]
            ),
            np.concatenate([self.layout.landmark_weights.astype(np.float64), single]),
            sigma,
            depth=0.5,
            redundancy=len(self.vertices) / 40,
        )


@torch.inference_mode()
def averaged_answers(
    network: nn.Module,
    photos: PackedPhotos,
    targets: TargetMaker,
    points: FacePoints,
    rows: NDArray[np.int64],
    size: int,
) -> NDArray[np.float64]:
    """What a network says where points lie, averaged over views and their mirror images.

    Args:
        network: Crops (n, 3, size, size) to position maps.
        photos: The packed photos.
        targets: Of the same photos; says where each crop lies.
        points: The points wanted.
        rows: (n,) rows of the photos.
        size: Side of the crops, pixels.

    Returns:
        (n, 68 + k, 3) photo pixels, z into the scene with mean 0 over the 68.
    """
    squares = torch.from_numpy(np.asarray(photos.pixels[rows]))
    part = torch.from_numpy(rows)
    total = torch.zeros(len(rows), 68 + len(points.vertices), 3, dtype=torch.float64)
    for turn, zoom in _VIEWS:
        for mirrored in (False, True):
            still = CropDraw.still(len(rows), squares.device)
            draw = replace(
                still,
                turn=still.turn + turn,
                zoom=still.zoom * zoom,
                mirror=still.mirror | mirrored,
            )
            theta, _, _ = targets(part, draw)
            crops = cut_crops(squares, theta, draw.mirror, size)
            maps = network(crops.contiguous(memory_format=torch.channels_last)).float()
            if mirrored:  # back: the other half's texels, x reversed
                maps = maps.flip(3) * maps.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
            found = (maps.flatten(2) @ points.sampler(maps.shape[-1]).T).transpose(1, 2)
            linear, offset = theta[:, :, :2], theta[:, :, 2]
            xy = found[:, :, :2] @ linear.transpose(1, 2) + offset[:, None]
            z = found[:, :, 2:] * torch.linalg.det(linear).sqrt()[:, None, None]
            total += torch.cat([xy, z], 2).double()
    mean = total.numpy() / (2 * len(_VIEWS))
    frames = photos.frames[rows]
    placed = mean * frames[:, 2, None, None]
    placed[:, :, :2] += frames[:, None, :2]
    placed[:, :, 2] -= placed[:, :68, 2].mean(1, keepdims=True)
    return placed


def refit_labels(
    labels: FaceLabels,
    answers: NDArray[np.float64],
    points: FacePoints,
    model_path: str | Path,
    trust: float = 1.0,
) -> FaceLabels:
    """Fit the face model to the old fits' points, a network's and the hand-made ones.

    Args:
        labels: The old fits.
        answers: (n, 68 + k, 3) a network's points, see :func:`averaged_answers`.
        points: Which points they are.
        model_path: The face model's file.
        trust: How far the network's points are trusted beside the old fits'.

    Returns:
        The labels with new fits; ``residual`` is how far old and new landmarks lie apart, percent
        of the box.
    """
    width = labels.identity.shape[1]
    model = MorphableModel.load(model_path, points.layout, width)
    mean, basis = points.of(model.mean.astype("f8")), points.of(model.basis.astype("f8"))

    def placed(fit: FaceLabels) -> NDArray[np.float64]:
        shape = mean + np.tensordot(np.concatenate([fit.identity, fit.expression], 1), basis, 1)
        out: NDArray[np.float64] = np.einsum("nij,nkj->nki", fit.rotation, shape)
        out = out * fit.scale[:, None, None] + fit.translation[:, None]
        out[:, :, 2] -= out[:, :68, 2].mean(1, keepdims=True)
        return out

    old = placed(labels)
    hand = PointSet.landmarks68(model_path, 0.0)
    fitter = FaceFitter(
        model_path,
        [points.kind(0.02), points.kind(0.02), replace(hand, sigma=0.015)],
        width,
    )
    by_hand = _by_hand(labels, old)
    count = answers.shape[1]
    weights = [np.ones(count), np.full(count, trust), np.ones(68)]
    fits = []
    for start in tqdm(range(0, len(labels), 64), desc="fitting", unit="batch", file=sys.stderr):
        part = slice(start, start + 64)
        given = [old[part], answers[part], by_hand[part]]
        n = len(given[0])
        fits.append(fitter.fit(given, [np.tile(w, (n, 1)) for w in weights]))

    def rows_of(name: str) -> NDArray[np.float32]:
        return np.concatenate([getattr(fit, name) for fit in fits]).astype(np.float32)

    rotation = rows_of("rotation")
    new = replace(
        labels,
        rotation=rotation,
        scale=rows_of("scale"),
        translation=rows_of("translation"),
        identity=rows_of("identity"),
        expression=rows_of("expression"),
        yaw=np.array([euler_from_matrix(r @ FACE_TO_CAMERA)[0] for r in rotation], np.float32),
    )
    moved = np.linalg.norm((placed(new) - old)[:, :68, :2], axis=2).mean(1)
    box = np.ptp(old[:, :68, :2], axis=1)
    return replace(new, residual=(100 * moved / np.sqrt(box.prod(1))).astype(np.float32))


def refit(
    weights: str | Path,
    data: str | Path,
    output: str | Path,
    cache: str | Path,
    *,
    trust: float = 1.0,
    batch: int = 64,
) -> dict[str, float]:
    """Write a data folder whose training photos are fitted once more, with a network's help.

    Photos of the split ``val`` and those not marked ``good`` keep their labels, so that
    validation errors before and after compare. The photo archives are linked, not copied, where
    the file system can.

    Args:
        weights: Folder of the weights.
        data: The data folder.
        output: The new one; made when missing.
        cache: Folder of the packed photos, as for training.
        trust: How far the network is trusted beside the old fits.
        batch: Photos at once.

    Returns:
        How many photos were fitted, and the median and 95th percentile of how far their landmarks
        moved, percent of the box.

    Raises:
        DataError: Data are missing or damaged, of another face layout than the weights, or
            ``output`` is ``data``.
    """
    if Path(output).resolve() == Path(data).resolve():
        raise DataError(f"{output} holds the data to be fitted: give another folder")
    checkpoint, layout = Checkpoint.load(Path(weights)), read_layout(data)
    if checkpoint.layout.digest != layout.digest:
        raise DataError(f"{data} has another face layout than {weights}")
    labels = read_labels(data)
    photos = pack(data, Path(cache) / "photos", layout)
    usable = np.flatnonzero(photos.labels.good & (labels.split == "train"))
    if not len(usable):
        raise DataError(f"{data} holds no good photo with split 'train'")
    config = checkpoint.network.config
    model = MorphableModel.load(model_file(data), layout, labels.identity.shape[1])
    codec = codec_for(layout, config.map_size)
    targets = TargetMaker(photos, model, codec, checkpoint.margin, torch.device("cpu"))
    points = FacePoints.spread(layout)
    network = checkpoint.network.eval()
    parts = [usable[start : start + batch] for start in range(0, len(usable), batch)]
    answers = np.concatenate(
        [
            averaged_answers(network, photos, targets, points, part, config.input_size)
            for part in tqdm(parts, desc="looking", unit="batch", file=sys.stderr)
        ]
    )
    new = refit_labels(labels.take(usable), answers, points, model_file(data), trust)
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    beside = [model_file(data), *Path(data).glob("layout.safetensors")]
    for file in [*sorted(Path(data).glob("photos_*.tar")), *beside]:
        _link(file, target / file.name)
    write_labels(_put(labels, usable, new), target / "labels.npz")
    return {
        "photos": len(usable),
        "median_move_percent": round(float(np.median(new.residual)), 3),
        "largest_moves_percent": round(float(np.percentile(new.residual, 95)), 3),
    }


def _by_hand(labels: FaceLabels, old: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hand-made points (n, 68, 2) as landmarks, NaN where there is none.

    The jaw's are left out: in a turned face they follow the visible edge.
    """
    out = np.full((len(labels), 68, 2), np.nan)
    for i, count in enumerate(labels.hand_count.tolist()):
        if count in (68, 30, 21):
            given = labels.hand_points[i, :count].astype(np.float64)
            out[i] = single_landmarks(given, old[i, :68, :2])
    out[:, np.setdiff1d(np.arange(68), INNER_51)] = np.nan
    return out


def _put(labels: FaceLabels, rows: NDArray[np.int64], new: FaceLabels) -> FaceLabels:
    changed = {}
    for name in ("rotation", "scale", "translation", "identity", "expression", "yaw", "residual"):
        array = getattr(labels, name).copy()
        array[rows] = getattr(new, name)
        changed[name] = array
    return replace(labels, **changed)


def _link(file: Path, target: Path) -> None:
    if target.exists():
        return
    unfinished = target.with_name(target.name + ".partial")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(file, unfinished)
    except OSError:  # another file system
        shutil.copyfile(file, unfinished)
    unfinished.replace(target)
