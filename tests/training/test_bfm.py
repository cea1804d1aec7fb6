"""300W-LP's formats, with a small made-up face model, against values computed by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from facerecon.cli import main
from facerecon.errors import DataError
from facerecon.evaluation.basel import BaselModel, FittedMat
from facerecon.training.datasets import MorphableModel, read_labels, read_photos
from facerecon.training.datasets.bfm import (
    prepare_300wlp,
    prnet_position_map,
    write_position_maps,
)
from facerecon.training.datasets.pack import landmarks_in_photo
from facerecon.uv import UVCodec, UVLayout

SIDE = 12  # the face is a grid of SIDE x SIDE vertices
SHAPES, EXPRESSIONS = 4, 3


@pytest.fixture
def bfm(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    line = np.linspace(-1, 1, SIDE)
    x, y = np.meshgrid(line, line[::-1])
    z = 1 - 0.6 * x**2 - 0.3 * y**2
    mean = np.stack([x * 7e4, y * 9e4, z * 5e4], -1).reshape(-1, 3)
    index = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) + 1  # Matlab counts from 1
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    tri = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, d, c), (a, c, b))])
    count = mean.size
    model = {
        "shapeMU": (mean * 0.9).reshape(-1, 1),
        "expMU": (mean * 0.1).reshape(-1, 1),
        "shapePC": rng.normal(size=(count, SHAPES)) * 1e3,
        "expPC": rng.normal(size=(count, EXPRESSIONS)) * 1e3,
        "tri": tri.T,
        "kpt_ind": rng.choice(SIDE * SIDE, 68, replace=False)[None] + 1,
    }
    savemat(tmp_path / "BFM.mat", {"model": model})
    uv = np.stack([(x + 1) / 2, (y + 1) / 2], -1).reshape(-1, 2)
    savemat(tmp_path / "BFM_UV.mat", {"UV": uv})
    return tmp_path / "BFM.mat", tmp_path / "BFM_UV.mat"


def write_sample(
    folder: Path, name: str, seed: int, **changes: np.ndarray
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    content = {
        "Pose_Para": np.array([[0.1, -0.5, 0.2, 60, 55, -30, 5e-4]], "f4"),
        "Shape_Para": rng.normal(size=(SHAPES, 1)),
        "Exp_Para": rng.normal(size=(EXPRESSIONS, 1)),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}.mat", content)
    photo = cv2.resize(rng.integers(0, 256, (11, 12, 3), np.uint8), (120, 110))
    cv2.imwrite(str(folder / f"{name}.jpg"), photo)
    return content


def by_hand(bfm: tuple[Path, Path], content: dict[str, np.ndarray], height: int) -> np.ndarray:
    """3DDFA's formula as published: V' = s V R^T + t, then y <- h - y - 1; z to the viewer."""
    model = BaselModel.load(*bfm)
    p, y, r, *t, s = content["Pose_Para"].ravel().astype(float)
    rx = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    ry = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(r), np.sin(r), 0], [-np.sin(r), np.cos(r), 0], [0, 0, 1]])
    shape = model.mean.astype(float)
    shape = shape + np.einsum("i,inj->nj", content["Shape_Para"].ravel(), model.identity)
    shape = shape + np.einsum("i,inj->nj", content["Exp_Para"].ravel(), model.expression)
    moved = s * shape @ (rx @ ry @ rz).T + t
    moved[:, 1] = height - moved[:, 1] - 1
    return moved


def test_vertices_are_read_x_y_z_by_turns_and_means_added(bfm: tuple[Path, Path]) -> None:
    model = BaselModel.load(*bfm)
    assert model.mean.shape == (SIDE * SIDE, 3)
    np.testing.assert_allclose(model.mean[0], [-7e4, 9e4, 0.1 * 5e4], rtol=1e-5)
    assert model.identity.shape == (SHAPES, SIDE * SIDE, 3)
    assert model.triangles.min() == 0 and model.triangles.max() == SIDE * SIDE - 1


def test_vertices_of_a_sample(bfm: tuple[Path, Path], tmp_path: Path) -> None:
    content = write_sample(tmp_path, "one", 1)
    fitted = FittedMat.load(tmp_path / "one.mat")
    expected = by_hand(bfm, content, 110) * [1, 1, -1]
    found = fitted.vertices(BaselModel.load(*bfm), 110)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_worked_number(tmp_path: Path) -> None:
    pose = np.array([[0, 0, 0, 10, 20, 5, 1.0]])
    write_sample(tmp_path, "one", 1, Pose_Para=pose)
    _, _, translation = FittedMat.load(tmp_path / "one.mat").placed(100)
    np.testing.assert_allclose(translation, [10, 79, -5])


def test_layout_is_prnets(bfm: tuple[Path, Path]) -> None:
    """u 255 and v 255, v <- 256 - v - 1: the chart's corners are the map's corner texels."""
    layout = BaselModel.load(*bfm).layout
    encoded = UVCodec(layout, 256).encode(layout.canonical)
    np.testing.assert_allclose(encoded[0, 0], layout.canonical[0], atol=1e-4)  # top left: v = 1
    np.testing.assert_allclose(encoded[255, 255], layout.canonical[-1], atol=1e-4)
    np.testing.assert_allclose(encoded[0, 255], layout.canonical[SIDE - 1], atol=1e-4)


def test_position_map_by_hand(bfm: tuple[Path, Path], tmp_path: Path) -> None:
    """PRNet's own steps: corners to corner pixels, z scaled alike, minus its smallest."""
    content = write_sample(tmp_path, "one", 1)
    model = BaselModel.load(*bfm)
    vertices = FittedMat.load(tmp_path / "one.mat").vertices(model, 110)
    centre, size = np.array([58.0, 51.0]), 90.0
    found, matrix = prnet_position_map(vertices, UVCodec(model.layout, 256), centre, size)
    raw = by_hand(bfm, content, 110)
    expected = np.column_stack([
        (raw[:, 0] - (58 - 45)) * 255 / 90,
        (raw[:, 1] - (51 - 45)) * 255 / 90,
        (raw[:, 2] - raw[:, 2].min()) * 255 / 90,
    ])  # fmt: skip
    for vertex, (row, column) in {0: (0, 0), SIDE - 1: (0, 255), SIDE**2 - 1: (255, 255)}.items():
        np.testing.assert_allclose(found[row, column], expected[vertex], atol=1e-2)
    assert found[..., 2].min() >= 0
    np.testing.assert_allclose(matrix @ [13, 6, 1], [0, 0], atol=1e-9)
    np.testing.assert_allclose(matrix @ [103, 96, 1], [255, 255], atol=1e-9)


@pytest.fixture
def prepared(bfm: tuple[Path, Path], tmp_path: Path) -> Path:
    for subset in ("AFW", "AFW_Flip", "HELEN", "HELEN_Flip"):
        for k in range(2):
            for variant in range(2):
                write_sample(
                    tmp_path / "lp" / subset, f"{subset[:4]}_{k}_{variant}", 10 * k + variant
                )
    arguments = ["data", "prepare-300wlp", str(tmp_path / "lp"), "--bfm", str(bfm[0])]
    arguments += ["--uv", str(bfm[1]), "-o", str(tmp_path / "out"), "--validation", "0.25"]
    assert main([*arguments, "--position-maps", "20"]) == 0
    return tmp_path / "out"


def test_prepared_labels_give_the_same_points(bfm: tuple[Path, Path], prepared: Path) -> None:
    labels = read_labels(prepared)
    layout = UVLayout.load(prepared / "layout.safetensors")
    model = MorphableModel.load(prepared / "face_model.npz", layout, SHAPES)
    points = landmarks_in_photo(labels, model, layout)
    landmarks = BaselModel.load(*bfm).landmarks
    row = int(np.flatnonzero(labels.path == "HELEN/HELE_1_0.jpg")[0])
    content = write_sample(prepared / "again", "x", 10)
    expected = by_hand(bfm, content, 110)[landmarks] * [1, 1, -1]
    np.testing.assert_allclose(points[row], expected, atol=0.01)
    assert labels.yaw[row] == pytest.approx(np.degrees(0.5), abs=1)  # their sign turned round
    # all variants of a photo are on one side of the split
    names = np.array([str(path).split("/")[1].rsplit("_", 1)[0] for path in labels.path])
    for name in np.unique(names):
        assert len(set(labels.split[names == name])) == 1
    assert set(labels.split) == {"train", "val"}
    _, photo = next(read_photos(prepared, labels.path[row : row + 1]))
    assert photo.shape == (110, 120, 3)


def test_position_maps_belong_to_their_crops(prepared: Path) -> None:
    folder = prepared / "position_maps"
    maps = sorted(folder.glob("*.npy"))
    assert len(maps) == 20
    for file in maps[::6]:
        content = np.load(file)
        assert content.shape == (256, 256, 3) and content.dtype == np.float32
        assert content[..., 2].min() >= 0
        assert cv2.imread(str(file.with_suffix(".jpg"))).shape == (256, 256, 3)
    first = np.load(maps[0])
    stamps = {file: file.stat().st_mtime_ns for file in maps}
    maps[0].unlink()
    write_position_maps(prepared, folder, 20)
    np.testing.assert_array_equal(np.load(maps[0]), first)
    assert all(file.stat().st_mtime_ns == stamps[file] for file in maps[1:])  # kept, not remade


def test_a_network_trains_on_it(prepared: Path, tmp_path: Path) -> None:
    from facerecon import FaceReconstructor
    from facerecon.training import TrainConfig, train

    config = TrainConfig(
        steps=2, batch=2, validate_every=2, warmup=1, pack_size=64, bfloat16=False, mirror=True
    )
    weights = train(config, prepared, tmp_path / "cache", tmp_path / "run")
    reconstructor = FaceReconstructor.from_pretrained(weights)
    assert reconstructor.checkpoint.layout.name == "layout"
    with torch.no_grad():
        points = reconstructor.landmarks(np.zeros((60, 60, 3), np.uint8), (10, 10, 50, 50))
    assert points.shape == (68, 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Pose_Para": np.zeros((1, 6))}, "Pose_Para has 6"),
        ({"Shape_Para": np.full((SHAPES, 1), np.nan)}, "finite"),
        ({"Shape_Para": np.zeros((7, 1))}, "7 shape"),
        ({"Pose_Para": np.zeros((1, 7))}, "scale"),
    ],
)
def test_bad_samples_are_refused_or_left_out(
    bfm: tuple[Path, Path],
    tmp_path: Path,
    changes: dict[str, np.ndarray],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_sample(tmp_path / "AFW", "a_1_0", 0)
    write_sample(tmp_path / "AFW", "a_2_0", 0, **changes)
    with pytest.raises(DataError, match=reason):
        prepare_300wlp(tmp_path, *bfm, tmp_path / "out", ["AFW"])
    assert prepare_300wlp(tmp_path, *bfm, tmp_path / "out", ["AFW"], bad="skip") == 1
    assert "a_2_0.mat" in capsys.readouterr().err


def test_missing_files_are_named(bfm: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="HELEN holds no"):
        prepare_300wlp(tmp_path, *bfm, tmp_path / "out", ["HELEN"])
    with pytest.raises(DataError, match=r"gone\.mat"):
        BaselModel.load(tmp_path / "gone.mat", bfm[1])
    with pytest.raises(DataError, match="cannot read the Basel Face Model"):
        BaselModel.load(bfm[1], bfm[1])
