"""Damaged and forged inputs before every command that reads them: a result or a line, no traceback.

Each input is a good one with random changes: bytes flipped, cut, doubled, filled with NUL, JSON
values swapped for others, files missing, emptied, or replaced by links to devices.
"""

import json
import shutil
import signal
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner
from worlds import trials

from facsynth.cli import main

ENDINGS = ("jsonl", "json", "csv", "parquet")
LIMIT_S = 60
VALUES = [
    None,
    True,
    -1,
    0,
    10**12,
    10**400,
    1e308,
    float("nan"),
    "",
    "x" * 10**5,
    "\x1b[2J",
    [],
    {},
]


def soak(seconds, rng, folder):
    """Change one file of one good input, run a command on it, look at how it ends."""
    makers = good_inputs(folder)
    ends, wrong = Counter(), []
    until = time.monotonic() + seconds
    signal.signal(signal.SIGALRM, too_long)
    while time.monotonic() < until or not ends:
        name, source, commands = makers[rng.randrange(len(makers))]
        place = folder / "changed"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place, symlinks=True)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        change(rng.choice(files), rng)
        for words in commands:
            end = outcome([str(word).replace("PLACE", str(place)) for word in words])
            ends[end] += 1
            if end not in ("result", "line", "usage"):
                wrong.append(f"{name}: {' '.join(map(str, words))}: {end}")
    for line in sorted(set(wrong))[:20]:
        print("wrong:", line)
    return {"inputs x commands": ends.total(), **ends, "wrong": len(wrong)}


def too_long(*_):
    raise TimeoutError("too long")


def outcome(words):
    """How a command ends."""
    signal.alarm(LIMIT_S)
    try:
        done = CliRunner().invoke(main, words)
    finally:
        signal.alarm(0)
    if "\x1b" in done.output:
        return "control characters"
    if any(len(line) > 5000 for line in done.stderr.split("\n")):
        return "a line without end"
    if isinstance(done.exception, SystemExit) or done.exception is None:
        return {0: "result", 1: "line", 2: "usage"}.get(done.exit_code, f"exit {done.exit_code}")
    return f"{type(done.exception).__name__}: {str(done.exception)[:80]!r}"


def good_inputs(folder):
    """Good inputs, each a folder, and the commands that read it."""
    extract = trials(folder)[0]
    table = folder / "table"
    extract.start(table / "t").join()
    data = folder / "data"
    data.mkdir()
    rows = [{"text": f"the cat saw {i}", "label": str(i % 2), "id": f"s{i}"} for i in range(20)]
    lines = [json.dumps(row) for row in rows]
    (data / "d.jsonl").write_text("\n".join(lines))
    (data / "d.json").write_text(json.dumps(rows))
    (data / "d.csv").write_text(
        "\n".join(["text,label", *(f"{r['text']},{r['label']}" for r in rows)])
    )
    pq.write_table(pa.Table.from_pylist(rows), data / "d.parquet")
    sae = folder / "saes"
    shutil.copytree(folder / "sae", sae / "s")
    recipes = folder / "recipes"
    recipes.mkdir()
    shutil.copy(folder / "recipe.toml", recipes / "r.toml")
    t = "PLACE/t"
    return [
        (
            "table",
            table,
            [
                ["doctor", t, "--json"],
                ["coverage", "--anchor", t, "--seed", t, "--json"],
                ["select", t, "--budget", 5, "--json"],
                ["overlap", t, t, "--json"],
                ["diff", t, t, "--no-spans", "--json"],
            ],
        ),
        (
            "data",
            data,
            [["diversity", f"PLACE/d.{e}", "--json"] for e in ("jsonl", "json", "csv", "parquet")],
        ),
        ("sae", sae, [["sae", "info", "PLACE/s"], ["sae", "convert", "PLACE/s", "PLACE/out"]]),
        ("recipe", recipes, [["run", "PLACE/r.toml", "-o", "/dev/null/x"]]),
    ]


def change(path, rng):
    """Spoil a file in one of many ways."""
    content = bytearray(path.read_bytes())
    kind = rng.randrange(8)
    if kind == 0:
        del content[rng.randrange(len(content) + 1) :]
    elif kind == 1:
        for _ in range(rng.randrange(1, 20)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == 2:
        at = rng.randrange(len(content))
        content[at:at] = content[: rng.randrange(1, 2000)]
    elif kind == 3:
        content = bytearray(rng.randrange(0, 3000))
    elif kind == 4:
        path.unlink()
        return
    elif kind == 5:
        path.unlink()
        path.symlink_to(rng.choice(["/dev/zero", "/dev/null", "/nowhere", path.parent]))
        return
    else:
        content = bytearray(changed_json(bytes(content), rng))
    path.write_bytes(content)


def changed_json(content, rng):
    """JSON with one value swapped for another; other content with a part doubled."""
    try:
        value = json.loads(content)
    except ValueError:
        half = len(content) // 2
        return content[:half] + content
    place = value
    while isinstance(place, dict | list) and place:
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            place[key] = rng.choice(VALUES)
            break
        place = inner
    return json.dumps(value).encode()
