"""What commands load: samples, the model with its SAE, tables.

Torch is loaded late, behind the checks that do not need it.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.data.files import named_sources
from facsynth.data.read import REJECTED_FILE, SampleList, read_samples
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.errors import DataError
from facsynth.models.default_model import default_sae_folder
from facsynth.models.settings import ModelSettings
from facsynth.models.source import model_folder, model_shape
from facsynth.progress import Progress
from facsynth.sae.sources import find_sae
from facsynth.show import visible_text
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.alike import check_same_features, precision_remark
from facsynth.table.pair import load_table_sae, load_table_tokenizer
from facsynth.table.table import FeatureTable, open_table

if TYPE_CHECKING:
    from facsynth.coverage.threshold import ChosenThreshold
    from facsynth.models.lm import LanguageModel
    from facsynth.sae.module import SparseAutoencoder

__all__ = [
    "check_model_layer",
    "check_sources",
    "check_tables",
    "load_active",
    "load_included",
    "load_model",
    "load_pair",
    "load_relevant",
    "load_samples",
    "load_table_sae",
    "load_table_tokenizer",
    "load_tables",
    "load_threshold",
    "load_topics",
    "load_with_saes",
    "say_report",
    "table_names",
]


def load_samples(
    data: str | Sequence[str], reading: ReadSettings, *, output: Path | None = None
) -> SampleList:
    """Samples of one or more files, folders or Hub data sets; says what was read."""
    names = (data,) if isinstance(data, str) else data
    rejected = output and output / REJECTED_FILE
    samples = read_samples(named_sources(names), reading, rejected=rejected)
    say_report(samples.report)
    return samples


def say_report(report: ReadReport) -> None:
    """Tell the user what was read and what was not."""
    for sentence in report.sentences():
        click.echo(visible_text(sentence), err=True)


def load_model(
    model: ModelSettings, progress: Progress, *, weights: bool = True
) -> "LanguageModel":
    """The language model, or without its weights only what it is."""
    from facsynth.models.lm import load_language_model

    if weights:
        progress.say(f"loading {model.model or 'the embedded default model'}")
    return load_language_model(
        model.model,
        device=model.device,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
        weights=weights,
    )


def load_pair(
    model: ModelSettings,
    sae: str | None,
    progress: Progress,
    *,
    check: "Callable[[SparseAutoencoder], None] | None" = None,
) -> "tuple[LanguageModel, SparseAutoencoder]":
    """Model and SAE; a model other than the embedded one needs an SAE, too."""
    lm, [loaded] = load_with_saes(model, [sae] if sae else [], progress, check=check)
    return lm, loaded


def check_sources(model: ModelSettings, saes: Sequence[str] | None = None) -> list[Path]:
    """Find model and SAEs without loading torch; None where the command needs no SAE.

    Returns:
        Where each SAE is, or the embedded one.
    """
    if model.model and saes is not None and not saes:
        raise DataError(
            f"--model {model.model} needs an --sae that was trained on it; `fac sae train` "
            "makes one"
        )
    folders = [find_sae(sae) for sae in saes or ()] or [default_sae_folder()]
    model_folder(model.model, code=model.trust_remote_code)
    return folders


def load_with_saes(
    model: ModelSettings,
    saes: Sequence[str],
    progress: Progress,
    *,
    check: "Callable[[SparseAutoencoder], None] | None" = None,
    weights: bool = True,
) -> "tuple[LanguageModel, list[SparseAutoencoder]]":
    """The model and its SAEs, by default the embedded one.

    The SAEs are read first, passed to `check` and compared with the model's configuration, so that
    most mistakes are found before the weights of the model are loaded.
    """
    folders = check_sources(model, saes)

    from facsynth.models.lm import pick_device
    from facsynth.sae.files import load_sae
    from facsynth.sae.pairing import PairWarning, check_shape, name_remark

    device = pick_device(model.device)
    loaded = [load_sae(folder) for folder in folders]
    shape = model_shape(model.model, trust_remote_code=model.trust_remote_code)
    for sae in loaded:
        if check is not None:
            check(sae)
        check_shape(sae.config, shape)
    lm = load_model(model, progress, weights=weights)
    for remark in dict.fromkeys(name_remark(sae.config, lm.name) for sae in loaded):
        if remark:
            progress.say(f"warning: {remark}")
            warnings.simplefilter("ignore", PairWarning)  # it has been said
    return lm, [sae.to(device) for sae in loaded] if weights else loaded


def check_model_layer(model: ModelSettings, layer: int) -> None:
    """Raise a ModelError unless the model has this 0-based layer, without loading its weights."""
    from facsynth.models.lm import check_layer

    check_layer(model_shape(model.model, trust_remote_code=model.trust_remote_code), layer)


def load_tables(paths: Sequence[Path]) -> list[FeatureTable]:
    """Feature tables that speak of the same features; says so where their precisions differ.

    Raises:
        MismatchError: One differs from the first in its model, its SAE or what was scored.
    """
    tables = [open_table(path) for path in paths]
    for table in tables[1:]:
        check_tables(tables[0], table)
    return tables


def load_active(
    paths: Sequence[Path],
    *,
    threshold: float | None,
    relevant: Path | None = None,
    anchor: Path | None = None,
) -> tuple[list[FeatureTable], list[ActiveRows], tuple[str, ...]]:
    """Feature tables that speak of the same features, that of the anchor last, and active rows.

    Returns:
        Both, and the notes on how the threshold was chosen, if it was not given.
    """
    tables = load_tables([*paths, anchor] if anchor else paths)
    flags = load_relevant(relevant, tables[0].manifest.source.n_features)
    chosen = load_threshold(tables, flags, given=threshold, has_anchor=anchor is not None)
    delta = chosen.threshold
    rows = [active_rows(table, threshold=delta, relevant=flags) for table in tables]
    return tables, rows, chosen.notes


def load_threshold(
    tables: Sequence[FeatureTable],
    relevant: Any = None,
    *,
    given: float | None,
    has_anchor: bool = False,
    n_samples: int | None = None,
) -> "ChosenThreshold":
    """δ, and how it was chosen where it was not given.

    Args:
        tables: What is measured; the last one is the anchor if `has_anchor`.
        relevant: Flags of the features that count; all when None.
        given: What the user wants.
        has_anchor: Whether there is an anchor, from which it is chosen.
        n_samples: Size of the set that is compared with the anchor; the smallest table's if None.
    """
    from facsynth.coverage.threshold import choose_threshold, count_samples, own_threshold

    if has_anchor:
        *others, anchor = tables
        size = n_samples or min(map(count_samples, others), default=1)
        return choose_threshold(anchor, size, relevant, given=given)
    return own_threshold(tables, relevant, given=given)


def check_tables(one: FeatureTable, other: FeatureTable) -> None:
    """Refuse tables that do not speak of the same features, and say where precisions differ."""
    check_same_features(one, other)
    if remark := precision_remark(one, other):
        click.echo(visible_text(f"warning: {remark}"), err=True)


def table_names(paths: Sequence[Path]) -> list[str]:
    """Distinct names for files and folders: the shortest ends of their paths that differ.

    A path that is given twice gets a number.
    """
    parts = [path.resolve().parts for path in paths]
    names: list[str] = []
    for n_parts in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-n_parts:]) for one in parts]
        if len(set(names)) == len(set(parts)):
            break
    seen = [names[:i].count(name) + 1 for i, name in enumerate(names)]
    return [f"{name} ({n})" if n > 1 else name for name, n in zip(names, seen, strict=True)]


def load_relevant(path: Path | None, n_features: int) -> Any:
    """Flags of the features that --relevant names; None without it."""
    from facsynth.understand.relevance import read_relevant

    return None if path is None else read_relevant(path, n_features)


def load_topics(path: Path) -> list[list[int]]:
    """Features of each topic: the `--json` of `fac coverage` or `fac look`, or topics.jsonl."""
    try:
        text = path.read_text(encoding="utf-8")
        try:
            rows = [json.loads(text)]
        except ValueError:
            rows = [json.loads(line) for line in text.splitlines() if line]
        if len(rows) == 1 and "feature_ids" not in rows[0]:
            rows = rows[0].get("standouts") or rows[0]["topics"]
        return [[int(feature) for feature in row["feature_ids"]] for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} names no topics ({error}); pass what `fac look --json` printed, or "
            "the topics.jsonl of a run"
        ) from error


def load_included(named: str | None, sample_ids: tuple[str, ...]) -> tuple[int, ...]:
    """Positions of samples: ids between commas, or a file of ids or of samples."""
    if named is None:
        return ()
    if Path(named).is_file():
        lines = Path(named).read_text(encoding="utf-8").split("\n")
        wanted = [_included_id(line.strip(), named) for line in lines if line.strip()]
    else:
        wanted = [word.strip() for word in named.split(",") if word.strip()]
    positions = {sample_id: i for i, sample_id in enumerate(sample_ids)}
    for sample_id in wanted:
        if sample_id not in positions:
            raise DataError(
                f"{sample_id} is not in the pool, whose ids look like {sample_ids[0]}; check "
                "--include, which takes a file or ids between commas"
            )
    return tuple(positions[sample_id] for sample_id in wanted)


def _included_id(line: str, path: str) -> str:
    """The id in a line: the line itself, or `sample_id` of a JSON object."""
    if not line.startswith("{"):
        return line
    try:
        return str(json.loads(line)["sample_id"])
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: {line[:60]!r} is not a sample with a sample_id") from error
