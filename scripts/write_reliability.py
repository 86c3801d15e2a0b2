"""Write docs/reliability.md from the figures of the long trials (docs/reliability.json).

`make soak` runs the trials and this script.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent.parent
FIGURES = HERE / "docs" / "reliability.json"
PAGE = HERE / "docs" / "reliability.md"

PARTS = {
    "kills": (
        "Kills",
        "SIGKILL at random moments of `fac extract`, `fac sae train` and `fac run`; "
        "each is started again until it ends, and its files are compared with those of an "
        "undisturbed run, byte by byte.",
    ),
    "disk": (
        "Disks",
        "`fac extract` on a tmpfs too small for the table, on one that is read-only, and "
        "in a folder that is deleted under it. Each must say so in one line, and a second run must "
        "end in the undisturbed bytes.",
    ),
    "hostile": (
        "Hostile inputs",
        "Tables, data files, SAE folders and recipes with random damage (bytes flipped, cut, "
        "doubled, values swapped, files missing or replaced by links to devices), before every "
        "command that reads them. A command may give a result, a line (exit 1) or a usage error "
        "(exit 2), in less than a minute and without control characters.",
    ),
    "endpoint": (
        "A failing server",
        "One answer in three fails in one of many ways. Each request must end once, and the "
        "limits of calls and tokens hold whatever usage the server claims.",
    ),
    "threads": (
        "Threads",
        "The same command on one thread and on two; the files are compared byte by byte.",
    ),
    "offline": (
        "Network and secrets",
        "The commands with every connection refused; then a run at an endpoint with a key in the "
        "environment, after which the key is looked for in all files, in the output and in the "
        "bodies of the calls.",
    ),
    "fuzz": (
        "Fuzzing",
        "A coverage-guided fuzzer (atheris) on the readers of data, JSON, arrays, manifests, SAE "
        "folders, replies and recipes. Anything but an error of facsynth's own is wrong.",
    ),
}

HEAD = """\
# Reliability

What facsynth does when disks fill up, processes die, servers fail and files lie. Every figure on
this page is from `make soak`, which also writes the page; `make soak SECONDS=600` runs each part
for ten minutes. `wrong` counts outcomes that must not be, and the command fails if there is one.

Models and SAEs of the trials are tiny; the code is the same for large ones. Bytes are compared on
one machine: other processors round bfloat16 differently, and remote models do not repeat
themselves, so there the texts can differ.

## What is checked when files are read

- **Feature tables**: rows and checksums of every part; ids, order and values of what it holds;
  samples in the order of the rows. `fac doctor TABLE` checks a whole table. A checksum does not
  help against someone who changes a text and the checksum with it.
- **SAEs**: shapes against the bytes that there are, settings against the tensors, finite weights.
  Pickles are read as tensors and plain values only; code that comes with a model runs only with
  `--trust-remote-code`.
- **Models that a table names** are opened only from the Hub or out of the package; local files have
  to come from an option.
- **Data**: lines up to 32 MiB, compressed files up to 300 times their size; no pipes or devices.
- **Task templates**: a small part of Jinja2 without arithmetic, ranges or other files.

"""


def text() -> str:
    """The page."""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    lines = [HEAD]
    for name, (title, what) in PARTS.items():
        if name in found:
            rows = "".join(f"| {key} | {cell(value)} |\n" for key, value in found[name].items())
            lines.append(f"## {title}\n\n{what}\n\n| what | found |\n|---|---|\n{rows}\n")
    return "".join(lines).rstrip() + "\n"


def cell(value: object) -> str:
    """A figure in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
