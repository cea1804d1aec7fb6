"""Fitted faces: made-up points give back their parameters, real ones agree with the labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from facerecon.cli import main
from facerecon.errors import DataError
from facerecon.geometry import FACE_TO_CAMERA, matrix_from_euler
from facerecon.training.datasets import MorphableModel, read_labels
from facerecon.training.datasets.own import face_points, fit_folder
from facerecon.training.datasets.pack import landmarks_in_photo
from facerecon.training.fitting import FaceFit, FaceFitter, PointSet
from facerecon.uv import UVLayout

COUNT = 10


def angle_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    cosine = (np.einsum("nij,nij->n", a, b) - 1) / 2
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


@pytest.fixture
def faces(data: Path, layout: UVLayout) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Parameters of made-up faces, and their 68 points."""
    rng = np.random.default_rng(3)
    model = MorphableModel.load(data / "ict_face.npz", layout, 80)
    turns = rng.uniform([-60, -25, -70], [60, 25, 70], (COUNT, 3))
    truth = {
        "rotation": np.stack([matrix_from_euler(*t) @ FACE_TO_CAMERA for t in turns]),
        "scale": rng.uniform(5, 30, COUNT),
        "translation": rng.uniform(100, 400, (COUNT, 3)),
        "identity": rng.normal(size=(COUNT, 80)) * 0.5,
        "expression": rng.uniform(0, 0.2, (COUNT, 53)),
    }
    points = []
    for i in range(COUNT):
        vertices = model.vertices(truth["identity"][i], truth["expression"][i])
        placed = truth["scale"][i] * vertices @ truth["rotation"][i].T + truth["translation"][i]
        points.append(layout.landmarks_of(placed))
    return truth, np.stack(points)


def fitter(data: Path, depth: float) -> FaceFitter:
    return FaceFitter(data / "ict_face.npz", [PointSet.landmarks68(data / "ict_face.npz", depth)])


def check(fit: FaceFit, truth: dict[str, np.ndarray], percent: float, degrees: float) -> None:
    assert fit.residual.max() < percent
    assert np.abs(np.linalg.det(fit.rotation) - 1).max() < 1e-9
    assert angle_between(fit.rotation, truth["rotation"]).max() < degrees
    np.testing.assert_allclose(fit.scale, truth["scale"], rtol=0.06)
    assert fit.expression.min() >= -0.1 - 1e-6 and fit.expression.max() <= 1


def test_points_in_three_dimensions_give_back_the_face(data: Path, faces) -> None:
    truth, points = faces
    check(fitter(data, 1.0).fit([points]), truth, percent=0.6, degrees=1.5)


def test_points_in_two_dimensions_too_in_any_turn(data: Path, faces) -> None:
    truth, points = faces
    check(fitter(data, 0.0).fit([points[:, :, :2]]), truth, percent=2.5, degrees=10.0)


def test_an_outlier_and_missing_points_hardly_matter(data: Path, faces) -> None:
    truth, points = faces
    rng = np.random.default_rng(5)
    spoilt = points.copy()
    size = np.sqrt(np.ptp(points[:, :, :2], axis=1).prod(1))
    for i in range(COUNT):
        spoilt[i, rng.integers(30), :2] += size[i] * 0.4
        spoilt[i, rng.integers(36, 68)] = np.nan
    fit = fitter(data, 1.0).fit([spoilt])
    assert angle_between(fit.rotation, truth["rotation"]).max() < 3


def test_wrong_points_are_refused(data: Path, faces) -> None:
    _, points = faces
    with pytest.raises(DataError, match=r"\(n, 68, 2 or 3\)"):
        fitter(data, 1.0).fit([points[:, :50]])
    few = points.copy()
    few[4, 5:] = np.nan
    with pytest.raises(DataError, match="face 4 has fewer than six"):
        fitter(data, 1.0).fit([few])


def test_a_folder_of_photos_becomes_a_data_folder(
    data: Path, faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, points = faces
    photos = tmp_path / "photos"
    photos.mkdir()
    size = np.ptp(points[:, :, :2], axis=1).max()
    for i, face in enumerate(points):
        place = (face - face.mean(0)) * 150 / size + [120, 110, 0]
        cv2.imwrite(str(photos / f"{i}.png"), np.full((230, 250, 3), 40 + i, np.uint8))
        if i == 0:  # 300-W's own format counts from 1
            lines = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in place[:, :2])
            (photos / "0.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
        else:
            np.save(photos / f"{i}.npy", place)
    cv2.imwrite(str(photos / "nobody.png"), np.zeros((50, 50, 3), np.uint8))
    model = data / "ict_face.npz"
    with pytest.raises(DataError, match=r"nobody\.png has no nobody\.pts"):
        fit_folder(photos, tmp_path / "out", model)
    command = ["data", "fit", str(photos), "-o", str(tmp_path / "out"), "--model", str(model)]
    assert main([*command, "--bad-data", "skip", "--validation", "0.2"]) == 0
    assert '"photos": 10, "good": 10, "left_out": 1' in capsys.readouterr().out
    labels = read_labels(tmp_path / "out")
    assert (labels.split == "val").sum() == 2
    found = landmarks_in_photo(
        labels, MorphableModel.load(model, UVLayout.ict(), 80), UVLayout.ict()
    )
    away = np.linalg.norm(found[:, :, :2] - labels.hand_points, axis=2)
    assert away[0].mean() < 2.5  # two dimensions, hidden points not used
    assert away[1:].max() < 2


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", "1 2\n3 4\n"), ("a.pts", "{ 1 2"), ("a.txt", "inf 1\n" * 68), ("a.npy", "no")],
)
def test_unreadable_points_are_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=name):
        face_points(tmp_path / name)


def test_real_points_agree_with_the_shipped_fits(data_folder: Path, layout: UVLayout) -> None:
    """Within the noise the labels state: 1.25 % to the landmark network's points."""
    with np.load(data_folder / "raw_points_sample.npz") as archive:
        paths, points = archive["path"][:200], archive["network68"][:200]
    labels = read_labels(data_folder)
    row = {path: i for i, path in enumerate(labels.path)}
    shipped = labels.take([row[path] for path in paths])
    model_file = data_folder / "ict_face.npz"
    fit = FaceFitter(model_file, [PointSet.landmarks68(model_file, 0.3)]).fit([points])
    mine = dataclasses.replace(
        shipped,
        **{
            name: getattr(fit, name)
            for name in ("rotation", "scale", "translation", "identity", "expression")
        },
    )
    model = MorphableModel.load(model_file, layout, 80)
    a, b = (landmarks_in_photo(part, model, layout)[:, :, :2] for part in (shipped, mine))
    nme = np.linalg.norm(a - b, axis=2).mean(1) / np.sqrt(np.ptp(a, axis=1).prod(1)) * 100
    assert nme[shipped.good].mean() < 1.25
    assert np.median(angle_between(fit.rotation, shipped.rotation)) < 2


def test_mediapipes_points_through_their_correspondence(
    data: Path, faces, layout: UVLayout, tmp_path: Path
) -> None:
    """468 points on random triangles of the face, hidden ones spoilt as guesses are."""
    truth, _ = faces
    rng = np.random.default_rng(7)
    chosen = layout.triangles[rng.choice(len(layout.triangles), 468, replace=False)]
    weights = rng.dirichlet(np.ones(3), 468)
    file = tmp_path / "mediapipe468_ict.npz"
    np.savez(file, tri=layout.source_index[chosen], bary=weights)
    model = MorphableModel.load(data / "ict_face.npz", layout, 80)
    points = []
    for i in range(COUNT):
        vertices = model.vertices(truth["identity"][i], truth["expression"][i])
        placed = truth["scale"][i] * vertices @ truth["rotation"][i].T + truth["translation"][i]
        points.append(np.einsum("kcd,kc->kd", placed[chosen], weights))
    fitter = FaceFitter(data / "ict_face.npz", [PointSet.mediapipe468(file)])
    fit = fitter.fit([np.stack(points)])
    assert fit.residual.max() < 2
    assert angle_between(fit.rotation, truth["rotation"]).mean() < 4

    photos = tmp_path / "photos"
    photos.mkdir()
    place = (points[0] - points[0].mean(0)) * 150 / np.ptp(points[0][:, :2], axis=0).max()
    cv2.imwrite(str(photos / "a.png"), np.full((230, 250, 3), 40, np.uint8))
    np.save(photos / "a.npy", place + [120, 110, 0])
    with pytest.raises(DataError, match="--mediapipe"):
        fit_folder(photos, tmp_path / "out", data / "ict_face.npz")
    report = fit_folder(photos, tmp_path / "out", data / "ict_face.npz", file)
    assert report["good"] == 1 and report["median_residual_percent"] < 2
    assert np.isnan(read_labels(tmp_path / "out").hand_points).all()
