from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import facerecon
from facerecon import errors

MODULES = [
    info.name
    for info in pkgutil.walk_packages(facerecon.__path__, "facerecon.")
    if not info.name.endswith("__main__")
]


def test_all_is_sorted_and_complete() -> None:
    assert facerecon.__all__ == sorted(facerecon.__all__)
    for name in facerecon.__all__:
        assert hasattr(facerecon, name)


def test_the_promised_names_are_there() -> None:
    wanted = {"landmarks", "mesh", "pose", "reconstruct", "reconstruct_all", "reconstruct_batch"}
    wanted |= {"from_pretrained", "save_pretrained", "push_to_hub"}
    assert wanted <= set(dir(facerecon.FaceReconstructor))
    signature = inspect.signature(facerecon.FaceReconstructor.from_pretrained)
    for name in ("revision", "cache_dir", "token", "local_files_only", "device", "dtype"):
        assert signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_exports(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for exported in module.__all__:
        value = getattr(module, exported)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{exported} has no docstring"


def test_errors_form_one_tree_that_its_docstring_draws() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.FacereconError)
        assert name in (errors.__doc__ or "")


def test_package_is_typed_and_versions_agree() -> None:
    root = Path(__file__).parents[1]
    assert (root / "src/facerecon/py.typed").exists()
    assert f"## [{facerecon.__version__}]" in (root / "CHANGELOG.md").read_text()
    project = (root / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.M | re.S)
    assert listed
    for requirement in re.findall(r'"([^"]+)"', listed[1]):
        assert "<" not in requirement.split(";")[0], f"upper pin: {requirement}"
