"""Build wheel and sdist, install them in fresh environments and run them: one row for each.

    python scripts/check_packaging.py python3.11 python3.12 --extras hub tasks --lowest

Each environment gets the wheel (one of them the sdist) with one extra, and must import what the
extra brings, show its help, and look at a small file with the embedded model. `--lowest` installs
the lower bounds of `pyproject.toml` in one more. A row takes minutes and 2 GB while it lasts.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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

BUILD = "import setuptools.build_meta as b, sys; b.build_{}(sys.argv[1])"
FILES = (
    "import importlib.resources as r; f = r.files('facsynth'); "
    "assert (f / 'py.typed').is_file() and (f / 'default_sae/cfg.json').is_file(); "
    "assert (f / 'report/page.html.jinja').is_file()"
)


def main() -> None:
    """Check every combination that was asked for; exit with 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", default=[sys.executable])
    parser.add_argument("--extras", nargs="*", default=list(MODULES), choices=list(MODULES))
    parser.add_argument("--lowest", action="store_true", help="also the lower bounds, once")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(["git", "-C", str(ROOT), "archive", "-o", str(folder / "tree.zip"), "HEAD"], folder)
        shutil.unpack_archive(folder / "tree.zip", folder / "tree")
        for kind in ("sdist", "wheel"):  # outside of the checkout, which stays as it is
            build = [sys.executable, "-c", BUILD.format(kind), str(folder)]
            run(build, folder, cwd=folder / "tree")
        [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
        jobs: list[tuple[str, str, Path, tuple[str, ...]]]
        jobs = [(p, e, wheel, ()) for p in given.pythons for e in given.extras]
        jobs += [(given.pythons[0], "", sdist, ())]
        if given.lowest:
            jobs += [(given.pythons[0], "", wheel, tuple(lower_bounds()))]
        done = [check(*job, folder) for job in jobs]
    sys.exit(0 if all(done) else 1)


def lower_bounds() -> list[str]:
    """The dependencies, each at the lowest version that is allowed."""
    return [re.sub(r">=([^,]+).*", r"==\1", requirement) for requirement in PROJECT["dependencies"]]


def check(python: str, extra: str, package: Path, pins: tuple[str, ...], folder: Path) -> bool:
    """Install into a fresh environment and run; prints a row."""
    start, what = time.monotonic(), package.name.removeprefix("facsynth-")
    label = f"{python} {what}{f' [{extra}]' if extra else ''}{' lowest' if pins else ''}"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        home, rows = place / "env" / "bin", place / "rows.jsonl"
        texts = [json.dumps({"text": f"A cat sat on mat {i}."}) for i in range(9)]
        rows.write_text("\n".join(texts))
        target = f"{package}[{extra}]" if extra else str(package)
        try:
            run([python, "-m", "venv", str(place / "env")], place)
            run([str(home / "pip"), "install", "-q", target, *pins], place)
            imports = "; ".join(f"import {name}" for name in MODULES[extra])
            run([str(home / "python"), "-c", f"{FILES}; {imports}"], place)
            run([str(home / "fac"), "--help"], place)
            run([str(home / "fac"), "look", str(rows), "-o", "look", "--json"], place)
        except RuntimeError as error:
            print(f"FAILED  {label}: {error}", flush=True)
            return False
    print(f"ok      {label} ({time.monotonic() - start:.0f} s)", flush=True)
    return True


def run(command: list[str], place: Path, *, cwd: Path | None = None) -> None:
    """Run a command; its last lines of errors if it fails."""
    done = subprocess.run(command, cwd=cwd or place, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr.strip()[-600:]}")


if __name__ == "__main__":
    main()
