"""Extraction with vLLM as the engine, for models of billions of parameters on GPUs.

vLLM runs whole models and keeps the states of the layers asked for; `vllm_worker` encodes and pools
them where they are. Its numbering is one higher than ours: the output of `model.layers[i]` is its
layer i + 1, with both halves of the residual stream added, and the last one without the final norm.
Prefix caching is off, because it leaves out the states of cached tokens.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch

from facsynth.errors import DataError, ModelError
from facsynth.models.lm import MIXED, LanguageModel
from facsynth.models.settings import ModelSettings
from facsynth.models.source import model_folder
from facsynth.models.tokens import TokenizedSample
from facsynth.records import FeatureActivations
from facsynth.sae.files import save_sae
from facsynth.sae.module import SparseAutoencoder
from facsynth.scale.settings import ScaleSettings
from facsynth.table.extract import ReadParts
from facsynth.table.pooling import PooledBatch, PooledRows
from facsynth.table.reading import Meter, join_activations
from facsynth.table.settings import ExtractSettings
from facsynth.table.work import Part, read_parts

__all__ = ["read_with_vllm"]

_AT_ONCE = 256
"""Texts that are handed to the engine together."""

_LATE_S = 60.0
"""Longest wait for a file of a text that the engine has finished."""


def read_with_vllm(
    where: ScaleSettings, lm: LanguageModel, model: ModelSettings, settings: ExtractSettings
) -> ReadParts:
    """A reader with vLLM as the engine, for `extract_where`; tables are equal up to rounding.

    Without vLLM, reading is a DataError; a ModelError is a precision that it has not, or NaN.
    """

    def read(parts: Sequence[Part], meter: Meter) -> None:
        goals = next((part.goals for part in parts if part.goals), ())
        if goals:
            with _engine(lm, [goal.sae for goal in goals], where, model, settings) as engine:
                read_parts(parts, lm, settings, meter, read=engine)
        else:
            read_parts(parts, lm, settings, meter)

    return read


@contextmanager
def _engine(
    lm: LanguageModel,
    saes: Sequence[SparseAutoencoder],
    where: ScaleSettings,
    model: ModelSettings,
    settings: ExtractSettings,
) -> Iterator[Callable[..., list[FeatureActivations]]]:
    """VLLM with the SAEs in its workers, to be called as `read_activations` is."""
    try:
        from vllm import LLM
    except ImportError as error:
        raise DataError("--engine vllm needs vLLM; run `pip install 'facsynth[vllm]'`") from error
    if lm.dtype == MIXED:
        raise ModelError("vLLM knows no precision `mixed`; pass --dtype bfloat16 or float32")
    layers = sorted({sae.config.layer for sae in saes})
    with TemporaryDirectory(prefix="facsynth-vllm-") as scratch:
        places = [str(Path(scratch) / f"sae-{i}") for i in range(len(saes))]
        for sae, place in zip(saes, places, strict=True):
            save_sae(sae, place)
        more = {
            "shared_storage_path": str(Path(scratch) / "found"),
            "saes": places,
            "layers": layers,
            "gate": settings.gate,
            "pooling": settings.pooling,
            "hidden": settings.hidden,
        }
        engine = LLM(
            model=str(model_folder(model.model, code=model.trust_remote_code)),
            skip_tokenizer_init=True,
            trust_remote_code=model.trust_remote_code,
            dtype=lm.dtype,
            tensor_parallel_size=where.tensor_parallel,
            max_model_len=settings.max_length + 1,
            max_num_batched_tokens=max(settings.batch_tokens or 8192, settings.max_length + 1),
            enable_prefix_caching=False,
            **_here(),
            speculative_config=_speculative(layers),
            kv_transfer_config={
                "kv_connector": "PooledStatesConnector",
                "kv_connector_module_path": "facsynth.scale.vllm_worker",
                "kv_role": "kv_producer",
                "kv_connector_extra_config": more,
            },
        )
        yield _Reader(engine, list(saes))


def _here() -> dict[str, Any]:
    """What vLLM is told of a machine without a GPU."""
    if torch.cuda.is_available():
        return {}
    memory = psutil.virtual_memory()
    return {
        "enforce_eager": True,  # compiling for a CPU takes minutes
        # It refuses to start where so much of the memory is not free.
        "gpu_memory_utilization": 0.5 * memory.available / memory.total,
    }


def _speculative(layers: Sequence[int]) -> dict[str, Any]:
    """The draft that drafts nothing and keeps states; vLLM's layer i + 1 is our layer i."""
    ids = {"eagle_aux_hidden_state_layer_ids": [layer + 1 for layer in layers]}
    draft = {"hf_config": ids}
    return {
        "method": "extract_hidden_states",
        "num_speculative_tokens": 1,
        "draft_model_config": draft,
    }


class _Reader:
    """Reads texts with vLLM."""

    def __init__(self, engine: Any, saes: Sequence[SparseAutoencoder]) -> None:
        self._engine, self._saes = engine, saes

    def __call__(
        self,
        texts: Sequence[TokenizedSample],
        lm: LanguageModel,
        saes: Sequence[SparseAutoencoder],
        settings: ExtractSettings,
        meter: Meter,
        **_: Any,
    ) -> list[FeatureActivations]:
        """Activations for each SAE; see `read_activations`."""
        which = [next(i for i, one in enumerate(self._saes) if one is sae) for sae in saes]
        batches: list[list[PooledBatch]] = [[] for _ in saes]
        filled = [i for i, text in enumerate(texts) if text.n_scored]
        for start in range(0, len(filled), _AT_ONCE):
            some = filled[start : start + _AT_ONCE]
            for row, found in zip(some, self._run([texts[i] for i in some]), strict=True):
                for of_sae, number in zip(batches, which, strict=True):
                    of_sae.append(_batch(row, number, found))
            meter.add(len(some), sum(len(texts[i].input_ids) for i in some))
        meter.skip(len(texts) - len(filled))
        return [
            join_activations(texts, sae.config.d_sae, found)
            for sae, found in zip(saes, batches, strict=True)
        ]

    def _run(self, texts: Sequence[TokenizedSample]) -> Iterator[dict[str, np.ndarray]]:
        """What the workers found in each text."""
        from vllm import SamplingParams

        prompts, params = [], []
        for text in texts:
            scored = np.flatnonzero(text.scored).tolist()
            prompts.append({"prompt_token_ids": text.input_ids[: scored[-1] + 1].tolist()})
            extra = {"kv_transfer_params": {"scored": scored}}
            params.append(
                SamplingParams(max_tokens=1, temperature=0, detokenize=False, extra_args=extra)
            )
        for done in self._engine.generate(prompts, params, use_tqdm=False):
            path = Path(done.kv_transfer_params["hidden_states_path"]).with_suffix(".npz")
            yield _read_found(path)


def _read_found(path: Path) -> dict[str, np.ndarray]:
    """What a worker wrote, which may be a moment after the text is finished."""
    end = time.monotonic() + _LATE_S
    while not path.is_file():
        if time.monotonic() > end:
            raise ModelError(
                f"vLLM finished a text and did not write {path}; run the command again"
            )
        time.sleep(0.005)
    with np.load(path, allow_pickle=False) as stored:
        found = dict(stored)
    path.unlink()
    if "error" in found:
        raise ModelError(str(found["error"]))
    return found


def _batch(row: int, number: int, found: Mapping[str, np.ndarray]) -> PooledBatch:
    names = ("n_entries", "feature_ids", "values", "positions")
    pooled = PooledRows(*(found[f"{number}.{name}"] for name in names))
    return PooledBatch(np.array([row]), pooled, found.get(f"{number}.hidden"))
