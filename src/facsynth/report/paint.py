"""A short second pass of the model: how much each token of a shown text activates a feature.

A feature table keeps one peak per sample and feature. To paint every token of the texts on a page,
the model reads these texts again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from facsynth.models.lm import LanguageModel
from facsynth.models.residual import batch_by_length, read_residual
from facsynth.models.tokens import TokenizedSample
from facsynth.progress import SILENT, Progress
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.reading import prefix_pays, shared_prefix
from facsynth.table.settings import Gating

__all__ = ["Painter"]

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Painter:
    """The pair that extracted the tables."""

    lm: LanguageModel
    sae: SparseAutoencoder
    gate: Gating = "sae"
    progress: Progress = SILENT

    def activations(
        self, texts: Sequence[TokenizedSample], wanted: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, Mapping[int, Float32[np.ndarray, " _"]]]]:
        """Activation of some features by every token of each text, 0 at tokens without a score.

        Args:
            texts: Samples as the model reads them.
            wanted: For each of them the features to look at.

        Yields:
            The place of a text, and by feature one value per token in SAE units.
        """
        lengths = [len(text.input_ids) for text in texts]
        batches = batch_by_length(lengths, batch_tokens=_BATCH_TOKENS)
        prefix = shared_prefix(texts, self.lm, self.sae.config.layer)
        skip = prefix.n_tokens if prefix else 0
        with self.progress.task("painting texts", len(texts), "texts") as task:
            for places in batches:
                longest = max(lengths[place] for place in places)
                start = skip if prefix_pays(skip, longest, self.lm.d_model) else 0
                rows = [texts[place].input_ids[start:] for place in places]
                shared = prefix if start else None
                residual = read_residual(self.lm, rows, self.sae.config.layer, prefix=shared)
                for place, x in zip(places, residual, strict=True):
                    features = sorted(set(wanted[place]))
                    yield place, self._of_text(texts[place], x, start, features)
                task.advance(len(places))

    @torch.inference_mode()
    def _of_text(
        self, text: TokenizedSample, x: torch.Tensor, start: int, wanted: Sequence[int]
    ) -> dict[int, np.ndarray]:
        at = np.flatnonzero(text.scored)
        found = np.zeros((len(wanted), len(text.input_ids)), dtype=np.float32)
        x = x[torch.from_numpy(at - start).to(x.device)].to(self.sae.W_enc.device)
        if self.gate == "sae" and self.sae.config.architecture == "topk":
            found[:, at] = self.sae.encode(x)[:, list(wanted)].T.float().cpu().numpy()
        else:
            for start, codes in self.sae.encode_tiles(x, positive=self.gate == "relu"):
                inside = [f for f in wanted if start <= f < start + codes.shape[1]]
                columns = codes[:, [f - start for f in inside]].T.float().cpu().numpy()
                for f, values in zip(inside, columns, strict=True):
                    found[wanted.index(f), at] = values
        return dict(zip(wanted, found, strict=True))
