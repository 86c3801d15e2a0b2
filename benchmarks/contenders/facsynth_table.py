"""facsynth, end to end: from samples to a feature table on disk."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from contenders.worker import Job, Text, TextResult, count_positions, serve
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.models.residual import decoder_layers
from facsynth.records import Message, Sample
from facsynth.sae.files import load_sae
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.extract import extract_table
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import FeatureTable


@dataclass(frozen=True)
class Loaded:
    """What every run needs."""

    lm: LanguageModel
    sae: SparseAutoencoder
    scratch: tempfile.TemporaryDirectory[str]


def load(job: Job) -> Loaded:
    torch.set_num_threads(job.threads)
    lm = load_language_model(job.model, device=job.device, dtype=job.dtype)
    return Loaded(lm, load_sae(job.sae).to(job.device), tempfile.TemporaryDirectory())


def run(loaded: Loaded, texts: Sequence[Text]) -> FeatureTable:
    folder = Path(tempfile.mkdtemp(dir=loaded.scratch.name))
    settings = ExtractSettings(max_length=max(text.n_tokens for text in texts))
    samples = [Sample(t.id, messages=tuple(Message(*turn) for turn in t.messages)) for t in texts]
    return extract_table(samples, loaded.lm, loaded.sae, folder, settings=settings)


def results(table: FeatureTable) -> list[TextResult]:
    found = table.activations()
    rows = zip(found.row_starts, found.row_starts[1:], strict=False)
    return [in_order(found.feature_ids[a:b], found.values[a:b]) for a, b in rows]


def in_order(ids: np.ndarray, values: np.ndarray) -> TextResult:
    order = np.argsort(ids)
    return ids[order], values[order]


def positions(loaded: Loaded, texts: Sequence[Text]) -> int:
    with count_positions(decoder_layers(loaded.lm.model)[0]) as seen:
        run(loaded, texts)
    return sum(seen)


if __name__ == "__main__":
    serve(
        load,
        run,
        packages=("facsynth", "torch", "transformers"),
        results=results,
        positions=positions,
    )
