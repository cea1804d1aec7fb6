"""The packaged networks answer as they did when their weights were packaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import facerecon
from facerecon.checkpoint import EMBEDDED, GOLDEN_NAME
from facerecon.cli import main
from facerecon.detection.single_shot import load_detector

ASSETS = Path(facerecon.__file__).parent / "assets"
# largest difference of a position map, in crop sides: 1e-4 is a hundredth of a crop pixel
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.03}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", EMBEDDED)
def test_position_maps(name: str, dtype: torch.dtype) -> None:
    golden = load_file(ASSETS / name / GOLDEN_NAME)
    network = facerecon.Checkpoint.load(ASSETS / name).network.to(dtype)
    with torch.inference_mode():
        answer = network(golden["pixels"]).float()
    difference = (answer - golden["answer"]).abs()
    assert difference.max() < TOLERANCES[dtype]
    assert difference.mean() < TOLERANCES[dtype] / 5
    assert golden["answer"].std() > 0.1  # it is a face


def test_the_detectors_answers() -> None:
    golden = load_file(ASSETS / "detector" / GOLDEN_NAME)
    with torch.inference_mode():
        answer = load_detector(ASSETS / "detector")[0](golden["pixels"])
    torch.testing.assert_close(answer, golden["answer"], atol=2e-3, rtol=1e-3)
    assert golden["answer"][..., 0].max() > 0  # it sees the face


def test_info_compares_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--device", "cpu"]) == 0
    told = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert float(told["golden"].split()[0]) < 1e-4
