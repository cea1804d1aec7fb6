"""Store what the packaged networks answer to one crop, beside their weights.

    python tools/make_golden.py

The crop shows the example photo's face. tests/test_golden.py and `facerecon info` compare with it,
so that another version of torch, another device or another type is known to answer alike.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import torch
from safetensors.torch import save_file

from facerecon import Checkpoint, read_image
from facerecon.checkpoint import GOLDEN_NAME
from facerecon.detection.single_shot import load_detector
from facerecon.geometry import CropFrame

ROOT = Path(__file__).parents[1]
BOX = (177.0, 87.0, 272.0, 174.5)


def write_golden(assets: Path) -> None:
    """For each folder of weights in a folder."""
    photo = read_image(ROOT / "examples" / "astronaut.jpg")
    for folder in sorted(path.parent for path in assets.glob("*/config.json")):
        if folder.name == "detector":
            network: torch.nn.Module = load_detector(folder)[0]
            crop = cv2.resize(photo, (128, 128), interpolation=cv2.INTER_AREA)
        else:
            checkpoint = Checkpoint.load(folder)
            network = checkpoint.network
            crop = CropFrame.from_box(BOX, checkpoint.margin, network.config.input_size).warp(photo)
        pixels = torch.from_numpy(crop).permute(2, 0, 1)[None].contiguous()
        with torch.inference_mode():
            answer = network(pixels).contiguous()
        save_file({"pixels": pixels, "answer": answer}, folder / GOLDEN_NAME)
        print(folder / GOLDEN_NAME, tuple(answer.shape))


if __name__ == "__main__":
    write_golden(ROOT / "src" / "facerecon" / "assets")
