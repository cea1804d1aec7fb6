"""300W-LP and AFLW2000-3D as a data folder, and PRNet's training pairs.

The conventions of both are those of :mod:`facerecon.evaluation.basel`.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from facerecon.errors import DataError
from facerecon.evaluation.basel import MICROMETRES, BaselModel, FittedMat
from facerecon.geometry import (
    FACE_TO_CAMERA,
    euler_from_matrix,
)
from facerecon.training.datasets.labels import (
    BadData,
    FaceLabels,
    MorphableModel,
    read_labels,
    read_photos,
    skip_or_refuse,
    write_labels,
)
from facerecon.uv import UVCodec, UVLayout

__all__ = ["prepare_300wlp", "prnet_position_map", "write_position_maps"]


def prepare_300wlp(
    photos: str | Path,
    bfm: str | Path,
    uv: str | Path,
    output: str | Path,
    subsets: Sequence[str] = ("AFW", "AFW_Flip", "HELEN", "HELEN_Flip"),
    *,
    validation: float = 0.02,
    seed: int = 0,
    bad: BadData = "refuse",
) -> int:
    """Turn 300W-LP, or AFLW2000-3D, into a data folder.

    Args:
        photos: Folder of the subsets' folders, each with NAME.jpg and NAME.mat.
        bfm: BFM.mat.
        uv: BFM_UV.mat.
        output: The data folder, made when missing.
        subsets: Folders to read; the default is the paper's selection. ``.`` is ``photos`` itself.
        validation: Share of the people's photos, with all their turned and mirrored variants,
            that become the split ``val``.
        seed: Of that choice.
        bad: What to do about unreadable photos and labels.

    Returns:
        How many photos were written.

    Raises:
        DataError: Files are missing or damaged.
    """
    model, target = BaselModel.load(bfm, uv), Path(output)
    target.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for subset in subsets:
        folder = Path(photos) / subset
        mats = sorted(folder.glob("*.mat"))
        if not mats:
            raise DataError(f"{folder} holds no .mat files: 300W-LP's {subset} is needed there")
        name = "300wlp" if subset == "." else subset
        unfinished = target / f"photos_{name}.partial"
        with tarfile.open(unfinished, "w") as tar:
            for mat in tqdm(mats, desc=f"reading {name}", unit="photo"):
                row = _row(mat, model, bad)
                if row is None:
                    continue
                row["path"], row["source"] = f"{name}/{mat.stem}.jpg", name
                content = mat.with_suffix(".jpg").read_bytes()
                member = tarfile.TarInfo(row["path"])
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                rows.append(row)
        os.replace(unfinished, target / f"photos_{name}.tar")
    if not rows:
        raise DataError(f"none of the photos in {photos} could be used")
    photo_of = np.array([_photo_name(row["path"]) for row in rows])
    distinct = np.unique(photo_of)
    count = round(validation * len(distinct))
    held = np.random.default_rng(seed).permutation(distinct)[:count]
    stacked = {
        key: np.stack([row[key] for row in rows]).astype(np.float32)
        for key in ("rotation", "scale", "translation", "identity", "expression", "yaw")
    }
    labels = FaceLabels(
        path=np.array([row["path"] for row in rows]),
        source=np.array([row["source"] for row in rows]),
        split=np.where(np.isin(photo_of, held), "val", "train"),
        good=np.ones(len(rows), bool),
        hand_points=np.full((len(rows), 68, 2), np.nan, np.float32),
        hand_count=np.zeros(len(rows), np.int16),
        residual=np.full(len(rows), np.nan, np.float32),
        **stacked,
    )
    write_labels(labels, target / "labels.npz")
    unfinished = target / "face_model.partial.npz"
    np.savez(
        unfinished,
        vertices=model.mean / MICROMETRES,
        identity=model.identity / MICROMETRES,
        expression=model.expression / MICROMETRES,
    )
    os.replace(unfinished, target / "face_model.npz")
    model.layout.save(target / "layout.safetensors")
    return len(rows)


def _row(mat: Path, model: BaselModel, bad: BadData) -> dict[str, Any] | None:
    """One photo's label, or None for a bad one."""
    photo = mat.with_suffix(".jpg")
    image = cv2.imread(str(photo)) if photo.is_file() else None
    if image is None:
        skip_or_refuse(bad, f"{photo} is missing or no readable picture")
        return None
    try:
        fitted = FittedMat.load(mat)
    except DataError as error:
        skip_or_refuse(bad, str(error))
        return None
    if fitted.identity.size != len(model.identity) or fitted.expression.size != len(
        model.expression
    ):
        skip_or_refuse(
            bad,
            f"{mat} has {fitted.identity.size} shape and {fitted.expression.size} expression "
            f"numbers, the model {len(model.identity)} and {len(model.expression)}",
        )
        return None
    rotation, scale, translation = fitted.placed(image.shape[0])
    return {
        "rotation": rotation,
        "scale": scale * MICROMETRES,
        "translation": translation,
        "identity": fitted.identity,
        "expression": fitted.expression,
        "yaw": euler_from_matrix(rotation @ FACE_TO_CAMERA)[0],
    }


def _photo_name(path: str) -> str:
    """The photo behind a variant: AFW_Flip/AFW_134212_1_3.jpg comes from AFW_134212_1."""
    return Path(path).stem.rsplit("_", 1)[0]


def prnet_position_map(
    vertices: NDArray[np.float64],
    codec: UVCodec,
    centre: NDArray[np.float64],
    size: float,
    angle: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A position map as PRNet is trained on, and the crop it belongs to.

    x and y are pixels of the 256 x 256 crop whose corners are the centres of its corner pixels;
    z is towards the viewer, scaled alike, minus its smallest value over all vertices
    (Feng et al., ECCV 2018; face3d).

    Args:
        vertices: (n, 3) photo pixels, z into the scene.
        codec: Of the model's layout, at 256.
        centre: (2,) of the crop, photo pixels.
        size: Side of the crop, photo pixels.
        angle: The crop is turned by this many degrees, clockwise in the picture.

    Returns:
        (256, 256, 3), 0 off the chart; and the (2, 3) matrix from photo to crop pixels.
    """
    side = codec.size - 1
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    linear = np.array([[cos, sin], [-sin, cos]]) * side / size
    matrix = np.column_stack([linear, side / 2 - linear @ centre])
    moved = vertices[:, :2] @ linear.T + matrix[:, 2]
    depth = -vertices[:, 2] * side / size
    placed = np.column_stack([moved, depth - depth.min()])
    encoded = codec.encode(placed) * codec.chart[..., None]
    return encoded.astype(np.float32), matrix


def write_position_maps(folder: str | Path, output: str | Path, count: int, seed: int = 0) -> None:
    """Write PRNet's training pairs ``NNNNNN.jpg`` and ``NNNNNN.npy`` from a prepared folder.

    Every training photo is taken once, with PRNet's crop: side 1.5 x the mean of the 68 points'
    width and height, times U(0.9, 1.1), shifted by U(-0.1, 0.1) of that mean; then random ones
    again, turned by up to 45 degrees as well, until there are ``count``. Existing pairs are kept.
    """
    labels = read_labels(folder)
    layout = UVLayout.load(Path(folder) / "layout.safetensors")
    model = MorphableModel.load(Path(folder) / "face_model.npz", layout, labels.identity.shape[1])
    codec = UVCodec(layout, 256)
    rng = np.random.default_rng(seed)
    train = np.flatnonzero(labels.split == "train")
    rows = np.concatenate([train, rng.choice(train, max(0, count - len(train)))])[:count]
    zoom, shift = rng.uniform(0.9, 1.1, count), rng.uniform(-0.1, 0.1, (count, 2))
    angle = np.where(np.arange(count) < len(train), 0.0, rng.uniform(-45, 45, count))
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    left = [i for i in range(count) if not (target / f"{i:06d}.npy").exists()]
    photos = read_photos(folder, labels.path[rows[left]])
    for k, photo in tqdm(photos, total=len(left), desc="position maps", unit="map"):
        i = left[k]
        row = rows[i]
        shape = model.vertices(labels.identity[row], labels.expression[row])
        turned = shape @ labels.rotation[row].T.astype(np.float64)
        vertices = labels.scale[row] * turned + labels.translation[row]
        points = layout.landmarks_of(vertices)[:, :2]
        low, high = points.min(0), points.max(0)
        extent = float((high - low).mean())
        centre = (low + high) / 2 + shift[i] * extent
        size = int(extent * 1.5) * zoom[i]
        encoded, matrix = prnet_position_map(vertices, codec, centre, size, angle[i])
        crop = cv2.warpAffine(photo, matrix, (256, 256), flags=cv2.INTER_LINEAR)
        bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(target / f"{i:06d}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
        unfinished = target / f"{i:06d}.partial"
        with unfinished.open("wb") as file:
            np.save(file, encoded)
        os.replace(unfinished, target / f"{i:06d}.npy")
