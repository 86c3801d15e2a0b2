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

from facsynth.baselines.job import user_text
from facsynth.baselines.run import BaselineRun
from facsynth.baselines.settings import BaselineSettings
from facsynth.chat.budget import Spending
from facsynth.chat.model import ChatModel
from facsynth.chat.policy import Estimate
from facsynth.coverage.controls import length_auc
from facsynth.data.flaws import find_flaw
from facsynth.data.read import read_samples
from facsynth.data.write import sample_row, write_json, write_jsonl
from facsynth.experiment.controls import aim_at
from facsynth.experiment.order import in_turn, order_by_length
from facsynth.experiment.real import choose_rows
from facsynth.experiment.settings import Arm, Wanted, arm_settings
from facsynth.experiment.world import World, has_label
from facsynth.records import Sample
from facsynth.synthesize.admission import word_limits
from facsynth.synthesize.run import SynthesisRun
from facsynth.synthesize.settings import SynthesisSettings
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
    recipe = world.recipe
    generator = replace(recipe.generator, model=arm.generator or recipe.generator.model)
    facts = {
        "arm": {**asdict(arm), "name": "", "settings": _settings_table(world, arm)},
        "generator": [generator.model, generator.chat_model, generator.api_base],
        "anchor": samples_hash(world.anchor),
        "seed": samples_hash(world.seed),
        "tests": [samples_hash(samples) for samples in world.tests.values()],
        "classes": [asdict(one) for one in recipe.classes],
        "rest": [recipe.by_class, recipe.n_of_class, recipe.model, recipe.sae],
        "extract": asdict(recipe.extract),
        "relevant": Path(recipe.relevant).read_text(encoding="utf-8") if recipe.relevant else "",
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return world.folder / "arms" / f"{arm.name}-{random_seed}-{digest}"


def _settings_table(world: World, arm: Arm) -> dict[str, Any] | None:
    settings = arm_settings(arm, world.recipe)
    return asdict(settings) if settings else None


def read_arm(folder: Path) -> ArmSet | None:
    """A finished set from the disk."""
    if not (folder / "arm.json").is_file():
        return None
    facts = json.loads((folder / "arm.json").read_text(encoding="utf-8"))
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
    generator = recipe.generator
    if arm.generator:
        generator = replace(generator, model=arm.generator, chat_model=None)
    spending = Spending(generator.policy, folder / "replies.sqlite")
    chat: ChatModel | None = None
    if arm_settings(arm, recipe):
        chat = world.loaders.chat(generator, world.lm, spending)
    classes, stopped = list[list[Sample]](), None
    for wanted in recipe.wanted:
        place = folder / (wanted.label if wanted else "all")
        given, stop = _samples(world, arm, wanted, random_seed, chat, place)
        stopped = stopped or stop
        classes.append(_ordered(world, given, wanted))
    samples = in_turn(classes)
    usage = spending.usage
    facts = {
        "n_written": sum(map(len, classes)),
        "calls": usage.n_calls,
        "tokens_read": usage.prompt_tokens,
        "tokens_written": usage.completion_tokens,
        "cost": generator.policy.cost(usage.prompt_tokens, usage.completion_tokens),
        "seconds": round(time.monotonic() - started, 1),
        "stopped": stopped,
        "length_auc": _length_auc(world, samples),
    }
    write_jsonl([sample_row(sample) for sample in samples], folder / "samples.jsonl")
    if stopped is None:  # a set that a limit cut short is made again when the limit is raised
        write_json(facts, folder / "arm.json")
    return ArmSet(folder, tuple(samples), facts)


def forecast_arm(world: World, arm: Arm) -> Estimate:
    """What one random seed of an arm may cost at most; nothing is asked."""
    settings, recipe = arm_settings(arm, world.recipe), world.recipe
    n, seed = recipe.n_of_class, recipe.random_seeds[0]
    found = Estimate(0, 0, 0, 0.0)
    for wanted in recipe.wanted if settings else ():
        if isinstance(settings, SynthesisSettings):
            run, _ = _synthesis(world, arm, settings, wanted, n, seed)
            one = run.forecast(world.lm().tokenizer, policy=recipe.generator).at_most
        else:
            assert isinstance(settings, BaselineSettings)
            one = _baseline(world, arm, settings, wanted, n, seed).forecast(recipe.generator.policy)
        found = Estimate(
            found.n_calls + one.n_calls,
            found.prompt_tokens + one.prompt_tokens,
            found.max_completion_tokens + one.max_completion_tokens,
            found.max_cost + one.max_cost,
        )
    return found


def _samples(
    world: World,
    arm: Arm,
    wanted: Wanted | None,
    random_seed: int,
    chat: ChatModel | None,
    folder: Path,
) -> tuple[list[Sample], str | None]:
    """Samples of a class, the best first, and the limit that stopped the writing."""
    settings, n = arm_settings(arm, world.recipe), world.recipe.n_of_class
    if arm.kind == "real":
        return _real(world, arm, wanted, n, random_seed), None
    if settings is None or chat is None:
        return [], None
    if isinstance(settings, SynthesisSettings):
        run, sae = _synthesis(world, arm, settings, wanted, n, random_seed)
        done = run.execute(world.lm(), sae, chat, folder, progress=world.progress)
        owners = {kept.candidate.sample.sample_id: i for i, kept in enumerate(done.kept)}
        order = sorted(done.kept, key=lambda kept: owners[kept.candidate.sample.sample_id])
        samples = [kept.sample for kept in order]
        return samples, "budget" if done.stopped == "budget" else None
    baseline = _baseline(world, arm, settings, wanted, n, random_seed)
    made = baseline.execute(chat, folder, vectors=world.vectors, progress=world.progress)
    return list(made.samples), made.stopped


def _synthesis(
    world: World,
    arm: Arm,
    settings: SynthesisSettings,
    wanted: Wanted | None,
    n: int,
    random_seed: int,
) -> tuple[SynthesisRun, Any]:
    """A run that aims at the features of the arm, and its SAE."""
    settings = replace(
        settings,
        form=(wanted.form if wanted else "") or settings.form,
        random_seed=random_seed,
        decontaminate=(*settings.decontaminate, *world.test_files),
        effort=replace(settings.effort, max_samples=n),
    )
    is_random = arm.features == "random-sae"
    side = world.side(wanted, random_seed if is_random else None)
    if settings.threshold is None:  # one for all arms
        settings = replace(settings, threshold=world.recipe.threshold)
    assert settings.threshold is not None
    seed, relevant = aim_at(world, side, arm, settings.threshold, random_seed, wanted)
    return SynthesisRun(side.anchor, seed, settings=settings, relevant=relevant), side.sae


def _baseline(
    world: World,
    arm: Arm,
    settings: BaselineSettings,
    wanted: Wanted | None,
    n: int,
    random_seed: int,
) -> BaselineRun:
    settings = replace(
        settings,
        form=(wanted.form if wanted else "") or settings.form,
        random_seed=random_seed,
        decontaminate=(*settings.decontaminate, *world.test_files),
        max_samples=n,
    )
    seeds, anchor = (_of_class(world, one, wanted) for one in (world.seed, world.anchor))
    return BaselineRun(arm.kind, seeds, anchor, settings=settings)  # type: ignore[arg-type]


def _real(world: World, arm: Arm, wanted: Wanted | None, n: int, random_seed: int) -> list[Sample]:
    side = world.side(None)
    low, high = word_limits(world.anchor)
    rows = [
        i
        for i, sample in enumerate(world.anchor)
        if (has_label(sample, wanted) if wanted else sample.label is not None)
        and find_flaw(user_text(sample), min_words=low, max_words=high) is None
    ]
    threshold = world.recipe.threshold
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


def _of_class(world: World, samples: Sequence[Sample], wanted: Wanted | None) -> list[Sample]:
    if wanted is None or not world.recipe.by_class:
        return list(samples)
    return [sample for sample in samples if has_label(sample, wanted)]


def _ordered(world: World, samples: Sequence[Sample], wanted: Wanted | None) -> list[Sample]:
    """Samples under the class's label, in an order whose beginnings have the anchor's lengths."""
    if not samples:
        return []
    target = _words(_of_class(world, world.anchor, wanted))
    order = order_by_length(_words(samples), target)
    if wanted is None:
        return [samples[i] for i in order]
    return [replace(samples[i], label=wanted.label) for i in order]


def _words(samples: Sequence[Sample]) -> Any:
    return np.array([count_words(user_text(sample)) for sample in samples], dtype=np.int64)


def _length_auc(world: World, samples: Sequence[Sample]) -> float | None:
    return length_auc(_words(samples), _words(world.anchor)) if samples else None
