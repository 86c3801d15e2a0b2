r"""The small experiment, once undisturbed and once killed and resumed: is the table the same?

    python studies/experiment_small.py run                 # both, about 10 minutes each
    python studies/experiment_small.py run --part killed
    python studies/experiment_small.py report

The second run is killed (SIGKILL) in the middle of a set of samples, once about half of the sets
are written, and started again.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from machine import describe_processor

from facsynth.data.write import write_json, write_text

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "experiment_small.toml"
RESULTS = ROOT / "studies" / "results" / "experiment_small.json"
PAGE = ROOT / "docs" / "studies" / "experiment_small.md"

SPENT = ("seconds", "calls", "tokens", "cost")
"""What a kill may change: the calls under way are asked, and spent, again."""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "facsynth", "experiment", str(RECIPE), "-o", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def run(options: argparse.Namespace) -> None:
    """Run what is asked for, and keep how long it took."""
    for part in options.part or ("whole", "killed"):
        folder = options.output / part
        began, load, n_kills = time.time(), [os.getloadavg()[0]], 0
        process = start(folder)
        while process.poll() is None:
            time.sleep(2)
            load.append(os.getloadavg()[0])
            done = len(list(folder.glob("arms/*/arm.json")))
            begun = len(list(folder.glob("arms/*")))
            if part == "killed" and not n_kills and begun > done >= options.kill_after:
                process.send_signal(signal.SIGKILL)
                process.wait()
                n_kills += 1
                print(f"killed with {done} sets written and one begun", flush=True)
                process = start(folder)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        facts = {
            "minutes": round((time.time() - began) / 60, 1),
            "cpu_minutes": round((used.ru_utime + used.ru_stime) / 60, 1),
            "peak_gb": round(used.ru_maxrss / 2**20, 2),
            "mean_load": round(sum(load) / len(load), 1),
            "n_kills": n_kills,
            "returned": process.returncode,
        }
        write_json(facts, options.output / f"{part}.json")
        print(part, facts, flush=True)


def lasting(rows: list[dict[str, Any]]) -> str:
    """The table without what a kill may change, as text."""
    kept = [{k: v for k, v in row.items() if k not in SPENT} for row in rows]
    return json.dumps(kept, sort_keys=True)


def report(options: argparse.Namespace) -> None:
    """Compare the tables, and write results and page."""
    facts: dict[str, Any] = {
        "date": date.today().isoformat(),
        "processor": describe_processor(),
        "torch": torch.__version__,
    }
    found = {}
    for part in ("whole", "killed"):
        path = options.output / part / "experiment.json"
        if path.is_file():
            found[part] = json.loads(path.read_text(encoding="utf-8"))
            times = options.output / f"{part}.json"
            facts[part] = json.loads(times.read_text(encoding="utf-8"))
    whole = found["whole"]
    if "killed" in found:
        facts["is_same"] = lasting(found["killed"]["rows"]) == lasting(whole["rows"])
    result = {"facts": facts, **{k: whole[k] for k in ("rows", "spent", "shown", "notes")}}
    write_json(result, RESULTS)
    write_text(page(result), PAGE)
    print(PAGE, facts)


def page(result: dict[str, Any]) -> str:
    """The page."""
    facts, lines = result["facts"], ["# The small experiment", ""]
    lines += [
        "`studies/experiment_small.py` runs `recipes/experiment_small.toml`: do samples for "
        "missing features help to tell two kinds of chat openings apart? Embedded model, text "
        f"from the package registry. {facts['date']}, {facts['processor']}, torch "
        f"{facts['torch']}."
    ]
    for part, name in (("whole", "Undisturbed"), ("killed", "Killed and resumed")):
        if one := facts.get(part):
            lines += [
                "",
                f"{name}: {one['minutes']} minutes on the clock at a mean load of "
                f"{one['mean_load']} on 2 cores, {one['cpu_minutes']} minutes of processor time, "
                f"at most {one['peak_gb']} GB, {one['n_kills']} kills.",
            ]
    if "is_same" in facts:
        said = "is the same, byte for byte" if facts["is_same"] else "DIFFERS"
        lines += ["", f"Without {', '.join(SPENT)}, the table of the second {said}."]
    lines += ["", "**What was shown.** " + result["shown"], *result["notes"]]
    for view in dict.fromkeys(row["view"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["view"] == view]
        lines += ["", f"## Equal {view}", ""]
        names = ["size", "arm", "AUROC", "sd", "− anchor-text", "95 %", "shuffled labels"]
        names += ["fill rate", "closeness", "words", "tokens"]
        lines += [f"| {' | '.join(names)} |", "|---:|---|" + "---:|" * (len(names) - 2)]
        lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    def number(name: str, form: str = ".3f") -> str:
        return "–" if row[name] is None else format(row[name], form)

    interval = "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
    return [
        str(row["size"]),
        row["arm"],
        number("score"),
        number("sd"),
        number("difference", "+.3f"),
        interval,
        number("shuffled", "+.3f"),
        number("fill_rate"),
        number("closeness"),
        number("words", ".0f"),
        number("tokens", ",.0f"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--output", type=Path, default=Path("runs/experiment_small"))
    parser.add_argument("--part", action="append", choices=["whole", "killed"])
    parser.add_argument("--kill-after", type=int, default=9, help="kill when N sets are written")
    options = parser.parse_args()
    {"run": run, "report": report}[options.command](options)


if __name__ == "__main__":
    main()
