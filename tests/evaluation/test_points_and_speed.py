from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from facerecon import Detection, Face, FaceReconstructor
from facerecon.cli import main
from facerecon.errors import DataError
from facerecon.evaluation import evaluate_points, evaluate_speed
from facerecon.evaluation.annotations import from_68, read_annotated, read_points
from facerecon.uv import UVLayout


def test_annotations_are_read_from_the_68_by_name(layout: UVLayout) -> None:
    face = layout.landmarks_of(layout.canonical)  # x to the person's left, y up
    aflw = from_68(face, 21)
    assert np.isnan(aflw[[12, 16]]).all() and np.isfinite(np.delete(aflw, [12, 16], 0)).all()
    np.testing.assert_allclose(aflw[7], face[36:42].mean(0))  # the right eye's middle
    np.testing.assert_allclose(aflw[20], face[8])
    cfp = from_68(face, 30)
    assert cfp.shape == (30, 3)
    assert (cfp[12:18, 0] < 0).all()  # the person's right eye
    other = from_68(face, 30, mirrored=True)
    np.testing.assert_allclose(other * [-1, 1, 1], cfp, atol=0.25)  # the mean face is symmetric
    np.testing.assert_allclose(from_68(face, 68, mirrored=True)[36], face[45])


@pytest.fixture
def annotated(tmp_path: Path, photo_path: Path, face: Face) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    points = face.landmarks[:, :2]
    for name in ("a", "b", "c"):
        shutil.copy(photo_path, folder / f"{name}.jpg")
    lines = "\n".join(f"{x + 1:.4f} {y + 1:.4f}" for x, y in points)
    (folder / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
    np.savetxt(folder / "b.txt", from_68(points, 21))
    np.save(folder / "c.npy", from_68(points, 30, mirrored=True))
    return folder


def test_own_points_have_little_error(annotated: Path, reconstructor: FaceReconstructor) -> None:
    (report,) = evaluate_points(reconstructor, annotated)
    values = report.to_dict()["points"]
    assert {k: v["photos"] for k, v in values.items()} == {"21": 1, "30": 1, "68": 1}
    for kind in values.values():
        assert kind["box"]["mean"] < 2.5  # the crop is another one, so not quite 0
    assert values["30"]["inter_ocular"] is None  # one eye only
    assert "51 inner of 68 points, 1 photos:" in report.to_text()


def test_a_known_shift_of_predictions(
    annotated: Path, reconstructor: FaceReconstructor, tmp_path: Path, face: Face
) -> None:
    peer = tmp_path / "peer"
    peer.mkdir()
    for name in ("a", "b", "c"):
        np.savetxt(peer / f"{name}.txt", face.landmarks[:, :2] + [0.0, 2.0])
    _, report = evaluate_points(reconstructor, annotated, predictions=peer)
    points = face.landmarks[:, :2]
    between = np.linalg.norm(points[36] - points[45])
    row = {n: i for i, n in enumerate(report.names)}
    assert report.inter_ocular[row["a"]] == pytest.approx(200 / between, rel=1e-3)
    for name, kept in (("a", points), ("b", from_68(points, 21)), ("c", from_68(points, 30, True))):
        known = kept[np.isfinite(kept).all(1)]
        expected = 200 / np.sqrt(np.ptp(known, axis=0).prod())
        assert report.box[row[name]] == pytest.approx(expected, rel=1e-3)


def test_bad_annotations_are_named(annotated: Path, reconstructor: FaceReconstructor) -> None:
    np.savetxt(annotated / "b.txt", np.zeros((5, 2)))
    with pytest.raises(DataError, match=r"b\.txt holds 5 points"):
        evaluate_points(reconstructor, annotated)
    with pytest.raises(DataError, match="holds no photo"):
        list(read_annotated(annotated.parent))
    (annotated / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"bad\.npz"):
        read_points(annotated / "bad.npz")


def test_points_command(annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "points", str(annotated), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["points"]["68"]["photos"] == 1


class FixedBox:
    """A detector that knows, and costs nothing."""

    def __init__(self, face: Face) -> None:
        self.answer = [Detection(np.array(face.box), 1.0)]

    def detect(self, _image: np.ndarray) -> list[Detection]:
        return self.answer


def test_speed_counts_every_stage(
    reconstructor: FaceReconstructor, photo_path: Path, face: Face
) -> None:
    quick = FaceReconstructor(reconstructor.checkpoint, device="cpu", detector=FixedBox(face))
    report = evaluate_speed(quick, photo_path, batches=(1, 2), runs=3)
    values = report.to_dict()
    stages = values["stages"]
    assert {"read", "detect", "crop", "mesh with texture"} < set(stages)
    assert {"network, float32, batch 1", "network, bfloat16, batch 2"} < set(stages)
    for stage in stages.values():
        low, high = stage["iqr_ms"]
        assert 0 < low <= stage["median_ms"] <= high <= stage["p99_ms"] * 1.0001
        assert stage["runs"] == 3
    pair = stages["network, float32, batch 2"]
    assert pair["photos_per_second"] == pytest.approx(2000 / pair["median_ms"])
    assert values["peak_megabytes"] > 100 and values["gpu_megabytes"] is None
    assert values["hardware"]["device"] == "cpu" and values["hardware"]["cpu"]
    assert "photos/s" in report.to_text()
