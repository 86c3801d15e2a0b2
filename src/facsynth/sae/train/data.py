"""The tokens that an SAE is trained on: in which order, by which rank, read from where."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.models.residual import batch_by_length, read_residual
from facsynth.models.tokens import TokenizedSample
from facsynth.progress import Task
from facsynth.sae.train.ranks import ALONE, Ranks
from facsynth.sae.train.settings import TrainSettings

__all__ = ["ActivationReader", "ReadStates", "TokenGroup", "plan_groups", "read_scored"]

ReadStates = Callable[[Sequence[Sequence[TokenizedSample]]], Iterable[Sequence[Tensor]]]
"""Reads batches of texts: gives for each batch, in order, the states of each text's scored tokens
(n_scored, d_model) in bfloat16, as `read_scored` does."""

_READ_TOKENS = 2048
"""Tokens per forward pass on a CPU, whose cache still holds the intermediate results."""

_READ_TOKENS_GPU = 16_384
"""The same on a GPU; not by its free memory, as rounding depends on what is read together."""


def plan_groups(texts: Sequence[TokenizedSample], settings: TrainSettings) -> list[list[int]]:
    """Text indices of each group, all epochs in order; each epoch has its own shuffle.

    Raises:
        DataError: There are fewer tokens than one batch.
    """
    counts = [text.n_scored for text in texts]
    if sum(counts) < settings.batch_tokens:
        raise DataError(
            f"the texts have {sum(counts):,} scored tokens, fewer than one batch of "
            f"{settings.batch_tokens:,}; add text or lower --batch-tokens"
        )
    n_groups = max(1, sum(counts) // settings.group_tokens)
    groups: list[list[int]] = []
    for epoch in range(settings.epochs):
        rng = np.random.default_rng([settings.random_seed, epoch])
        order = rng.permutation(len(texts))
        share = np.cumsum(np.array(counts)[order]) / sum(counts)
        owner = np.minimum((share * n_groups - 1e-9).astype(int), n_groups - 1)
        groups += [order[owner == g].tolist() for g in np.unique(owner)]
    return groups


@dataclass(frozen=True)
class TokenGroup:
    """The residual stream at a group's scored tokens, as far as this rank has read it."""

    rows: Float[Tensor, "n_own d_model"]
    """Residual stream of this rank's tokens, in the order of the texts."""

    order: Int[Tensor, " n_tokens"]
    """For each place in the shuffled group of all ranks the row of that token, -1 if elsewhere."""

    def batches(self, size: int) -> Iterator[tuple[int, Float[Tensor, "_ d_model"]]]:
        """Tokens in each batch over all ranks, and this rank's rows; the last is half full."""
        for chunk in torch.split(self.order, size):
            if len(chunk) >= size // 2:
                yield len(chunk), self.rows[chunk[chunk >= 0]]


class ActivationReader:
    """Reads a group's residual stream, from the model or from memory.

    Each rank reads the texts that it owns. What is kept is read together with the rest of its
    first group, so that rounding, which depends on the texts in a batch, is the same in a run
    that was interrupted.
    """

    def __init__(
        self,
        lm: LanguageModel,
        texts: Sequence[TokenizedSample],
        layer: int,
        *,
        settings: TrainSettings,
        groups: Sequence[Sequence[int]],
        ranks: Ranks = ALONE,
        read: ReadStates | None = None,
    ) -> None:
        self.lm, self.texts, self.layer, self.settings = lm, texts, layer, settings
        self.read_states = read or self._read_here
        self.number = ranks.number
        self.owner = _owners(texts, ranks.count)
        self.first_group = {i: group for group in reversed(groups) for i in group}
        n_bytes = sum(t.n_scored for t in texts) * lm.d_model * 2 / ranks.count
        self.keeps = n_bytes <= settings.memory_gb * 2**30 and settings.epochs > 1
        self.by_text: dict[int, Tensor] = {}

    def read(self, group: Sequence[int], number: int, task: Task) -> TokenGroup:
        """Read the group with this number, counted over all epochs, in a shuffled order."""
        own = [i for i in group if self.owner[i] == self.number]
        for index in own:
            if index not in self.by_text:
                self._run_model(self.first_group[index] if self.keeps else group, task)
        nothing = torch.empty((0, self.lm.d_model), dtype=torch.bfloat16, device=self.lm.device)
        rows = torch.cat([nothing, *(self.by_text[i] for i in own)])
        if not self.keeps:
            self.by_text.clear()
        return TokenGroup(rows, self._order(group, number).to(rows.device))

    def _run_model(self, group: Sequence[int], task: Task) -> None:
        group = [i for i in group if self.owner[i] == self.number]
        lengths = [len(self.texts[i].input_ids) for i in group]
        n_read, total = 0, sum(lengths)
        size = _READ_TOKENS if self.lm.device.type == "cpu" else _READ_TOKENS_GPU
        cut = batch_by_length(lengths, batch_tokens=size)
        batches = [[self.texts[group[b]] for b in batch] for batch in cut]
        task.advance(0, note=f"reading the model, {n_read:,} of {total:,} tokens")
        for batch, states in zip(cut, self.read_states(batches), strict=True):
            n_read += sum(lengths[b] for b in batch)
            for b, kept in zip(batch, states, strict=True):
                self.by_text[group[b]] = kept.to(self.lm.device)
            task.advance(0, note=f"reading the model, {n_read:,} of {total:,} tokens")

    def _read_here(self, batches: Sequence[Sequence[TokenizedSample]]) -> Iterator[list[Tensor]]:
        return (read_scored(self.lm, texts, self.layer) for texts in batches)

    def _order(self, group: Sequence[int], number: int) -> Int[Tensor, " n_tokens"]:
        """The same shuffle on every rank, of which each sees its own rows."""
        counts = [self.texts[i].n_scored for i in group]
        own = torch.from_numpy(np.repeat([self.owner[i] == self.number for i in group], counts))
        row = torch.where(own, own.cumsum(0) - 1, -1)
        rng = torch.Generator().manual_seed(self.settings.random_seed * 1_000_003 + number)
        return row[torch.randperm(len(row), generator=rng)]


def read_scored(
    lm: LanguageModel, texts: Sequence[TokenizedSample], layer: int
) -> list[Float[Tensor, "_ d_model"]]:
    """Residual stream at the scored tokens of each text, read in one batch, in bfloat16."""
    output = read_residual(lm, [text.input_ids for text in texts], layer)
    found = []
    for row, text in zip(output, texts, strict=True):
        scored = torch.from_numpy(text.scored).to(output.device)
        found.append(row[: len(scored)][scored].to(torch.bfloat16, copy=True))
    return found


def _owners(texts: Sequence[TokenizedSample], n_ranks: int) -> list[int]:
    """Rank of each text: dealt out by length, so that every rank has as much to read."""
    order = np.argsort([-len(text.input_ids) for text in texts], kind="stable")
    owner = np.empty(len(texts), dtype=int)
    owner[order] = np.arange(len(texts)) % n_ranks
    return [int(rank) for rank in owner]
