"""Shared fixtures. Tests mirror src/facerecon; none needs a network connection or a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import facerecon
from facerecon.geometry import FACE_TO_CAMERA, matrix_from_euler
from facerecon.uv import UVLayout

ROOT = Path(__file__).parents[1]
ASTRONAUT_BOX = (177.0, 87.0, 272.0, 174.5)  # round the 68 landmarks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        type=Path,
        help="folder with labels.npz, photos_*.tar, ict_face.npz and aflw2000_sample; "
        "tests that want it are skipped without",
    )


@pytest.fixture
def data_folder(request: pytest.FixtureRequest) -> Path:
    folder: Path | None = request.config.getoption("--data")
    if folder is None:
        pytest.skip("needs the training data: give --data FOLDER")
    return folder


@pytest.fixture(scope="session")
def photo_path() -> Path:
    return ROOT / "examples" / "astronaut.jpg"


@pytest.fixture(scope="session")
def photo(photo_path: Path) -> NDArray[np.uint8]:
    return facerecon.read_image(photo_path)


@pytest.fixture(scope="session")
def reconstructor() -> facerecon.FaceReconstructor:
    return facerecon.FaceReconstructor.from_pretrained(device="cpu")


@pytest.fixture(scope="session")
def face(reconstructor: facerecon.FaceReconstructor, photo: NDArray[np.uint8]) -> facerecon.Face:
    return reconstructor.reconstruct(photo, ASTRONAUT_BOX)


@pytest.fixture(scope="session")
def layout() -> UVLayout:
    return UVLayout.ict()


@pytest.fixture
def posed(layout: UVLayout):
    """Canonical vertices under a pose: 10 px per cm at (150, 140, 20)."""

    def make(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> NDArray[np.float64]:
        rotation = matrix_from_euler(yaw, pitch, roll) @ FACE_TO_CAMERA
        return 10 * layout.canonical.astype(float) @ rotation.T + [150.0, 140.0, 20.0]

    return make
