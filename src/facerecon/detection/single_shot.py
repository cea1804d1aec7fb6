"""The packaged detector: our own small network, which needs no download."""

from __future__ import annotations

import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facerecon.checkpoint import read_network, write_network
from facerecon.detection.boxes import non_maximum_suppression
from facerecon.detection.detector import Detection
from facerecon.detection.network import DetectorConfig, DetectorNetwork, decode, fused
from facerecon.errors import ConfigError

__all__ = ["FORMAT", "SingleShot"]

FORMAT = "facerecon-detector-1"
_MULTIPLE = 64  # the largest stride
_MOST = 400  # candidates that go into the suppression


class SingleShot:
    """Finds faces of any size and pose with the packaged detector network.

    A photo is searched at a working size and at that size over four, over sixteen and so on, so
    that faces from a few pixels to the whole picture are found.

    Args:
        network: The network; the packaged one by default.
        device: Where it runs.
        threshold: Lowest score, 0 to 1.
        min_size: Smallest face, as the square root of its box's area in photo pixels: the photo
            is searched at the size that shows it with 28 pixels, enlarged up to twice. By default
            what can be found with the photo at ``max_side``, down to 20 pixels there.
        max_side: Longer side of a larger photo at its working size, pixels; ``min_size`` goes
            before.

    Raises:
        ConfigError: A value lies outside its range, or the device cannot be used.
    """

    def __init__(
        self,
        network: DetectorNetwork | None = None,
        *,
        device: str | torch.device = "cpu",
        threshold: float = 0.5,
        min_size: float | None = None,
        max_side: int = 640,
    ) -> None:
        network = network or _packaged()
        try:
            # a copy: the given network stays where and as it is
            self._network = fused(network).to(device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"the device {device!r} cannot be used: {error}") from error
        self._network = self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = torch.device(device)
        self._threshold, self._min_size = _checked(threshold, min_size)
        if max_side < _MULTIPLE:
            raise ConfigError(f"max_side is {max_side}; {_MULTIPLE} or more is needed")
        self._max_side = max_side

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **options: Any) -> SingleShot:
        """The detector of a folder with ``config.json`` and ``model.safetensors``.

        Args:
            folder: As ``facerecon train detector`` writes it.
            options: Those of the class.

        Raises:
            CheckpointNotFound: A file is missing.
            CheckpointInvalid: A file is corrupted or foreign, or does not fit the other.
        """
        return cls(load_detector(folder)[0], **options)

    def detect(
        self,
        image: NDArray[np.uint8],
        *,
        min_size: float | None = None,
        threshold: float | None = None,
    ) -> list[Detection]:
        """Faces in an RGB photo (h, w, 3), largest first.

        Args:
            image: The photo.
            min_size: Smallest face for this photo, see the class.
            threshold: Lowest score for this photo.

        Raises:
            ConfigError: A value lies outside its range.
        """
        threshold, min_size = _checked(
            self._threshold if threshold is None else threshold,
            self._min_size if min_size is None else min_size,
        )
        scales = self._scales(image, min_size)
        # a smaller size is there for the faces that are large at the size before
        least = [0.0] + [_COARSE_FACE / scale for scale in scales[1:]]
        found = [
            self._search(image, scale, threshold, side)
            for scale, side in zip(scales, least, strict=True)
        ]
        scores, boxes, points = (torch.cat(parts) for parts in zip(*found, strict=True))
        sizes = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
        # a box is where a face may be cropped round: its centre lies in the picture
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        limit = centre.new_tensor([image.shape[1], image.shape[0]]) - 0.5
        usable = (sizes >= (min_size or 0)) & ((centre > -0.5) & (centre < limit)).all(1)
        scores, boxes, points = scores[usable], boxes[usable], points[usable]
        best = scores.argsort(descending=True, stable=True)[:_MOST]
        kept = best[non_maximum_suppression(boxes[best], scores[best], 0.4)].tolist()
        answers = [
            Detection(
                boxes[k].double().numpy(), float(scores[k]), points=points[k].double().numpy()
            )
            for k in kept
        ]
        return sorted(answers, key=lambda d: -d.area)

    def _scales(self, image: NDArray[np.uint8], min_size: float | None) -> list[float]:
        """Working sizes over the photo's, largest first."""
        longer = max(image.shape[:2])
        scale = min(1.0, self._max_side / longer)
        if min_size is not None:
            scale = min(2.0, _SMALLEST / min_size)
        scales = [scale]
        while longer * scales[-1] > _COARSEST:
            scales.append(scales[-1] / 4)
        return scales

    @torch.inference_mode()
    def _search(
        self, image: NDArray[np.uint8], scale: float, threshold: float, least: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, boxes and points in photo pixels of faces above the threshold and least side."""
        height, width = (max(1, round(extent * scale)) for extent in image.shape[:2])
        small = np.ascontiguousarray(image)
        if (height, width) != image.shape[:2]:
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            small = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
        rows, columns = (-(-extent // _MULTIPLE) * _MULTIPLE for extent in (height, width))
        mean = self._network.pixel_mean.round().to(torch.uint8).expand(1, 3, rows, columns)
        pixels = mean.to(memory_format=torch.channels_last, copy=True)
        pixels[0, :, :height, :width] = torch.from_numpy(small).permute(2, 0, 1)
        answers = self._network(pixels)[0].float()
        logits, boxes, points = decode(answers, self._network.cells(rows, columns, self.device))
        sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt() / scale
        keep = (logits > float(np.log(threshold / (1 - threshold)))) & (sides >= least)
        # boxes and points to photo pixels: integers are centres of pixels
        factor = boxes.new_tensor([image.shape[1] / width, image.shape[0] / height])
        boxes = (boxes[keep].view(-1, 2, 2) + 0.5) * factor - 0.5
        points = (points[keep] + 0.5) * factor - 0.5
        return logits[keep].sigmoid().cpu(), boxes.flatten(1).cpu(), points.cpu()


_SMALLEST = 28.0  # side of the smallest face that the network sees well, pixels of its input
_COARSEST = 320.0  # a picture of this size is not searched at a smaller one
_COARSE_FACE = 40.0  # side of the smallest face taken from a smaller size, its pixels


def _checked(threshold: float, min_size: float | None) -> tuple[float, float | None]:
    if not 0 < threshold < 1:
        raise ConfigError(f"threshold is {threshold}; a score between 0 and 1 is needed")
    if min_size is not None and not min_size >= 1:
        raise ConfigError(f"min_size is {min_size}; pixels, 1 or more, are needed")
    return threshold, min_size


def load_detector(folder: str | os.PathLike[str]) -> tuple[DetectorNetwork, dict[str, Any]]:
    """The network of a folder, and the facts noted with it."""

    def build(config: dict[str, Any]) -> DetectorNetwork:
        return DetectorNetwork(DetectorConfig.from_dict(config["network"]))

    network, config = read_network(Path(folder), FORMAT, {"format", "network", "info"}, build)
    return network, config["info"]


def save_detector(network: DetectorNetwork, folder: str | Path, info: dict[str, Any]) -> None:
    """Write ``config.json`` and ``model.safetensors``, kernels as float16."""
    config = {"format": FORMAT, "network": network.config.to_dict(), "info": info}
    write_network(network, config, Path(folder), torch.float16)


@cache
def _packaged() -> DetectorNetwork:
    return load_detector(str(resources.files("facerecon") / "assets" / "detector"))[0]
