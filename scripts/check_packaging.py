"""Install wheel and sdist in fresh environments and run them: one row of a table for each.

    pip install uv
    python scripts/check_packaging.py python3.11 python3.12 --extras "" hub --lowest

An environment gets the package with one extra. It must import what the extra brings, show its
help, look at a small file with the embedded model, and measure it against general text. `--lowest`
takes the lowest versions that `pyproject.toml` allows. `--brief` stops after the imports, the help
and `fac doctor`. Rows go into `docs/packaging.md`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "packaging.md"
MODULES = {
    "": ["facsynth"],
    "hub": ["datasets"],
    "saelens": ["sae_lens"],
    "embed": ["sentence_transformers"],
    "tasks": ["trl", "peft", "sklearn"],
    "ray": ["ray.data"],
    "vllm": ["vllm"],
    "eval": ["if_verifiable"],
}
"""What must be there after an extra."""

SHOWN = ("torch", "transformers", "numpy")
"""Packages whose versions a row names."""

FILES = (
    "import importlib.resources as r; f = r.files('facsynth'); "
    "assert (f / 'py.typed').is_file() and (f / 'default_sae/cfg.json').is_file(); "
    "assert (f / 'report/page.html.jinja').is_file()"
)
VERSIONS = (
    "import importlib.metadata as m, platform, sys; "
    "print(platform.python_version(), *(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
)


def main() -> None:
    """Check every combination that was asked for; exit with 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", default=[sys.executable])
    parser.add_argument("--extras", nargs="*", default=list(MODULES), choices=list(MODULES))
    parser.add_argument("--sdist", action="store_true", help="the sdist instead of the wheel")
    parser.add_argument("--lowest", action="store_true", help="the lowest versions allowed")
    parser.add_argument("--brief", action="store_true", help="read no data with the model")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        package = build("sdist" if given.sdist else "wheel", Path(scratch))
        jobs = [(python, extra) for python in given.pythons for extra in given.extras]
        how = {"lowest": given.lowest, "brief": given.brief}
        done = [check(python, extra, package, **how) for python, extra in jobs]
    sys.exit(0 if all(done) else 1)


def build(kind: str, folder: Path) -> Path:
    """The wheel or sdist of the last commit, built outside of the checkout."""
    run(["git", "-C", str(ROOT), "archive", "-o", str(folder / "tree.zip"), "HEAD"], folder)
    shutil.unpack_archive(folder / "tree.zip", folder / "tree")
    run(["uv", "build", "-q", f"--{kind}", "-o", str(folder)], folder / "tree")
    [package] = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
    return package


def check(python: str, extra: str, package: Path, *, lowest: bool, brief: bool) -> bool:
    """Install into a fresh environment and run; prints a row and keeps it."""
    start, facts, fault = time.monotonic(), python, ""
    with tempfile.TemporaryDirectory(dir=package.parent) as scratch:
        try:
            home, facts = install(python, extra, package, Path(scratch), lowest=lowest)
            try_out(home, extra, Path(scratch), brief=brief)
        except RuntimeError as error:
            fault = str(error)
    version, _, packages = facts.partition(", ")
    kind = "wheel" if package.suffix == ".whl" else "sdist"
    key = (".".join(version.split(".")[:2]), kind, extra or "none", "lowest" if lowest else "new")
    print(*key, fault or "ok", packages, f"{time.monotonic() - start:.0f} s", sep=" | ", flush=True)
    result = "**fails**" if fault else "imports" if brief else "runs"
    write_row(key, (packages, result, date.today().isoformat()))
    return not fault


def install(
    python: str, extra: str, package: Path, place: Path, *, lowest: bool
) -> tuple[Path, str]:
    """Programs of a fresh environment, and Python's version with those of some packages."""
    home = place / "env" / "bin"
    target = f"facsynth[{extra}] @ {package.as_uri()}" if extra else str(package)
    install = ["uv", "pip", "install", "-q", "--python", str(home / "python")]
    run(["uv", "venv", "-q", "--python", python, str(place / "env")], place)
    if lowest:
        project = [str(package.parent / "tree" / "pyproject.toml"), "--resolution", "lowest-direct"]
        run([*install, "-r", *project, *(["--extra", extra] if extra else [])], place)
    run([*install, target, *(["--no-deps"] if lowest else [])], place)
    return home, run([str(home / "python"), "-c", VERSIONS, *SHOWN], place).strip()


def try_out(home: Path, extra: str, place: Path, *, brief: bool) -> None:
    """Import and run what was installed."""
    imports = "; ".join(f"import {name}" for name in MODULES[extra])
    run([str(home / "python"), "-c", f"{FILES}; {imports}"], place)
    run([str(home / "fac"), "--help"], place)
    if brief:
        run([str(home / "fac"), "doctor"], place)
        return
    rows = place / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": f"A cat sat on mat {i}."}) for i in range(9)))
    run([str(home / "fac"), "look", str(rows), "-o", "look", "--json"], place)
    run([str(home / "fac"), "coverage", "--anchor", "reference", "--seed", "look"], place)


def write_row(key: tuple[str, ...], cells: tuple[str, ...]) -> None:
    """Put a row into the page's table, in place of an older one of the same combination."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = {tuple(line.strip("| ").split(" | "))[:4]: line for line in lines[head + 1 :] if line}
    rows[key] = f"| {' | '.join([*key, *cells])} |"
    kept = [*lines[: head + 1], *(rows[one] for one in sorted(rows))]
    PAGE.write_text("\n".join(kept) + "\n", encoding="utf-8")


def run(command: list[str], place: Path) -> str:
    """What a command prints; its last lines of errors if it fails."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=place, env=own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr.strip()[-900:]}")
    return done.stdout


if __name__ == "__main__":
    main()
