"""Extraction where the settings say: here, on several devices, by vLLM, or on a Ray cluster."""

from collections.abc import Mapping
from pathlib import Path

from facsynth.data.read import Source
from facsynth.models.lm import LanguageModel
from facsynth.models.settings import ModelSettings
from facsynth.progress import SILENT, Progress
from facsynth.sae.module import SparseAutoencoder
from facsynth.scale.settings import ScaleSettings
from facsynth.table.extract import ReadParts, extract_named
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import FeatureTable

__all__ = ["extract_where"]


def extract_where(
    samples: Source,
    lm: LanguageModel,
    saes: Mapping[Path, tuple[SparseAutoencoder, str]],
    where: ScaleSettings,
    model: ModelSettings,
    *,
    settings: ExtractSettings | None = None,
    progress: Progress = SILENT,
) -> list[FeatureTable]:
    """Extract a table for each SAE; the tables do not depend on where.

    Args:
        samples: What `read_samples` takes, or samples.
        lm: The model; without weights unless it runs here.
        saes: The SAE of the table in each folder, and the SAE's name.
        where: By which processes and which engine.
        model: How other processes load the model.
        settings: See `ExtractSettings`.
        progress: Shows a bar.

    Returns:
        The tables; those of vLLM are equal to the others up to rounding.

    Raises:
        DataError: A package is missing, a process was killed, or as in `extract_table`.
        ModelError: vLLM does not know the precision, or the model gives NaN.
        MismatchError: An SAE does not fit the model.
    """
    given = settings or ExtractSettings()
    read = _reader(where, lm, model, given)
    return extract_named(samples, lm, saes, settings=given, progress=progress, read=read)


def _reader(
    where: ScaleSettings, lm: LanguageModel, model: ModelSettings, settings: ExtractSettings
) -> ReadParts | None:
    """What reads parts of tables; None for this process."""
    if where.ray is not None:
        from facsynth.scale.ray import read_on_ray

        return read_on_ray(where, lm, model, settings)
    if where.engine == "vllm":
        from facsynth.scale.vllm import read_with_vllm

        return read_with_vllm(where, lm, model, settings)
    if where.devices is not None:
        from facsynth.scale.devices import find_devices, read_on_devices

        return read_on_devices(find_devices(where.devices), lm, model, settings)
    return None
