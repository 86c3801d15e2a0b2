"""Hidden states from several processes, each with its own model, for one that trains."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.models.settings import ModelSettings, Precision
from facsynth.models.tokens import TokenizedSample
from facsynth.sae.train.data import ReadStates, read_scored
from facsynth.scale.devices import Device

__all__ = ["states_from"]


@contextmanager
def states_from(
    devices: Sequence[Device], model: ModelSettings, lm: LanguageModel, layer: int
) -> Iterator[ReadStates]:
    """A process for each device, that together read texts for `train_sae`.

    Args:
        devices: From `find_devices`.
        model: How the processes load the model.
        lm: The model, whose precision they take.
        layer: 0-based decoder layer.

    Yields:
        What reads batches; the states do not depend on which process read them.
    """
    how = replace(model, dtype=cast(Precision, lm.dtype))
    context = get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(device)
    with ProcessPoolExecutor(len(devices), context, _Reader.load, (free, how, layer)) as pool:

        def read(batches: Sequence[Sequence[TokenizedSample]]) -> Iterator[list[Tensor]]:
            try:
                for found in pool.map(_Reader.read, batches):
                    yield [torch.from_numpy(states).view(torch.bfloat16) for states in found]
            except BrokenProcessPool as error:
                raise DataError(
                    "a process that reads the model was killed or could not load it; run the same "
                    "command again to go on from the checkpoint"
                ) from error

        yield read
        pool.shutdown(cancel_futures=True)


class _Reader:
    """What a process holds."""

    lm: LanguageModel
    layer: int

    @classmethod
    def load(cls, free: Any, model: ModelSettings, layer: int) -> None:
        """Take a device, and load the model there."""
        device = free.get()
        if device.cores:
            os.sched_setaffinity(0, device.cores)
            torch.set_num_threads(len(device.cores))
        cls.layer = layer
        cls.lm = load_language_model(
            model.model,
            device=device.name,
            dtype=model.dtype,
            trust_remote_code=model.trust_remote_code,
        )

    @classmethod
    def read(cls, texts: Sequence[TokenizedSample]) -> list[np.ndarray]:
        """States of the scored tokens of each text; numpy has no bfloat16, so as its bits."""
        found = read_scored(cls.lm, texts, cls.layer)
        return [states.cpu().view(torch.int16).numpy() for states in found]
