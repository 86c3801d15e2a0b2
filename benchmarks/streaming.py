"""Memory and time of `fac extract` against the number of samples, and on awkward files.

A tiny model with random weights reads short texts, so that reading, tokenising and writing are
what is measured. Every run is a command in a process of its own.

    python benchmarks/streaming.py            prints the table (15 minutes)
    python benchmarks/streaming.py --write    also writes docs/benchmarks/streaming.md
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks" / "streaming.md"
SIZES = (10_000, 100_000, 1_000_000)
PAGE_TEXT = """# Memory of extraction against the number of samples

`fac extract` with a tiny random model (3 layers of width 16) and `--max-length 256`: what remains
is reading, tokenising, pooling and writing. Loading torch and transformers takes 400 MB of what is
shown. A run may take {limit} seconds.

{table}

{growth}
It was 13 kB before samples were kept on disk, and 0.4 to 0.7 kB while ids and places were kept in
memory.

{cores} cores, load {load} with other programs beside{priority}; {day}. Made by
`{command}`.
"""
WORDS = "the cat sat on mat and saw a red ball under blue sky while rain fell".split()  # noqa: SIM905
MODEL = """
import sys; sys.path.insert(0, "tests")
from pathlib import Path
from tiny import make_model, make_tokenizer, random_sae
from facsynth.sae.files import save_sae
folder = Path(sys.argv[1])
make_model("llama").save_pretrained(folder / "model")
make_tokenizer().save_pretrained(folder / "model")
save_sae(random_sae("topk"), folder / "sae")
"""
CHILD = """
import json, resource, sys, time
from facsynth.cli import main
start = time.perf_counter()
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"s": time.perf_counter() - start, "cpu": time.process_time(), "mb": peak}))
"""


def write_texts(path: Path, n: int) -> None:
    """Short texts, all different."""
    with path.open("w", encoding="utf-8") as stream:
        for i in range(n):
            words = " ".join(WORDS[(i * step) % len(WORDS)] for step in (1, 3, 5, 7))
            stream.write(json.dumps({"text": f"{words} {i}"}) + "\n")


def write_long(path: Path) -> None:
    """One text of 50 MB."""
    path.write_text(json.dumps({"text": "the cat sat on the mat and " * 1_900_000}) + "\n")


def write_bomb(path: Path) -> None:
    """Ten million lines of 200 bytes in a few megabytes: 2 GB when opened."""
    line = (json.dumps({"text": "the cat sat " * 15}) + "\n").encode()
    with gzip.open(path, "wb", compresslevel=9) as stream:
        for _ in range(1000):
            stream.write(line * 10_000)


def extract(data: Path, folder: Path, *more: str, limit_s: int) -> dict[str, float] | str:
    """Costs of one command, or why there are none."""
    out = folder / "table"
    shutil.rmtree(out, ignore_errors=True)
    own = ["--model", str(folder / "model"), "--sae", str(folder / "sae"), "--max-length", "256"]
    words = ["extract", str(data), "-o", str(out), *own, *more, "--json"]
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *words], capture_output=True, text=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {limit_s} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it was killed"])[-1][:100]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def line(name: str, n: str, found: dict[str, float] | str) -> str:
    """A row of the table."""
    if isinstance(found, str):
        return f"| {name} | {n} | {found} | – | – |"
    return f"| {name} | {n} | {found['mb']:.0f} MB | {found['s']:.0f} s | {found['cpu']:.0f} s |"


def growth(peaks: dict[int, float]) -> str:
    """What a sample costs between the smallest and the largest run."""
    if len(peaks) < 2:
        return ""
    few, many = min(peaks), max(peaks)
    each = (peaks[many] - peaks[few]) / (many - few) * 1e6
    return f"From {few:,} to {many:,} samples memory grows by {each:.0f} bytes a sample."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--limit", type=int, default=1800, help="seconds for each run")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of texts")
    given = parser.parse_args()
    peaks = dict[int, float]()
    lines = ["| data | samples | memory at most | clock | CPU |", "|---|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run([sys.executable, "-c", MODEL, scratch], check=True, cwd=ROOT)
        awkward = {
            "one text of 50 MB": ("long.jsonl", write_long, "1", ()),
            "2 GB of lines in gzip, the first thousand": (
                *("bomb.jsonl.gz", write_bomb, "1,000"),
                ("--limit", "1000"),
            ),
        }
        for name, (file, write, shown, more) in awkward.items():
            write(folder / file)
            lines.append(
                line(name, shown, extract(folder / file, folder, *more, limit_s=given.limit))
            )
            print(lines[-1], flush=True)
            (folder / file).unlink()
        for n in given.sizes:
            write_texts(folder / "data.jsonl", n)
            found = extract(folder / "data.jsonl", folder, limit_s=given.limit)
            lines.append(line("short texts", f"{n:,}", found))
            print(lines[-1], flush=True)
            if isinstance(found, str):
                break
            peaks[n] = found["mb"]
    print(growth(peaks))
    if given.write:
        told = {"limit": given.limit, "table": "\n".join(lines), "growth": growth(peaks)}
        PAGE.write_text(PAGE_TEXT.format(**told, **about()), encoding="utf-8")


def about() -> dict[str, object]:
    """The machine and the day."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0]),
        "priority": f", at priority {nice}" if nice else "",
        "day": date.today().isoformat(),
        "command": " ".join(["python benchmarks/streaming.py", *sys.argv[1:]])
        if sys.argv[1:] != ["--write"]
        else "make bench-streaming",
    }


if __name__ == "__main__":
    main()
