"""Where rows come from: files, folders, Hub data sets, and Python objects."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from facsynth.data.formats import FORMATS, ending_of, file_rows
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow
from facsynth.data.write import sample_row
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.remote import local_copy

__all__ = ["Opened", "Source", "named_sources", "open_rows"]

Source = Any
"""A file, a folder, an address of fsspec, a Hub data set, several of these, or rows: a list of
texts, objects or samples, a `datasets.Dataset`, or a table of pandas, Polars or pyarrow."""

_NO_DATA = re.compile(
    r"(licen[cs]e|readme|requirements|notice|citation|changelog|contributing|authors|copying)\b"
    r"|rejected\.jsonl$|(dataset_infos?|dataset_dict|state|config|manifest|summary|plan|recipe|package)\.json$"
)
"""Matches names of files that accompany data."""

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_UNITS = {"json": "item", "parquet": "row", "arrow": "row", "feather": "row"}
_TABLES = {
    "pandas": lambda table: table.to_dict("records") if table.ndim == 2 else table.tolist(),
    "polars": lambda table: table.iter_rows(named=True),
    "pyarrow": lambda table: table.to_pylist(),
}


@dataclass(frozen=True)
class Opened:
    """The rows of a source, and the files that they come from."""

    rows: Iterator[PlacedRow]
    files: tuple[str, ...] = ()
    """Files that are read, where a folder or several sources were given."""

    left_out: tuple[str, ...] = ()
    """Files of a folder that are not."""


def open_rows(source: Source, settings: ReadSettings) -> Opened:
    """Find the files of a source and open its rows.

    Raises:
        DataError: There is no such file or folder, or it holds no data.
    """
    sources = _named(source)
    if sources is None:
        return Opened(islice(_given_rows(source), settings.limit))
    paths, left_out, hub, is_one = list[Path](), list[Path](), list[re.Match[str]](), True
    for name in sources:
        if on_hub := _hub_name(name):
            hub.append(on_hub)
        elif (path := local_copy(name)).is_dir():
            found, others = _files_of(path, settings)
            paths += found
            left_out += others
            is_one = False
        elif path.exists():
            paths.append(path)
        else:
            raise DataError(f"no file or folder {name}; for a Hub data set write hf://owner/name")
    rows = _all_rows(paths, hub, settings)
    is_one = is_one and len(paths) + len(hub) == 1 and not left_out
    shown = () if is_one else tuple(map(str, paths)) + tuple(found[0] for found in hub)
    return Opened(islice(rows, settings.limit), shown, tuple(path.name for path in left_out))


def named_sources(names: Sequence[str]) -> Source:
    """Names of data as a source that is never taken for texts."""
    return names[0] if len(names) == 1 else [n if "://" in n else Path(n) for n in names]


def _named(source: Source) -> list[str] | None:
    """Names of files, folders or Hub data sets; None where rows were given."""
    if isinstance(source, str | Path):
        return [str(source)]
    if not isinstance(source, list | tuple) or not source:
        return None
    if all(isinstance(item, Path) or (isinstance(item, str) and _is_name(item)) for item in source):
        return [str(item) for item in source]
    return None


def _is_name(text: str) -> bool:
    return text.startswith("hf://") or (
        len(text) < 4096 and "\n" not in text and (_has_ending(text) or os.path.exists(text))
    )


def _has_ending(name: str) -> bool:
    return ending_of(Path(name)) is not None


def _given_rows(source: Source) -> Iterator[PlacedRow]:
    table = _TABLES.get(type(source).__module__.partition(".")[0])
    items = table(source) if table else source
    if not isinstance(items, Iterable):
        raise DataError(f"a {type(source).__name__} cannot be read; pass a path or a list of rows")
    for number, item in enumerate(items, 1):
        value = sample_row(item) if isinstance(item, Sample) else item
        yield PlacedRow("the rows given", f"row {number}", f"row-{number}", value)


def _all_rows(
    paths: list[Path], hub: list[re.Match[str]], settings: ReadSettings
) -> Iterator[PlacedRow]:
    for path, stem in zip(paths, _stems(paths), strict=True):
        unit = _UNITS.get((ending_of(path) or ".").split(".")[1], "line")
        for row in file_rows(path, settings.separator):
            yield PlacedRow(str(path), f"{unit} {row.line}", f"{stem}-{row.number}", row.value)
    for found in hub:
        yield from _hub_rows(found, settings)


def _stems(paths: list[Path]) -> list[str]:
    """What the ids of each file begin with: its name, with the folder where names repeat."""
    names = [path.name[: -len(ending_of(path) or path.suffix)] for path in paths]
    return [
        name if names.count(name) == 1 else f"{path.resolve().parent.name}-{name}"
        for path, name in zip(paths, names, strict=True)
    ]


# Folders


def _files_of(folder: Path, settings: ReadSettings) -> tuple[list[Path], list[Path]]:
    """Data files of a folder in the order of their names, and the others."""
    if settings.data_dir:
        folder = folder / settings.data_dir
        if not folder.is_dir():
            raise DataError(f"no folder {folder}; check --data-dir")
    if saved := _saved_files(folder, settings.split):
        return saved, []
    here = sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    if (folder / "manifest.json").is_file() and (folder / "samples").is_dir():
        raise DataError(f"{folder} is a feature table; pass the data that it was made of")
    if {"synthetic.jsonl", "summary.json"} <= {file.name for file in here}:
        return [folder / "synthetic.jsonl"], []
    data = [
        file for file in here if _has_ending(file.name) and not _NO_DATA.match(file.name.lower())
    ]
    if not data:
        return _files_below(folder, settings)
    data = _of_split(folder, data, settings.split)
    return data, [file for file in here if file not in data and file.name != "README.md"]


def _files_below(folder: Path, settings: ReadSettings) -> tuple[list[Path], list[Path]]:
    """Files of the one sub-folder with data, such as `data/` of a Hub data set."""
    names = sorted(
        inner.name for inner in folder.iterdir() if inner.is_dir() and inner.name[0] != "."
    )
    names = ["data"] if "data" in names else names
    if len(names) == 1 and not settings.data_dir:
        return _files_of(folder / names[0], settings)
    if names:
        raise DataError(
            f"no samples in {folder} itself; name one of its folders with --data-dir: "
            f"{', '.join(names[:8])}"
        )
    raise DataError(f"no samples in {folder}: none of its files ends in {', '.join(FORMATS)}")


def _saved_files(folder: Path, split: str) -> list[Path]:
    """Shards of a folder that `datasets` wrote with `save_to_disk`; none for another folder."""
    if (folder / "dataset_dict.json").is_file():
        splits = _json(folder / "dataset_dict.json").get("splits", [])
        if split not in splits:
            raise DataError(f"{folder} has no split {split!r}; pass --split {' or '.join(splits)}")
        folder = folder / split
    if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
        return []
    shards = _json(folder / "state.json").get("_data_files", [])
    return [folder / Path(str(shard["filename"])).name for shard in shards]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}


def _of_split(folder: Path, files: list[Path], split: str) -> list[Path]:
    """Files whose names say no split, or the wanted one; all where none says the default one."""
    known = {word: name for name, words in _SPLITS.items() for word in words}
    said = {
        file: next((known[w] for w in re.split(r"[-_.]", file.name.lower()) if w in known), None)
        for file in files
    }
    wanted = known.get(split.lower(), split)
    if wanted in said.values():
        return [file for file in files if said[file] in (None, wanted)]
    if wanted == "train":
        return files
    names = sorted({name for name in said.values() if name}) or ["none in their names"]
    raise DataError(f"{folder} has no file of split {split!r}; its files say {', '.join(names)}")


# The Hub

_HUB_NAME = re.compile(
    r"(?P<mark>hf://(datasets/)?|https://huggingface\.co/datasets/)?(?P<name>[\w.-]+/[\w.-]+)"
    r"(@(?P<revision>[\w.-]+))?(?(mark)(?:/(?P<rest>[\w./-]+))?)"
)


def _hub_name(source: str) -> re.Match[str] | None:
    """The parts of `hf://owner/name[/config or file]`, or of `owner/name` that is no local path."""
    found = _HUB_NAME.fullmatch(source)
    is_local = os.path.exists(source) or source[:1] == "." or _has_ending(source)
    return None if found is None or (is_local and not found["mark"]) else found


def _hub_rows(found: re.Match[str], settings: ReadSettings) -> Iterator[PlacedRow]:
    name, rest = found["name"], found["rest"]
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"to read {name} from the Hub, `pip install 'facsynth[hub]'`") from error
    options: dict[str, Any] = {"revision": found["revision"], "data_dir": settings.data_dir}
    if rest and _has_ending(rest):
        options["data_files"], rest = rest, None
    given = {option: value for option, value in options.items() if value is not None}
    split, stem = settings.split, name.partition("/")[2]
    try:
        rows = datasets.load_dataset(name, rest, split=split, streaming=True, **given)
        for number, row in enumerate(rows, 1):
            yield PlacedRow(f"{name} [{split}]", f"row {number}", f"{stem}-{number}", _clean(row))
    except Exception as error:  # whatever the network and the loader raise, reported once
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"Hub data set {name} [{split}] cannot be read: {reason}; check network, name, split"
        ) from error


def _clean(row: object) -> object:
    return dict(row) if isinstance(row, Mapping) else row
