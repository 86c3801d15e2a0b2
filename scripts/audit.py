"""Audit the dependencies: their licences, and known weaknesses where a service can be asked.

    python scripts/audit.py             # licences of all that is installed with facsynth
    python scripts/audit.py pip-audit   # and known weaknesses, by this program

A licence that is not known to permit use beside the Apache License, or a known weakness, fails. If
no service can be reached, one line says that nothing was looked up, and it does not fail.
"""

import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent

ALLOWED = re.compile(
    r"apache|\bmit\b|bsd|isc\b|python software|psf|mozilla|mpl|unlicense|zlib|public domain|cc0"
    r"|0bsd|historical permission|hpnd|zero-clause|artistic|lgpl|lesser general|nvidia|bigscience",
    re.IGNORECASE,
)
"""Words of licences that permit use as a dependency; NVIDIA's is that of the CUDA libraries."""

KNOWN = {"axe-playwright-python": "MIT (its repository; the wheel says nothing)"}
"""Licences of packages that state none."""

UNREACHABLE = re.compile(
    r"ConnectionError|ConnectTimeout|NameResolution|Max retries|ServiceError|HTTP Error|HTTPError"
    r"|\b40[34]\b|Failed to (?:connect|establish)|timed out",
    re.IGNORECASE,
)


def pinned() -> list[str]:
    """Names in constraints.txt."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("==")[0].split("[")[0].strip() for line in lines if "==" in line]


def licence(package: Distribution) -> str:
    """What a package says of its licence."""
    meta = package.metadata
    named = [*(meta.get_all("License-Expression") or ()), *(meta.get_all("Classifier") or ())]
    said = [text for text in named if text and ("License" in text or "::" not in text)]
    words = "".join(meta.get_all("License") or ()).strip().splitlines()
    return "; ".join(said) or (words[0] if words else "") or KNOWN.get(meta["Name"], "not stated")


def licences() -> list[str]:
    """Packages whose licence is not known to permit use."""
    bad, n_read = [], 0
    for name in pinned():
        try:
            said = licence(distribution(name))
        except PackageNotFoundError:
            continue
        n_read += 1
        if not ALLOWED.search(said):
            bad.append(f"{name}: {said[:100]}")
    print(f"licences: {n_read} packages read, {len(bad)} to look at")
    return bad


def weaknesses(program: str) -> list[str]:
    """Known weaknesses by pip-audit, or none where no service can be reached."""
    words = [program, "-r", "constraints.txt", "--no-deps", "--disable-pip", "--timeout", "20"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode == 0:
        print("weaknesses: none known")
        return []
    if "known vulnerabilit" in said:
        return said.strip().splitlines()
    if UNREACHABLE.search(said):
        print("weaknesses: NOT LOOKED UP, the service of pip-audit cannot be reached from here")
        return []
    return [f"pip-audit failed: {said.strip()[-500:]}"]


def main() -> int:
    """Whether anything was found."""
    bad = licences()
    for program in sys.argv[1:]:
        bad += weaknesses(program)
    for line in bad:
        print(line)
    return min(len(bad), 1)


if __name__ == "__main__":
    sys.exit(main())
