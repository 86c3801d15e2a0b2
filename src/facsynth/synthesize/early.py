"""Dropping hopeless texts half-way: of the texts for one feature, the worse half is not finished.

A causal model reads the first words of a text as it reads them within the whole text, and a
sample's activation is the largest over its tokens. So the features that a beginning activates are
activated by the whole as well, up to how the last word is split into tokens: what is compared is
what the texts have reached already.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facsynth.chat.model import ChatRequest
from facsynth.errors import MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.records import Message, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.guide import Steering
from facsynth.synthesize.prompts import clean_reply
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.table.extract import extract_features
from facsynth.table.table import FeatureTable, TableSource
from facsynth.understand.spans import extract_settings

__all__ = ["EarlyChoice", "LocalHelp", "help_generator"]


@dataclass(frozen=True)
class LocalHelp:
    """What a local generator needs for the guides of a run."""

    steering: Steering | None = None
    watch: "EarlyChoice | None" = None

    @property
    def name(self) -> str:
        """What tells the helped model from others, for caches; empty without help."""
        return "".join(f" {part.name}" for part in (self.steering, self.watch) if part)


def help_generator(
    settings: SynthesisSettings, anchor: FeatureTable, lm: LanguageModel, sae: SparseAutoencoder
) -> LocalHelp:
    """What the settings of a run ask for.

    Raises:
        MismatchError: The SAE or the anchor does not allow it.
    """
    guide = settings.guide
    steering = Steering(lm, sae) if guide.steer else None
    if not guide.drop_after:
        return LocalHelp(steering)
    first = next(iter(anchor.samples()), None)
    watch = EarlyChoice(
        lm,
        sae,
        anchor.manifest.source,
        threshold=settings.threshold,
        n_tokens=guide.drop_after,
        as_text=first is not None and not first.messages,
    )
    return LocalHelp(steering, watch)


class EarlyChoice:
    """Compares the texts of a batch that want the same feature first; see `Watch`.

    Texts are ranked by how many wanted features they activate, then by the activation of the
    first, then by their order; the better half, rounded up, is written to its end. Texts that
    have ended take part but are not lost. Texts of one feature in different batches do not meet.
    """

    def __init__(
        self,
        lm: LanguageModel,
        sae: SparseAutoencoder,
        source: TableSource,
        *,
        threshold: float,
        n_tokens: int,
        as_text: bool,
    ) -> None:
        """Say how beginnings are read.

        Args:
            lm: The model that reads the features.
            sae: Its SAE.
            source: How the anchor was extracted; beginnings are read in the same way.
            threshold: Activation above which a feature counts as active, in SAE units.
            n_tokens: New tokens, in the generator's count, after which texts are compared.
            as_text: Whether samples are plain texts; else they are messages of a user.

        Raises:
            MismatchError: Only answers of the assistant count, which are written later.
        """
        if source.score == "assistant" and not as_text:
            raise MismatchError(
                "drop_after compares messages of users, but the anchor was extracted with --score "
                "assistant; set it to 0, or extract again with --score user"
            )
        self.n_tokens = n_tokens
        self._lm, self._sae, self._as_text = lm, sae, as_text
        self._settings, self._threshold = extract_settings(source), threshold
        self.name = f"compared after {n_tokens} at {threshold:g} by {sae.content_hash[:12]}"
        """What tells the watched model from others, for caches."""

    def hopeless(self, requests: Sequence[ChatRequest], texts: Sequence[str]) -> set[int]:
        """Positions of the texts that are behind."""
        groups: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            if request.wanted:
                groups.setdefault(request.wanted[0], []).append(place)
        several = {first: places for first, places in groups.items() if len(places) > 1}
        places = sorted(place for group in several.values() for place in group)
        progress = self._progress([requests[p] for p in places], [texts[p] for p in places])
        of = dict(zip(places, progress, strict=True))
        dropped = set[int]()
        for group in several.values():
            ranked = sorted(group, key=lambda place: (-of[place][0], -of[place][1], place))
            dropped.update(ranked[-(-len(ranked) // 2) :])
        return dropped

    def _progress(
        self, requests: Sequence[ChatRequest], texts: Sequence[str]
    ) -> list[tuple[int, float]]:
        """Wanted features that each text activates, and its activation of the first one."""
        if not texts:
            return []
        rows = extract_features(
            [self._sample(number, text) for number, text in enumerate(texts)],
            self._lm,
            self._sae,
            settings=self._settings,
        )
        found = []
        for number, request in enumerate(requests):
            entries = slice(*rows.row_starts[number : number + 2])
            features, values = rows.feature_ids[entries], rows.values[entries]
            active = features[values > np.float32(self._threshold)]
            own = values[features == request.wanted[0]]
            n_wanted = int(np.isin(active, request.wanted).sum())
            found.append((n_wanted, float(own[0]) if own.size else 0.0))
        return found

    def _sample(self, number: int, text: str) -> Sample:
        text = clean_reply(text) or "."
        if self._as_text:
            return Sample(str(number), text=text)
        return Sample(str(number), messages=(Message("user", text),))
