"""The data card of an exported data set: what is in it, how it was made, how to make it again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from facsynth import __version__

__all__ = ["SENSITIVE_WARNING", "CardFacts", "data_card"]

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
