from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_examples_run(
    example: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(example.read_text().splitlines()) < 40
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [example.name, str(ROOT / "examples" / "astronaut.jpg")])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes((ROOT / "examples" / "astronaut.jpg").read_bytes())
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "face.obj").exists()


def test_readmes_links_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_ci_runs_the_readmes_own_commands() -> None:
    commands = re.findall(r"^    (\S.*)$", README.split("```")[0], re.M)[:2]
    assert "examples/astronaut.jpg" in commands[0]
    assert "pytest" in commands[1]


def test_nothing_shipped_names_a_place_of_ours() -> None:
    shared, place = "".join(["..", "/shared"]), "".join(["/wo", "rk/"])
    for path in ROOT.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        if path.suffix in {".py", ".md", ".toml", ".txt"} and not hidden:
            text = path.read_text()
            assert shared not in text and place not in text, path
