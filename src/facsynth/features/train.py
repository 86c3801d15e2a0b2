"""Training a TopK sparse autoencoder on a model's residual stream, streaming.

Texts are read in random order, a group at a time; the group's activations are shuffled in memory,
used and let go. If all of them fit into `memory_gb`, later epochs reuse them instead of running
the model again. A checkpoint at each group's end makes the run resumable, with the same result.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facsynth.data.write import atomic_path
from facsynth.errors import DataError, MismatchError, ModelError
from facsynth.features.lm import LanguageModel
from facsynth.features.residual import batch_by_length, check_layer, read_residual
from facsynth.features.sae import SaeConfig, SparseAutoencoder
from facsynth.features.tokens import TokenizedSample
from facsynth.features.topk_step import Parameters, topk_gradients
from facsynth.progress import SILENT, Progress, Task
from facsynth.records import Sample

__all__ = ["TrainSettings", "split_holdout", "train_sae"]

CHECKPOINT_FILE = "checkpoint.safetensors"
_NORM_FLOOR = 1e-6


@dataclass(frozen=True)
class TrainSettings:
    """How an SAE is trained. Defaults suit a small model on a CPU."""

    n_features: int = 4096
    """Width of the SAE."""

    k: int = 32
    """Features kept per token at the end of the annealing."""

    epochs: int = 3
    """Passes over the tokens."""

    batch_tokens: int = 4096
    """Tokens per optimiser step."""

    learning_rate: float = 1e-3
    """Peak of Adam's rate: 2 % of the steps warm up, the last 30 % decay linearly to a tenth."""

    k_start: float = 4.0
    """Training starts with `k_start` times k, which falls linearly to k over the first 10 %."""

    aux_weight: float = 1 / 32
    """Weight of the auxiliary loss against dead features; 0 switches it off."""

    dead_after: int = 500_000
    """A feature is dead when it has not fired for so many tokens."""

    max_norm_ratio: float = 10.0
    """Tokens whose norm exceeds the median norm by more than this are left out."""

    group_tokens: int = 250_000
    """Tokens whose activations are shuffled together."""

    memory_gb: float = 8.0
    """If all activations fit into so much memory, the model is run once and not each epoch."""

    seed: int = 0
    """Seed of the initial weights and of every shuffle."""

    def __post_init__(self) -> None:
        if not 0 < self.k <= self.n_features:
            raise ModelError(f"k must lie between 1 and {self.n_features} features, not {self.k}")
        if self.epochs < 1 or self.batch_tokens < 1 or self.group_tokens < self.batch_tokens:
            raise ModelError(
                f"epochs ({self.epochs}) must be positive and group_tokens ({self.group_tokens}) "
                f"at least batch_tokens ({self.batch_tokens})"
            )


@dataclass
class _State:
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]
    step: int = 0
    group: int = 0
    """Groups used so far, over all epochs."""

    loss: float = math.nan
    variance: float = math.nan
    scale: float = math.nan


def train_sae(
    lm: LanguageModel,
    texts: Sequence[TokenizedSample],
    *,
    layer: int,
    settings: TrainSettings | None = None,
    checkpoints: Path | None = None,
    progress: Progress = SILENT,
) -> SparseAutoencoder:
    """Train a TopK SAE on the output of one decoder layer.

    The input is centred and scaled so that the median norm is √d_model while training; both are
    folded into the weights at the end, so the result reads the raw residual stream.

    Args:
        lm: The language model.
        texts: Tokenised texts; only their scored tokens are used.
        layer: 0-based decoder layer.
        settings: See `TrainSettings`.
        checkpoints: Folder of the checkpoint; a run that finds one there goes on from it.
        progress: Where the bar is drawn.

    Raises:
        DataError: There are fewer tokens than one batch.
        MismatchError: The checkpoint belongs to other settings or data.
    """
    settings = settings or TrainSettings()
    check_layer(lm, layer)
    groups = _plan_groups(texts, settings)
    run = _fingerprint(lm, texts, layer, settings)
    state = _load_checkpoint(checkpoints, run, lm.device)
    total = sum(texts[i].n_scored for group in groups for i in group)
    n_steps = total // settings.batch_tokens
    kept = _Activations(lm, texts, layer, settings, groups)
    with progress.task("training the SAE", total, "tokens") as task:
        if state is None:
            state = _initial_state(kept.read(groups[0], 0, task), settings)
        task.advance(sum(texts[i].n_scored for g in groups[: state.group] for i in g))
        optimizer = _optimizer(state, settings)
        while state.group < len(groups):
            data = kept.read(groups[state.group], state.group, task)
            _train_group(data, state, optimizer, settings, n_steps, task)
            state.group += 1
            _save_checkpoint(checkpoints, run, state)
    return _finish(state, lm, layer, settings, total)


def split_holdout(samples: Sequence[Sample], *, share: float) -> tuple[list[Sample], list[Sample]]:
    """Split samples into used and held out, by a hash of their ids.

    A sample falls on the same side whatever else is in the data and in which order.
    """
    if not 0 <= share < 1:
        raise DataError(f"--holdout is a share in [0, 1), not {share}")
    held = [
        int(hashlib.sha256(s.sample_id.encode()).hexdigest(), 16) % 1000 < round(1000 * share)
        for s in samples
    ]
    used = [s for s, out in zip(samples, held, strict=True) if not out]
    return used, [s for s, out in zip(samples, held, strict=True) if out]


def _plan_groups(texts: Sequence[TokenizedSample], settings: TrainSettings) -> list[list[int]]:
    """Text indices of each group, all epochs in order; each epoch has its own shuffle."""
    counts = [text.n_scored for text in texts]
    if sum(counts) < settings.batch_tokens:
        raise DataError(
            f"the texts have {sum(counts):,} scored tokens, fewer than one batch of "
            f"{settings.batch_tokens:,}; add text or lower --batch-tokens"
        )
    n_groups = max(1, sum(counts) // settings.group_tokens)
    groups: list[list[int]] = []
    for epoch in range(settings.epochs):
        rng = np.random.default_rng([settings.seed, epoch])
        order = rng.permutation(len(texts))
        share = np.cumsum(np.array(counts)[order]) / sum(counts)
        owner = np.minimum((share * n_groups - 1e-9).astype(int), n_groups - 1)
        groups += [order[owner == g].tolist() for g in np.unique(owner)]
    return groups


class _Activations:
    """Reads a group's residual stream, from the model or from memory.

    What is kept is read together with the rest of its first group, so that rounding, which depends
    on the texts in a batch, is the same in a run that was interrupted.
    """

    def __init__(
        self,
        lm: LanguageModel,
        texts: Sequence[TokenizedSample],
        layer: int,
        settings: TrainSettings,
        groups: Sequence[Sequence[int]],
    ) -> None:
        self.lm, self.texts, self.layer, self.settings = lm, texts, layer, settings
        self.first_group = {i: group for group in reversed(groups) for i in group}
        n_bytes = sum(t.n_scored for t in texts) * lm.d_model * 2
        self.keeps = n_bytes <= settings.memory_gb * 2**30 and settings.epochs > 1
        self.by_text: dict[int, Tensor] = {}

    def read(
        self, group: Sequence[int], number: int, task: Task
    ) -> Float[Tensor, "n_tokens d_model"]:
        """Residual stream of the group's scored tokens, in a shuffled order."""
        task.advance(0, note="reading the model")
        for index in group:
            if index not in self.by_text:
                self._run_model(self.first_group[index] if self.keeps else group)
        data = torch.cat([self.by_text[i] for i in group])
        if not self.keeps:
            self.by_text.clear()
        rng = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)
        return data[torch.randperm(len(data), generator=rng)]

    def _run_model(self, group: Sequence[int]) -> None:
        lengths = [len(self.texts[i].input_ids) for i in group]
        for batch in batch_by_length(lengths, batch_tokens=4096):
            indices = [group[b] for b in batch]
            output = read_residual(self.lm, [self.texts[i].input_ids for i in indices], self.layer)
            for row, index in enumerate(indices):
                scored = torch.from_numpy(self.texts[index].scored)
                kept = output[row, : len(scored)][scored.to(output.device)]
                self.by_text[index] = kept.to(torch.bfloat16, copy=True)


def _initial_state(data: Float[Tensor, "n_tokens d_model"], settings: TrainSettings) -> _State:
    """Weights and normalisation from the first group."""
    norms = data.float().norm(dim=1)
    usual = data[norms <= settings.max_norm_ratio * norms.median()].float()
    mean = usual.mean(0)
    d_model = data.shape[1]
    scale = math.sqrt(d_model) / float((usual - mean).norm(dim=1).median().clamp_min(_NORM_FLOOR))
    rng = torch.Generator().manual_seed(settings.seed)
    decoder = torch.randn(settings.n_features, d_model, generator=rng)
    decoder /= decoder.norm(dim=1, keepdim=True)
    tensors = {
        "encoder": decoder.clone(),
        "encoder_bias": torch.zeros(settings.n_features),
        "decoder": decoder,
        "decoder_bias": torch.zeros(d_model),
        "mean": mean.cpu(),
        "max_norm": norms.median().cpu() * settings.max_norm_ratio,
        "last_fired": torch.zeros(settings.n_features, dtype=torch.long),
    }
    tensors = {name: tensor.to(data.device) for name, tensor in tensors.items()}
    variance = float(((usual - mean) * scale).square().mean())
    return _State(tensors, scale=scale, variance=variance)


def _parameters(state: _State) -> Parameters:
    t = state.tensors
    return Parameters(t["encoder"], t["encoder_bias"], t["decoder"], t["decoder_bias"])


def _optimizer(state: _State, settings: TrainSettings) -> torch.optim.Adam:
    weights = _parameters(state).tensors()
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate, fused=True)
    for index, weight in enumerate(weights):
        if f"moment1.{index}" in state.tensors:
            optimizer.state[weight] = {
                "step": torch.tensor(float(state.step), device=weight.device),
                "exp_avg": state.tensors[f"moment1.{index}"],
                "exp_avg_sq": state.tensors[f"moment2.{index}"],
            }
    return optimizer


def _train_group(
    data: Float[Tensor, "n_tokens d_model"],
    state: _State,
    optimizer: torch.optim.Adam,
    settings: TrainSettings,
    n_steps: int,
    task: Task,
) -> None:
    for batch in _batches(data, settings.batch_tokens):
        raw = batch.float()
        usual = raw[raw.norm(dim=1) <= state.tensors["max_norm"]]
        x = (usual - state.tensors["mean"]) * state.scale
        _train_step(x, state, optimizer, settings, state.step / max(1, n_steps))
        dead = state.tensors["last_fired"] > settings.dead_after
        explained = 1 - state.loss / state.variance
        task.advance(
            len(batch),
            note=f"loss {state.loss:.4f}, explained {explained:.3f}, dead {int(dead.sum())}",
        )
    for index, weight in enumerate(_parameters(state).tensors()):
        if weight in optimizer.state:
            state.tensors[f"moment1.{index}"] = optimizer.state[weight]["exp_avg"]
            state.tensors[f"moment2.{index}"] = optimizer.state[weight]["exp_avg_sq"]


def _batches(data: Tensor, size: int) -> Iterator[Tensor]:
    """Batches of a group, the last one at least half full."""
    for start in range(0, len(data), size):
        if len(data) - start >= size // 2:
            yield data[start : start + size]


def _train_step(
    x: Float[Tensor, "n_tokens d_model"],
    state: _State,
    optimizer: torch.optim.Adam,
    settings: TrainSettings,
    done: float,
) -> None:
    """One optimiser step; `done` is the share of the run that lies behind, in [0, 1]."""
    weights = _parameters(state)
    last_fired = state.tensors["last_fired"]
    gradients = topk_gradients(
        x,
        weights,
        k=_annealed_k(settings, done),
        dead=last_fired > settings.dead_after if settings.aux_weight else None,
        aux_weight=settings.aux_weight,
    )
    slope = gradients.decoder
    along = (slope * weights.decoder).sum(1, keepdim=True)
    gradients = replace(gradients, decoder=slope - along * weights.decoder)
    for weight, gradient in zip(weights.tensors(), gradients.tensors(), strict=True):
        weight.grad = gradient
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * _rate(done)
    optimizer.step()
    weights.decoder.div_(weights.decoder.norm(dim=1, keepdim=True).clamp_min(_NORM_FLOOR))
    last_fired += len(x)
    last_fired[gradients.fired] = 0
    state.step += 1
    state.loss = gradients.loss if math.isnan(state.loss) else _smooth(state.loss, gradients.loss)


def _smooth(old: float, new: float) -> float:
    return 0.95 * old + 0.05 * new


def _rate(done: float) -> float:
    """Share of the peak learning rate."""
    return min(1.0, (done + 1e-3) / 0.02, 0.1 + 0.9 * max(0.0, 1 - done) / 0.3)


def _annealed_k(settings: TrainSettings, done: float) -> int:
    factor = settings.k_start + (1 - settings.k_start) * min(1.0, done / 0.1)
    return min(settings.n_features, max(settings.k, round(settings.k * factor)))


def _finish(
    state: _State, lm: LanguageModel, layer: int, settings: TrainSettings, total: int
) -> SparseAutoencoder:
    """The SAE with centring and scaling folded into its weights."""
    config = SaeConfig(
        d_in=lm.d_model,
        d_sae=settings.n_features,
        architecture="topk",
        layer=layer,
        k=settings.k,
        model_name=lm.name,
        model_hash=lm.content_hash,
        metadata={"facsynth_training": asdict(settings), "training_tokens": total},
    )
    sae = SparseAutoencoder(config)
    t = {name: tensor.detach().float().cpu() for name, tensor in state.tensors.items()}
    sae.W_enc.data = (t["encoder"] * state.scale).T.contiguous()
    sae.b_enc.data = t["encoder_bias"]
    sae.W_dec.data = t["decoder"] / state.scale
    sae.b_dec.data = t["mean"] + t["decoder_bias"] / state.scale
    return sae.to(lm.device).eval()


def _fingerprint(
    lm: LanguageModel, texts: Sequence[TokenizedSample], layer: int, settings: TrainSettings
) -> str:
    """What a checkpoint must agree with."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.input_ids.tobytes())
        digest.update(text.scored.tobytes())
    return json.dumps(
        {
            "model": lm.content_hash,
            "layer": layer,
            "texts": digest.hexdigest(),
            **asdict(settings),
        },
        sort_keys=True,
    )


def _save_checkpoint(folder: Path | None, run: str, state: _State) -> None:
    if folder is None:
        return
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    facts = {name: value for name, value in vars(state).items() if name != "tensors"}
    with atomic_path(folder / CHECKPOINT_FILE) as temporary:
        save_file(state.tensors, temporary, {"run": run, "state": json.dumps(facts)})


def _load_checkpoint(folder: Path | None, run: str, device: torch.device) -> _State | None:
    if folder is None or not (folder / CHECKPOINT_FILE).is_file():
        return None
    from safetensors import safe_open

    with safe_open(folder / CHECKPOINT_FILE, "pt", device=str(device)) as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["run"] != run:
        raise MismatchError(
            f"{folder / CHECKPOINT_FILE} belongs to a run with other settings, model or texts; "
            "choose another output folder or delete it to start anew"
        )
    return _State(tensors, **json.loads(metadata["state"]))
