"""`fac doctor`."""

from pathlib import Path

import click

from facsynth.cli.options import json_option
from facsynth.cli.sections import SectionedCommand


@click.command(cls=SectionedCommand)
@click.argument("table", required=False, type=click.Path(path_type=Path))
@json_option
def doctor(table: Path | None, as_json: bool) -> None:
    """Show what facsynth finds on this machine, or check the feature table TABLE.

    Of TABLE every file is read: checksums, counts, ids, values, and the order of the samples. The
    exit code is 1 when something is broken; what can be saved is said below.
    """
    if table is not None:
        _check(table, as_json=as_json)
    else:
        _show_machine(as_json=as_json)


def _check(table: Path, *, as_json: bool) -> None:
    from facsynth.cli.show import show
    from facsynth.table.doctor import check_table

    check = check_table(table)
    show(check, as_json=as_json)
    if not check.is_whole:
        raise click.exceptions.Exit(1)


def _show_machine(*, as_json: bool) -> None:
    import os
    import shutil
    import sys
    from importlib.metadata import version

    import torch

    from facsynth import __version__
    from facsynth.cli.show import print_json, print_table
    from facsynth.folders import cache_folder
    from facsynth.models.default_model import default_sae_folder
    from facsynth.models.hardware import free_memory
    from facsynth.models.lm import pick_device, pick_precision

    device = pick_device("auto")
    cache = cache_folder()
    free = shutil.disk_usage(cache if cache.exists() else cache.anchor or "/").free
    models = cache / "models"
    facts = {
        "facsynth": __version__,
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("torch", "transformers", "pyarrow", "openai")},
        "device": str(device),
        "dtype": pick_precision(device),
        "memory_free_gb": round(free_memory(device) / 1e9, 1),
        "threads": torch.get_num_threads(),
        "cache": str(cache),
        "cache_free_gb": round(free / 1e9, 1),
        "converted_models": sorted(p.name for p in models.iterdir()) if models.is_dir() else [],
        "embedded_sae": default_sae_folder().is_dir(),
        "hub_offline": os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"),
        "openai_key_set": bool(os.environ.get("OPENAI_API_KEY")),
    }
    if as_json:
        print_json(facts)
        return
    rows = [(name, ", ".join(v) if isinstance(v, list) else str(v)) for name, v in facts.items()]
    print_table("facsynth on this machine", ("what", "found"), rows)
