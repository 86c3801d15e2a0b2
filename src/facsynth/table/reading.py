"""Texts through the model and one or more SAEs, in batches that fit.

Batches hold texts of similar length under a token budget. The prefix that all texts share (the
template's system message) runs once and is reused by texts that are not too long. Layers above
the deepest SAE do not run.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from facsynth.errors import ModelError
from facsynth.models.hardware import free_memory
from facsynth.models.lm import LanguageModel
from facsynth.models.residual import Prefix, batch_by_length, read_prefix, read_residuals
from facsynth.models.tokens import TokenizedSample
from facsynth.progress import Task
from facsynth.records import FeatureActivations
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.pooling import PooledBatch, join_rows, pool_tokens
from facsynth.table.settings import ExtractSettings

__all__ = [
    "Meter",
    "join_activations",
    "mean_states",
    "pick_batch_tokens",
    "prefix_pays",
    "read_activations",
    "read_in_halves",
    "shared_prefix",
]

T = TypeVar("T")

_SAVE_EVERY_S = 30.0
"""A stopped run loses at most this many seconds of work, and the batch that is running."""

_MIN_PREFIX = 8
"""Shorter shared prefixes are not worth the copy of their keys and values."""

_CPU_BATCH_TOKENS = 2048
"""More are slower on a CPU, whose caches hold no more."""

_MAX_BATCH_TOKENS = 32_768
"""A GPU is busy with fewer."""

_VALUES_PER_TOKEN = 32
"""Numbers a layer holds per token at its widest, in multiples of the model's width."""


class Meter:
    """Advances a task and shows the speed beside it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._start = time.perf_counter()
        self._n_samples = self._n_tokens = 0

    def add(self, n_samples: int, n_tokens: int) -> None:
        """Count samples that were read, and their tokens with the template."""
        self._n_samples += n_samples
        self._n_tokens += n_tokens
        seconds = max(time.perf_counter() - self._start, 1e-9)
        self._task.advance(
            n_samples,
            note=f"{self._n_samples / seconds:,.1f} samples/s, "
            f"{self._n_tokens / seconds:,.0f} tokens/s",
        )

    def skip(self, n_samples: int) -> None:
        """Count samples that an earlier run has read."""
        self._task.advance(n_samples)


def pick_batch_tokens(lm: LanguageModel) -> int:
    """Tokens per forward pass: a power of two by the free memory, at most 2,048 on a CPU.

    A GPU is tried with at least as many: where they do not fit, it says so and they are halved.
    """
    itemsize = 4 if lm.is_mixed else lm.model.dtype.itemsize
    fitting = free_memory(lm.device) // (2 * _VALUES_PER_TOKEN * lm.d_model * itemsize)
    power = 1 << max(0, fitting.bit_length() - 1)
    if lm.device.type != "cuda":
        return min(_CPU_BATCH_TOKENS, power)
    return min(_MAX_BATCH_TOKENS, max(_CPU_BATCH_TOKENS, power))


Batches = list[PooledBatch]
"""One forward pass: a batch of the same samples for each SAE."""


def read_activations(
    texts: Sequence[TokenizedSample],
    lm: LanguageModel,
    saes: Sequence[SparseAutoencoder],
    settings: ExtractSettings,
    meter: Meter,
    *,
    done: Sequence[Batches] = (),
    save: Callable[[list[Batches]], None] | None = None,
) -> list[FeatureActivations]:
    """Pooled activations of texts for each SAE, which is moved to the model's device.

    All of them come from one forward pass per batch.

    Args:
        texts: What to read.
        lm: The model.
        saes: SAEs of this model.
        settings: See `ExtractSettings`.
        meter: Where progress is shown.
        done: Batches that an earlier run has read; their texts are not read again.
        save: Called with the batches since the last call every 30 seconds, and when Ctrl-C stops
            the run.
    """
    found, unsaved = list(done), list[Batches]()
    known = {int(row) for batches in done for row in batches[0].rows}
    meter.skip(len(known))
    last = time.monotonic()
    try:
        for batches in _read_batches(texts, lm, saes, settings, known):
            found.append(batches)
            unsaved.append(batches)
            rows = batches[0].rows
            meter.add(len(rows), sum(len(texts[i].input_ids) for i in rows))
            if save and time.monotonic() - last > _SAVE_EVERY_S:
                save(unsaved)
                unsaved, last = [], time.monotonic()
    except KeyboardInterrupt:
        if save and unsaved:
            save(unsaved)
        raise
    return [
        join_activations(texts, sae.config.d_sae, [batches[i] for batches in found])
        for i, sae in enumerate(saes)
    ]


def _read_batches(
    texts: Sequence[TokenizedSample],
    lm: LanguageModel,
    saes: Sequence[SparseAutoencoder],
    settings: ExtractSettings,
    known: Collection[int],
) -> Iterator[Batches]:
    """Read the texts that are not known, in batches of similar length."""
    saes = [sae.to(lm.device) for sae in saes]
    layers = {sae.config.layer for sae in saes}
    prefix = shared_prefix(texts, lm, max(layers))
    skip = prefix.n_tokens if prefix else 0
    lengths = [_last_scored(text, skip) + 1 - skip for text in texts]
    size = settings.batch_tokens or pick_batch_tokens(lm)

    def read(batch: Sequence[int]) -> Batches:
        chosen = [texts[i] for i in batch]
        longest = skip + max(lengths[i] for i in batch)
        start = skip if prefix_pays(skip, longest, lm.d_model) else 0
        rows = [t.input_ids[start : skip + lengths[i]] for i, t in zip(batch, chosen, strict=True)]
        outputs = read_residuals(lm, rows, layers, prefix=prefix if start else None)
        owner, position = _scored_tokens(chosen)
        at = torch.from_numpy(owner), torch.from_numpy(position - start)
        inputs = {layer: output[at] for layer, output in outputs.items()}
        n_tokens = [text.n_scored for text in chosen]
        return [
            PooledBatch(
                np.array(batch, dtype=np.int64),
                pool_tokens(
                    inputs[sae.config.layer],
                    n_tokens,
                    position,
                    sae=sae,
                    gate=settings.gate,
                    pooling=settings.pooling,
                ),
                mean_states(inputs[sae.config.layer], n_tokens) if settings.hidden else None,
            )
            for sae in saes
        ]

    whole = batch_by_length(lengths, batch_tokens=size, max_rows=max(256, size // 8))
    batches = [[i for i in batch if i not in known] for batch in whole]
    for _, found in read_in_halves([batch for batch in batches if batch], lengths, read):
        yield found


def read_in_halves(
    batches: Sequence[Sequence[int]], lengths: Sequence[int], read: Callable[[Sequence[int]], T]
) -> Iterator[tuple[Sequence[int], T]]:
    """Read batches; one that does not fit into memory is halved, and so are those after it.

    The result of a batch comes from the call that succeeded for exactly these texts.

    Args:
        batches: Texts by their number.
        lengths: Length of each text in tokens.
        read: Reads a batch; called again with half of it when it runs out of memory.

    Yields:
        The batches as they were read, and what `read` gave.

    Raises:
        ModelError: A single text does not fit.
    """
    waiting = list(reversed(batches))
    most = float("inf")
    while waiting:
        batch = waiting.pop()
        n_padded = len(batch) * max(lengths[i] for i in batch)
        if len(batch) > 1 and n_padded > most:
            half = (len(batch) + 1) // 2
            waiting += [batch[half:], batch[:half]]
            continue
        result = _read_if_it_fits(batch, lengths, read)
        if result is not None:
            yield batch, result[0]
            continue
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        most = n_padded / 2
        waiting.append(batch)


def _read_if_it_fits(
    batch: Sequence[int], lengths: Sequence[int], read: Callable[[Sequence[int]], T]
) -> tuple[T] | None:
    """What `read` gives, or None; the error is let go with the tensors that it holds."""
    try:
        return (read(batch),)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise ModelError(
                f"a text of {lengths[batch[0]]:,} tokens does not fit into memory, even alone; "
                "lower --max-length, free memory, or pass another --device"
            ) from error
        return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "not enough memory"))


def _last_scored(text: TokenizedSample, skip: int) -> int:
    """Position of the last scored token; later tokens do not matter to a causal model."""
    positions = np.flatnonzero(text.scored)
    return int(positions[-1]) if len(positions) else skip


def shared_prefix(texts: Sequence[TokenizedSample], lm: LanguageModel, layer: int) -> Prefix | None:
    """The unscored tokens that all texts start with, when there are enough of them."""
    if len(texts) < 2:
        return None
    shortest = min(len(text.input_ids) for text in texts) - 1
    head = np.stack([text.input_ids[: max(shortest, 0)] for text in texts])
    scored = np.stack([text.scored[: max(shortest, 0)] for text in texts])
    same = (head == head[0]).all(0) & ~scored.any(0)
    n_shared = int(np.argmin(np.append(same, False)))
    return read_prefix(lm, head[0, :n_shared], layer) if n_shared >= _MIN_PREFIX else None


def prefix_pays(n_shared: int, longest: int, d_model: int) -> bool:
    """Whether the keys and values of the shared tokens are worth having for texts of this length.

    On a GPU, behind cached tokens attention runs under a mask over all pairs of tokens and not
    only over those before: about 2 d n^2 more operations a layer for n tokens. What is saved is
    24 d^2 for each shared token, the products with the 12 d^2 weights of a layer. On a CPU there
    is no such mask, but long texts gain nothing measurable from 24 shared tokens.
    """
    return longest**2 <= 12 * d_model * n_shared


def _scored_tokens(
    texts: Sequence[TokenizedSample],
) -> tuple[Int64[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_tokens"]]:
    """Row and position of every scored token of a batch."""
    positions = [np.flatnonzero(text.scored) for text in texts]
    owner = np.repeat(np.arange(len(texts)), [len(p) for p in positions])
    return owner, np.concatenate(positions)


def join_activations(
    texts: Sequence[TokenizedSample], n_features: int, batches: Sequence[PooledBatch]
) -> FeatureActivations:
    """The rows of texts from batches of them, in any order; a text in none has an empty row."""
    row_starts, joined = join_rows(batches, len(texts))
    hidden: Float32[np.ndarray, "n_samples d_model"] | None = None
    for batch in batches:
        if batch.hidden is not None:
            if hidden is None:
                hidden = np.zeros((len(texts), batch.hidden.shape[1]), np.float32)
            hidden[batch.rows] = batch.hidden
    return FeatureActivations(
        n_features=n_features,
        sample_ids=tuple(text.sample_id for text in texts),
        n_tokens=np.array([text.n_scored for text in texts], dtype=np.int64),
        row_starts=row_starts,
        feature_ids=joined.feature_ids,
        values=joined.values,
        positions=joined.positions,
        hidden=hidden,
    )


def mean_states(
    x: Float[Tensor, "n_tokens d_model"], n_tokens: Sequence[int]
) -> Float32[np.ndarray, "n_texts d_model"]:
    """Mean over each text's tokens, summed in float32; zeros for a text without any."""
    rows = [
        part.float().sum(0) / max(1, n)
        for part, n in zip(x.split_with_sizes(list(n_tokens)), n_tokens, strict=True)
    ]
    means: Float32[np.ndarray, "n_texts d_model"] = torch.stack(rows).cpu().numpy()
    return means
