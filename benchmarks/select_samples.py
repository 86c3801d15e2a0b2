"""Greedy maximum coverage: facsynth vs. apricot-select and submodlib, on the same sparse rows.

Rows are synthetic: each sample draws features by Zipf's law, so few features are frequent and
most are rare, as in feature tables. Every program maximises the number of covered features with
one pick per feature and no quotas. Each peer runs in its own environment, in a process with a time
limit; a peer that is stopped is reported as slower than the limit. Smaller pools show how the time
of the slowest peer grows.

    python benchmarks/select_samples.py            100,000 samples x 65,536 features, 2,000 picks
    python benchmarks/select_samples.py --quick    a hundredth of the work
    python benchmarks/select_samples.py --write    also writes docs/benchmarks/select.md
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from environments import CannotInstall, Environment
from scipy.sparse import csr_array, csr_matrix, save_npz

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks" / "select.md"
PEER_SCRIPT = Path(__file__).resolve().parent / "contenders" / "select_peer.py"
PEERS = {
    "apricot": Environment("apricot", ("apricot-select==0.6.1",)),
    "submodlib": Environment("submodlib", ("submodlib-py==0.0.3",)),
}
OURS = ("facsynth", "facsynth, length quotas")
STEPS = ((5_000, 100), (10_000, 200), (20_000, 400))
"""Samples and picks of the smaller pools, which have as many features as the large one."""

STEP_LIMIT_S = 60
DRAWS = 64
SEED = 0


def zipf_rows(n_samples: int, n_features: int) -> csr_array:
    """Binary rows of `DRAWS` draws each; feature r has probability proportional to 1 / r."""
    rng = np.random.default_rng(SEED)
    reach = np.cumsum(1.0 / np.arange(1, n_features + 1))
    drawn = np.searchsorted(reach, rng.random((n_samples, DRAWS)) * reach[-1])
    names = rng.permutation(n_features)  # so a feature's id does not reveal its frequency
    rows = np.repeat(np.arange(n_samples), DRAWS)
    pairs = np.unique(rows * n_features + names[drawn.ravel()])
    shape = (n_samples, n_features)
    cells = (pairs // n_features, pairs % n_features)
    return csr_array(csr_matrix((np.ones(pairs.size), cells), shape=shape))


def run_ours(name: str, rows: csr_array, n_picks: int) -> list[int]:
    from facsynth.select.greedy import coverage_picks
    from facsynth.select.picks import Spending, plan_groups
    from facsynth.table.firing import FiringRows, id_type

    n_tokens = np.random.default_rng(SEED).integers(5, 200, rows.shape[0])
    quota: Literal["length", "none"] = "length" if "quotas" in name else "none"
    if quota == "none":
        n_tokens = np.ones_like(n_tokens)  # ties go to the earlier sample
    groups = plan_groups(n_tokens, budget=n_picks, quota=quota)
    weights, spending = np.ones(rows.shape[1], dtype=np.int64), Spending(n_tokens)
    ids = rows.indices.astype(id_type(rows.shape[1]))
    fires = FiringRows(rows.indptr.astype(np.int64), ids, rows.shape[1])
    return [int(pick) for pick in coverage_picks(fires, groups, weights, spending)]


def run_peer(name: str, file: Path, n_picks: int, limit_s: int) -> dict[str, Any]:
    """Seconds and picks of a peer, or the reason why it has none."""
    try:
        python = PEERS[name].python()
    except CannotInstall as error:
        return {"why": f"cannot be installed: {error}"}
    command = [*map(str, (python, PEER_SCRIPT, name, file, n_picks))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"why": f"stopped after {limit_s} s"}
    if done.returncode:
        return {"why": (done.stderr.strip().splitlines() or ["no message"])[-1][:120]}
    seconds, *picks = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": seconds, "picks": picks}


def covered(rows: csr_array, picks: list[int]) -> int:
    return len(np.unique(rows[picks].indices))


def measure(n_samples: int, n_features: int, n_picks: int, limit_s: int) -> dict[str, Any]:
    rows = zipf_rows(n_samples, n_features)
    found: dict[str, Any] = {}
    for name in OURS:
        start = time.perf_counter()
        picks = run_ours(name, rows, n_picks)
        found[name] = {"seconds": time.perf_counter() - start, "picks": picks}
        print(f"{name}: {found[name]['seconds']:.2f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npz"
        save_npz(file, csr_matrix(rows), compressed=False)
        for name in PEERS:
            found[name] = run_peer(name, file, n_picks, limit_s)
            print(f"{name}: {found[name].get('seconds', found[name].get('why'))}", flush=True)
    first = found[OURS[0]]["picks"]
    for one in found.values():
        if "picks" in one:
            picks = one.pop("picks")
            one["covered"] = covered(rows, picks)
            one["shared"] = len(set(picks) & set(first))
    random = np.random.default_rng(SEED).choice(n_samples, n_picks, replace=False)
    found["random picks"] = {"covered": covered(rows, random.tolist())}
    return {
        "n_samples": n_samples,
        "n_features": n_features,
        "n_picks": n_picks,
        "per_row": rows.nnz / n_samples,
        "limit_s": limit_s,
        "results": found,
    }


def measure_growth(n_features: int) -> list[dict[str, Any]]:
    """Seconds that facsynth and apricot-select take on smaller pools."""
    found = []
    for n_samples, n_picks in STEPS:
        rows = zipf_rows(n_samples, n_features)
        start = time.perf_counter()
        run_ours(OURS[0], rows, n_picks)
        ours = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            save_npz(Path(folder) / "rows.npz", csr_matrix(rows), compressed=False)
            rival = run_peer("apricot", Path(folder) / "rows.npz", n_picks, STEP_LIMIT_S)
        rival.pop("picks", None)
        found.append({"n_samples": n_samples, "n_picks": n_picks, "seconds": ours, "rival": rival})
        print(f"{n_samples:,} x {n_picks:,}: {ours:.2f} s, apricot {rival}", flush=True)
    return found


def growth_table(steps: list[dict[str, Any]]) -> str:
    lines = [
        "| samples | picks | facsynth | apricot-select | times |",
        "|---:|---:|---:|---:|---:|",
    ]
    for one in steps:
        seconds = one["rival"].get("seconds")
        cells = (
            (f"{seconds:.2f} s", f"{seconds / one['seconds']:.0f}")
            if seconds
            else (one["rival"]["why"], f"> {STEP_LIMIT_S / one['seconds']:.0f}")
        )
        sizes = f"{one['n_samples']:,} | {one['n_picks']:,} | {one['seconds']:.3f} s"
        lines.append(f"| {sizes} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(report: dict[str, Any]) -> str:
    ours = report["results"][OURS[0]]["seconds"]
    lines = [
        "| program | seconds | times facsynth | features covered | picks shared with facsynth |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, one in report["results"].items():
        seconds = one.get("seconds")
        if seconds is not None:
            cells = [f"{seconds:.2f}", f"{seconds / ours:.1f}"]
        elif "why" in one:
            stopped = one["why"].startswith("stopped")
            cells = [one["why"], f"> {report['limit_s'] / ours:.0f}" if stopped else "–"]
        else:
            cells = ["–", "–"]
        counts = [f"{one[key]:,}" if key in one else "–" for key in ("covered", "shared")]
        lines.append(f"| {name} | {' | '.join(cells + counts)} |")
    return "\n".join(lines)


def cpu_name() -> str:
    names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return names[0].partition(":")[2].strip() if names else platform.machine()


def verdict(report: dict[str, Any]) -> str:
    """Whether apricot-select took ten times as long; if it was stopped, the limit counts."""
    ours, rival = report["results"][OURS[0]]["seconds"], report["results"]["apricot"]
    stopped = rival.get("why", "").startswith("stopped")
    if "seconds" not in rival and not stopped:
        return "not known: it did not run"
    seconds = report["limit_s"] if stopped else rival["seconds"]
    if seconds >= 10 * ours:
        return "met"
    return "not known: it was stopped too early" if stopped else "not met"


def page(report: dict[str, Any], command: str) -> str:
    import scipy

    shape = (
        f"{report['n_samples']:,} samples × {report['n_features']:,} features, "
        f"{report['per_row']:.1f} active features per sample (density "
        f"{report['per_row'] / report['n_features']:.4%}), {report['n_picks']:,} picks"
    )
    ours = report["results"][OURS[0]]["seconds"]
    peers = ", ".join(pin for peer in PEERS.values() for pin in peer.requirements)
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}, {peers}"
    return f"""# Greedy selection vs. apricot-select and submodlib

{shape}. The rows are synthetic and follow Zipf's law; every program maximises the number of covered
features.
Goals: 2,000 picks within 5 s on 2 cores ({"met" if ours <= 5 else "not met"}: {ours:.2f} s);
at least 10 times faster than apricot-select ({verdict(report)}).

{table(report)}

Times start from sparse rows in memory; for submodlib they include building the Python sets that it
needs. They exclude starting Python and compiling apricot's kernels. Greedy choices differ when
gains tie: facsynth takes the earlier sample. A program that was stopped takes at least as long as
the time limit. With length quotas, facsynth solves a different problem and may cover less.

How apricot-select's time grows with the pool and the picks, at {report["n_features"]:,} features:

{growth_table(report["growth"])}

{cpu_name()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()},
{versions}; {date.today().isoformat()}. Made by `{command}`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--limit", type=int, default=120, help="seconds for each peer")
    given = parser.parse_args()
    size = (5_000, 8_192, 100) if given.quick else (100_000, 65_536, 2_000)
    report = measure(*size, given.limit)
    report["growth"] = measure_growth(size[1])
    print(table(report), growth_table(report["growth"]), sep="\n")
    if given.write:
        command = (
            "make bench-select"
            if not given.quick
            else "python benchmarks/select_samples.py --quick"
        )
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(report, command), encoding="utf-8")


if __name__ == "__main__":
    main()
