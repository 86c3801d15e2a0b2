"""What is known of a data set that is exported, and its data card."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facsynth import __version__
from facsynth.data.export import TASK_FIELDS, Row
from facsynth.data.read import open_samples
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.data.stored import read_json
from facsynth.errors import DataError

__all__ = ["SENSITIVE_WARNING", "CardFacts", "data_card", "read_run"]

SENSITIVE_WARNING = (
    "**Sensitive content.** This set was made for work on safety or toxicity. It can hold "
    "offensive or harmful text. Do not show it to people without warning, and do not train a "
    "model to imitate it."
)


@dataclass(frozen=True)
class CardFacts:
    """What is known of a data set; what is not known is said to be unknown."""

    name: str
    n_rows: int
    has_provenance: bool
    command: str = ""
    """How the set can be made again; nothing is written where it is not known."""

    generator: str = ""
    anchor: str = ""
    seed: str = ""
    model: str = ""
    form: str = ""
    """What the generator was asked for."""

    prompt_version: str = ""
    fac: tuple[float, float] | None = None
    """Coverage before and after."""

    n_missing: tuple[int, int] | None = None
    """Missing features before and after."""

    hellinger: tuple[float, float] | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    sensitive: bool = False


# What is known


def read_run(
    source: str | Path,
    settings: ReadSettings | None = None,
    *,
    name: str | None = None,
    clean: bool = False,
    sensitive: bool = False,
    rejected: Path | None = None,
) -> tuple[list[Row], CardFacts, ReadReport]:
    """Read samples and facts, and say what was read.

    Args:
        source: A run folder of `fac run`, an output folder of `fac synthesize`, or what
            `read_samples` takes.
        settings: How rows are read.
        name: Name of the data set; that of the recipe, the folder or the file by default.
        clean: Whether provenance will be left out.
        sensitive: Whether the card is to warn; it does for a run of a sensitive task in any case.
        rejected: Where rows that are skipped are written.

    Raises:
        DataError: There is no finished synthesis, or a row cannot be read.
    """
    settings = settings or ReadSettings()
    path = Path(source)
    run = path if (path / "synthesize").is_dir() else None
    folder = path / "synthesize" if run else path
    if not run and not (folder / "summary.json").is_file():
        rows, report = _read_rows(source, settings, rejected)
        shown = name or (path.resolve().name if path.is_dir() else path.name.partition(".")[0])
        return rows, CardFacts(shown, len(rows), not clean, sensitive=sensitive), report
    if not (folder / "summary.json").is_file():
        raise DataError(
            f"{source} holds no finished synthesis (no {folder.name}/summary.json); let `fac run` "
            "end first, or pass a file"
        )
    rows, report = _read_rows(folder / "synthetic.jsonl", settings, rejected)
    facts = _facts(folder, run, rows, name=name, clean=clean, sensitive=sensitive)
    return rows, facts, report


def _read_rows(
    source: str | Path, settings: ReadSettings, rejected: Path | None
) -> tuple[list[Row], ReadReport]:
    stream = open_samples(source, settings, rejected=rejected)
    rows = []
    for placed, reading in stream.rows():
        held = placed.value if isinstance(placed.value, Mapping) else {}
        provenance = held.get("provenance")
        fields = {name: held[name] for name in TASK_FIELDS if held.get(name) is not None}
        origin = dict(provenance) if isinstance(provenance, Mapping) else None
        if origin and isinstance(origin.get("generator"), str):
            origin["generator"] = _without_address(origin["generator"])
        rows.append(Row(reading.sample, origin, fields))
    return rows, stream.report


def _facts(
    folder: Path,
    run: Path | None,
    rows: list[Row],
    *,
    name: str | None,
    clean: bool,
    sensitive: bool,
) -> CardFacts:
    summary, plan = _read(folder / "summary.json"), _read(folder / "plan.json")
    recipe = _read(run / "recipe.json") if run else {}
    before, after = ({}, {})
    if run:
        before, after = (_read(run / "coverage" / f"{when}.json") for when in ("before", "after"))
    pair = (before, after)
    fac = (before["fac"], after["fac"]) if all("fac" in row for row in pair) else summary.get("fac")
    near = [row.get("representativeness") for row in pair]
    distances = [row["hellinger"] for row in near if row]
    filled = summary["n_missing"] - summary["n_filled"]
    return CardFacts(
        name=name or recipe.get("name") or folder.resolve().name,
        n_rows=len(rows),
        has_provenance=not clean,
        command=f"fac run {shlex.quote(recipe['name'] + '.toml')}" if recipe else "",
        generator=_without_address(summary["generator"]),
        anchor=_source(recipe, "anchor"),
        seed=_source(recipe, "seed"),
        model=plan.get("source", {}).get("model_name", ""),
        form=plan.get("settings", {}).get("form", ""),
        prompt_version=str(plan.get("prompt_version", "")),
        fac=(fac[0], fac[1]) if fac else None,
        n_missing=(summary["n_missing"], filled),
        hellinger=(distances[0], distances[1]) if len(distances) == 2 else None,
        outcomes=summary["outcomes"],
        sensitive=sensitive or summary.get("sensitive", False),
    )


def _without_address(generator: str) -> str:
    """The name of a generator, without the server that it was reached at."""
    return generator.partition(" at http")[0]


def _source(recipe: Mapping[str, Any], name: str) -> str:
    """Name of a data source, without the folders of whoever ran it."""
    source = recipe.get(name, {}).get("source", "")
    names = map(str, source if isinstance(source, list) else [source])
    return ", ".join(Path(n).name if n.startswith(("/", "~", ".")) else n for n in names)


def _read(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


# The card


def data_card(facts: CardFacts) -> str:
    """README.md of a Hugging Face data set, its YAML header included."""
    parts = [
        _header(facts),
        f"# {facts.name}",
        *([SENSITIVE_WARNING] if facts.sensitive else []),
        f"{facts.n_rows:,} synthetic samples, written by a language model for features of a sparse "
        f"autoencoder that a seed data set did not activate, by facsynth {__version__}.",
        "## Coverage",
        _coverage(facts),
        "## How it was made",
        _origin(facts),
        "## Fields",
        _fields(facts),
        "## Licence",
        "The texts are machine-written. The licence of the generator, and that of the anchor whose "
        "excerpts were in its prompts, may limit what they can be used for: check both before you "
        "publish or train. No licence is claimed here.",
    ]
    if facts.command:
        parts += ["## Make it again", f"```\n{facts.command}\n```"]
    return "\n\n".join(parts) + "\n"


def _header(facts: CardFacts) -> str:
    size = next(
        (
            f"n<{name}" if name == "1K" else f"{low}<n<{name}"
            for low, name, n in _SIZES
            if n > facts.n_rows
        ),
        "n>1M",
    )
    tags = ["synthetic", "facsynth", *(["not-for-all-audiences"] if facts.sensitive else [])]
    lines = [
        "---",
        f"pretty_name: {json.dumps(facts.name, ensure_ascii=False)}",
        "license: other",
        f"size_categories: [{size}]",
        f"tags: [{', '.join(tags)}]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/train.jsonl",
        "---",
    ]
    return "\n".join(lines)


_SIZES = (("", "1K", 1_000), ("1K", "10K", 10_000), ("10K", "100K", 100_000), ("100K", "1M", 10**6))


def _coverage(facts: CardFacts) -> str:
    rows = [
        (what, *(f"{value:{kind}}" for value in pair))
        for what, pair, kind in (
            ("FAC (best 1)", facts.fac, ".3f"),
            ("missing features", facts.n_missing, ",d"),
            ("Hellinger distance to the anchor (best 0)", facts.hellinger, ".3f"),
        )
        if pair is not None
    ]
    if not rows:
        return "Not measured for this export."
    return _table(("", "seed", "seed + this set"), rows) + (
        "\n\nCoverage grows with size and length; it tells what is exercised, not how good it is."
    )


def _origin(facts: CardFacts) -> str:
    known = (
        ("generator", facts.generator),
        ("asked for", facts.form),
        ("prompts", f"facsynth's own, version {facts.prompt_version}" * bool(facts.prompt_version)),
        ("anchor", facts.anchor),
        ("seed", facts.seed),
        ("features read by", facts.model),
    )
    rows = [(what, _cell(value)) for what, value in known if value]
    rows += [(f"candidates: {_cell(what)}", f"{n:,}") for what, n in facts.outcomes.items()]
    return _table(("what", "value"), rows) if rows else "Unknown."


def _fields(facts: CardFacts) -> str:
    text = "Samples are `messages` (role, content), `text`, or `chosen` and `rejected`"
    if not facts.has_provenance:
        return text + "; where they came from was left out on request (`--clean`)."
    return text + (
        ". `provenance` says for which feature a sample was written, which features it activates, "
        "and by which generator, step, round and seed; drop it before training."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
