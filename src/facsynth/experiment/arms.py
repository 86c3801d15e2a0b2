"""The samples of an arm: written or chosen once for each random seed, for all sizes.

```
RUN/arms/NAME-SEED-KEY/LABEL/         run folder of `fac synthesize` or of a baseline, by class
RUN/arms/NAME-SEED-KEY/replies.sqlite
RUN/arms/NAME-SEED-KEY/samples.jsonl  the samples in their final order
RUN/arms/NAME-SEED-KEY/arm.json       what they cost; written last
```
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.chat.budget import Spending
from facsynth.chat.policy import Estimate
from facsynth.coverage.controls import length_auc
from facsynth.data.flaws import find_flaw
from facsynth.data.read import read_samples
from facsynth.data.stored import read_json
from facsynth.data.write import sample_row, write_json, write_jsonl
from facsynth.experiment.author import Author, of_class
from facsynth.experiment.order import in_turn, order_by_length
from facsynth.experiment.real import choose_rows
from facsynth.experiment.settings import Arm, Wanted, arm_settings
from facsynth.experiment.world import World, has_label
from facsynth.records import Sample, user_text
from facsynth.synthesize.admission import word_limits
from facsynth.table.write import samples_hash
from facsynth.words import count_words

__all__ = ["ArmSet", "arm_folder", "forecast_arm", "make_arm", "read_arm"]


@dataclass(frozen=True)
class ArmSet:
    """The samples that an arm adds to the seed."""

    folder: Path
    samples: tuple[Sample, ...]
    """In an order whose beginnings have all classes and the anchor's lengths."""

    facts: Mapping[str, Any]
    """What the samples cost; see `make_arm`."""

    @property
    def key(self) -> str:
        """Names what the samples depend on."""
        return self.folder.name

    def paid_by(self, tokens: int) -> int:
        """How many samples a number of written tokens pays for, at most those there are."""
        each = self.facts["tokens_written"] / max(1, self.facts["n_written"])
        return min(len(self.samples), int(tokens / each)) if each else 0


def arm_folder(world: World, arm: Arm, random_seed: int) -> Path:
    """Where the samples of an arm are kept: a name for all that they depend on."""
    recipe, settings = world.recipe, arm_settings(arm, world.recipe)
    generator = replace(recipe.generator, model=arm.generator or recipe.generator.model)
    facts = {
        "arm": {
            **asdict(replace(arm, name="", added=1.0)),
            "settings": settings and asdict(settings),
        },
        "generator": [generator.model, generator.chat_model, generator.api_base],
        "anchor": samples_hash(world.anchor),
        "seed": samples_hash(world.seed),
        "tests": [samples_hash(samples) for samples in world.tests.values()],
        "classes": [asdict(one) for one in recipe.classes],
        "rest": [recipe.by_class, recipe.n_of_class, recipe.model, recipe.sae],
        "extract": asdict(recipe.extract),
        "files": [_content(recipe.relevant), _content(recipe.explanations)],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return world.folder / "arms" / f"{arm.name}-{random_seed}-{digest}"


def _content(path: str) -> str:
    """The hash of a file; empty where there is none."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def read_arm(folder: Path) -> ArmSet | None:
    """A finished set from the disk."""
    if not (folder / "arm.json").is_file():
        return None
    facts = read_json(folder / "arm.json")
    path = folder / "samples.jsonl"
    return ArmSet(folder, tuple(read_samples(path)) if path.stat().st_size else (), facts)


def make_arm(world: World, arm: Arm, random_seed: int) -> ArmSet:
    """The samples of an arm for one random seed; from the disk where they are finished.

    Its facts are `n_written` (samples before they are put in order), `calls`, `tokens_read` and
    `tokens_written` (of the generator, rejected texts included), `cost`, `seconds` (of the last
    start), `stopped` (a limit) and `length_auc` (chance that a sample is longer than one of the
    anchor).

    Raises:
        FacsynthError: Any error of what writes.
    """
    folder = arm_folder(world, arm, random_seed)
    if found := read_arm(folder):
        return found
    started, recipe = time.monotonic(), world.recipe
    spending = Spending(recipe.generator.policy, folder / "replies.sqlite")
    classes = [list[Sample]() for _ in recipe.wanted]
    author, stopped = Author(world, arm, random_seed, folder, spending), None
    for number in range(arm.rounds):
        if stopped is None:
            stopped = _add_round(author, classes, number)
    ordered = [_ordered(world, *one) for one in zip(classes, recipe.wanted, strict=True)]
    samples, usage = in_turn(ordered), spending.usage
    facts = {
        "n_written": sum(map(len, classes)),
        "calls": usage.n_calls,
        "tokens_read": usage.prompt_tokens,
        "tokens_written": usage.completion_tokens,
        "cost": recipe.generator.policy.cost(usage.prompt_tokens, usage.completion_tokens),
        "seconds": round(time.monotonic() - started, 1),
        "stopped": stopped,
        "length_auc": _length_auc(world, samples),
    }
    write_jsonl([sample_row(sample) for sample in samples], folder / "samples.jsonl")
    if stopped is None:  # a set that a limit cut short is made again when the limit is raised
        write_json(facts, folder / "arm.json")
    return ArmSet(folder, tuple(samples), facts)


def _add_round(author: Author, classes: list[list[Sample]], number: int) -> str | None:
    """Write one round of every class; the limit that stopped it."""
    world, arm, stopped = author.world, author.arm, None
    n_all, n_rounds = world.recipe.n_of_class, arm.rounds
    n = n_all * (number + 1) // n_rounds - n_all * number // n_rounds
    before = [tuple(samples) for samples in classes]
    with author.chat(before) as chat:
        for samples, known, wanted in zip(classes, before, world.recipe.wanted, strict=True):
            if arm.kind == "real":
                samples += _real(world, arm, wanted, n, author.random_seed)
            elif chat is not None:
                place = author.place(wanted, number)
                found, stop = author.write(wanted, n, chat, place, known)
                samples += found
                stopped = stopped or stop
    return stopped


def forecast_arm(world: World, arm: Arm) -> Estimate:
    """What one random seed of an arm may cost at most; nothing is asked.

    Later rounds are counted as the first one is.
    """
    recipe, found = world.recipe, Estimate(0, 0, 0, 0.0)
    author = Author(world, arm, recipe.random_seeds[0])
    for wanted in recipe.wanted if arm_settings(arm, recipe) else ():
        found = found.plus(author.forecast(wanted, recipe.n_of_class))
    return found


def _real(world: World, arm: Arm, wanted: Wanted | None, n: int, random_seed: int) -> list[Sample]:
    side = world.side(None)
    low, high = word_limits(world.anchor)
    known = {user_text(sample) for sample in world.seed}
    rows = [
        i
        for i, sample in enumerate(world.anchor)
        if user_text(sample) not in known
        and (has_label(sample, wanted) if wanted else sample.label is not None)
        and find_flaw(user_text(sample), min_words=low, max_words=high) is None
    ]
    threshold = world.threshold.threshold
    chosen = choose_rows(
        side.anchor,
        rows,
        n,
        arm.choice,
        threshold=threshold,
        missing=world.missing(side, threshold),
        random_seed=random_seed,
    )
    return [world.anchor[i] for i in chosen]


def _ordered(world: World, samples: Sequence[Sample], wanted: Wanted | None) -> list[Sample]:
    """Samples under the class's label, in an order whose beginnings have the anchor's lengths."""
    if not samples:
        return []
    target = _words(of_class(world, world.anchor, wanted))
    order = order_by_length(_words(samples), target)
    if wanted is None:
        return [samples[i] for i in order]
    return [replace(samples[i], label=wanted.label) for i in order]


def _words(samples: Sequence[Sample]) -> Any:
    return np.array([count_words(user_text(sample)) for sample in samples], dtype=np.int64)


def _length_auc(world: World, samples: Sequence[Sample]) -> float | None:
    return length_auc(_words(samples), _words(world.anchor)) if samples else None
