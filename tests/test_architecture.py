"""Layers: a module imports only from layers below it, function-level imports included."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "facerecon"
LAYERS = {
    "errors": 0,
    "image": 1,
    "geometry": 1,
    "network": 1,
    "uv": 2,
    "checkpoint": 3,
    "decode": 3,
    "model_card": 4,
    "detection": 4,
    "reconstructor": 5,
    "drawing": 6,
    "__init__": 7,
    "cli": 8,
    "__main__": 9,
    "evaluation": 10,
    "training": 11,
}
ASIDE = 10  # from here on only for who measures and trains
FORBIDDEN_NAMES = {"utils", "common", "misc", "helpers", "core", "base"}
# the command line loads these only when such a command runs
LAZY = {("cli", "training"), ("cli", "evaluation")}
MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(module: Path) -> str:
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(module: Path) -> set[tuple[str, bool]]:
    """(part of facerecon, whether at module level) of every import, wherever it stands."""
    tree = ast.parse(module.read_text())
    top = {id(node) for node in tree.body}
    found = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: relative import"
            names = [node.module]
            if node.module == "facerecon":
                names = [f"facerecon.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "facerecon":
                part = pieces[1] if len(pieces) > 1 and pieces[1] in LAYERS else "__init__"
                found.add((part, id(node) in top))
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(SOURCE)))
def test_imports_only_from_below(module: Path) -> None:
    part = part_of(module)
    for imported, at_top in imports_of(module):
        if imported == part or ((part, imported) in LAZY and not at_top):
            continue
        assert LAYERS[imported] < LAYERS[part], f"{part} imports {imported}"
        assert LAYERS[imported] < ASIDE or part == "training", f"{part} imports {imported}"


def test_every_part_has_a_layer_and_a_name() -> None:
    assert {part_of(module) for module in MODULES} == set(LAYERS)
    assert not {module.stem for module in MODULES} & FORBIDDEN_NAMES


def test_packages_have_two_modules_or_more() -> None:
    for folder in {module.parent for module in MODULES}:
        assert len([m for m in folder.glob("*.py") if m.stem != "__init__"]) >= 2, folder


def test_import_loads_no_training_and_no_optional_package() -> None:
    script = (
        "import sys, facerecon\n"
        "parts = ('facerecon.training', 'facerecon.evaluation', 'trimesh', 'huggingface_hub', "
        "'PIL')\n"
        "print([name for name in sys.modules if name.startswith(parts)])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
