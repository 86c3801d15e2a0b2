"""What a run belongs to: tables, model and SAE that match, and one folder for one run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from facsynth.chat.model import ChatModel
from facsynth.data.write import write_json
from facsynth.errors import DataError, MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.prompts import PROMPT_VERSION
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.task_format import TaskFormat
from facsynth.table.alike import check_same_features
from facsynth.table.table import FeatureTable

__all__ = ["as_seeds", "check_origin", "claim_folder", "describe_run"]


def as_seeds(seed: FeatureTable | Sequence[FeatureTable]) -> tuple[FeatureTable, ...]:
    """One seed table, or several that together are the seed.

    Raises:
        DataError: There is none.
    """
    seeds = (seed,) if isinstance(seed, FeatureTable) else tuple(seed)
    if not seeds:
        raise DataError("there is no seed table; give at least one")
    return seeds


def check_origin(
    anchor: FeatureTable,
    seeds: Sequence[FeatureTable],
    lm: LanguageModel,
    sae: SparseAutoencoder,
) -> None:
    """Raise a MismatchError unless tables, model and SAE belong together."""
    for seed in seeds:
        check_same_features(anchor, seed)
    source = anchor.manifest.source
    for what, wanted, given, option in (
        ("SAE", source.sae_hash, sae.content_hash, "--sae"),
        ("model", source.model_hash, lm.content_hash, "--model"),
    ):
        if given != wanted:
            raise MismatchError(
                f"{anchor.folder} was extracted with {what} {wanted[:12]}, but this run uses "
                f"{given[:12]}; extract again or pass the matching {option}"
            )


def describe_run(
    anchor: FeatureTable,
    seeds: Sequence[FeatureTable],
    relevant: Bool[np.ndarray, " n_features"],
    chat: ChatModel,
    settings: SynthesisSettings,
    task: TaskFormat,
) -> dict[str, object]:
    """Everything that a run's candidates depend on."""
    hashes = [seed.manifest.samples_hash for seed in seeds]
    return {
        "anchor": anchor.manifest.samples_hash,
        "seed": hashes[0] if len(hashes) == 1 else hashes,
        "source": asdict(anchor.manifest.source),
        "relevant": hashlib.sha256(np.packbits(relevant).tobytes()).hexdigest(),
        "generator": chat.name,
        "prompt_version": PROMPT_VERSION,
        "task": {"name": task.name, "content_hash": task.content_hash},
        "settings": asdict(settings),
    }


def claim_folder(folder: Path, description: dict[str, object]) -> None:
    """Write down what the folder is for, or check that it is for this run."""
    path = folder / "plan.json"
    if not path.is_file():
        write_json(description, path)
        return
    wanted = json.loads(json.dumps(description))
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        raise MismatchError(
            f"{folder} holds a run with another {' and '.join(differing)}; choose another output "
            "folder or delete it"
        )
