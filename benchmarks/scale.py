"""What table commands cost from 10,000 to a million samples, beside Polars and SciPy.

The tables are made up (`scale_table.py`): 65,536 features, about 200 active ones a sample. Every
task runs in a process of its own, which reads the tables from disk.

    python benchmarks/scale.py            prints the table; about 3 GB in --folder, deleted after
    python benchmarks/scale.py --quick    10,000 and 30,000 samples
    python benchmarks/scale.py --write    also writes docs/benchmarks/scale.md and its plot
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from environments import CannotInstall, Environment

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks" / "scale.md"
PLOT = PAGE.with_suffix(".svg")
POLARS = Environment("polars", ("polars==2.1.0",))
SIZES = (10_000, 100_000, 1_000_000)
QUICK = (10_000, 30_000)
LIMITS = {
    "FAC and missing list": 5,
    "diff": 60,
    "overlap": 60,
    "select 2,000, coverage": 20,
    "select 2,000, firing rates": 20,
    "top samples of a feature": 0.05,
}
"""Seconds for a million samples on two cores, once the tables are read; `overlap` and `diff` with
reading."""

MOST_GB = 4.0
DELTA = ("--threshold", "1")
Objective = Literal["coverage", "representative"]


def run_fac(a: Path, b: Path) -> Callable[[], object]:
    """Prepare what is not timed on its own, and return what is."""
    from facsynth.coverage.fac import (
        describe_missing,
        feature_activation_coverage,
        missing_features,
    )
    from facsynth.table.active import active_rows

    anchor, seed = (active_rows(path, threshold=1.0) for path in (a, b))

    def measure() -> object:
        feature_activation_coverage(anchor.features, seed.features, anchor.relevant)
        return describe_missing(anchor, missing_features(anchor, seed))

    return measure


def run_select(objective: Objective, a: Path, b: Path) -> Callable[[], object]:
    """Two thousand samples by one objective, with length quotas and random controls."""
    from facsynth.select.pool import Pool
    from facsynth.select.select import select_samples
    from facsynth.select.settings import SelectSettings
    from facsynth.table.active import active_rows

    pool = Pool(active_rows(a, threshold=1.0))
    settings = SelectSettings(min(2000, pool.n_tokens.size), objective)
    return lambda: select_samples(pool, settings)


def run_coverage(a: Path, b: Path) -> Callable[[], object]:
    """All of `fac coverage`: controls, interval, sweep, richness."""
    from facsynth.coverage.measure import measure_coverage

    return lambda: measure_coverage(a, b)


def run_command(*words: str) -> Callable[[Path, Path], Callable[[], object]]:
    """A command as the user calls it."""

    def prepare(a: Path, b: Path) -> Callable[[], object]:
        from click.testing import CliRunner

        from facsynth.cli.group import main

        given = [str({"A": a, "B": b}.get(word, word)) for word in words]

        def call() -> object:
            done = CliRunner().invoke(main, [*given, "--json"])
            if done.exit_code:
                raise SystemExit(done.output[-500:])
            return done.output

        return call

    return prepare


def run_scipy(a: Path, b: Path) -> Callable[[], object]:
    """The same counts with PyArrow and a SciPy matrix of the whole table."""
    import numpy as np
    import pyarrow.parquet as pq
    from scipy.sparse import csr_array

    def count() -> object:
        table = pq.read_table(
            sorted(a.glob("part-*.parquet")), columns=["feature_ids", "activations"]
        )
        ids, values = (table[name].combine_chunks() for name in table.column_names)
        ends = np.cumsum(ids.value_lengths().to_numpy(), dtype=np.int64)
        starts = np.concatenate([[0], ends])
        parts = (values.flatten().to_numpy(), ids.flatten().to_numpy().astype(np.int32), starts)
        matrix = csr_array(parts, shape=(starts.size - 1, 65_536))
        return (matrix > 1.0).sum(axis=0)

    return count


def run_counts(a: Path, b: Path) -> Callable[[], object]:
    """Samples above the threshold for each feature."""
    from facsynth.table.active import active_rows

    return lambda: active_rows(a, threshold=1.0).counts


def run_strongest(a: Path, b: Path) -> Callable[[], object]:
    """The ten strongest samples of a feature, from the index that a first question makes."""
    from facsynth.table.strongest import strongest_entries
    from facsynth.table.table import open_table

    table = open_table(a)
    strongest_entries(table, [17], 10)
    return lambda: strongest_entries(table, [40_000], 10)


TASKS: dict[str, Callable[[Path, Path], Callable[[], object]]] = {
    "counts": run_counts,
    "counts, SciPy": run_scipy,
    "FAC and missing list": run_fac,
    "coverage with controls": run_coverage,
    "diff": run_command("diff", "A", "B", "--no-spans", *DELTA),
    "overlap": run_command("overlap", "A", "B", *DELTA),
    "select 2,000, coverage": partial(run_select, "coverage"),
    "select 2,000, firing rates": partial(run_select, "representative"),
    "labels": run_command("labels", "A", *DELTA),
    "diversity": run_command("diversity", "A", "B", *DELTA),
    "top samples of a feature": run_strongest,
}
PEER = """
import json, resource, sys, time
import polars as pl
start, cpu = time.perf_counter(), time.process_time()
entries = pl.scan_parquet(sys.argv[1] + "/part-*.parquet").select("feature_ids", "activations")
found = entries.explode("feature_ids", "activations").filter(pl.col("activations") > 1.0)
counts = found.group_by("feature_ids").len().collect(engine="streaming")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu,
                  "reading": 0.0, "peak": peak}))
"""


def child(task: str, a: Path, b: Path) -> None:
    """Run a task and print its costs as JSON."""
    start, cpu = time.perf_counter(), time.process_time()
    measure = TASKS[task](a, b)
    read = time.process_time() - cpu
    start, cpu = time.perf_counter(), time.process_time()
    measure()
    row = {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "reading": read,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    print(json.dumps(row))


def measure(task: str, a: Path, b: Path, limit_s: int) -> dict[str, Any]:
    """Costs of a task in a process of its own, or why there are none."""
    command = [sys.executable, __file__, "--task", task, str(a), str(b)]
    if task == "counts, Polars":
        try:
            command = [str(POLARS.python()), "-c", PEER, str(a)]
        except CannotInstall as error:
            return {"why": str(error)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"why": f"stopped after {limit_s} s"}
    if done.returncode:
        return {"why": (done.stderr.strip().splitlines() or ["it was killed"])[-1][:100]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_all(sizes: tuple[int, ...], folder: Path, limit_s: int) -> list[dict[str, Any]]:
    """One row for each task and size."""
    from scale_table import make_table

    rows = []
    for n in sizes:
        a, b = folder / f"a{n}", folder / f"b{n}"
        for random_seed, path in enumerate((a, b), 1):
            if not path.is_dir():
                make_table(path, n, random_seed)
        for task in (*TASKS, "counts, Polars"):
            rows.append({"task": task, "n_samples": n, **measure(task, a, b, limit_s)})
            rows[-1]["load"] = os.getloadavg()[0]
            print(rows[-1], flush=True)
        for path in (a, b):
            shutil.rmtree(path)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each task, its costs by size."""
    sizes = sorted({row["n_samples"] for row in rows})
    head = "| task | " + " | ".join(f"{n:,} samples" for n in sizes) + " | GB at most | limit |"
    lines = [head, "|---|" + "---:|" * (len(sizes) + 2)]
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = {row["n_samples"]: row for row in rows if row["task"] == task}
        cells = [_cell(of_task.get(n, {})) for n in sizes]
        peaks = [row["peak"] for row in of_task.values() if "peak" in row]
        limit = f"{LIMITS[task]} s" if task in LIMITS else "–"
        peak = f"{max(peaks):.2f}" if peaks else "–"
        lines.append(f"| {task} | {' | '.join(cells)} | {peak} | {limit} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if "cpu" not in row:
        return str(row.get("why", "–"))
    reading = f" + {row['reading']:.1f}" if row["reading"] > 0.05 else ""
    wall = f"{row['wall']:.0f} s" if row["wall"] >= 1 else f"{1000 * row['wall']:.0f} ms"
    return f"{wall} ({row['cpu']:.1f}{reading} CPU s)"


def draw(rows: list[dict[str, Any]]) -> None:
    """CPU seconds against samples, both on logarithmic axes."""
    import altair as alt

    points = [
        {"task": row["task"], "samples": row["n_samples"], "CPU s": row["cpu"] + row["reading"]}
        for row in rows
        if "cpu" in row
    ]
    room = {"left": 10, "top": 10, "right": 80, "bottom": 10}  # on the right for long names
    chart = (
        alt.Chart(alt.Data(values=points), width=520, height=320, padding=room)
        .mark_line(point=True)
        .encode(
            x=alt.X("samples:Q")
            .scale(type="log")
            .axis(values=sorted({x["samples"] for x in points})),
            y=alt.Y("CPU s:Q").scale(type="log"),
            color=alt.Color("task:N").scale(scheme="tableau20").legend(labelLimit=0),
        )
    )
    chart.save(str(PLOT))


def _priority() -> str:
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return f" with other programs beside, before which this one goes (nice {nice})" if nice else ""


def page(rows: list[dict[str, Any]], command: str) -> str:
    """The page with its table."""
    names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    cpu = names[0].partition(":")[2].strip() if names else platform.machine()
    loads = [row["load"] for row in rows]
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "pyarrow")
    )
    peaks = [row["peak"] for row in rows if "peak" in row and "," not in row["task"]]
    return f"""# Table commands from 10,000 to a million samples

Made-up tables of 65,536 features with about 200 active ones a sample; at a million samples, 200
million entries and 1.6 GB on disk. Tasks with two tables have two of this size. A cell has the time
on the clock, and in brackets the CPU time, behind the plus that of reading the tables where it is
known apart, which the clock does not count. Load {min(loads):.0f} to {max(loads):.0f} on
{os.cpu_count()} cores{_priority()}.

{table(rows)}

facsynth's tasks took at most {max(peaks):.2f} GB; the goal is {MOST_GB:g} GB. The limits are the
goals for a million samples on two cores, on the clock: of FAC and select once the tables are read,
of diff and overlap as commands. `overlap` uses two threads for half of its work, and every task
reads the next part of a table beside the present one. SciPy and Polars only count: in how many
samples each feature is above the threshold. The top samples of a feature come from an index beside
the table, whose making is the time behind the plus; a table of 10,000 samples needs none.

![CPU seconds against samples]({PLOT.name})

{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions},
{POLARS.requirements[0]}; {date.today().isoformat()}. Made by `{command}`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10,000 and 30,000 samples")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--limit", type=int, default=600, help="seconds for each task")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/facsynth-scale"))
    parser.add_argument("--task", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        child(given.task[0], Path(given.task[1]), Path(given.task[2]))
        return
    free = shutil.disk_usage(given.folder.parent).free
    if free < 10e9:
        raise SystemExit(
            f"Error: {free / 1e9:.0f} GB are free in {given.folder.parent}; 10 are needed"
        )
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = measure_all(QUICK if given.quick else SIZES, given.folder, given.limit)
    print(table(rows))
    if given.write:
        draw(rows)
        command = "make bench-scale" if not given.quick else "python benchmarks/scale.py --quick"
        PAGE.write_text(page(rows, command), encoding="utf-8")


if __name__ == "__main__":
    main()
