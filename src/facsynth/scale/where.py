"""Extraction where the settings say: here, on several devices, by vLLM, or on a Ray cluster."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from facsynth.data.read import Source
from facsynth.models.lm import LanguageModel
from facsynth.models.settings import ModelSettings
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.scale.settings import ScaleSettings
from facsynth.table.extract import ReadParts, extract_named
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import FeatureTable

__all__ = ["Extractor", "extract_where", "hold_cluster"]

_FEW_SAMPLES = 128
"""Samples of a part where some hundreds of texts are spread over processes."""


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


@dataclass(frozen=True)
class Extractor:
    """Extracts tables of few samples where the settings say; called as `extract_table` is."""

    where: ScaleSettings
    model: ModelSettings
    """How other processes load the model."""

    def __call__(
        self,
        samples: Sequence[Sample],
        lm: LanguageModel,
        sae: SparseAutoencoder,
        folder: Path,
        *,
        settings: ExtractSettings,
        sae_name: str,
        progress: Progress,
    ) -> FeatureTable:
        """The table, in its folder."""
        if self.where != ScaleSettings():
            settings = replace(settings, part_samples=_FEW_SAMPLES)
        saes = {folder: (sae, sae_name)}
        given = (self.where, self.model)
        return extract_where(samples, lm, saes, *given, settings=settings, progress=progress)[0]


@contextmanager
def hold_cluster(where: ScaleSettings) -> Iterator[None]:
    """Stay connected to the Ray cluster of the settings, if they name one.

    Raises:
        DataError: Ray is not installed, or the cluster cannot be reached.
    """
    if where.ray is None:
        yield
        return
    from facsynth.scale.ray import connected

    with connected(where):
        yield
