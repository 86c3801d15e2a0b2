"""Extraction on Ray against plain runs on the same cores, in turns.

Every run reads the same short conversations with the embedded model in a process of its own:
in one process with all cores, in one process for each core (`--devices`), and on a Ray cluster of
this machine that is up. When parts of a table are finished tells the start of a run from its steady
state.

    python benchmarks/cluster.py            prints the table
    python benchmarks/cluster.py --quick    few texts, one round
    python benchmarks/cluster.py --write    also writes docs/benchmarks/cluster.md and its plot
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks" / "cluster.md"
PLOT = PAGE.with_suffix(".svg")
PLAIN, DEVICES, RAY = ARMS = ("one process", "a process for each core", "Ray")
GOAL = 1.2
"""Longest time on Ray, in that of the plain run on the same cores."""

PART = 32
"""Samples of a part; with the 1,024 of the command a run would take an hour here."""


@dataclass(frozen=True)
class Run:
    """One run, in seconds."""

    arm: str
    round: int
    total_s: float
    first_s: float
    """From the start of the process to the first finished part."""

    steady_s: float
    """From the first to the last finished part."""

    n_parts: int

    @property
    def end_s(self) -> float:
        """From the last part to the end of the process."""
        return self.total_s - self.first_s - self.steady_s

    @property
    def rate(self) -> float:
        """Samples a second in the steady state."""
        return PART * (self.n_parts - 1) / self.steady_s


def child(arm: str, data: Path, folder: Path, address: str) -> None:
    """Extract as `fac extract` does, with smaller parts."""
    from facsynth.cli.load import load_with_saes
    from facsynth.data.spool import spool_samples
    from facsynth.models.default_model import EMBEDDED_SAE
    from facsynth.models.settings import ModelSettings
    from facsynth.progress import SILENT
    from facsynth.scale.settings import ScaleSettings
    from facsynth.scale.where import extract_where
    from facsynth.table.settings import ExtractSettings

    n = len(os.sched_getaffinity(0))
    where = {
        PLAIN: ScaleSettings(),
        DEVICES: ScaleSettings(devices=str(n)),
        RAY: ScaleSettings(ray=address, ray_workers=n),
    }[arm]
    samples, model = spool_samples(data), ModelSettings()
    lm, [sae] = load_with_saes(model, [], SILENT, weights=arm == PLAIN)
    settings = ExtractSettings(part_samples=PART)
    extract_where(samples, lm, {folder: (sae, EMBEDDED_SAE)}, where, model, settings=settings)


@contextmanager
def cluster(n_cores: int) -> Iterator[tuple[str, float]]:
    """The address of a Ray cluster on this machine, and the seconds that its start took."""
    from ray.cluster_utils import Cluster

    # By default workers give way to all other programs of the machine.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    start = time.perf_counter()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": n_cores + 1})
    try:
        yield nodes.address, time.perf_counter() - start
    finally:
        nodes.shutdown()


def measure(arm: str, round_: int, data: Path, folder: Path, address: str) -> Run:
    """The times of a run in a process of its own."""
    start = time.time()
    words = [sys.executable, __file__, "--child", arm, str(data), str(folder), address]
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(words, env=free, capture_output=True, text=True, cwd=folder.parent)
    end = time.time()
    if done.returncode:
        raise SystemExit(f"{arm}: {done.stderr[-2000:]}")
    ends = sorted(file.stat().st_mtime for file in (folder / "counts").iterdir())
    return Run(arm, round_, end - start, ends[0] - start, ends[-1] - ends[0], len(ends))


def measure_all(n_samples: int, n_rounds: int) -> tuple[list[Run], float]:
    """The runs of all rounds, and the median time that a cluster takes to start."""
    from facsynth.data.chitchat import chitchat_samples
    from facsynth.data.write import sample_row, write_jsonl

    runs, starts = list[Run](), list[float]()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data.jsonl"
        write_jsonl(map(sample_row, chitchat_samples(n_samples)), data)
        for round_ in range(n_rounds):
            for arm in ARMS if round_ % 2 == 0 else ARMS[::-1]:
                folder = Path(scratch) / f"{ARMS.index(arm)}-{round_}"
                with ExitStack() as stack:
                    address = ""
                    if arm == RAY:
                        n_cores = len(os.sched_getaffinity(0))
                        address, start_s = stack.enter_context(cluster(n_cores))
                        starts.append(start_s)
                    runs.append(measure(arm, round_, data, folder, address))
                print(runs[-1], flush=True)
        check_equal([Path(scratch) / f"{i}-0" for i in range(1, len(ARMS))])
    return runs, median(starts)


def check_equal(folders: Sequence[Path]) -> None:
    """Stop where tables of runs with one thread a process are not the same."""
    for name in sorted(file.name for file in folders[0].glob("part-*")):
        if len({(folder / name).read_bytes() for folder in folders}) > 1:
            raise SystemExit(f"Error: {name} is not the same in all tables")


def table(runs: Sequence[Run]) -> str:
    """One line for each arm: medians, and the median of what each round says of its pair."""
    plain = {run.round: run for run in runs if run.arm == DEVICES}
    lines = [
        "| run | in all | to the first part | first to last part | after it | samples/s | "
        f"in all / {DEVICES} | steady / {DEVICES} |",
        "|---|" + "---:|" * 7,
    ]
    for arm in ARMS:
        own = [run for run in runs if run.arm == arm]
        cells = [
            *(f"{median(getattr(run, name) for run in own):.1f} s" for name in PHASES),
            f"{median(run.rate for run in own):.1f}",
            f"{median(run.total_s / plain[run.round].total_s for run in own):.2f}",
            f"{median(run.steady_s / plain[run.round].steady_s for run in own):.2f}",
        ]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


PHASES = ("total_s", "first_s", "steady_s", "end_s")


def draw(runs: Sequence[Run]) -> None:
    """The phases of each run, one bar a round."""
    import altair as alt

    named = dict(zip(PHASES[1:], ("start", "work", "end"), strict=True))
    points = [
        {
            "run": run.arm,
            "round": run.round + 1,
            "phase": f"{i} {named[phase]}",
            "s": getattr(run, phase),
        }
        for run in runs
        for i, phase in enumerate(PHASES[1:], 1)
    ]
    chart = (
        alt.Chart(alt.Data(values=points), width=460, height=80)
        .mark_bar()
        .encode(
            x=alt.X("s:Q").title("seconds"),
            y=alt.Y("round:O"),
            color=alt.Color("phase:N"),
            row=alt.Row("run:N").sort(list(ARMS)).title(None),
        )
    )
    chart.save(str(PLOT))


def page(runs: Sequence[Run], n_samples: int, start_s: float, command: str) -> str:
    """The page with its table."""
    names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    cpu = names[0].partition(":")[2].strip() if names else platform.machine()
    plain = {run.round: run.total_s for run in runs if run.arm == DEVICES}
    own = [run for run in runs if run.arm == RAY]
    ratio = median(run.total_s / plain[run.round] for run in own)
    extra = median(run.total_s - plain[run.round] for run in own)
    verdict = "met" if ratio <= GOAL else "not met"
    n = len(plain)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ray", "torch"))
    return f"""# Extraction on Ray against plain runs on the same cores

{n_samples:,} short conversations through the embedded model, in parts of {PART}, as `fac extract`
does (its parts have 1,024). {n} rounds in which every kind of run has its turn, forwards and
backwards; the table has medians, and the last two columns the median of the ratios of each round.
"A process for each core" is `--devices {os.cpu_count()}`; on Ray there are as many workers, each
with one core (`--ray-workers {os.cpu_count()}`). The tables of these runs are the same byte for
byte.

{table(runs)}

On a cluster that is up, a run takes {ratio:.2f} times as long as one with a process for each core
(goal: at most {GOAL:g}, {verdict}), {extra:.1f} s more in the median. Starting a cluster took
{start_s:.1f} s. A run on Ray pays for its start once; "first to last part" is what grows with the
data.

![Seconds of each run]({PLOT.name})

{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f} at the end, Python
{platform.python_version()}, {versions}; {date.today().isoformat()}. Made by `{command}`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few texts, one round")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--samples", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        arm, data, folder, address = given.child
        child(arm, Path(data), Path(folder), address)
        return
    n_samples, n_rounds = (160, 1) if given.quick else (given.samples, given.rounds)
    runs, start_s = measure_all(n_samples, n_rounds)
    print(table(runs))
    if given.write:
        draw(runs)
        command = f"python benchmarks/cluster.py --samples {n_samples} --rounds {n_rounds} --write"
        PAGE.write_text(page(runs, n_samples, start_s, command), encoding="utf-8")


if __name__ == "__main__":
    main()
