"""Benchmarks measure for minutes before they write: what turns numbers into pages is tried here."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


SELECT = {
    "n_samples": 5000,
    "n_features": 8192,
    "n_picks": 100,
    "per_row": 51.2,
    "limit_s": 140,
    "results": {
        "facsynth": {"seconds": 2.0, "covered": 900, "shared": 100},
        "apricot": {"seconds": 50.0, "covered": 899, "shared": 90},
        "submodlib": {"why": "stopped after 140 s"},
        "random picks": {"covered": 500},
    },
    "growth": [
        {"n_samples": 500, "n_picks": 10, "seconds": 0.5, "rival": {"seconds": 20.0}},
        {"n_samples": 900, "n_picks": 20, "seconds": 0.6, "rival": {"why": "stopped after 60 s"}},
    ],
}


def test_selection_page_shows_peers_that_ran_and_a_lower_bound_for_a_stopped_one() -> None:
    import select_samples

    page = select_samples.page(SELECT, "make bench-select")
    assert "| apricot | 50.00 | 25.0 | 899 | 90 |" in page
    assert "| submodlib | stopped after 140 s | > 70 | – | – |" in page
    assert "| 500 | 10 | 0.500 s | 20.00 s | 40 |" in page
    assert "| 900 | 20 | 0.600 s | stopped after 60 s | > 100 |" in page


@pytest.mark.parametrize(
    ("rival", "verdict"),
    [
        ({"seconds": 20.0}, "met"),
        ({"seconds": 19.0}, "not met"),
        ({"why": "stopped after 140 s"}, "met"),
        ({"why": "does not install: no wheel"}, "not known: it did not run"),
    ],
)
def test_selection_goal_is_judged_by_what_the_rival_did(rival: dict, verdict: str) -> None:
    import select_samples

    results = SELECT["results"] | {"apricot": rival}
    assert select_samples.verdict(SELECT | {"results": results}) == verdict


def test_chat_page_shows_both_clients_and_the_goals() -> None:
    import chat

    page = chat.page(
        {
            "calls": 2000,
            "concurrency": 64,
            "latency_s": 0.05,
            "load_average": 0.2,
            "turns_per_s": {"facsynth": [600.0, 610.4], "bare": [650.0, 640.0]},
            "client_cpu_ms": {"facsynth": 1.2, "bare": 3.0},
            "share_of_sdk": 0.939,
            "goals": {"per_s": True, "share": True},
        }
    )
    assert "| facsynth | 610 | 600, 610 | 1.20 |" in page
    assert "with the faster of its transports (met: 94%)" in page


def save_result(path: Path, rows: list[dict[int, float]]) -> None:
    np.savez(
        path,
        row_starts=np.cumsum([0, *map(len, rows)]),
        feature_ids=np.array([i for row in rows for i in row], dtype=np.int64),
        values=np.array([v for row in rows for v in row.values()], dtype=np.float32),
    )


def outcome(folder: Path, *, failed: str = "") -> Any:
    """Two texts of one mix; the plain way misses one of three pairs, by little."""
    import extraction
    from contenders.worker import Job
    from contest import Runs
    from extraction_report import Outcome

    text = {"id": "a", "messages": [], "rendered": "", "scored": [1], "n_tokens": 10}
    (folder / "short.jsonl").write_text((json.dumps(text) + "\n") * 2)
    job = Job("m/model", "sae", 14, "bfloat16", 2, {"short": str(folder / "short.jsonl")})
    measured = {"wall_s": 2.0, "cpu_s": 4.0, "peak_bytes": 10**9}
    found = []
    for number, contender in enumerate(
        [*extraction.ON_CPU, extraction.reference(extraction.ON_CPU)]
    ):
        is_plain = contender.name == "plain Transformers"
        save_result(folder / f"{number}.npz", [{1: 2.0, 7: 0.9 if is_plain else 1.05}, {2: 3.0}])
        one = Runs(contender, "short", 2, folder / f"{number}.npz")
        one.warm_up = measured | {"n_positions": 20}
        one.measured = [] if contender.is_reference else [measured]
        found.append(one)
    product = Runs(extraction.PRODUCT, "short", 0, folder / "none.npz")
    product.measured = [{"flops_per_token": 100, "flops_per_s": {"512": 4000.0}} | measured]
    runs = [one for one in [*found, product] if one.contender.name != failed]
    names = [one.contender.name for one in runs]
    return Outcome(
        job=job,
        runs=runs,
        reasons={failed: "no wheel"} if failed else {},
        versions={name: {"torch": "2"} for name in names},
        loaded=dict.fromkeys(names, 5 * 10**8),
    )


def row(page: str, *, section: str, name: str) -> list[str]:
    lines = page[page.index(section) :].splitlines()
    return next(line for line in lines if line.startswith(f"| {name} |"))[2:-2].split(" | ")


def test_extraction_page_counts_speed_and_the_share_of_the_product_rate(tmp_path: Path) -> None:
    from extraction_report import report

    cells = row(report(outcome(tmp_path)), section="## Short mix", name="SAELens")
    assert cells[1:] == [
        "2",
        "10",
        "10 to 10",
        "1.0",
        "2.00",
        "4.00",
        "200,000",
        "1,000",
        "500",
        "1.00",
        "25%",
    ]


def test_extraction_page_compares_with_float32_and_with_facsynth(tmp_path: Path) -> None:
    from extraction_report import report

    cells = row(report(outcome(tmp_path)), section="### Same", name="plain Transformers")
    assert cells[1:] == ["0.6667", "0.00%", "3", "1", "1", "0.6667", "0.00%"]


@pytest.mark.parametrize(
    "failed",
    [
        "facsynth",
        "plain Transformers",
        "interp-embed",
        "float32 reference",
        "matrix products alone",
    ],
)
def test_extraction_page_stands_when_one_contender_cannot_run(tmp_path: Path, failed: str) -> None:
    from extraction_report import report

    assert f"| {failed} | no wheel |" in report(outcome(tmp_path, failed=failed))


def test_a_pair_of_which_one_lies_just_above_the_threshold_counts_as_near() -> None:
    from extraction_report import compare

    found = compare({(0, 1): 1.05, (0, 2): 9.0, (0, 3): 2.0}, {(0, 1): 0.9, (0, 3): 2.2})
    assert (found.n_pairs, found.n_differing, found.n_near) == (3, 2, 1)
    assert found.difference == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["saelens", "interp-embed", "apricot", "submodlib"])
def test_pins_are_exact_and_hold_what_the_environment_is_for(name: str) -> None:
    import extraction
    import select_samples
    from environments import pinned

    made = [c.environment for c in extraction.ON_CPU if c.environment] + [
        *select_samples.PEERS.values()
    ]
    wanted = next(e for e in made if e.name == name).requirements
    assert set(wanted) <= set(pinned(name))
    assert all("==" in pin for pin in pinned(name))


def test_an_environment_that_pip_cannot_fill_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import environments

    words = "import sys; print('trying\\nERROR: no such wheel', file=sys.stderr); sys.exit(1)"
    with pytest.raises(environments.CannotInstall, match="^no such wheel$"):
        environments._call([sys.executable, "-c", words])
    assert "trying" in capfd.readouterr().err


def test_scale_page_shows_costs_by_size_and_what_was_stopped() -> None:
    import scale

    costs = {"wall": 9.0, "cpu": 2.0, "reading": 30.0, "peak": 1.25, "load": 3.0}
    rows = [
        {"task": "diff", "n_samples": 10_000, **costs, "reading": 0.0},
        {"task": "diff", "n_samples": 1_000_000, **costs},
        {"task": "counts, SciPy", "n_samples": 10_000, **costs, "peak": 9.0},
        {"task": "counts, SciPy", "n_samples": 1_000_000, "why": "stopped after 9 s", "load": 1.0},
    ]
    page = scale.page(rows, "make bench-scale")
    assert "| diff | 9 s (2.0 CPU s) | 9 s (2.0 + 30.0 CPU s) | 1.25 | 60 s |" in page
    assert "| counts, SciPy | 9 s (2.0 + 30.0 CPU s) | stopped after 9 s | 9.00 | – |" in page
    assert "at most 1.25 GB" in page


def test_cluster_page_compares_the_runs_of_each_round() -> None:
    import cluster

    def run(arm: str, round_: int, total: float) -> Any:
        return cluster.Run(arm, round_, total, 4.0, total - 5, n_parts=11)

    rows = [("one process", 30), ("a process for each core", 20), ("Ray", 22)]
    runs = [run(arm, i, s * (1 + 9 * i)) for i in range(2) for arm, s in rows]
    page = cluster.page(runs, 352, 2.5, "make bench-ray")
    assert "| Ray | 121.0 s | 4.0 s | 116.0 s | 1.0 s | 10.2 | 1.10 | 1.12 |" in page
    assert "1.10 times as long" in page
    assert "at most 1.2, met" in page
