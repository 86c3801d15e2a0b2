"""Help for the generator beyond the prompt; each is a switch that is off unless it is asked for.

Steering adds the decoder directions of the wanted features to the residual stream while a local
model writes. What was written is always scored by the model without steering. In a prototype a
small strength raised the share of own hits from 41 to 49 %, and 8 or more broke the text.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from facsynth.chat.model import ChatRequest
from facsynth.errors import DataError, MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.models.residual import check_layer, replace_residual
from facsynth.sae.module import SparseAutoencoder

__all__ = ["STRENGTHS", "GuideSettings", "Steering", "Trial", "best_strength"]

STRENGTHS = (0.0, 2.0, 4.0, 8.0)
"""What `auto` tries."""

_MOST_FLAWED_MORE = 0.1
"""Share of texts that a strength may spoil beyond what the unsteered generator spoils."""


@dataclass(frozen=True)
class GuideSettings:
    """What helps the generator."""

    steer: float | str = 0.0
    """Strength of steering, in SAE units; 0 for none, `auto` for one that the run looks for. Only
    where the generator is the model that reads the features."""

    examples: bool = False
    """Whether prompts show kept texts of features that fire near the wanted one in the anchor."""

    drop_after: int = 0
    """Tokens after which a local generator's texts for one feature are compared and the worse half
    is dropped; 0 for never."""

    def __post_init__(self) -> None:
        if isinstance(self.steer, str) and self.steer != "auto":
            raise DataError(f"steer is {self.steer!r}; it must be a number or auto")
        if not isinstance(self.steer, str) and not 0 <= self.steer < float("inf"):
            raise DataError(f"steer is {self.steer}; it must be 0 or more, or auto")
        if self.drop_after < 0:
            raise DataError(f"drop_after is {self.drop_after}; it must be 0 or more")


class Steering:
    """Adds each request's strength times the decoder directions of its features.

    The directions are added at the SAE's layer and at the last position of each forward pass only:
    the prompt is read as it is, and what is written is steered. With the input scale folded into
    the SAE's weights, a strength of 4 moves the residual stream by what an activation of 4 adds
    to the reconstruction.
    """

    def __init__(self, lm: LanguageModel, sae: SparseAutoencoder) -> None:
        """Take the directions of an SAE.

        Raises:
            MismatchError: The SAE reads a stream of another width.
        """
        check_layer(lm, sae.config.layer)
        if sae.config.d_in != lm.d_model:
            raise MismatchError(
                f"{lm.name} has a residual stream of {lm.d_model}, but the SAE reads "
                f"{sae.config.d_in}; steering needs an SAE of the generator"
            )
        self._lm, self._sae = lm, sae
        self.name = f"steered by {sae.content_hash[:12]}"
        """What tells the steered model from others, for caches."""

    @contextmanager
    def __call__(
        self, batch: Sequence[ChatRequest]
    ) -> Iterator[Callable[[list[int]], None] | None]:
        """While open, the rows of the batch are steered; what it yields is told which they are."""
        if not any(request.steer and request.strength for request in batch):
            yield None
            return
        offsets = self._offsets(batch)
        rows = list(range(len(batch)))

        def select_rows(chosen: list[int]) -> None:
            rows[:] = chosen

        def add(output: Tensor) -> Tensor:
            if not rows:
                return output
            steered = output.clone()
            steered[:, -1] += offsets[rows].to(output.dtype)
            return steered

        with replace_residual(self._lm, self._sae.config.layer, add):
            yield select_rows

    def _offsets(self, batch: Sequence[ChatRequest]) -> Float[Tensor, "n_rows d_model"]:
        directions = self._sae.W_dec.detach()
        rows = [request.strength * directions[list(request.steer)].sum(dim=0) for request in batch]
        return torch.stack(rows).to(self._lm.device)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a few texts at one strength."""

    strength: float
    n_texts: int
    own_hits: float
    """Share of the texts that may be kept and activate the feature that they were written for."""

    flawed: float
    """Share of the texts that are not well-formed or not of the asked length; copies are."""


def best_strength(strengths: Sequence[float], write: Callable[[float], Trial]) -> list[Trial]:
    """Try strengths upwards until one spoils the texts; the first of the result is the best.

    Args:
        strengths: What to try, ascending; the first, 0, is what others are compared with.
        write: Writes a few texts at a strength.

    Returns:
        The trials, best first: most own hits among those that spoil at most a tenth of the texts
        more than the first; ties go to the smaller strength. Those that spoil come last.
    """
    trials = list[Trial]()
    for strength in strengths:
        trials.append(write(strength))
        if _spoils(trials[-1], trials[0]):
            break
    return sorted(trials, key=lambda t: (_spoils(t, trials[0]), -t.own_hits, t.strength))


def _spoils(trial: Trial, plain: Trial) -> bool:
    return trial.flawed > plain.flawed + _MOST_FLAWED_MORE
