"""What a training run knows at a moment, and how a killed run gets it back."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from facsynth.errors import MismatchError
from facsynth.folders import atomic_path
from facsynth.models.lm import LanguageModel
from facsynth.models.tokens import TokenizedSample
from facsynth.sae.train.ranks import Ranks
from facsynth.sae.train.settings import TrainSettings
from facsynth.sae.train.topk_step import Parameters

__all__ = [
    "CHECKPOINT_FILE",
    "NORM_FLOOR",
    "TrainState",
    "fingerprint",
    "initial_state",
    "load_checkpoint",
    "save_checkpoint",
]

CHECKPOINT_FILE = "checkpoint.safetensors"
NORM_FLOOR = 1e-6
"""Smallest norm that something is divided by."""


@dataclass
class TrainState:
    """What a checkpoint holds; the same on every rank."""

    tensors: dict[str, Tensor]
    """Weights, moments of Adam, normalisation, and when each feature fired last."""

    step: int = 0
    """Optimiser steps so far."""

    group: int = 0
    """Groups used so far, over all epochs."""

    loss: float = math.nan
    """Running average of the reconstruction loss."""

    variance: float = math.nan
    """Loss of an SAE that puts out the mean."""

    scale: float = math.nan
    """Factor on the centred input."""

    threshold: float = 0.0
    """Running average of the smallest pre-activation that BatchTopK keeps."""

    def parameters(self) -> Parameters:
        """The weights."""
        t = self.tensors
        return Parameters(t["encoder"], t["encoder_bias"], t["decoder"], t["decoder_bias"])


def initial_state(
    rows: Float[Tensor, "n_own d_model"], settings: TrainSettings, ranks: Ranks
) -> TrainState:
    """Weights, and the normalisation that the first group asks for.

    Args:
        rows: This rank's rows of the group.
        settings: See `TrainSettings`.
        ranks: Those that hold the other rows.
    """
    norms = rows.float().norm(dim=1)
    max_norm = ranks.joined(norms).median() * settings.max_norm_ratio
    usual = rows[norms <= max_norm].float()
    count = float(ranks.total(torch.tensor(len(usual), device=rows.device)))
    mean = ranks.total(usual.sum(0)) / count
    centred = usual - mean
    d_model = rows.shape[1]
    median = float(ranks.joined(centred.norm(dim=1)).median().clamp_min(NORM_FLOOR))
    scale = math.sqrt(d_model) / median
    spread = float(ranks.total(centred.square().sum()))
    rng = torch.Generator().manual_seed(settings.random_seed)
    decoder = torch.empty(settings.n_features, d_model)
    if settings.variant.initial == "kaiming":
        torch.nn.init.kaiming_uniform_(decoder, generator=rng)
        encoder = decoder.clone()
    else:
        decoder.normal_(generator=rng)
        decoder /= decoder.norm(dim=1, keepdim=True)
        encoder = decoder * settings.encoder_norm
    if settings.variant.tied:
        decoder = encoder.clone()
    tensors = {
        "encoder": encoder,
        "encoder_bias": torch.zeros(settings.n_features),
        "decoder": decoder,
        "decoder_bias": torch.zeros(d_model),
        "mean": mean,
        "max_norm": max_norm,
        "last_fired": torch.zeros(settings.n_features, dtype=torch.long),
    }
    tensors = {name: tensor.to(rows.device) for name, tensor in tensors.items()}
    return TrainState(tensors, scale=scale, variance=spread * scale**2 / (count * d_model))


def fingerprint(
    lm: LanguageModel, texts: Sequence[TokenizedSample], layer: int, settings: TrainSettings
) -> str:
    """What a checkpoint must agree with; the number of ranks is free."""
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


def save_checkpoint(folder: Path | None, run: str, state: TrainState) -> None:
    """Write the state, replacing the one before in one step."""
    if folder is None:
        return
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    facts = {name: value for name, value in vars(state).items() if name != "tensors"}
    with atomic_path(folder / CHECKPOINT_FILE) as temporary:
        save_file(state.tensors, temporary, {"run": run, "state": json.dumps(facts)})


def load_checkpoint(
    folder: Path | None, run: str, device: torch.device, ranks: Ranks
) -> TrainState | None:
    """The state of a run that was stopped; None when there is none.

    Raises:
        MismatchError: It belongs to other settings, model or texts, or ranks found other ones.
    """
    state = _read_checkpoint(folder, run, device)
    found = ranks.joined(torch.tensor([-1 if state is None else state.step], device=device))
    if int(found.min()) != int(found.max()):
        raise MismatchError(
            f"the {ranks.count} processes found different checkpoints in {folder} (steps "
            f"{', '.join(map(str, found.tolist()))}); all of them must see the same folder"
        )
    return state


def _read_checkpoint(folder: Path | None, run: str, device: torch.device) -> TrainState | None:
    if folder is None or not (folder / CHECKPOINT_FILE).is_file():
        return None
    from safetensors import safe_open

    with safe_open(folder / CHECKPOINT_FILE, "pt", device=str(device)) as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["run"] != run:
        raise MismatchError(
            f"{folder / CHECKPOINT_FILE} belongs to another run, which differs in "
            f"{_differences(json.loads(metadata['run']), json.loads(run))}; choose another output "
            "folder or delete it to start anew"
        )
    return TrainState(tensors, **json.loads(metadata["state"]))


def _differences(old: dict[str, object], new: dict[str, object]) -> str:
    """What differs, settings with both values: `learning_rate (0.001, now 0.002)`."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(
        name if name in ("model", "texts") else f"{name} ({old.get(name)}, now {new.get(name)})"
        for name in names
    )
