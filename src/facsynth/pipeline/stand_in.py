"""A recipe with everything replaced that a small machine lacks, to walk through its stages.

The embedded model and SAE read the features of small made-up data; a writer and a judge that
follow rules answer in the form that is asked for. The numbers of such a run mean nothing.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facsynth.chat.budget import limited_chat
from facsynth.chat.model import ChatRequest
from facsynth.chat.scripted import ScriptedChat
from facsynth.chat.settings import Generator
from facsynth.data.write import write_jsonl
from facsynth.pipeline.run import RunResult, run_stages
from facsynth.pipeline.state import Run
from facsynth.progress import SILENT, Progress
from facsynth.recipe import DataSource, Recipe, TaskStage, read_recipe
from facsynth.synthesize.settings import JudgeSettings, SynthesisSettings
from facsynth.understand.settings import RelevanceSettings

__all__ = ["run_stand_in"]

Row = dict[str, Any]

_SUBJECTS = (
    *("the garden", "my old bicycle", "train tickets", "green tea", "a chess club", "the school"),
    *("city taxes", "piano lessons", "a rainy holiday", "the new printer", "bread", "my sister"),
    *("the football match", "a science fair", "night shifts", "the river", "some poetry"),
    *("a broken window", "the hospital", "wool socks", "local news", "a spreadsheet", "the moon"),
    *("mountain hiking", "a birthday cake", "the landlord", "solar panels", "old photographs"),
)
_CALM = (
    "Could you help me plan what to do about {} before the weekend?",
    "Yesterday we talked for an hour about {}, and I learned a lot.",
    "What is a good way to explain {} to a child of six?",
    "I would like three short tips on {} for somebody who has little time.",
    "Tell me how people looked at {} a hundred years ago.",
    "My neighbour says that {} matters more than money; is that so?",
)
_RUDE = (
    "Everybody who likes {} is dull, and you are dull for asking about it.",
    "Stop talking about {} at once, nobody wants to hear your silly stories.",
    "Only a fool would spend a whole day on {}, so do not waste my time.",
    "I am tired of {} and even more tired of you and your excuses.",
)
_ANSWERS = (
    "Begin with one small step: write down what you know about {}, then ask a friend.",
    "Most people enjoy {} more when they take their time and keep notes.",
    "There is no single answer; with {} it depends on where you live and what you need.",
)
_WRITTEN = (
    ("Why does", "I wonder whether", "Please compare", "Nobody told me that", "Let us speak about"),
    ("and", "instead of", "together with", "because of", "in spite of", "more often than"),
    ("today", "in this town", "when it snows", "for a whole year", "at the kitchen table"),
)
"""Parts of what the writer says; not those of the data, of which it must not write copies."""

_N_ANCHOR, _N_SEED, _N_TEST, _N_SAFE = 72, 20, 24, 24
_THRESHOLD = 4.0
"""The embedded SAE is saturated below it."""


def run_stand_in(
    path: str | Path, folder: str | Path | None = None, *, progress: Progress = SILENT
) -> RunResult:
    """Walk through the stages of a recipe; the numbers mean nothing.

    Args:
        path: The recipe.
        folder: Run folder; `runs/NAME-stand-in` by default.
        progress: Where bars and lines go.

    Raises:
        FacsynthError: Any error of a stage.
    """
    recipe = read_recipe(path)
    target = Path(folder) if folder else Path("runs") / f"{recipe.name}-stand-in"
    run = Run(_stand_in(recipe, target), target, progress)
    run.chat = run.judge = limited_chat(ScriptedChat(_reply, name="stand-in"), run.spending)
    return run_stages(run)


def _stand_in(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe on the embedded pair and on made-up data, which are written into the folder.

    Args:
        recipe: Any recipe. Its stages and their settings stay; sizes become small.
        folder: The run folder.
    """
    form = recipe.task.name if recipe.task else recipe.synthesize.task
    make = _FORMS.get(form, _FORMS.get(recipe.synthesize.task, _conversations))
    rng = random.Random(0)
    parts = {
        "anchor": (_SUBJECTS, _N_ANCHOR),
        "seed": (_SUBJECTS[:8], _N_SEED),
        "test": (_SUBJECTS, _N_TEST),
        "safe": (_SUBJECTS, _N_SAFE),
    }
    files = {name: folder / "stand-in" / f"{name}.jsonl" for name in parts}
    for name, (subjects, n) in parts.items():
        made = _sums if name == "test" and form == "instruction" else make
        rows = [{"sample_id": f"{name}-{i}", **row} for i, row in enumerate(made(rng, subjects, n))]
        write_jsonl((r for r in rows if name != "safe" or r.get("label") != "toxic"), files[name])
        if name == "anchor":
            scores = folder / "stand-in" / "scores.jsonl"
            write_jsonl(({"id": r["sample_id"], "score": _score(r)} for r in rows), scores)
    paths = {name: str(path) for name, path in files.items()}
    return _made_small(recipe, {**paths, "scores": str(folder / "stand-in" / "scores.jsonl")})


def _score(row: Row) -> int:
    """A model fails on the subjects that the seed knows."""
    return int(not any(subject in json.dumps(row) for subject in _SUBJECTS[:8]))


def _made_small(recipe: Recipe, files: dict[str, str]) -> Recipe:
    explain = recipe.explain and replace(
        recipe.explain,
        imported=None,
        max_features=None,
        llm=replace(recipe.explain.llm, fidelity=False),
        evidence=replace(recipe.explain.evidence, threshold=_THRESHOLD),
    )
    return replace(
        recipe,
        anchor=DataSource(files["anchor"]),
        seed=DataSource(files["seed"]),
        model=None,
        sae=None,
        dtype="auto",
        threshold=_THRESHOLD,
        coverage=replace(recipe.coverage, threshold=_THRESHOLD),
        judge=None,
        explain=explain,
        relevance=recipe.relevance and _relevance(recipe.relevance, recipe.synthesize.task, files),
        generator=Generator(),
        synthesize=_few_samples(recipe.synthesize, files),
        grading=JudgeSettings(),
        select=recipe.select and replace(recipe.select, budget=4, budget_tokens=None),
        task=recipe.task and _small_task(recipe.task, files),
    )


def _relevance(wanted: RelevanceSettings, task: str, files: dict[str, str]) -> RelevanceSettings:
    """The same source of relevance, by labels or scores that the stand-in data have."""
    by_label = wanted.label is not None and task == "toxicity"
    by_score = wanted.scores is not None or (wanted.label is not None and not by_label)
    return replace(
        wanted,
        threshold=_THRESHOLD,
        label="toxic" if by_label else None,
        scores=files["scores"] if by_score else None,
        score=None,
    )


def _few_samples(synthesis: SynthesisSettings, files: dict[str, str]) -> SynthesisSettings:
    few = replace(
        synthesis.effort,
        max_samples=6,
        max_candidates=48,
        max_features=16,
        first_candidates=1,
        second_candidates=1,
    )
    return replace(
        synthesis,
        threshold=_THRESHOLD,
        decontaminate=(files["test"],) if synthesis.decontaminate else (),
        effort=few,
        sampling=replace(synthesis.sampling, max_length=64),
    )


def _small_task(task: TaskStage, files: dict[str, str]) -> TaskStage:
    """The task with heads in place of tuned models, and with fewer steps."""
    fast = {
        name: replace(
            getattr(task, name),
            train=replace(getattr(task, name).train, head_only=True, full=False, random_seed=(1,)),
        )
        for name in ("toxicity", "reward")
    }
    tuned = task.instruction.train
    short = replace(tuned.optimizer, epochs=1.0, batch_size=4, micro_batch=4)
    return replace(
        task,
        **fast,
        test=files["test"],
        test_limit=4 if task.name == "instruction" else None,
        model=None,
        safe=files["safe"] if task.safe else None,
        allow_overlap=True,
        labels=type(task.labels)(),
        steering=replace(task.steering, layer=(14,), random_seed=(1,), strength=(0.1,)),
        controls=replace(task.controls, random_vectors=0),
        instruction=replace(
            task.instruction,
            max_samples=8,
            train=replace(tuned, optimizer=short, max_length=128, random_seed=(1,)),
        ),
        answers=replace(task.answers, max_new_tokens=8),
    )


# Made-up data


def _say(rng: random.Random, subjects: Sequence[str], sentences: Sequence[str]) -> str:
    text = rng.choice(sentences).format(rng.choice(subjects))
    return (
        f"{text} {rng.choice(_CALM).format(rng.choice(subjects))}" if rng.random() < 0.4 else text
    )


def _conversations(rng: random.Random, subjects: Sequence[str], n: int) -> list[Row]:
    return [
        {"instruction": _say(rng, subjects, _CALM), "output": _say(rng, subjects, _ANSWERS)}
        for _ in range(n)
    ]


def _labelled(rng: random.Random, subjects: Sequence[str], n: int) -> list[Row]:
    kinds = [("toxic", _RUDE), ("benign", _CALM)]
    return [
        {"messages": [_turn(_say(rng, subjects, kinds[i % 2][1]))], "label": kinds[i % 2][0]}
        for i in range(n)
    ]


def _turn(text: str) -> Row:
    return {"role": "user", "content": text}


def _pairs(rng: random.Random, subjects: Sequence[str], n: int) -> list[Row]:
    return [
        {
            "prompt": _say(rng, subjects, _CALM),
            "chosen": _say(rng, subjects, _ANSWERS),
            "rejected": f"I do not know much about {rng.choice(subjects)}, sorry.",
        }
        for _ in range(n)
    ]


def _choices(rng: random.Random, subjects: Sequence[str], n: int) -> list[Row]:
    options = ("Yes, you are right about everything", "No, the facts say something else")
    return [
        {
            "question": f"{_say(rng, subjects, _CALM)}\n\nChoices:\n (A) {options[i % 2]}\n (B) "
            f"{options[1 - i % 2]}",
            "answer_matching_behavior": "(A)" if i % 2 == 0 else "(B)",
            "answer_not_matching_behavior": "(B)" if i % 2 == 0 else "(A)",
        }
        for i in range(n)
    ]


def _sums(rng: random.Random, _subjects: Sequence[str], n: int) -> list[Row]:
    pairs = [(rng.randint(2, 20), rng.randint(2, 20)) for _ in range(n)]
    return [
        {"question": f"What is {a} plus {b}?", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}
        for a, b in pairs
    ]


_FORMS: dict[str, Callable[[random.Random, Sequence[str], int], list[Row]]] = {
    "toxicity": _labelled,
    "reward": _pairs,
    "steering": _choices,
    "sycophancy": _choices,
    "survival": _choices,
    "instruction": _conversations,
}


# The writer and the judge


def _reply(request: ChatRequest) -> str:
    rng = random.Random(request.key)
    if request.schema is None:
        return _write(rng, request)
    schema = json.loads(request.schema.json_schema)
    return json.dumps({key: _value(one, rng, request) for key, one in schema["properties"].items()})


def _write(rng: random.Random, request: ChatRequest) -> str:
    """One to three sentences, the first with some words of a quoted text."""
    quoted = re.findall("<text>(.*?)</text>", _asked(request), flags=re.DOTALL)
    quoted += [message.content for message in request.messages if message.role == "assistant"]
    words = rng.choice(quoted or [""]).split()
    middle = len(words) // 2
    about = [" ".join(words[max(0, middle - 3) : middle + 3])]
    about += [rng.choice(_SUBJECTS) for _ in range(rng.randint(0, 2))]
    said = []
    for one in about:
        begin, link, end = map(rng.choice, _WRITTEN)
        said.append(f"{begin} {one} {link} {rng.choice(_SUBJECTS)} {end}?")
    return " ".join(said)


def _value(form: Row, rng: random.Random, request: ChatRequest) -> Any:
    """A value of the form that a JSON schema describes."""
    if "enum" in form:
        return rng.choice(form["enum"])
    if form.get("type") == "string":
        marked = re.findall("«(.*?)»", _asked(request))
        return " ".join(sorted({mark.strip() for mark in marked})) or _write(rng, request)
    if form.get("type") == "integer":
        return rng.randint(form.get("minimum", 1), form.get("maximum", 5))
    return [1] if form.get("type") == "array" else False


def _asked(request: ChatRequest) -> str:
    return "\n".join(message.content for message in request.messages)
