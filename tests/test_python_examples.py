"""Every public name has an example that runs, and means the same to Python and to type checkers."""

import ast
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import click
import pytest

import facsynth
from facsynth.cli import main
from facsynth.data.write import sample_row, write_jsonl
from tiny_pair import PLANTED, WEAK, save_pair, talk

ROOT = Path(__file__).parent.parent
EXAMPLES = (ROOT / "docs" / "python_examples.md").read_text()
CONFIG = """[mypy]
strict = True
[mypy-torch.*,transformers.*,scipy.*,pyarrow.*,pandas.*,datasets.*,openai.*,pydantic.*]
follow_imports = skip
ignore_missing_imports = True
"""
"""Skips what facsynth's own types do not need, which takes most of a check's time."""


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page, re.S)


def public_names():
    return sorted(set(facsynth.__all__) - {"__version__"})


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("FACSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path)
    for name, words in (("anchor", (PLANTED + WEAK) * 4), ("seed", PLANTED[:3])):
        talks = (
            replace(talk(f"{name}-{i}", f"we saw {i} old {word} on my road", "so"), label=kind)
            for i, (word, kind) in enumerate(zip(words, cycle(["animal", "thing"]), strict=False))
        )
        write_jsonl(map(sample_row, talks), tmp_path / f"{name}.jsonl")
    return tmp_path


@pytest.mark.usefixtures("place")
def test_the_examples_run():
    names = {}
    for block in python_blocks(EXAMPLES):
        exec(block, names)


def test_the_readme_says_a_finding(place, monkeypatch, capsys):
    lm, sae = facsynth.load_language_model("model"), facsynth.load_sae("sae")
    monkeypatch.setattr(facsynth, "load_language_model", lambda: lm, raising=False)
    monkeypatch.setattr(facsynth, "load_sae", lambda: sae, raising=False)
    for name, called in (("anchor", "goal"), ("seed", "mydata")):
        (place / f"{name}.jsonl").rename(place / f"{called}.jsonl")
    [block] = python_blocks((ROOT / "README.md").read_text())
    exec(block, {})
    assert "The seed's 3 samples activate" in capsys.readouterr().out


def test_every_public_name_has_an_example():
    assert [name for name in public_names() if not re.search(rf"\b{name}\b", EXAMPLES)] == []


def test_every_command_has_its_python_names():
    commands = runpy.run_path(str(ROOT / "scripts" / "write_python_docs.py"))["COMMANDS"]
    assert set(commands) == set(main.list_commands(click.Context(main)))
    listed = [name for names in commands.values() for name in names]
    assert sorted(set(public_names()) - set(listed)) == []
    assert [name for name in listed if not hasattr(facsynth, name)] == []


def test_static_and_lazy_names_agree():
    tree = ast.parse(Path(facsynth.__file__).read_text())
    [static] = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    found = {
        alias.asname.lstrip("_"): node.module + (f":{alias.name}" if alias.asname[0] == "_" else "")
        for node in ast.walk(static)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {place.partition(":")[2] or name: place for name, place in facsynth._EXPORTS.items()}
    assert found == lazy


def test_completion_shows_every_name():
    assert set(facsynth.__all__) <= set(dir(facsynth))


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_say'"):
        facsynth.load_say  # noqa: B018


def type_errors(code, folder):
    """What mypy says about a user's file."""
    (folder / "mypy.ini").write_text(CONFIG)
    (folder / "example.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", ROOT / ".mypy_cache" / "user", "example.py"],
        cwd=folder,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    return [line for line in run.stdout.splitlines() if line.startswith("example.py")]


@pytest.mark.slow  # mypy reads all that the names need
def test_type_checkers_know_the_readme_and_every_name(tmp_path):
    [block] = python_blocks((ROOT / "README.md").read_text())
    names = ", ".join(public_names())
    wrong = "wrong: str = measure_coverage(anchor, seed).fac"  # shows that mypy has looked
    [error] = type_errors(f"{block}\nfrom facsynth import {names}\n{wrong}\n", tmp_path)
    assert 'expression has type "float", variable has type "str"' in error
