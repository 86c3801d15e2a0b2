"""Runs inside vLLM's workers: encodes and pools the states of a text where they are.

vLLM's own way out for hidden states (method `extract_hidden_states`) keeps those of some layers
beside the keys and values of a text until it is finished. Its example connector writes them to
disk, 8 kB a token for a width of 4,096. This one encodes them and writes the active features only.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facsynth.errors import FacsynthError
from facsynth.sae.files import load_sae
from facsynth.table.pooling import pool_tokens
from facsynth.table.reading import mean_states

try:
    from vllm.distributed.kv_transfer.kv_connector.v1.example_hidden_states_connector import (
        ExampleHiddenStatesConnector,
    )
except ImportError:  # elsewhere than in vLLM's workers the module is only looked at
    ExampleHiddenStatesConnector = object

__all__ = ["PooledStatesConnector"]


class PooledStatesConnector(ExampleHiddenStatesConnector):  # type: ignore[misc]
    """Writes, for each text, what every SAE finds in it to `STORAGE/REQUEST.npz`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._saes: list[Any] = []

    def wait_for_save(self) -> None:
        """Nothing waits: files appear under their names when they are complete."""

    def request_finished(self, request: Any, block_ids: list[int]) -> Any:
        """Also pass on which tokens are scored."""
        found = super().request_finished(request, block_ids)
        if pending := self._pending_saves.get(request.request_id):
            pending.scored = (request.kv_transfer_params or {})["scored"]
        return found

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, None]:
        """Encode what has been read; its blocks are free then."""
        done = set(finished_req_ids)
        if self.has_connector_metadata() and self._is_tp_rank_zero:
            for pending in self._get_connector_metadata().pending_saves:
                self._save(pending)
        return done or None, None

    def _save(self, pending: Any) -> None:
        path = Path(pending.filename).with_suffix(".npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = self._encode(self._states(pending), np.array(pending.scored, dtype=np.int64))
        except FacsynthError as error:
            found = {"error": np.array(str(error))}
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **found)
        os.replace(temporary, path)

    def _states(self, pending: Any) -> torch.Tensor:
        """States of the scored tokens (n_scored, n_layers, d_model)."""
        scored = torch.tensor(pending.scored, dtype=torch.long)
        blocks = torch.tensor(pending.block_ids, dtype=torch.long)
        block, inside = scored // self._block_size, scored % self._block_size
        cache = self._kv_cache
        states: torch.Tensor = cache[blocks[block].to(cache.device), :, inside.to(cache.device)]
        return states

    def _encode(self, states: torch.Tensor, positions: np.ndarray) -> dict[str, np.ndarray]:
        more = self._kv_transfer_config.get_from_extra_config
        if not self._saes:
            self._saes = [load_sae(path).to(states.device) for path in more("saes", [])]
        layers, found = more("layers", []), dict[str, np.ndarray]()
        for i, sae in enumerate(self._saes):
            x = states[:, layers.index(sae.config.layer)]
            with torch.inference_mode():
                pooled = pool_tokens(
                    x,
                    [len(positions)],
                    positions,
                    sae=sae,
                    gate=more("gate", "sae"),
                    pooling=more("pooling", "max"),
                )
            found |= {f"{i}.{name}": values for name, values in vars(pooled).items()}
            if more("hidden", False):
                found[f"{i}.hidden"] = mean_states(x, [len(positions)])
        return found
