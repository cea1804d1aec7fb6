"""``facerecon train`` and ``facerecon data``: from photos to weights."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from facerecon.drawing import write_png
from facerecon.errors import ConfigError

if TYPE_CHECKING:
    from facerecon.training import TrainConfig

__all__ = ["add_data_commands", "add_train_command"]

_UNMET = 1


def add_train_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``train``."""
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Writes OUTPUT/weights. Goes on where an interrupted run stopped. For several "
        "processes, start it with `accelerate launch -m facerecon train ...`.",
    )
    _add_run_options(train)
    train.add_argument("-o", "--output", type=Path, help="folder of the run, made when missing")
    train.add_argument("--device", default="cpu")
    train.add_argument("--tensorboard", action="store_true", help="log to OUTPUT/tensorboard too")
    train.add_argument(
        "--smoke",
        action="store_true",
        help="only overfit one batch, in about a minute: does all of it work? Exit code 1 if not",
    )
    train.set_defaults(run=_train)


def add_data_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``data`` and its own commands."""
    data = commands.add_parser("data", help="make and look at training data")
    kinds = data.add_subparsers(required=True, metavar="WHAT")

    prepare = kinds.add_parser("prepare", help="make all packs that a configuration draws from")
    _add_run_options(prepare)
    prepare.set_defaults(run=_prepare)

    sheet = kinds.add_parser("sheet", help="a picture of what a network is trained on")
    _add_run_options(sheet)
    sheet.add_argument("-o", "--output", type=Path, required=True, help="a .png")
    sheet.add_argument("--count", type=int, default=24)
    sheet.set_defaults(run=_sheet)

    parts = kinds.add_parser(
        "parts", help="a copy of a data folder, cut round the faces, in parts of limited size"
    )
    parts.add_argument("data", type=Path)
    parts.add_argument("-o", "--output", type=Path, required=True)
    parts.add_argument("--size", type=int, default=256, help="side of the cut photos, pixels")
    parts.add_argument("--megabytes", type=float, default=60.0, help="largest file, 10^6 bytes")
    parts.add_argument("--bad-data", choices=["refuse", "skip"], default="refuse")
    parts.set_defaults(run=_parts)

    fit = kinds.add_parser(
        "fit",
        help="a data folder from photos with landmarks",
        description="Every photo PHOTOS/NAME.jpg or .png needs its points beside it: NAME.pts (68 "
        "points, 300-W), or NAME.npy or NAME.txt with (68, 2), (68, 3) or, as MediaPipe gives "
        "them, (468, 3) numbers in pixels, z into the scene.",
    )
    fit.add_argument("photos", type=Path)
    fit.add_argument("-o", "--output", type=Path, required=True, help="the data folder")
    fit.add_argument("--model", type=Path, required=True, help="ict_face.npz")
    fit.add_argument("--mediapipe", type=Path, help="mediapipe468_ict.npz, for 468 points")
    fit.add_argument("--validation", type=float, default=0.05, help="share of split 'val'")
    fit.add_argument("--bad-data", choices=["refuse", "skip"], default="refuse")
    fit.set_defaults(run=_fit)

    again = kinds.add_parser(
        "refit",
        help="a data folder with better labels, with the help of a network trained on the old ones",
        description="The face model is fitted to the old labels, the network's answers averaged "
        "over views, and the hand-made points. The split 'val' stays as it is.",
    )
    again.add_argument("data", type=Path)
    again.add_argument("-o", "--output", type=Path, required=True, help="the new data folder")
    again.add_argument("--weights", default="fast", help="embedded name, folder or Hub repository")
    again.add_argument("--cache", type=Path, required=True, help="folder of the packed photos")
    again.add_argument(
        "--trust", type=float, default=1.0, help="in the network, beside the old labels"
    )
    again.set_defaults(run=_refit)

    bfm = kinds.add_parser(
        "prepare-300wlp",
        help="a data folder from your own copies of 300W-LP and the Basel Face Model",
        description="With --position-maps also PRNet's training pairs: 256 x 256 crops and "
        "position maps.",
    )
    bfm.add_argument("photos", type=Path, help="300W-LP's folder: AFW, AFW_Flip, HELEN, ...")
    bfm.add_argument("--bfm", type=Path, required=True, help="BFM.mat (as face3d generates it)")
    bfm.add_argument("--uv", type=Path, required=True, help="BFM_UV.mat")
    bfm.add_argument("-o", "--output", type=Path, required=True)
    bfm.add_argument(
        "--subsets",
        nargs="+",
        default=["AFW", "AFW_Flip", "HELEN", "HELEN_Flip"],
        help="folders to read; the paper's by default",
    )
    bfm.add_argument("--validation", type=float, default=0.02, help="share of split 'val'")
    bfm.add_argument(
        "--position-maps",
        type=int,
        metavar="COUNT",
        default=0,
        help="also write this many PRNet training pairs; the paper has 120000",
    )
    bfm.add_argument("--seed", type=int, default=0)
    bfm.add_argument("--bad-data", choices=["refuse", "skip"], default="refuse")
    bfm.set_defaults(run=_prepare_300wlp)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", help="a TOML file, or the name of a shipped one: fast, paper, detector"
    )
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="FOLDER[=WEIGHT]",
        help="data folder; several are mixed by their weights",
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of the packed photos")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a value of the configuration",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes for making packs")


def _config(options: argparse.Namespace) -> TrainConfig:
    from facerecon.training import TrainConfig

    return TrainConfig.from_toml(options.config, options.set)


def _folders(texts: list[str]) -> list[tuple[Path, float]]:
    folders = []
    for text in texts:
        name, equals, weight = text.rpartition("=")
        if not equals or Path(text).exists():
            folders.append((Path(text), 1.0))
            continue
        try:
            folders.append((Path(name), float(weight)))
        except ValueError as error:
            raise ConfigError(f"--data {text}: {weight!r} is no weight") from error
    return folders


def _train(options: argparse.Namespace) -> int:
    from facerecon.training import smoke_test, train

    config, data = _config(options), _folders(options.data)
    if options.smoke:
        steps = min(config.steps, 200)
        first, last = smoke_test(config, data, options.cache, steps, options.device)
        works = last < first / 10
        print(f"loss {first:.4f} -> {last:.4f}: {'it learns' if works else 'it does NOT learn'}")
        return 0 if works else _UNMET
    if options.output is None:
        raise ConfigError("train writes a run: give its folder with -o OUTPUT, or use --smoke")
    weights = train(
        config,
        data,
        options.cache,
        options.output,
        options.device,
        workers=options.workers,
        tensorboard=options.tensorboard,
    )
    print(weights)
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from facerecon.training.sources import open_sources

    config = _config(options)
    if config.network == "detector":
        from facerecon.training.detection import whole_photos

        folder = _folders(options.data)[0][0]
        whole = whole_photos(folder, options.cache / "whole", config.yunet, config.bad_data)
        count = sum(map(len, whole.others))
        print(f"{len(whole.labels)} photos, {count} further faces in them")
        return 0
    sources = open_sources(config, _folders(options.data), options.cache, options.workers)
    labels = sources.pool.labels
    for k, (name, share) in enumerate(zip(sources.names, sources.shares, strict=True)):
        mine = sources.pool.part == k
        train = (mine & labels.good & (labels.split == "train")).sum()
        val = (mine & labels.good & (labels.split == "val")).sum()
        print(
            f"{name:10} {mine.sum():7} photos, {train} to train and {val} to validate, "
            f"{100 * share:.0f} % of the samples"
        )
    return 0


def _sheet(options: argparse.Namespace) -> int:
    import dataclasses

    import torch

    from facerecon.training.task import open_task

    config = dataclasses.replace(_config(options), batch=options.count, start="")
    device = torch.device("cpu")
    task = open_task(config, _folders(options.data), options.cache, options.workers, device)
    write_png(task.sheet(task.batch(0, slice(0, config.batch))), options.output)
    print(options.output)
    return 0


def _parts(options: argparse.Namespace) -> int:
    from facerecon.training.datasets.parts import write_parts

    files = write_parts(
        options.data, options.output, options.size, options.megabytes, options.bad_data
    )
    print("\n".join(f"{file.stat().st_size / 1e6:7.2f} MB  {file}" for file in files))
    return 0


def _fit(options: argparse.Namespace) -> int:
    from facerecon.training.datasets.own import fit_folder

    report = fit_folder(
        options.photos,
        options.output,
        options.model,
        options.mediapipe,
        validation=options.validation,
        bad=options.bad_data,
    )
    print(json.dumps(report))
    return 0


def _refit(options: argparse.Namespace) -> int:
    from facerecon.checkpoint import resolve
    from facerecon.training.refit import refit

    weights = resolve(options.weights)
    report = refit(weights, options.data, options.output, options.cache, trust=options.trust)
    print(json.dumps(report))
    return 0


def _prepare_300wlp(options: argparse.Namespace) -> int:
    from facerecon.training.datasets.bfm import prepare_300wlp, write_position_maps

    count = prepare_300wlp(
        options.photos,
        options.bfm,
        options.uv,
        options.output,
        options.subsets,
        validation=options.validation,
        seed=options.seed,
        bad=options.bad_data,
    )
    print(f"{count} photos in {options.output}")
    if options.position_maps:
        target = options.output / "position_maps"
        write_position_maps(options.output, target, options.position_maps, options.seed)
        print(f"{options.position_maps} pairs in {target}", file=sys.stdout)
    return 0
