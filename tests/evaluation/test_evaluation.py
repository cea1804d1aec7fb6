from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from facerecon import FaceReconstructor
from facerecon.errors import DataError, MissingDependency
from facerecon.evaluation import evaluate_aflw2000, nme, read_aflw2000, yaw_bin
from facerecon.evaluation.metrics import angle_error
from facerecon.geometry import matrix_from_aflw2000

SQUARE = np.array([[0, 0], [40, 0], [0, 90], [40, 90]], float)


def test_a_shift_of_d_pixels_is_d_over_the_boxs_size() -> None:
    assert nme(SQUARE + [3, 4], SQUARE) == pytest.approx(100 * 5 / 60)  # sqrt(40 * 90) = 60


def test_in_3d_the_mean_depth_does_not_count_but_its_shape_does() -> None:
    truth = np.column_stack([SQUARE, [1.0, 2, 3, 4]])
    assert nme(truth + [0, 0, 50], truth) == pytest.approx(0)
    assert nme(truth * [1, 1, -1], truth) == pytest.approx(100 * np.mean([3, 1, 1, 3]) / 60)


def test_yaw_bins_close_at_the_top() -> None:
    assert yaw_bin([0, 30, -30, 30.1, -60, 60.1, 120]).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_angles_go_the_short_way_round() -> None:
    np.testing.assert_allclose(angle_error([179, -10], [-179, 10]), [2, 20])


@pytest.fixture
def aflw2000(tmp_path: Path, reconstructor: FaceReconstructor, photo: np.ndarray) -> Path:
    """The example photo with our own answer as its label, in AFLW2000-3D's format."""
    box = (177.0, 87.0, 272.0, 174.5)
    for _ in range(30):  # the label must reproduce itself: its own box leads to it
        points = reconstructor.landmarks(photo, box)
        box = (*points[:, :2].min(0), *points[:, :2].max(0))
    pose = reconstructor.pose(photo, box)
    cv2.imwrite(str(tmp_path / "a.png"), photo[..., ::-1])
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")  # lossless; OpenCV reads by content
    stored = np.zeros((1, 7))
    stored[0, :3] = np.radians(pose.to_aflw2000())
    savemat(tmp_path / "a.mat", {"pt3d_68": points.T * [[1], [1], [-1]], "Pose_Para": stored})
    np.savetxt(tmp_path / "a_peer.txt", points + [3.0, 0, 0])
    return tmp_path


def test_perfect_predictions_have_no_error(
    aflw2000: Path, reconstructor: FaceReconstructor
) -> None:
    report = evaluate_aflw2000(reconstructor, aflw2000, predictions="_peer.txt")
    own, peer = report.to_dict()["rows"]
    assert own["nme_2d"]["mean_of_samples"] < 0.1
    assert max(own["pitch_yaw_roll"]) < 0.2
    sample = next(read_aflw2000(aflw2000))
    box = np.ptp(sample.landmarks[:, :2], axis=0)
    assert peer["nme_2d"]["mean_of_samples"] == pytest.approx(300 / np.sqrt(box.prod()), rel=1e-3)
    assert own["samples"] == [1, 0, 0]
    assert "2D NME" in report.to_text()


def test_a_corrected_origin_moves_labels_by_one(aflw2000: Path) -> None:
    stored, corrected = (next(read_aflw2000(aflw2000, o)) for o in ("published", "corrected"))
    difference = stored.landmarks - corrected.landmarks
    np.testing.assert_allclose(difference, np.tile([1, 1, 0], (68, 1)), atol=1e-9)


def test_detected_faces_and_failures(aflw2000: Path, reconstructor: FaceReconstructor) -> None:
    found = evaluate_aflw2000(reconstructor, aflw2000, detected=True).to_dict()["rows"][0]
    assert found["failures"] == 0
    cv2.imwrite(str(aflw2000 / "a.jpg"), np.full((100, 100, 3), 90, np.uint8))
    missed = evaluate_aflw2000(reconstructor, aflw2000, detected=True).to_dict()["rows"][0]
    assert missed["failures"] == 1


def test_bad_files_are_named(aflw2000: Path, reconstructor: FaceReconstructor) -> None:
    with pytest.raises(DataError, match=r"a_none\.txt"):
        evaluate_aflw2000(reconstructor, aflw2000, predictions="_none.txt")
    (aflw2000 / "b.mat").write_bytes(b"no matlab file")
    with pytest.raises(DataError, match=r"b\.jpg"):
        list(read_aflw2000(aflw2000))
    (aflw2000 / "a.jpg").rename(aflw2000 / "b.jpg")
    (aflw2000 / "a.mat").unlink()
    with pytest.raises(DataError, match=r"b\.mat"):
        list(read_aflw2000(aflw2000))


def test_both_crops_find_the_same_face(aflw2000: Path, reconstructor: FaceReconstructor) -> None:
    report = evaluate_aflw2000(reconstructor, aflw2000, crops=("max", "mean"))
    tight, wide = report.to_dict()["rows"]
    assert (tight["crop"], wide["crop"]) == ("sqrt2 max", "1.6 mean")
    assert tight["nme_2d"]["mean_of_samples"] < 0.1
    assert 0.1 < wide["nme_2d"]["mean_of_samples"] < 4  # another square, nearly the same answer


def test_other_labels_and_yaws(
    aflw2000: Path, reconstructor: FaceReconstructor, tmp_path: Path
) -> None:
    sample = next(read_aflw2000(aflw2000))
    moved = sample.landmarks[:, :2] + [6.0, 0.0]
    np.save(tmp_path / "other.npy", moved.T[None])
    np.save(tmp_path / "yaws.npy", np.array([-70.0]))
    report = evaluate_aflw2000(
        reconstructor, aflw2000, labels=tmp_path / "other.npy", yaws=tmp_path / "yaws.npy"
    )
    row = report.to_dict()["rows"][0]
    assert row["samples"] == [0, 0, 1]
    # the crop follows the labels; the face stays where it is, about six pixels off
    expected = 600 / np.sqrt(np.ptp(moved, axis=0).prod())
    assert row["nme_2d"]["mean_of_samples"] == pytest.approx(expected, rel=0.3)
    np.save(tmp_path / "yaws.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"yaws\.npy holds \(3,\)"):
        evaluate_aflw2000(reconstructor, aflw2000, yaws=tmp_path / "yaws.npy")
    np.save(tmp_path / "other.npy", moved)
    with pytest.raises(DataError, match=r"other\.npy"):
        evaluate_aflw2000(reconstructor, aflw2000, labels=tmp_path / "other.npy")


def test_predictions_in_a_folder(
    aflw2000: Path, reconstructor: FaceReconstructor, tmp_path: Path
) -> None:
    truth = next(read_aflw2000(aflw2000)).landmarks
    folder = tmp_path / "peer"
    folder.mkdir()
    np.savez(folder / "a.npz", points=truth * [1, 1, -1])
    report = evaluate_aflw2000(
        reconstructor, aflw2000, predictions=str(folder), predictions_z="towards"
    )
    peer = report.rows[1]
    assert peer.method == "peer"
    assert peer.nme_3d[0] == pytest.approx(0, abs=1e-9)
    assert peer.reconstruction["icp, 68 points"][0] == pytest.approx(0, abs=1e-6)
    (folder / "a.npz").unlink()
    with pytest.raises(DataError, match=r"no a\.npz"):
        evaluate_aflw2000(reconstructor, aflw2000, predictions=str(folder))


def test_dense_truth_from_the_basel_face_model(
    aflw2000: Path, reconstructor: FaceReconstructor, photo: np.ndarray, tmp_path: Path
) -> None:
    """A made-up model whose mean face, placed by the .mat, is our own mesh: no error is left."""
    sample = next(read_aflw2000(aflw2000))
    box = (*sample.landmarks[:, :2].min(0), *sample.landmarks[:, :2].max(0))
    face = reconstructor.reconstruct(photo, box)
    layout = reconstructor.checkpoint.layout
    x, y, z = face.vertices.T
    mean = np.stack([x, photo.shape[0] - 1 - y, -z], 1)
    model = {
        "shapeMU": mean.reshape(-1, 1),
        "expMU": np.zeros((mean.size, 1)),
        "shapePC": np.zeros((mean.size, 1)),
        "expPC": np.zeros((mean.size, 1)),
        "tri": layout.triangles.T + 1,
        "kpt_ind": layout.landmark_vertices[:, 0][None] + 1,
    }
    savemat(tmp_path / "BFM.mat", {"model": model})
    savemat(tmp_path / "BFM_UV.mat", {"UV": layout.uv})
    content = {
        "pt3d_68": sample.landmarks.T * [[1], [1], [-1]],
        "Pose_Para": np.array([[0, 0, 0, 0, 0, 0, 1.0]]),
        "Shape_Para": np.zeros((1, 1)),
        "Exp_Para": np.zeros((1, 1)),
    }
    savemat(aflw2000 / "a.mat", content)
    (tmp_path / "BFM.mat").rename(tmp_path / "bfm.model")
    (tmp_path / "BFM_UV.mat").rename(tmp_path / "bfm.uv")  # the folder is full of samples' .mat
    report = evaluate_aflw2000(
        reconstructor, aflw2000, basel=(tmp_path / "bfm.model", tmp_path / "bfm.uv")
    )
    errors = report.rows[0].reconstruction
    assert errors["icp (Table 3)"][0] < 0.1
    assert errors["sparse"][0] < 0.1


def test_report_files(aflw2000: Path, reconstructor: FaceReconstructor, tmp_path: Path) -> None:
    report = evaluate_aflw2000(reconstructor, aflw2000, predictions="_peer.txt")
    files = report.write(tmp_path / "out")
    assert [file.name for file in files] == ["report.json", "report.md", "page.png"]
    content = json.loads(files[0].read_text())  # what is not defined is null: one bin is empty
    assert content["rows"][0]["nme_2d"]["bins"][2] is None
    low, high = content["rows"][1]["nme_2d"]["mean_of_samples_95"]
    mean = content["rows"][1]["nme_2d"]["mean_of_samples"]
    assert low == pytest.approx(mean) and high == pytest.approx(mean)  # of one sample
    assert [r["mean"] for r in content["published"] if r["method"] == "the paper"] == [3.59]
    text = files[1].read_text()
    assert "| the paper | 2.75 | 3.48 | 4.55 | 3.59 | 3.9372 |" in text
    page = cv2.imread(str(files[2]))
    assert page.shape == (900, 1200, 3)
    assert (np.abs(page.astype(int) - [0, 255, 0]).max(2) < 60).sum() > 50  # answers, in green


def test_the_page_needs_matplotlib(
    aflw2000: Path,
    reconstructor: FaceReconstructor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"facerecon\[report\]"):
        evaluate_aflw2000(reconstructor, aflw2000).write(tmp_path / "out")


def test_the_samples_first_weights_stay_under_their_mark(
    data_folder: Path, reconstructor: FaceReconstructor
) -> None:
    folder = data_folder / "aflw2000_sample"
    report = evaluate_aflw2000(
        reconstructor, folder, predictions="_prnet68.txt", predictions_z="towards"
    )
    own, prnet = report.to_dict()["rows"]
    assert own["samples"] == [34, 1, 5]
    assert prnet["nme_2d"]["mean_of_samples"] == pytest.approx(2.75, abs=0.01)
    assert own["nme_2d"]["mean_of_samples"] < 3.2


def test_the_data_sets_pose_convention_fits_its_points(data_folder: Path) -> None:
    """The yaw's sign: a nose that turns to the right of the picture has negative stored yaw."""
    checked = 0
    for sample in read_aflw2000(data_folder / "aflw2000_sample"):
        if abs(sample.yaw) < 20 or np.abs(sample.pose).max() > 99:
            continue
        nose = matrix_from_aflw2000(*sample.pose) @ [0, 0, -1]
        points = sample.landmarks
        middle = points[[0, 16]].mean(0)
        assert np.sign(points[30, 0] - middle[0]) == np.sign(nose[0]) == -np.sign(sample.yaw)
        assert points[30, 2] < middle[2]  # z points into the scene: the nose is nearer
        checked += 1
    assert checked > 4
