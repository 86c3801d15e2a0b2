"""Training a sparse autoencoder on a model's residual stream, which is never held as a whole.

Texts are read in random order, a group at a time; the group's activations are shuffled in memory,
used and dropped. If all of them fit into `memory_gb`, later epochs reuse them instead of running
the model again. A checkpoint at each group's end makes the run resumable, with the same result.
Several processes started by `torchrun` read a share of each group's texts and add up their
gradients, which gives the steps that one process would take.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel, check_layer
from facsynth.models.tokens import TokenizedSample
from facsynth.progress import SILENT, Progress, Task
from facsynth.records import Sample
from facsynth.sae.module import SaeConfig, SparseAutoencoder
from facsynth.sae.train.data import ActivationReader, ReadStates, TokenGroup, plan_groups
from facsynth.sae.train.ranks import ALONE, Ranks
from facsynth.sae.train.settings import TrainSettings
from facsynth.sae.train.state import (
    TrainState,
    fingerprint,
    initial_state,
    load_checkpoint,
    save_checkpoint,
)
from facsynth.sae.train.trainer import SaeTrainer

__all__ = ["folded_sae", "split_holdout", "train_sae"]


def train_sae(
    lm: LanguageModel,
    texts: Sequence[TokenizedSample],
    *,
    layer: int,
    settings: TrainSettings | None = None,
    checkpoints: Path | None = None,
    ranks: Ranks = ALONE,
    read: ReadStates | None = None,
    progress: Progress = SILENT,
) -> SparseAutoencoder:
    """Train an SAE on the output of one decoder layer.

    The input is centred and scaled so that the median norm is √d_model while training; both are
    folded into the weights at the end, so the result reads the raw residual stream.

    Args:
        lm: The language model.
        texts: Tokenised texts, all of them on every rank; only their scored tokens are used.
        layer: 0-based decoder layer.
        settings: See `TrainSettings`.
        checkpoints: Folder of the checkpoint; a run that finds one there resumes from it.
        ranks: The processes that train together; every one of them gets the result, rank 0
            writes the checkpoints.
        read: Reads the texts elsewhere, the next group while the SAE is trained on one; by default
            they are read here.
        progress: Where the bar is drawn.

    Raises:
        DataError: There are fewer tokens than one batch.
        MismatchError: The checkpoint belongs to other settings or data.
    """
    settings = settings or TrainSettings()
    check_layer(lm, layer)
    groups = plan_groups(texts, settings)
    run = fingerprint(lm, texts, layer, settings)
    state = load_checkpoint(checkpoints, run, lm.device, ranks)
    total = sum(texts[i].n_scored for group in groups for i in group)
    reader = ActivationReader(
        lm, texts, layer, settings=settings, groups=groups, ranks=ranks, read=read
    )
    with progress.task("training the SAE", total, "tokens") as task:
        if state is None:
            state = initial_state(reader.read(groups[0], 0, task).rows, settings, ranks)
        task.advance(sum(texts[i].n_scored for g in groups[: state.group] for i in g))
        trainer = SaeTrainer(state, settings, ranks, n_steps=total // settings.batch_tokens)
        numbers = range(state.group, len(groups))
        load = partial(_load, reader, groups, task)
        for group in map(load, numbers) if read is None else _one_ahead(load, numbers):
            trainer.use(group, task)
            state.group += 1
            if ranks.number == 0:
                save_checkpoint(checkpoints, run, state)
    facts = {"training_tokens": total}
    sae = folded_sae(state, settings, layer=layer, metadata=facts)
    sae.config = replace(sae.config, model_name=lm.name, model_hash=lm.content_hash)
    return sae.to(lm.device)


def _load(
    reader: ActivationReader, groups: Sequence[Sequence[int]], task: Task, number: int
) -> TokenGroup:
    return reader.read(groups[number], number, task)


def _one_ahead(load: Callable[[int], TokenGroup], numbers: range) -> Iterator[TokenGroup]:
    """The groups, each loaded while the one before is in use."""
    with ThreadPoolExecutor(1, "read") as pool:
        coming = [pool.submit(load, number) for number in numbers[:1]]
        for number in numbers:
            group = coming.pop().result()
            if number + 1 < numbers.stop:
                coming.append(pool.submit(load, number + 1))
            yield group


def split_holdout(samples: Sequence[Sample], *, share: float) -> tuple[list[Sample], list[Sample]]:
    """Split samples into used and held out, by a hash of their ids.

    The side of a sample does not depend on the other samples or their order.
    """
    if not 0 <= share < 1:
        raise DataError(f"--holdout is a share in [0, 1), not {share}")
    held = [
        int(hashlib.sha256(s.sample_id.encode()).hexdigest(), 16) % 1000 < round(1000 * share)
        for s in samples
    ]
    used = [s for s, out in zip(samples, held, strict=True) if not out]
    return used, [s for s, out in zip(samples, held, strict=True) if out]


def folded_sae(
    state: TrainState, settings: TrainSettings, *, layer: int, metadata: dict[str, Any]
) -> SparseAutoencoder:
    """The SAE of a state, with centring and scaling folded into its weights."""
    is_topk = settings.architecture == "topk"
    n_features, d_model = state.tensors["encoder"].shape
    config = SaeConfig(
        d_in=d_model,
        d_sae=n_features,
        architecture="topk" if is_topk else "jumprelu",
        layer=layer,
        k=settings.k if is_topk else None,
        metadata={"facsynth_training": asdict(settings), **metadata},
    )
    sae = SparseAutoencoder(config)
    t = {name: tensor.detach().float().cpu() for name, tensor in state.tensors.items()}
    sae.W_enc.data = (t["encoder"] * state.scale).T.contiguous()
    sae.b_enc.data = t["encoder_bias"]
    sae.W_dec.data = t["decoder"] / state.scale
    sae.b_dec.data = t["mean"] + t["decoder_bias"] / state.scale
    if not is_topk:
        sae.threshold.data = torch.full((n_features,), state.threshold)
    return sae.eval()
