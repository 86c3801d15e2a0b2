"""A sparse autoencoder: encoding and decoding."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from facsynth.errors import ModelError

__all__ = ["Gate", "SaeConfig", "SparseAutoencoder"]

_TILE_VALUES = 2**25
"""Pre-activations that exist at once when features are encoded in tiles: 128 MiB."""

_MIN_TILE = 256

Gate = Literal["standard", "topk", "jumprelu"]
"""The non-linearity, by SAELens' names: ReLU, the k largest per token, or a threshold each."""


@dataclass(frozen=True)
class SaeConfig:
    """What an SAE reads and how it encodes."""

    d_in: int
    """Width of the residual stream that it reads."""

    d_sae: int
    """Number of features."""

    architecture: Gate
    """The non-linearity."""

    layer: int
    """0-based decoder layer whose output it reads; 14 means `model.layers[14]`."""

    k: int | None = None
    """Features kept per token; only for `topk`."""

    apply_b_dec_to_input: bool = True
    """Whether the decoder bias is subtracted before encoding."""

    model_name: str = ""
    """Model that it was trained on."""

    model_hash: str = ""
    """Content hash of that model, when known."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """Everything else that the file said about itself."""

    def __post_init__(self) -> None:
        if self.architecture == "topk" and not (self.k and 0 < self.k <= self.d_sae):
            raise ModelError(f"a topk SAE needs k between 1 and {self.d_sae}, not {self.k}")


_State = tuple[tuple[Any, ...], tuple[tuple[int, int], ...]]
"""What a hash was computed from: the facts of the configuration; address and version of tensors."""


class SparseAutoencoder(nn.Module):
    """z = gate((x - b_dec) W_enc + b_enc), x̂ = z W_dec + b_dec."""

    def __init__(self, config: SaeConfig) -> None:
        super().__init__()
        self.config = config
        self._known_hash: tuple[_State, str] | None = None
        self.W_enc = nn.Parameter(torch.zeros(config.d_in, config.d_sae), requires_grad=False)
        self.b_enc = nn.Parameter(torch.zeros(config.d_sae), requires_grad=False)
        self.W_dec = nn.Parameter(torch.zeros(config.d_sae, config.d_in), requires_grad=False)
        self.b_dec = nn.Parameter(torch.zeros(config.d_in), requires_grad=False)
        if config.architecture == "jumprelu":
            self.threshold = nn.Parameter(torch.zeros(config.d_sae), requires_grad=False)

    @property
    def directions(self) -> Float32[np.ndarray, "n_features d_model"]:
        """The direction that each feature writes, a row of the decoder."""
        found: np.ndarray = self.W_dec.detach().float().cpu().numpy()
        return found

    @property
    def content_hash(self) -> str:
        """sha256 of the SAELens files that it was read from, else of its tensors and its gate.

        It is computed once and again after the weights change; only changes in place through
        `parameter.data` go unseen.
        """
        state = self._state()
        if self._known_hash is None or self._known_hash[0] != state:
            self._known_hash = state, self._hash_of_tensors()
        return self._known_hash[1]

    def set_content_hash(self, value: str) -> None:
        """Take the hash of the files that it was read from; it holds until the weights change."""
        self._known_hash = self._state(), value

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "SparseAutoencoder":
        """Keep the hash when the weights move to another device or precision."""
        known = self._known_hash
        is_valid = known is not None and known[0] == self._state()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if known is not None and is_valid:
            self._known_hash = self._state(), known[1]
        return self

    def _facts(self) -> tuple[Any, ...]:
        c = self.config
        return c.architecture, c.layer, c.k, c.apply_b_dec_to_input

    def _state(self) -> _State:
        """Changes whenever a weight is replaced or changed in place."""
        tensors = self.state_dict().values()
        places = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
        return self._facts(), tuple(places)

    def _hash_of_tensors(self) -> str:
        digest = hashlib.sha256(repr(self._facts()).encode())
        for tensor in self.state_dict().values():
            digest.update(tensor.float().cpu().flatten().numpy())
        return digest.hexdigest()

    def pre_activations(self, x: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, "n_tokens m"]:
        """Encoder output before the gate, in float32."""
        return torch.addmm(self.b_enc, self._centred(x), self.W_enc)

    def encode(self, x: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, "n_tokens n_features"]:
        """Activations as a dense matrix: the slow, obvious reference."""
        pre = self.pre_activations(x)
        if self.config.architecture == "topk":
            values, ids = self._largest(pre)
            return torch.zeros_like(pre).scatter_(1, ids, values)
        return self._gated(pre, slice(None))

    def encode_tiles(
        self,
        x: Float[Tensor, "n_tokens d_model"],
        *,
        positive: bool = False,
        tile: int | None = None,
    ) -> Iterator[tuple[int, Float[Tensor, "n_tokens _"]]]:
        """The columns of `encode`, a tile of neighbouring features at a time.

        Args:
            x: Residual stream of some tokens.
            positive: Every positive pre-activation in place of the SAE's own gate; the only way
                for `topk`, whose gate needs all features at once (see `encode_sparse`).
            tile: Features per tile; by default as many as fill 128 MiB.

        Yields:
            The first feature of the tile, and its activations.
        """
        for columns, pre in self._tiles(x, tile):
            yield columns.start, pre.relu_() if positive else self._gated(pre, columns)

    def encode_sparse(
        self, x: Float[Tensor, "n_tokens d_model"], *, tile: int | None = None
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, " n"]]:
        """Token, feature and value of every activation above zero, found tile by tile."""
        if self.config.architecture != "topk":
            parts = []
            for start, codes in self.encode_tiles(x, tile=tile):
                tokens, features = codes.nonzero(as_tuple=True)
                parts.append((tokens, features + start, codes[tokens, features]))
            tokens, features, kept_values = (torch.cat(p) for p in zip(*parts, strict=True))
            order = tokens.argsort(stable=True) if len(parts) > 1 else slice(None)
            return tokens[order], features[order], kept_values[order]
        values, ids = self._largest_of_tiles(x, tile)
        tokens = torch.arange(len(ids), device=ids.device).repeat_interleave(ids.shape[1])
        kept = values.flatten() > 0
        return tokens[kept], ids.flatten()[kept], values.flatten()[kept]

    def decode(self, z: Float[Tensor, "n_tokens n_features"]) -> Float[Tensor, "n_tokens d_model"]:
        """Reconstruction from dense activations."""
        return z @ self.W_dec + self.b_dec

    def reconstruct(
        self, x: Float[Tensor, "n_tokens d_model"]
    ) -> Float[Tensor, "n_tokens d_model"]:
        """Decode what is encoded."""
        if self.config.architecture != "topk":
            return self.decode(self.encode(x))
        values, ids = self._largest(self.pre_activations(x))
        summed = nn.functional.embedding_bag(ids, self.W_dec, per_sample_weights=values, mode="sum")
        return summed + self.b_dec

    def _centred(self, x: Tensor) -> Tensor:
        x = x.to(self.W_enc.dtype)
        return x - self.b_dec if self.config.apply_b_dec_to_input else x

    def _gated(self, pre: Tensor, columns: slice) -> Tensor:
        if self.config.architecture == "jumprelu":
            return torch.where(pre > self.threshold[columns], pre.relu(), 0.0)
        return pre.relu()

    def _tiles(self, x: Tensor, tile: int | None) -> Iterator[tuple[slice, Tensor]]:
        """Features and their pre-activations; tokens x features never exists as a whole."""
        tile = tile or max(_MIN_TILE, _TILE_VALUES // max(1, len(x)))
        x = self._centred(x)
        for start in range(0, self.config.d_sae, tile):
            columns = slice(start, min(start + tile, self.config.d_sae))
            yield columns, torch.addmm(self.b_enc[columns], x, self.W_enc[:, columns])

    def _largest(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        assert self.config.k is not None
        values, ids = pre.topk(self.config.k, dim=1, sorted=False)
        return values.relu(), ids

    def _largest_of_tiles(self, x: Tensor, tile: int | None) -> tuple[Tensor, Tensor]:
        """The k best so far, merged with the k best of each tile."""
        assert self.config.k is not None
        values = ids = None
        for columns, pre in self._tiles(x, tile):
            found, where = pre.topk(min(self.config.k, pre.shape[1]), dim=1, sorted=False)
            where = where + columns.start
            if values is not None and ids is not None:
                found, where = torch.cat([values, found], 1), torch.cat([ids, where], 1)
                found, best = found.topk(min(self.config.k, found.shape[1]), dim=1, sorted=False)
                where = where.gather(1, best)
            values, ids = found, where
        assert values is not None
        assert ids is not None
        return values.relu(), ids
