"""What a run folder is for: `plan.json`, which every later run into the folder must fit."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facsynth.data.stored import read_json
from facsynth.data.write import write_json
from facsynth.errors import MismatchError
from facsynth.settings import changed_settings
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.table.manifest import TableSource

__all__ = ["claim_folder"]


def claim_folder(
    folder: Path, settings: SynthesisSettings, source: TableSource, given: Mapping[str, Any]
) -> str:
    """Write down what a folder is for, or check that it is for this run.

    Args:
        folder: The run folder.
        settings: With what the run decided where they do not say.
        source: How the anchor was extracted.
        given: What else the texts depend on, as JSON values.

    Returns:
        The id of the run, which is part of every sample's id.

    Raises:
        MismatchError: The folder holds a run of something else; the differences are named.
    """
    plan = {**given, "settings": asdict(settings)}
    run_id = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]
    path, extracted = folder / "plan.json", asdict(source)
    if not path.is_file():
        write_json(plan | {"run_id": run_id, "source": extracted}, path)
        return run_id
    found = read_json(path, what="the plan of a run")
    if not {"source", "settings"} <= found.keys():
        raise MismatchError(
            f"{folder} holds no run of `fac synthesize`; choose another output folder"
        )
    differing = [key for key in given if found.get(key) != given[key]]
    # Versions may know different fields of a table's source.
    known = found["source"].keys() & extracted.keys()
    differing += ["source"] * any(found["source"][key] != extracted[key] for key in known)
    differing += changed_settings(settings, found["settings"])
    if differing:
        raise MismatchError(
            f"{folder} holds a run with another {' and '.join(differing)}; choose another "
            "output folder or delete it"
        )
    return str(found.get("run_id", run_id))
