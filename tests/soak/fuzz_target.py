"""One target of the fuzzer: `python fuzz_target.py TARGET CORPUS [options of libFuzzer]`."""

import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["facsynth"]):
    from facsynth.chat.completion import read_completion
    from facsynth.chat.model import ChatRequest
    from facsynth.data.formats import FORMATS
    from facsynth.data.read import read_samples
    from facsynth.data.stored import parse_toml, read_arrays, read_json
    from facsynth.errors import FacsynthError
    from facsynth.records import Message
    from facsynth.sae.formats.layouts import read_sae
    from facsynth.table.manifest import read_manifest

FOLDER = Path(tempfile.mkdtemp())
REQUEST = ChatRequest((Message("user", "hi"),), max_tokens=16)


def rows(data):
    path = FOLDER / f"a{FORMATS[data[0] % len(FORMATS)]}"
    path.write_bytes(data[1:])
    read_samples(path)


def arrays(data):
    (FOLDER / "a.npz").write_bytes(data)
    read_arrays(FOLDER / "a.npz")


def tables(data):
    (FOLDER / "manifest.json").write_bytes(data)
    read_manifest(FOLDER)


def settings(data):
    (FOLDER / "cfg.json").write_bytes(data)
    (FOLDER / "sae_weights.safetensors").write_bytes(data)
    read_sae(FOLDER)


def as_json(data):
    (FOLDER / "a.json").write_bytes(data)
    read_json(FOLDER / "a.json")


def replies(data):
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    read_completion(body, REQUEST)
    read_completion({"choices": [{"message": {"content": body}}]}, REQUEST)


def recipes(data):
    parse_toml(data, "a recipe")


ALL = {
    **{f.__name__: f for f in (rows, arrays, tables, settings, replies, recipes)},
    "json": as_json,
}


def main():
    target = ALL[sys.argv.pop(1)]

    def once(data):
        if data:
            with suppress(FacsynthError):
                target(data)

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
