"""Rules about the whole tree: layers, light imports, documentation, tidiness.

Each of them can fail: the rules that read files are functions of text, tried on bad text below.
"""

import ast
import importlib
import pkgutil
import re
import runpy
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal, TypeVar, get_type_hints

import click
import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeException
from click.testing import CliRunner
from jaxtyping import Float64

import facsynth
from conftest import is_array, is_unknown, parts
from facsynth.cli import main as fac

T = TypeVar("T")
ROOT = Path(facsynth.__file__).parent
REPOSITORY = Path(__file__).parent.parent
SOURCES = sorted(ROOT.rglob("*.py"))
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]

LAYERS = [  # bottom first; a module imports from its own package and from lower layers
    {"errors", "show", "words"},
    {"folders", "settings"},
    {"records", "remote", "settings_text"},
    {"progress"},
    {"data", "chat"},
    {"models"},
    {"sae"},
    {"table"},
    {"scale"},
    {"coverage"},
    {"select"},
    {"compare"},
    {"understand"},
    {"synthesize", "tasks"},
    {"baselines", "report", "recipe"},
    {"pipeline"},
    {"experiment"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

ARRAY = re.compile(r"(?:Bool|Float|Int|UInt|Num|Real|Shaped)\d*")
AXIS = re.compile(r"(?<![\w.])[A-Za-z]\w*")
CONTAINERS = {"Collection", "Iterable", "Iterator", "Mapping", "Sequence", "dict", "list", "set"}
ALIKE = {  # arrays of one container that do agree in these axes
    "compare/matching.py": {"n_features_b"},  # tiles of one product
    "compare/paired.py": {"n_items"},  # one test set
    "coverage/threshold.py": {"n_features"},  # levels of one table
    "models/prefix.py": {"n_rows", "n_tail", "d_model"},  # layers of one pass
    "models/residual.py": {"n_rows", "max_tokens", "n_tokens", "d_model"},  # layers of one pass
    "sae/module.py": {"n_tokens"},  # feature tiles of one batch
    "sae/train/data.py": {"d_model"},  # batches through one model
    "table/firing.py": {"n_samples"},  # weightings of one table
    "tasks/results.py": {"n_items"},  # one test set
    "synthesize/plan.py": {"n_features"},  # tiers of one SAE
    "tasks/scorer.py": {"n_samples"},  # one test set
    "tasks/steering/answers.py": {"n_items", "d_model"},  # layers of one pass
    "tasks/steering/measure.py": {"n_items"},  # one test set
    "tasks/steering/vectors.py": {"n_rows", "d_model"},  # layers of one pass
}

PRIVATE_PATH = re.compile(r"(?<![\w.~-])/(?:root|home|Users|work|opt|mnt)/\w[\w/.-]*")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME)\b")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND_HEADING = re.compile(r"^#{2,4} `?(fac(?: [\w-]+)+)`?$", re.MULTILINE)


parse = cache(ast.parse)


@cache
def nodes(code: str) -> list[ast.AST]:
    """All parts of a program; many rules read the same files."""
    return list(ast.walk(parse(code)))


def upward_imports(here: str, code: str) -> list[str]:
    """Imports that a file of the top-level module or package `here` may not have."""
    bad = []
    for node in nodes(code):
        if isinstance(node, ast.Import):
            bad += [a.name for a in node.names if a.name.split(".")[0] == "facsynth"]
        if isinstance(node, ast.ImportFrom):
            module, names = node.module or "", {a.name for a in node.names}
            if node.level:
                bad.append("." * node.level + module)
            elif module == "facsynth" and names != {"__version__"}:
                bad.append(f"facsynth: {', '.join(sorted(names))}")
            elif module.startswith("facsynth."):
                there = module.split(".")[1]
                if there != here and RANK.get(there, len(LAYERS)) >= RANK[here]:
                    bad.append(module)
    return bad


def file_circle(files: dict[str, str]) -> list[str]:
    """A circle of modules that import each other, also inside functions; empty without one."""
    graph = {
        name: {
            there
            for node in nodes(code)
            if isinstance(node, ast.ImportFrom) and node.module
            for there in (node.module, *(f"{node.module}.{a.name}" for a in node.names))
            if there in files
        }
        for name, code in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def top_package(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def unguarded_loads(code: str) -> list[str]:
    """Calls that load a model and do not say whether code that comes with it may run."""
    loaders = {"from_pretrained", "from_config", "SentenceTransformer", "pipeline"}
    own = {"PeftModel", "SAE"}  # take no such argument, and run no code
    found = []
    for call in (node for node in nodes(code) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        last, owner = name.rsplit(".", 1)[-1], name.split(".")[-2:-1]
        says = [ast.unparse(k.value) for k in call.keywords if k.arg == "trust_remote_code"]
        if last in loaders and not own & set(owner) and (not says or says == ["True"]):
            found.append(f"line {call.lineno}: {name}")
    return found


def is_set(node):
    """Whether an expression is a set, as far as can be seen in the line itself."""
    if isinstance(node, ast.BinOp):
        return is_set(node.left) or is_set(node.right)
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return isinstance(node, ast.Set | ast.SetComp) or (
        is_call and node.func.id in {"set", "frozenset"}
    )


def walked_sets(code):
    """Lines that take the members of a set in its order, which differs between processes."""
    found = []
    for node in nodes(code):
        if isinstance(node, ast.For):
            found.append(node.iter)
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            found += [part.iter for part in node.generators]
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found += [node.args[0]] if name in {"list", "tuple", "enumerate", "join"} else []
    return sorted(node.lineno for node in found if is_set(node))


def printed_lines(code: str) -> list[int]:
    calls = [node for node in nodes(code) if isinstance(node, ast.Call)]
    return [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


def broken_blocks(page: str) -> list[str]:
    """First lines of the Python blocks of a Markdown page that do not parse."""
    bad = []
    for language, code in FENCE.findall(page):
        try:
            ast.parse(code if language in ("python", "py") else "")
        except SyntaxError:
            bad.append(code.splitlines()[0])
    return bad


def shared_axes(code: str) -> dict[str, set[str]]:
    """Axis names that all arrays of one container share, by the annotated name.

    The run-time checker looks at one random element of a sequence: where sizes differ, a named
    axis fails now and then.
    """
    tree = parse(code)
    aliases = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }

    def axes(node: ast.AST, *, inside: bool) -> set[str]:
        if isinstance(node, ast.Name) and node.id in aliases:
            return axes(aliases[node.id], inside=inside)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            kind = node.value.id
            if ARRAY.fullmatch(kind):
                return set(AXIS.findall(node.slice.elts[1].value)) if inside else set()
            inside |= kind in CONTAINERS or (kind == "tuple" and "..." in ast.unparse(node.slice))
        return set().union(*(axes(n, inside=inside) for n in ast.iter_child_nodes(node)))

    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns:
            found[node.name] = axes(node.returns, inside=False)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            found[name] = found.get(name, set()) | axes(node.annotation, inside=False)
    return {name: names for name, names in found.items() if names}


def dead_links(page: Path) -> list[str]:
    """Relative links of a Markdown page to files that do not exist."""
    links = [link.split("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link]
    return [link for link in links if link and not (page.parent / link).exists()]


def unknown_in(line: str, commands: dict[str, click.Command]) -> list[str]:
    """What stands in a written command line and does not exist: the command, or its options."""
    words = line.split("#")[0].split()
    name = next((n for i in (4, 3, 2) if (n := " ".join(words[:i])) in commands), None)
    if name is None:
        return [" ".join(words[:2])]
    known = {o for p in commands[name].params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    return [w.split("=")[0] for w in words if w[0] == "-" and w.split("=")[0] not in known]


def walk_commands(command: click.Command, name: str = "fac") -> dict[str, click.Command]:
    """Every command below a group, by what a user types."""
    if not isinstance(command, click.Group):
        return {name: command}
    context = click.Context(command)
    found = {} if name == "fac" else {name: command}
    for word in command.list_commands(context):
        found |= walk_commands(command.get_command(context, word), f"{name} {word}")
    return found


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after running `code`."""
    code += "\nimport sys; sys.stderr.write(' '.join({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def times_longer(command: list[str], than: str) -> float:
    """How much longer a command takes than a Python script; the best of five turns each."""

    def seconds(words: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - start

    turns = [(seconds(command), seconds([sys.executable, "-c", than])) for _ in range(5)]
    return min(one for one, _ in turns) / min(other for _, other in turns)


@pytest.fixture(scope="module")
def commands():
    found = walk_commands(importlib.import_module("facsynth.cli").main)
    assert found, "facsynth.cli.main has no commands"
    return found


# Layers


def test_imports_point_down():
    here = {f: top_package(f) for f in SOURCES if top_package(f) != "__init__"}
    found = {str(f.relative_to(ROOT)): upward_imports(here[f], f.read_text()) for f in here}
    assert {name: imports for name, imports in found.items() if imports} == {}


def test_layers_hold_every_module_and_no_other():
    assert set(RANK) == {top_package(file) for file in SOURCES} - {"__init__"}


@pytest.mark.parametrize(
    "line",
    [
        "from facsynth.cli import main",
        "import facsynth.cli",
        "import json, facsynth.cli as cli",
        "from facsynth import cli",
        "from . import cli",
        "from ..cli import main",
        "def late():\n    from facsynth.cli import main",
        "from facsynth.coverage.fac import coverage",
    ],
)
def test_layer_guard_sees_an_upward_import(line):
    assert upward_imports("data", line)


def test_layer_guard_lets_a_downward_import_pass():
    code = "from facsynth import __version__\nfrom facsynth.errors import DataError\nimport json"
    assert upward_imports("data", code) == []


def test_no_files_import_each_other_in_a_circle():
    names = {f: ".".join(f.relative_to(ROOT.parent).with_suffix("").parts) for f in SOURCES}
    assert file_circle({names[f]: f.read_text() for f in SOURCES}) == []


def test_circle_guard_sees_a_circle_through_a_function():
    late = "def late():\n    from facsynth.data import read"
    files = {"facsynth.data.read": "from facsynth.data.rows import row", "facsynth.data.rows": late}
    assert set(file_circle(files)) == set(files)
    assert file_circle(files | {"facsynth.data.rows": "import json"}) == []


def test_root_package_imports_nothing_of_its_own_at_once():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    run = [n for n in tree.body if not ast.unparse(n).startswith("if TYPE_CHECKING:")]
    imports = [n for n in run if isinstance(n, ast.Import | ast.ImportFrom)]
    assert imports
    assert not [ast.unparse(n) for n in imports if "facsynth" in ast.unparse(n)]


# Light imports


def test_import_facsynth_loads_nothing_heavy():
    loaded = modules_after("import facsynth")
    assert "facsynth" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "numpy"})


def test_help_loads_neither_torch_nor_numpy():
    loaded = modules_after("from facsynth.cli import main; main(['--help'], standalone_mode=False)")
    assert "facsynth" in loaded
    assert loaded.isdisjoint({"torch", "transformers", "numpy"})


def test_help_loads_no_command(monkeypatch):
    monkeypatch.setattr("facsynth.cli.group.import_module", pytest.fail)
    assert "coverage" in CliRunner().invoke(fac, ["--help"]).output


def test_help_tells_of_each_command_in_one_line():
    listed = CliRunner().invoke(fac, ["--help"]).output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == fac.list_commands(click.Context(fac))
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_light_import_guard_sees_a_heavy_module():
    assert "numpy" in modules_after("import facsynth.records")


@pytest.mark.slow
def test_import_facsynth_is_quick():
    assert times_longer([sys.executable, "-c", "import facsynth"], than="pass") < 6


@pytest.mark.slow
def test_help_is_quick():
    command = [str(Path(sys.executable).parent / "fac"), "--help"]
    assert times_longer(command, than="import click") < 3


# Commands and documentation


def test_every_command_has_help(commands):
    assert [name for name, command in commands.items() if not command.help] == []


def test_help_of_the_group_says_what_the_commands_say():
    group = importlib.import_module("facsynth.cli").main
    context = click.Context(group)
    shown = group.get_help(context).split("Commands:")[1].split()
    said = [
        word
        for name in group.list_commands(context)
        for word in [name, *group.get_command(context, name).help.split("\n\n")[0].split()]
    ]
    assert shown == said


def test_every_option_has_help(commands):
    options = [(n, p) for n, c in commands.items() for p in c.params if isinstance(p, click.Option)]
    assert [f"{name} {option.opts[-1]}" for name, option in options if not option.help] == []


def test_no_command_has_an_option_twice(commands):
    counted = {n: Counter(flag for p in c.params for flag in p.opts) for n, c in commands.items()}
    twice = [
        f"{name} {flag}" for name, flags in counted.items() for flag in flags if flags[flag] > 1
    ]
    assert twice == []


def test_command_reference_has_a_heading_for_every_command_and_no_other(commands):
    page = (REPOSITORY / "docs" / "cli.md").read_text()
    assert sorted(COMMAND_HEADING.findall(page)) == sorted(commands)


def test_commands_that_ask_a_model_can_set_the_length_of_its_replies(commands):
    flags = {name: {flag for p in one.params for flag in p.opts} for name, one in commands.items()}
    asking = {name for name, has in flags.items() if "--chat-model" in has}
    assert len(asking) > 3
    assert [name for name in sorted(asking) if "--reply-tokens" not in flags[name]] == []


def test_walk_finds_nested_commands():
    sae = click.Group("sae", commands=[click.Command("train")])
    group = click.Group(commands=[click.Command("run"), sae])
    assert list(walk_commands(group)) == ["fac run", "fac sae", "fac sae train"]


def check_page(page, written):
    again = f"run `python scripts/write_{page}_docs.py`"
    assert (REPOSITORY / "docs" / f"{page}.md").read_text() == written, again


def test_page_of_commands_is_up_to_date():
    script = "import runpy; print(runpy.run_path('scripts/write_cli_docs.py')['text'](), end='')"
    done = subprocess.run(  # a fresh process: click remembers how a command was called before
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    check_page("cli", done.stdout)


@pytest.mark.parametrize("page", ["python", "recipes"])
def test_written_pages_are_up_to_date(page):
    check_page(page, runpy.run_path(f"{REPOSITORY}/scripts/write_{page}_docs.py")["text"]())


def test_every_file_of_the_package_goes_into_the_wheel():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["facsynth"]
    source = REPOSITORY / "src" / "facsynth"
    there = {path for pattern in patterns for path in source.glob(pattern)}
    files = {path for path in source.rglob("*") if path.is_file()}
    assert {p for p in files - there if not {".py", ".pyc"} & {p.suffix}} == set()


@pytest.mark.parametrize("name", ["recipe", "experiment"])
def test_schemas_of_recipes_are_up_to_date(name):
    schema = runpy.run_path(str(REPOSITORY / "scripts" / "write_recipes_docs.py"))["schema"]
    again = "run `python scripts/write_recipes_docs.py`"
    assert (REPOSITORY / "docs" / f"{name}.schema.json").read_text() == schema(name), again


def test_home_page_names_every_command_of_the_group():
    home = (REPOSITORY / "docs" / "index.md").read_text()
    names = importlib.import_module("facsynth.cli").main.list_commands(click.Context(click.Group()))
    assert [name for name in names if f"`fac {name}" not in home] == []


def test_command_lines_of_the_documentation_exist(commands):
    pages = [page for page in PAGES if page.name != "cli.md"]
    text = "\n".join(page.read_text() for page in pages)
    lines = re.findall(r"^(fac [a-z].*)$", "".join(code for _, code in FENCE.findall(text)), re.M)
    lines += [line for line in re.findall(r"`(fac [a-z][^`]*)`", text) if len(line.split()) > 1]
    assert len(lines) > 20
    assert {line: bad for line in lines if (bad := unknown_in(line, commands))} == {}


def test_command_line_guard_sees_a_wrong_command_and_a_wrong_option(commands):
    assert unknown_in("fac cover --anchor x", commands) == ["fac cover"]
    assert unknown_in("fac coverage --anchr x --threshold=2  # --no", commands) == ["--anchr"]


def test_links_between_pages_lead_somewhere():
    found = {str(page.relative_to(REPOSITORY)): dead_links(page) for page in PAGES}
    assert {name: links for name, links in found.items() if links} == {}


def test_link_guard_sees_a_dead_link(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](page.md#top) [b](gone.md) [c](https://example.org) [d](#here)")
    assert dead_links(page) == ["gone.md"]


def test_every_benchmark_has_its_row_among_the_pages():
    makefile = (REPOSITORY / "Makefile").read_text()
    page = (REPOSITORY / "docs" / "benchmarks" / "README.md").read_text()
    targets = re.findall(r"^(bench-[a-z]+):", makefile, re.MULTILINE)
    assert targets
    assert [target for target in targets if f"`make {target}`" not in page] == []


def test_every_extra_is_named_where_it_is_missed_and_in_the_readme():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    code = "".join(file.read_text() for file in SOURCES)
    readme = (REPOSITORY / "README.md").read_text()
    extras = set(project["optional-dependencies"]) - {"dev"}
    assert [extra for extra in extras if f"'facsynth[{extra}]'" not in code] == []
    assert [extra for extra in extras if f"`{extra}`" not in readme] == []


def test_readme_starts_with_the_two_commands():
    first = FENCE.search((REPOSITORY / "README.md").read_text())[2]
    assert "make demo" in first
    assert "make test" in first


def test_python_blocks_of_the_documentation_parse():
    broken = {page.name: broken_blocks(page.read_text()) for page in PAGES}
    assert {name: blocks for name, blocks in broken.items() if blocks} == {}


def test_block_guard_sees_a_broken_block():
    page = "```python\nx = 1\n```\n\n```\nnot python\n```\n\n```python\nx = = 1\n```\n"
    assert broken_blocks(page) == ["x = = 1"]


# Safety


def test_no_model_is_loaded_without_saying_whether_its_code_may_run():
    found = {str(f.relative_to(ROOT)): unguarded_loads(f.read_text()) for f in SOURCES}
    assert {name: loads for name, loads in found.items() if loads} == {}


def test_load_guard_sees_loads_that_run_code():
    bad = ["AutoTokenizer.from_pretrained(f)", "AutoModel.from_config(c, trust_remote_code=True)"]
    assert [len(unguarded_loads(line)) for line in bad] == [1, 1]
    assert unguarded_loads("x.AutoModel.from_pretrained(f, trust_remote_code=trust)") == []
    assert unguarded_loads("_peft().PeftModel.from_pretrained(m, f)") == []


# Tidiness


def test_every_exported_name_exists():
    names = [m.name for m in pkgutil.walk_packages(facsynth.__path__, "facsynth.")]
    modules = [facsynth, *map(importlib.import_module, names)]
    exported = [(module, name) for module in modules for name in getattr(module, "__all__", ())]
    assert [f"{m.__name__}.{name}" for m, name in exported if not hasattr(m, name)] == []


def test_public_names_hide_no_package_and_are_no_module():
    names = {module.name for module in pkgutil.iter_modules(facsynth.__path__)}
    assert names.isdisjoint(facsynth.__all__)
    values = [getattr(facsynth, name) for name in facsynth.__all__]
    assert not [value for value in values if isinstance(value, ModuleType)]


def test_public_functions_say_what_they_return():
    values = [getattr(facsynth, name) for name in facsynth.__all__]
    hints = {f.__name__: get_type_hints(f)["return"] for f in values if isinstance(f, FunctionType)}
    assert [name for name, returned in hints.items() if returned in (Any, object)] == []


def unused_names(files: dict[str, str], elsewhere: str) -> list[str]:
    """Functions and classes that nothing but their own definition and `__all__` names."""
    words = Counter(re.findall(r"\w+", "\n".join([*files.values(), elsewhere])))
    tops = ((file, code, node) for file, code in files.items() for node in parse(code).body)
    return [
        f"{file}: {node.name}"
        for file, code, node in tops
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.decorator_list
        and words[node.name] <= 1 + (f'"{node.name}"' in code)
        and not node.name.startswith("__")
    ]


def test_every_function_is_used_by_more_than_tests():
    users = [
        f for d in ("studies", "benchmarks", "scripts") for f in (REPOSITORY / d).rglob("*.py")
    ]
    elsewhere = "\n".join(f.read_text() for f in users)
    assert unused_names({str(f): f.read_text() for f in SOURCES}, elsewhere) == []


def test_unused_guard_sees_a_function_that_nothing_calls():
    files = {"a.py": '__all__ = ["lost"]\ndef lost(): pass\ndef used(): pass\nused()'}
    assert unused_names(files, "") == ["a.py: lost"]


def test_no_module_is_longer_than_450_lines():
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def wide_functions(code: str) -> list[str]:
    """Functions with more than eight parameters; `self`, `*rest` and `**options` do not count."""
    functions = (n for n in nodes(code) if isinstance(n, ast.FunctionDef))
    named = {n: [*n.args.posonlyargs, *n.args.args, *n.args.kwonlyargs] for n in functions}
    return [n.name for n, args in named.items() if len([a for a in args if a.arg != "self"]) > 8]


def test_no_function_has_more_than_eight_parameters():
    found = {str(f.relative_to(ROOT)): wide_functions(f.read_text()) for f in SOURCES}
    assert {name: wide for name, wide in found.items() if wide} == {}


def test_width_guard_sees_nine_parameters_of_any_kind():
    nine = "class A:\n def f(self, a, b, c, /, d, e, f, *rest, g, h, i, **more): pass"
    assert wide_functions(nine) == ["f"]
    assert wide_functions(nine.replace(", i", "")) == []


def test_arrays_of_one_container_share_no_axis_unless_they_agree_in_it():
    found = {str(f.relative_to(ROOT)): shared_axes(f.read_text()) for f in SOURCES}
    named = {file: set().union(*axes.values()) for file, axes in found.items() if axes}
    assert {
        file: bad for file, axes in named.items() if (bad := axes - ALIKE.get(file, set()))
    } == {}
    assert {f: old for f, axes in ALIKE.items() if (old := axes - named.get(f, set()))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "def f(x: Sequence[Int[np.ndarray, ' n']]): pass",
        "def f() -> dict[int, tuple[int, Float32[Tensor, '2 n']]]: pass",
        "Rows = Float[Tensor, 'n _']\nx: tuple[Rows | None, ...]",
    ],
)
def test_axis_guard_sees_a_name_in_a_container(code):
    assert list(shared_axes(code).values()) == [{"n"}]


def test_axis_guard_passes_anonymous_axes_and_fixed_tuples():
    one = "Int[Tensor, ' n']"
    code = f"def f(x: list[Int[Tensor, '_ 2 ...']]) -> tuple[{one}, {one}]: pass"
    assert shared_axes(code) == {}


def test_library_does_not_print():
    lines = {str(f.relative_to(ROOT)): printed_lines(f.read_text()) for f in SOURCES}
    assert {name: numbers for name, numbers in lines.items() if numbers} == {}


def test_print_guard_sees_a_print_and_no_other_call():
    assert printed_lines("fingerprint(1)\nconsole.print(2)\nprint(3)") == [3]


def test_no_set_is_walked_in_its_own_order():
    lines = {str(f.relative_to(ROOT)): walked_sets(f.read_text()) for f in SOURCES}
    assert {name: numbers for name, numbers in lines.items() if numbers} == {}


def test_set_guard_sees_a_walk_and_lets_a_sorted_one_pass():
    code = "for x in {1} - y: pass\nlist(set(y))\nsorted(set(y))\n[x for x in dict.fromkeys(y)]"
    assert walked_sets(code) == [1, 2]


def test_nothing_unfinished_is_marked():
    assert [str(f.relative_to(ROOT)) for f in SOURCES if UNFINISHED.search(f.read_text())] == []


def test_no_file_names_a_private_path():
    kinds = {".py", ".md", ".toml", ".txt", ".json", ".jinja", ".css", ".sh"}
    folders = ["src", "tests", "docs", "recipes", "scripts", "benchmarks", "studies"]
    files = [f for name in folders for f in (REPOSITORY / name).rglob("*") if f.suffix in kinds]
    files += [f for f in REPOSITORY.iterdir() if f.suffix in kinds or f.name == "Makefile"]
    found = {str(f.relative_to(REPOSITORY)): PRIVATE_PATH.findall(f.read_text()) for f in files}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_path_guard_sees_a_home_folder_and_no_address():
    text = "open('/" + "home/ada/data.jsonl') # https://example.org/home/page ~/work/x"
    assert PRIVATE_PATH.findall(text) == ["/" + "home/ada/data.jsonl"]


# The run-time type checker


def checked(fn):
    return jaxtyping.jaxtyped(typechecker=beartype)(fn)


@checked
def paired(
    a: Float64[np.ndarray, " n"], b: list[Float64[np.ndarray, " n"]]
) -> Float64[np.ndarray, " n"]:
    return a[: len(b)]


def test_arrays_of_a_call_agree_in_their_axes():
    assert paired(np.zeros(1), [np.zeros(1)]).size == 1
    for others in ([np.zeros(3)], [np.zeros(2)], [np.zeros(2, np.float32)], np.zeros(2)):
        with pytest.raises(BeartypeException):
            paired(np.zeros(2), others)


def test_axes_of_one_call_do_not_bind_another():
    assert paired(np.zeros(0), []).size == paired(np.zeros(1), [np.zeros(1)]).size - 1


def test_an_array_may_be_hidden_in_a_type():
    rows = Float64[np.ndarray, " n_rows"]
    for hint in (rows, tuple[rows, ...], rows | None, Callable[[rows], int]):
        assert any(map(is_array, parts(hint)))
    for hint in (str, Path, int | None, list[str], dict[str, Any]):
        assert not any(map(is_array, parts(hint)))


def test_types_that_are_not_loaded_are_seen():
    assert all(any(map(is_unknown, parts(hint))) for hint in ("Later", list["Later"], list[T]))
    assert not any(map(is_unknown, parts(Literal["a"] | dict[str, Any])))


def test_each_closure_is_checked_and_is_its_own():
    def adder(n):
        @checked
        def add(x: int, *, times: int = n) -> int:
            return x + n * times

        return add

    adders = [adder(n) for n in (1, 2, 3)]
    assert [add(0) for add in adders] == [1, 4, 9]
    for add in adders:
        with pytest.raises(BeartypeException):
            add("0")
