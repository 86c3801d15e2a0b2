"""Write the cost table of `docs/scale.md`: time, disk and calls for given numbers of tokens.

    python scripts/cost_model.py            writes and prints the tables
    python scripts/cost_model.py --check    fails if docs/scale.md has others

Constants that were measured say where; the others are marked as estimates.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
BEGIN, END = "<!-- cost model -->\n", "<!-- end of the cost model -->\n"

TOKENS = (10**6, 10**8, 10**10)
TOKENS_PER_SAMPLE = 250
"""Between a short instruction and a conversation; an estimate."""

BYTES_PER_ENTRY = 8.0
"""Parquet bytes for an active feature: 1.6 GB for 200 million (docs/benchmarks/scale.md)."""

ENTRIES_PER_SAMPLE = 200
BYTES_PER_MILLION_COUNTED = 0.4e9
"""Memory of a table command for a million samples: two bytes an entry."""

CALLS_PER_THOUSAND_FEATURES = {"explain": 1000, "explain, scored": 2000, "relevance": 1000}
"""One call explains a feature, one more scores it; one grades its relevance."""

UTILISATION = 0.4
"""Share of the peak rate that a forward pass of a large model reaches; an estimate."""


@dataclass(frozen=True)
class Machine:
    """Something that extracts."""

    name: str
    tokens_per_s: float
    origin: str


def by_peak(peak_tflops: float, parameters: float, share_of_layers: float = 0.6) -> float:
    """Tokens a second of a forward pass: 2 operations a parameter, up to the layer of the SAE."""
    return UTILISATION * peak_tflops * 1e12 / (2 * parameters * share_of_layers)


MACHINES = (
    Machine("2 CPU cores, 135M model", 3_500, "measured: docs/benchmarks/extraction.md"),
    Machine("one H200, 135M model", 187_000, "measured: docs/log.md, tokenising is the limit"),
    Machine("one L4 (121 TFLOP/s), 8B model", by_peak(121, 8e9), "estimate"),
    Machine("one A100 (312 TFLOP/s), 8B model", by_peak(312, 8e9), "estimate"),
    Machine("one H100 (989 TFLOP/s), 8B model", by_peak(989, 8e9), "estimate"),
    Machine("eight H100, 8B model", 8 * by_peak(989, 8e9), "estimate"),
)


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has at least one."""
    for name, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """Bytes in GB, or in MB below one."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"


def table() -> str:
    """The Markdown tables."""
    heads = [
        f"10{str(len(str(n)) - 1).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
        for n in TOKENS
    ]
    lines = [
        f"| | {' | '.join(f'{head} tokens' for head in heads)} | from |",
        "|---|" + "---:|" * len(TOKENS) + "---|",
        _row(
            "samples",
            [f"{n // TOKENS_PER_SAMPLE:,}" for n in TOKENS],
            f"{TOKENS_PER_SAMPLE} tokens each",
        ),
    ]
    lines += [
        _row(
            m.name,
            [duration(n / m.tokens_per_s) for n in TOKENS],
            f"{m.tokens_per_s:,.0f} tokens/s, {m.origin}",
        )
        for m in MACHINES
    ]
    disk = [size(n / TOKENS_PER_SAMPLE * ENTRIES_PER_SAMPLE * BYTES_PER_ENTRY) for n in TOKENS]
    memory = [size(n / TOKENS_PER_SAMPLE / 1e6 * BYTES_PER_MILLION_COUNTED) for n in TOKENS]
    lines += [
        _row("table on disk", disk, f"{ENTRIES_PER_SAMPLE} active features a sample"),
        _row("memory of a table command, for each table", memory, "beside about 0.5 GB"),
    ]
    calls = [f"| {name} | {n:,} |" for name, n in CALLS_PER_THOUSAND_FEATURES.items()]
    return "\n".join(
        [*lines, "", "| step | LLM calls for 1,000 features |", "|---|---:|", *calls, ""]
    )


def _row(name: str, cells: list[str], origin: str) -> str:
    return f"| {name} | {' | '.join(cells)} | {origin} |"


def main() -> None:
    """Print the tables, write them into the page, or compare the page with them."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}{table()}{END}{after}"
    if "--check" in sys.argv:
        sys.exit(None if page == wanted else f"{PAGE} is out of date: run {sys.argv[0]}")
    PAGE.write_text(wanted, encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()
