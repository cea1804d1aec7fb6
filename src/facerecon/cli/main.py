"""The command line's parser, and ``run``, ``info`` and ``evaluate``."""

from __future__ import annotations

import argparse
import glob
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import facerecon
from facerecon.checkpoint import golden_difference, resolve
from facerecon.cli.training import add_data_commands, add_train_command
from facerecon.decode.mesh import MESH_SUFFIXES
from facerecon.drawing import draw_faces, write_png
from facerecon.errors import FacereconError
from facerecon.image import read_image
from facerecon.model_card import METRICS
from facerecon.reconstructor import Face, FaceReconstructor

__all__ = ["main"]

_PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_FOUND, _ERROR, _NOBODY = 0, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit code: 0 a face was found in every picture (or the command did its work), 1 a
        test of ours is not met, 2 an error, 3 a picture without a face.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except FacereconError as error:
        print(f"facerecon: {error}", file=sys.stderr)
        return _ERROR
    except KeyboardInterrupt:
        print("facerecon: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facerecon", description="A 3D face from one photo, offline."
    )
    parser.add_argument("--version", action="version", version=facerecon.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="photos to overlay, mesh and numbers",
        description="Per photo: NAME_overlay.png, the mesh of the largest face, NAME.json. Exit "
        "code 0: a face in every photo; 3: a photo without a face; 2: an error.",
    )
    run.add_argument("photos", nargs="+", metavar="PHOTO", help="files, folders or globs")
    run.add_argument("-o", "--output", type=Path, required=True, help="folder, made when missing")
    run.add_argument("--format", choices=[s[1:] for s in MESH_SUFFIXES], default="obj")
    run.add_argument("--topology", choices=["model", "grid"], default="model")
    run.add_argument("--json", action="store_true", help="also print the results, a line a photo")
    _add_model_options(run)
    run.set_defaults(run=_run)

    info = commands.add_parser("info", help="versions, device, weights and their licence")
    _add_model_options(info)
    info.set_defaults(run=_info)

    add_train_command(commands)
    add_data_commands(commands)

    evaluate = commands.add_parser("evaluate", help="measure on a data set")
    protocols = evaluate.add_subparsers(required=True, metavar="PROTOCOL")
    aflw2000 = _add_protocol(
        protocols,
        "aflw2000",
        _evaluate_aflw2000,
        "AFLW2000-3D: 68-point NME by yaw",
        "folder of .jpg and .mat",
    )
    aflw2000.add_argument(
        "--predictions",
        metavar="WHERE",
        help="also measure another tool's points: a folder of NAME.npz, .npy or .txt, or the "
        "suffix of text files beside the photos",
    )
    aflw2000.add_argument("--predictions-z", choices=["into", "towards"], default="into")
    aflw2000.add_argument("--origin", choices=["published", "corrected"], default="published")
    aflw2000.add_argument(
        "--crops",
        nargs="+",
        choices=["max", "mean", "detected"],
        default=["max"],
        help="sqrt(2) x the larger side of the true box, 1.6 x its mean side, the detector's box",
    )
    aflw2000.add_argument("--detected", action="store_true", help="short for --crops detected")
    aflw2000.add_argument("--labels", metavar="NPY", help="other labels, (n, 2 or 3, 68)")
    aflw2000.add_argument("--yaws", metavar="NPY", help="other yaws for the bins, (n,) degrees")
    aflw2000.add_argument(
        "--basel", nargs=2, metavar=("BFM_MAT", "UV_MAT"), help="for the dense reconstruction error"
    )
    aflw2000.add_argument("--seed", type=int, default=0, help="of bootstrap and balanced draw")
    aflw2000.add_argument(
        "-o", "--output", type=Path, help="folder for report.json, report.md and page.png"
    )

    points = _add_protocol(
        protocols,
        "points",
        _evaluate_points,
        "photos with 68, 30 or 21 hand-made points",
        "photos with NAME.pts, .npy or .txt beside them",
    )
    points.add_argument("--predictions", type=Path, help="folder of another tool's 68 points")

    validation = _add_protocol(
        protocols, "validation", _evaluate_validation, "the photos of a data folder's split"
    )
    validation.add_argument("--split", choices=("val", "train"), default="val")
    validation.add_argument("--count", type=int, help="so many of its photos at most")
    validation.add_argument("--worst", type=Path, metavar="PNG", help="draw the 50 worst photos")

    robustness = _add_protocol(
        protocols,
        "robustness",
        _evaluate_robustness,
        "the split 'val' with worse boxes and worse photos",
    )
    robustness.add_argument("--count", type=int, default=90, help="photos, evenly over yaw")

    detector = _add_protocol(
        protocols,
        "detector",
        _evaluate_detector,
        "recall by size and yaw, false alarms, and what the boxes cost",
    )
    detector.add_argument("--cache", type=Path, required=True, help="folder of the packed photos")
    detector.add_argument("--count", type=int, default=40, help="photos of each yaw bin")
    detector.add_argument("--own", metavar="FOLDER", help="a detector trained by facerecon")

    card = protocols.add_parser(
        "card", help="measure weights, note it in their config.json, print the model card"
    )
    card.add_argument("path", type=Path, help="data folder")
    card.add_argument("--weights", type=Path, required=True, help="folder of the weights")
    card.add_argument("--aflw2000", type=Path, help="folder of .jpg and .mat")
    card.add_argument("--count", type=int, default=90, help="photos for the robustness")
    card.set_defaults(run=_evaluate_card)

    speed = _add_protocol(
        protocols, "speed", _evaluate_speed, "milliseconds of each stage, and memory", "photo"
    )
    speed.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    speed.add_argument("--runs", type=int, default=30)
    return parser


def _add_protocol(
    protocols: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    path: str = "data folder",
) -> argparse.ArgumentParser:
    """A protocol that measures a reconstructor on one path."""
    parser: argparse.ArgumentParser = protocols.add_parser(name, help=text)
    parser.add_argument("path", type=Path, help=path)
    parser.add_argument("--json", action="store_true")
    _add_model_options(parser)
    parser.set_defaults(run=run)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", help="folder or Hub repository; the packaged ones by default")
    parser.add_argument("--device", help="cpu, cuda, mps; cuda by default where torch has it")
    parser.add_argument("--detector", metavar="YUNET_ONNX", help="use YuNet from this file")
    parser.add_argument(
        "--views",
        type=int,
        default=2,
        metavar="1..6",
        help="views of a face that its answer is the mean of; 1 is the fastest",
    )


def _reconstructor(options: argparse.Namespace) -> FaceReconstructor:
    detector = facerecon.YuNet(options.detector) if options.detector else None
    return FaceReconstructor.from_pretrained(
        options.weights, device=options.device, detector=detector, views=options.views
    )


def _photos(patterns: Sequence[str]) -> list[Path]:
    """Files, the pictures of folders, and what globs match, in order and once each."""
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = [p for p in path.iterdir() if p.suffix.lower() in _PHOTO_SUFFIXES]
            found += sorted(inside)
        elif path.exists() or not glob.has_magic(pattern):
            found.append(path)
        else:
            found += sorted(Path(p) for p in glob.glob(pattern, recursive=True))  # noqa: PTH207
    return list(dict.fromkeys(found))


def _run(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    photos = _photos(options.photos)
    if not photos:
        print(f"facerecon: no pictures at {', '.join(options.photos)}", file=sys.stderr)
        return _ERROR
    output: Path = options.output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"facerecon: cannot make the folder {output}: {error}", file=sys.stderr)
        return _ERROR
    reconstructor = _reconstructor(options)
    code = _FOUND
    names = _unique_names(photos)
    for path in tqdm(photos, desc="faces", unit="photo", disable=len(photos) < 2):
        try:
            photo = read_image(path)
            faces = reconstructor.reconstruct_all(photo)
            result = {"photo": str(path), "faces": [_describe(face) for face in faces]}
            if faces:
                stem = output / names[path]
                mesh = faces[0].mesh(options.topology)
                mesh.export(stem.with_name(f"{stem.name}.{options.format}"))
                write_png(draw_faces(photo, faces), stem.with_name(f"{stem.name}_overlay.png"))
                _write_json(result, stem.with_name(f"{stem.name}.json"))
            else:
                tqdm.write(f"facerecon: no face was found in {path}", file=sys.stderr)
                code = max(code, _NOBODY) if code != _ERROR else code
        except FacereconError as error:
            tqdm.write(f"facerecon: {path}: {error}", file=sys.stderr)
            result, code = {"photo": str(path), "error": str(error)}, _ERROR
        if options.json:
            print(json.dumps(result))
    return code


def _unique_names(photos: Sequence[Path]) -> dict[Path, str]:
    """A name per photo for its results; a number where two photos share one."""
    names: dict[Path, str] = {}
    for path in photos:
        name, number = path.stem, 2
        while name in names.values():
            name, number = f"{path.stem}_{number}", number + 1
        names[path] = name
    return names


def _describe(face: Face) -> dict[str, Any]:
    """What the JSON says of a face: photo pixels and degrees."""
    pose = face.pose
    return {
        "box": np.round(face.box, 3).tolist(),
        "score": round(face.score, 4),
        "landmarks": np.round(face.landmarks, 3).tolist(),
        "pose": {
            "yaw": round(pose.yaw, 3),
            "pitch": round(pose.pitch, 3),
            "roll": round(pose.roll, 3),
            "quaternion_wxyz": np.round(pose.quaternion, 6).tolist(),
            "rotation": np.round(pose.rotation, 6).tolist(),
            "scale": round(pose.scale, 5),
            "translation": np.round(pose.translation, 3).tolist(),
        },
    }


def _write_json(value: dict[str, Any], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as partial:
        unfinished = Path(partial) / path.name
        unfinished.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, path)


def _info(options: argparse.Namespace) -> int:
    reconstructor = _reconstructor(options)
    checkpoint = reconstructor.checkpoint
    network = checkpoint.network
    packages = ("torch", "numpy", "opencv-python", "scipy", "safetensors", "trimesh")
    print(f"facerecon      {facerecon.__version__}")
    print(f"python         {platform.python_version()} on {platform.platform()}")
    for package in packages:
        try:
            print(f"{package:14} {metadata.version(package)}")
        except metadata.PackageNotFoundError:  # such as opencv-python-headless instead
            print(f"{package:14} not installed under this name")
    print(f"device         {reconstructor.device}")
    count = sum(p.numel() for p in network.parameters())
    size, side = network.config.input_size, network.config.map_size
    print(f"weights        {options.weights or 'packaged'}: {network.config.name}")
    print(f"network        {count / 1e6:.2f} M parameters, {size} x {size} to {side} x {side}")
    print(f"layout         {checkpoint.layout.name} {checkpoint.layout.digest[:12]}")
    print(f"detector       {type(reconstructor.detector).__name__}")
    away = None
    if options.weights is None:
        away = golden_difference(resolve(), network.to(reconstructor.device))
    if away is not None:
        print(f"golden         {away:.1e} crop sides from the answer stored with the weights")
    for key, value in checkpoint.info.items():
        if key == METRICS:
            continue  # tables: the model card shows them
        print(f"{key.replace('_', ' '):14} {value}")
    return 0


def _evaluate_aflw2000(options: argparse.Namespace) -> int:
    from facerecon.evaluation import evaluate_aflw2000

    report = evaluate_aflw2000(
        _reconstructor(options),
        options.path,
        crops=options.crops,
        predictions=options.predictions,
        predictions_z=options.predictions_z,
        detected=options.detected,
        origin=options.origin,
        labels=options.labels,
        yaws=options.yaws,
        basel=options.basel,
        seed=options.seed,
    )
    print(json.dumps(report.to_dict()) if options.json else report.to_text())
    if options.output is not None:
        for file in report.write(options.output):
            print(file, file=sys.stderr)
    return 0


def _evaluate_points(options: argparse.Namespace) -> int:
    from facerecon.evaluation import evaluate_points

    reports = evaluate_points(
        _reconstructor(options), options.path, predictions=options.predictions
    )
    for report in reports:
        print(json.dumps(report.to_dict()) if options.json else report.to_text())
    return 0


def _evaluate_validation(options: argparse.Namespace) -> int:
    from facerecon.training.validation import validate, worst_photos

    report = validate(
        _reconstructor(options), options.path, split=options.split, count=options.count
    )
    if options.worst is not None:
        write_png(worst_photos(report, options.path), options.worst)
    print(json.dumps(report.to_dict()) if options.json else report.to_text())
    return 0


def _evaluate_robustness(options: argparse.Namespace) -> int:
    from facerecon.training.robustness import measure_robustness

    report = measure_robustness(_reconstructor(options), options.path, options.count)
    print(json.dumps(report.to_dict()) if options.json else report.to_text())
    return 0


def _evaluate_detector(options: argparse.Namespace) -> int:
    from facerecon.training.detection.measure import measure_detectors

    def own(threshold: float) -> facerecon.SingleShot:
        if options.own is None:
            return facerecon.SingleShot(threshold=threshold)
        return facerecon.SingleShot.from_folder(options.own, threshold=threshold)

    reconstructor = FaceReconstructor.from_pretrained(
        options.weights, device=options.device, detector=own(0.3), views=options.views
    )
    detectors: dict[str, facerecon.Detector] = {"confirmed": reconstructor, "SingleShot": own(0.5)}
    if options.detector:
        detectors["YuNet"] = facerecon.YuNet(options.detector)
    report = measure_detectors(reconstructor, detectors, options.path, options.cache, options.count)
    print(json.dumps(report.to_dict()) if options.json else report.to_text())
    return 0


def _evaluate_card(options: argparse.Namespace) -> int:
    from facerecon.training.card import write_card

    print(write_card(options.weights, options.path, options.aflw2000, options.count), end="")
    return 0


def _evaluate_speed(options: argparse.Namespace) -> int:
    from facerecon.evaluation import evaluate_speed

    report = evaluate_speed(
        _reconstructor(options), options.path, batches=options.batches, runs=options.runs
    )
    print(json.dumps(report.to_dict()) if options.json else report.to_text())
    return 0
