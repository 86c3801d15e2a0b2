"""Write docs/reliability.md from the figures of the long trials (docs/reliability.json).

`make soak` runs the trials and this script.
"""

import json
from pathlib import Path
from typing import Any

from facsynth.report.plots import write_chart

HERE = Path(__file__).parent.parent
FIGURES = HERE / "docs" / "reliability.json"
PAGE = HERE / "docs" / "reliability.md"
CHART = HERE / "docs" / "reliability.svg"

PARTS = {
    "kills": (
        "Kills",
        "SIGKILL at random moments of `fac extract`, `fac sae train`, `fac run`, "
        "`fac synthesize`, `fac merge` and `fac experiment`; each is started again until it ends, "
        "and its files are compared with those of an undisturbed run, byte by byte (of an "
        "experiment its cells, measures and samples: its summary has the seconds that it took).",
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
        "limits of calls and tokens hold whatever usage the server claims. Then a server that is "
        "down for a while (503, 502, resets), after which every request must be answered.",
    ),
    "threads": (
        "Threads",
        "The same command on one thread and on two; the files are compared byte by byte.",
    ),
    "clock": (
        "Clocks",
        "The same command undisturbed and with a clock that jumps by up to eleven days at every "
        "look; the files are compared byte by byte.",
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
    "long": (
        "A long run",
        "Whole runs (extraction, coverage, synthesis, report) one after the other in one process, "
        "by a local model and by a server in turn. The middle of the second quarter of the rounds "
        "is compared with that of the last: memory may differ by 30 MB, descriptors not at all. "
        "The processor was busy with other work, so there are few rounds for the time.",
    ),
}

HEAD = """\
# Reliability

What facsynth does when disks fill up, processes die, servers fail and files lie. Every figure on
this page is from `make soak`, which also writes the page; `make soak SECONDS=600` runs each part
for ten minutes. `wrong` counts outcomes that must not be, and the command fails if there is one.

Models and SAEs of the trials are tiny; the code is the same for large ones.

## What repeats

The same inputs, random seeds and versions on one machine give the same bytes: of `extract`,
`sae train`, `synthesize` by a local model, `run`, `merge` and `experiment`, on one thread or two,
in one part or in any number of shards, stopped and resumed or not. What does not repeat:

- **bfloat16 and float16 across processors and devices**: they round differently, so activations
  near a threshold, and texts of a local model, can differ. `--dtype float32` narrows this.
- **Endpoints**: servers do not promise the same text for the same random seed. Replies are kept in
  the folder of a run, so a resumed run repeats what it had.
- **Other versions** of torch, transformers or tokenizers; `constraints.txt` pins those tested.
- **Times**: manifests of runs say when they ended, reports on which day they were made.

Manifests hold the SHA-256 of the model's weights and configuration and of the SAE; a command that
loads them for a table compares both, and the file of the embedded model is checked against the
hash that the package knows.

## What is checked when files are read

- **Feature tables**: rows and checksums of every part; ids, order and values of what it holds;
  samples in the order of the rows. `fac doctor TABLE` checks a whole table. A checksum does not
  help against someone who changes a text and the checksum with it.
- **SAEs**: shapes against the bytes that there are, settings against the tensors, finite weights.
  Pickles are read as tensors and plain values only; code that comes with a model runs only with
  `--trust-remote-code`.
- **Models that a table names** are opened only from the Hub or out of the package; local files have
  to come from an option.
- **Data**: lines up to 128 MiB, compressed files up to 300 times their size; no pipes or devices.
- **Task templates**: a small part of Jinja2 without arithmetic, ranges or other files.

"""


def text() -> str:
    """The page."""
    found = json.loads(FIGURES.read_text(encoding="utf-8"))
    lines = [HEAD]
    for name, (title, what) in PARTS.items():
        if name in found:
            shown = {key: value for key, value in found[name].items() if key != "points"}
            rows = "".join(f"| {key} | {cell(value)} |\n" for key, value in shown.items())
            lines.append(f"## {title}\n\n{what}\n\n| what | found |\n|---|---|\n{rows}\n")
            if "points" in found[name]:
                lines.append(f"![Memory and descriptors over time]({CHART.name})\n\n")
    return "".join(lines).rstrip() + "\n"


def chart(points: list[dict[str, float]]) -> dict[str, Any]:
    """Memory and descriptors over the minutes of the long run."""
    import altair as alt

    panels = []
    for name, title in (("memory", "memory (MB)"), ("descriptors", "open descriptors")):
        y = alt.Y(f"{name}:Q", title=title, scale=alt.Scale(domainMin=0))
        base = alt.Chart(alt.InlineData(values=points)).encode(alt.X("minutes:Q"), y)
        panels.append(base.mark_line(point=True).properties(width=560, height=150))
    return dict(alt.vconcat(*panels).to_dict())


def cell(value: object) -> str:
    """A figure in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
    if "long" in (found := json.loads(FIGURES.read_text(encoding="utf-8"))):
        write_chart(chart(found["long"]["points"]), CHART)
