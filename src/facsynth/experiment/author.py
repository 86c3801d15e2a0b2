"""Who writes the samples of an arm: a run of `fac synthesize` or of a baseline, and its generator.

```
RUN/arms/ARM/LABEL/             run folder of a class
RUN/arms/ARM/round-2/LABEL/     of the second round
RUN/arms/ARM/round-2/tuned/     the generator's adapter
```
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facsynth.baselines.run import BaselineRun
from facsynth.baselines.settings import BaselineSettings
from facsynth.baselines.vectors import local_parts
from facsynth.chat.budget import Spending
from facsynth.chat.model import ChatModel
from facsynth.chat.policy import Estimate
from facsynth.chat.settings import Generator
from facsynth.experiment.controls import aim_at, change_names
from facsynth.experiment.settings import Arm, Wanted, arm_settings
from facsynth.experiment.world import Side, World, has_label
from facsynth.models.lm import LanguageModel
from facsynth.records import Message, Sample, user_text
from facsynth.synthesize.run import SynthesisRun
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.table.write import samples_hash
from facsynth.tasks.instruction.settings import InstructionSettings

__all__ = ["Author", "of_class"]

_MOST_TOKENS = 512
"""Longest text that a generator is tuned on, with what asks for it."""


@dataclass(frozen=True)
class Author:
    """Writes the samples of an arm for one random seed."""

    world: World
    arm: Arm
    random_seed: int
    folder: Path = Path()
    """Of the arm."""

    spending: Spending | None = None
    """What the arm may spend; None for a forecast."""

    def place(self, wanted: Wanted | None, number: int) -> Path:
        """The run folder of a class in a round, from 0."""
        folder = self.folder / f"round-{number + 1}" if number else self.folder
        return folder / (wanted.label if wanted else "all")

    @contextmanager
    def chat(self, before: Sequence[Sequence[Sample]]) -> Iterator[ChatModel | None]:
        """The generator, tuned on what it wrote before; None where nothing is written.

        Args:
            before: What it wrote of each class.
        """
        wanted, world = self._generator, self.world
        if arm_settings(self.arm, world.recipe) is None:
            yield None
            return
        assert self.spending is not None
        if not any(before):
            yield world.loaders.chat(wanted, world.lm, self.spending)
            return
        with self._tuned(wanted.model or world.recipe.model, before) as tuned:
            own = replace(wanted, model=None)
            yield world.loaders.chat(own, lambda: tuned, self.spending)

    @property
    def _generator(self) -> Generator:
        wanted, own = self.world.recipe.generator, self.arm.generator
        return replace(wanted, model=own, chat_model=None) if own else wanted

    def forecast(self, wanted: Wanted | None, n: int) -> Estimate:
        """What writing n samples of a class may cost at most."""
        settings, generator = self._settings(wanted, n), self.world.recipe.generator
        if isinstance(settings, SynthesisSettings):
            run, side = self._synthesis(wanted, settings)
            return run.forecast(side.lm.tokenizer, policy=generator).at_most
        return self._baseline(wanted, settings).forecast(generator.policy)

    def write(
        self,
        wanted: Wanted | None,
        n: int,
        chat: ChatModel,
        folder: Path,
        before: Sequence[Sample] = (),
    ) -> tuple[list[Sample], str | None]:
        """Samples of a class, the best first, and the limit that stopped the writing.

        Args:
            wanted: The class.
            n: How many.
            chat: The generator.
            folder: The run folder.
            before: What earlier rounds wrote of the class; it counts as seed.
        """
        settings, progress = self._settings(wanted, n), self.world.progress
        if isinstance(settings, SynthesisSettings):
            run, side = self._synthesis(wanted, settings, before)
            done = run.execute(side.lm, side.sae, chat, folder, progress=progress)
            owners = {kept.candidate.sample.sample_id: i for i, kept in enumerate(done.kept)}
            order = sorted(done.kept, key=lambda kept: owners[kept.candidate.sample.sample_id])
            return [one.sample for one in order], "budget" if done.stopped == "budget" else None
        baseline = self._baseline(wanted, settings, before)
        local = local_parts(self.world.lm, self._generator)
        made = baseline.execute(chat, folder, local=local, progress=progress)
        return list(made.samples), made.stopped

    def _settings(self, wanted: Wanted | None, n: int) -> SynthesisSettings | BaselineSettings:
        settings = arm_settings(self.arm, self.world.recipe)
        assert settings is not None
        changes: dict[str, Any] = {
            "form": (wanted.form if wanted else "") or settings.form,
            "random_seed": self.random_seed,
            "decontaminate": (*settings.decontaminate, *self.world.test_files),
        }
        if isinstance(settings, BaselineSettings):
            return replace(settings, max_samples=n, **changes)
        if settings.threshold is None:  # one for all arms
            changes["threshold"] = self.world.threshold.threshold
        if self.arm.features == "k-means":
            changes["threshold"] = 0.0  # see `cluster_sae`
        return replace(settings, effort=replace(settings.effort, max_samples=n), **changes)

    def _synthesis(
        self, wanted: Wanted | None, settings: SynthesisSettings, before: Sequence[Sample] = ()
    ) -> tuple[SynthesisRun, Side]:
        """A run that aims at the features of the arm."""
        world, arm, seed = self.world, self.arm, self.random_seed
        side = world.side(wanted, arm, seed)
        assert settings.threshold is not None
        table, relevant = aim_at(world, side, arm, settings.threshold, seed, wanted)
        seeds = [table]
        if before:
            name = f"written-{self.folder.name}-{wanted.label if wanted else 'all'}"
            seeds.append(world.extract(before, name, (side.lm, side.sae)))
        named = change_names(world.explanations, arm.names, seed) if side.is_own else {}
        run = SynthesisRun(
            side.anchor, seeds, settings=settings, relevant=relevant, explanations=named
        )
        return run, side

    def _baseline(
        self, wanted: Wanted | None, settings: BaselineSettings, before: Sequence[Sample] = ()
    ) -> BaselineRun:
        world = self.world
        seeds, anchor = (of_class(world, one, wanted) for one in (world.seed, world.anchor))
        return BaselineRun(
            self.arm.kind,  # type: ignore[arg-type]  # other kinds have no `BaselineSettings`
            [*seeds, *before],
            anchor,
            settings=settings,
        )

    @contextmanager
    def _tuned(
        self, name: str | None, before: Sequence[Sequence[Sample]]
    ) -> Iterator[LanguageModel]:
        """The generator with an adapter that learnt to write what it wrote."""
        from facsynth.tasks.instruction.models import tuned_model
        from facsynth.tasks.instruction.train import train_instruction

        world, recipe = self.world, self.world.recipe
        learnt = [
            Sample(one.sample_id, (_request(self._settings(wanted, 1).form), _answer(one)))
            for samples, wanted in zip(before, recipe.wanted, strict=True)
            for one in samples
        ]
        train = replace(
            InstructionSettings().train, random_seed=(self.random_seed,), max_length=_MOST_TOKENS
        )

        def load() -> LanguageModel:
            return world.loaders.lm(name, recipe.dtype)

        folder = self.folder / f"tuned-{samples_hash(learnt)[:8]}"
        trained = train_instruction(
            learnt, load, folder, InstructionSettings(train=train), progress=world.progress
        )
        with tuned_model(trained, f"model-{self.random_seed}", load()) as tuned:
            digest = hashlib.sha256((tuned.content_hash + samples_hash(learnt)).encode())
            yield replace(tuned, content_hash=digest.hexdigest())


def of_class(world: World, samples: Sequence[Sample], wanted: Wanted | None) -> list[Sample]:
    """What the writers of a class may see."""
    if wanted is None or not world.recipe.by_class:
        return list(samples)
    return [sample for sample in samples if has_label(sample, wanted)]


def _request(form: str) -> Message:
    return Message("user", f"Write {form}.")


def _answer(sample: Sample) -> Message:
    return Message("assistant", user_text(sample))
