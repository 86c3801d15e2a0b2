"""The process of every contender: load once, then run on request.

Needs only the standard library and NumPy, because some contenders have separate environments. The
job is JSON in the first argument; requests and reports are JSON lines.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Job", "Text", "TextResult", "count_positions", "read_texts", "serve"]

TextResult = tuple[np.ndarray, np.ndarray]
"""Feature ids of one text in ascending order, and their activations, above zero."""


@dataclass(frozen=True)
class Job:
    """Settings shared by all contenders."""

    model: str
    """Folder of the language model."""

    sae: str
    """Folder of the SAE, in SAELens' layout."""

    layer: int
    dtype: str
    threads: int
    texts: dict[str, str]
    """File of each mix; see `Text`."""

    device: str = "cpu"
    """PyTorch device of the model."""


@dataclass(frozen=True)
class Text:
    """One text of a mix."""

    id: str
    messages: tuple[tuple[str, str], ...]
    """Role and content of each turn."""

    rendered: str
    """The text after the chat template, cut to the maximum length of the mix."""

    scored: np.ndarray
    """Positions of the tokens whose activations count."""

    n_tokens: int
    """Tokens of `rendered`."""


def read_texts(path: str | Path, n_texts: int | None = None) -> list[Text]:
    """The first `n_texts` of a mix."""
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Text(
            id=row["id"],
            messages=tuple((role, content) for role, content in row["messages"]),
            rendered=row["rendered"],
            scored=np.array(row["scored"], dtype=np.int64),
            n_tokens=row["n_tokens"],
        )
        for row in rows[:n_texts]
    ]


def serve(
    load: Callable[[Job], Any],
    run: Callable[[Any, Sequence[Text]], Any],
    *,
    packages: Sequence[str],
    results: Callable[[Any], list[TextResult]] = lambda output: output,
    positions: Callable[[Any, Sequence[Text]], int] | None = None,
    facts: Callable[[Any], dict[str, Any]] = lambda output: {},
) -> None:
    """Load, then answer requests until the input ends.

    Args:
        load: Loads the model and the SAE; not measured.
        run: The measured part: from texts to activations, including tokenisation.
        packages: Distributions whose versions are reported.
        results: Converts the output of `run` to activations, outside the measured time.
        positions: Positions that the model computes for these texts, padding included.
        facts: Further values of the output of `run` for the report.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps library output out of the reports
    job = Job(**json.loads(sys.argv[1]))
    mixes = {name: read_texts(path) for name, path in job.texts.items()}
    state = load(job)
    _send(replies, {"versions": _versions(packages), "loaded_bytes": _memory("VmRSS")})
    for line in sys.stdin:
        order = json.loads(line)
        texts = mixes[order["mix"]][: order["n_texts"]]
        wall, cpu = time.perf_counter(), time.process_time()
        output = run(state, texts)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        report = {"wall_s": wall, "cpu_s": cpu, "peak_bytes": _memory("VmHWM")}
        if job.device != "cpu":
            report["peak_device_bytes"] = sys.modules["torch"].cuda.max_memory_allocated()
        report |= facts(output)
        if order["save"]:
            _save(results(output), order["save"])
            if positions is not None:
                report["n_positions"] = positions(state, texts)
        _send(replies, report)


@contextmanager
def count_positions(layer: Any) -> Iterator[list[int]]:
    """While open, the list collects rows x tokens of each input to a decoder layer."""
    seen: list[int] = []

    def count(_module: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        x = inputs[0] if inputs else keywords["hidden_states"]
        seen.append(x.shape[0] * x.shape[1])

    handle = layer.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _send(replies: Any, report: dict[str, Any]) -> None:
    replies.write(json.dumps(report) + "\n")
    replies.flush()


def _save(found: list[TextResult], path: str) -> None:
    counts = [len(ids) for ids, _ in found]
    np.savez(
        path,
        row_starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        feature_ids=np.concatenate([ids for ids, _ in found]).astype(np.int64),
        values=np.concatenate([values for _, values in found]).astype(np.float32),
    )


def _versions(packages: Sequence[str]) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in packages}


def _memory(field: str) -> int:
    """Resident bytes, current (`VmRSS`) or peak (`VmHWM`)."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = next(row for row in status.read_text().splitlines() if row.startswith(field))
        return int(found.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
    return peak if sys.platform == "darwin" else peak * 1024
