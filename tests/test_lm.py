"""Loading language models: from a folder, and what is said when that fails."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, dynamic_module_utils

from facsynth.errors import ModelError
from facsynth.models import weights as hashes
from facsynth.models.lm import (
    check_complete,
    load_language_model,
    pick_device,
    pick_precision,
)
from facsynth.models.source import load_tokenizer
from facsynth.models.weights import content_hash
from facsynth.table.extract import extract_features
from hub_cache import cache_repository
from tiny import chat, make_model, make_tokenizer, random_sae, tiny_lm


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may spoil."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def load(folder):
    return load_language_model(str(folder), device="cpu", dtype="float32")


def test_a_saved_model_is_loaded_from_its_folder(saved):
    lm = load(saved)
    expected = tiny_lm()
    ids = torch.arange(3, 30)[None]
    with torch.inference_mode():
        assert torch.equal(lm.model(ids).logits, expected.model(ids).logits)
    assert (lm.name, lm.d_model, lm.n_layers) == (str(saved), 16, 3)
    assert lm.device == torch.device("cpu")
    assert not lm.model.training


def test_a_loaded_model_extracts_like_the_one_in_memory(saved):
    samples = [chat("a", "the cat", "sat"), chat("b", "a red ball")]
    one, other = (extract_features(samples, m, random_sae()) for m in (load(saved), tiny_lm()))
    assert np.array_equal(one.values, other.values)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_is_the_one_that_was_asked_for(saved, dtype):
    lm = load_language_model(str(saved), device="cpu", dtype=dtype)
    assert lm.model.dtype == getattr(torch, dtype)


def test_a_mixed_model_has_weights_in_bfloat16(saved):
    lm = load_language_model(str(saved), device="cpu", dtype="mixed")
    assert lm.is_mixed
    assert lm.model.dtype == torch.bfloat16


def test_a_tokenizer_is_loaded_alone(saved):
    tokenizer = load_tokenizer(str(saved))
    assert tokenizer.chat_template == tiny_lm().tokenizer.chat_template
    assert tokenizer("the cat")["input_ids"] == tiny_lm().tokenizer("the cat")["input_ids"]


def test_an_unknown_folder_is_no_hub_id():
    with pytest.raises(ModelError, match="'/no/such/folder' is neither a folder, a .gguf file nor"):
        load("/no/such/folder")


def test_a_hub_model_without_network_is_named():
    with pytest.raises(ModelError, match="the model 'owner/model' is not a local path, is not in"):
        load("owner/model")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=f"{tmp_path} cannot be loaded as a causal LM: "):
        load(tmp_path)
    with pytest.raises(ModelError, match=f"{tmp_path} has no readable tokenizer: "):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"not weights"),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no-such-family"}'),
        ("tokenizer.json", b"{"),
    ],
)
def test_a_broken_file_is_one_clear_line(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{folder} cannot be loaded as a causal LM: ") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    with pytest.raises(ModelError, match="cannot be loaded as a causal LM"):
        load(folder)


def test_missing_weights_are_never_random_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layers.1.mlp" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks the weights model\.layers\.1\.mlp\.down_proj"):
        load(folder)


def test_many_missing_weights_are_named_in_part():
    with pytest.raises(ModelError, match="x lacks the weights a, b, c and 2 more, which would"):
        check_complete({"e", "d", "c", "b", "a"}, Path("x"))


def test_a_tied_head_is_not_missing(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks the weights lm_head\.weight, which"):
        load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    model = load(folder).model
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


class Sneaky:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_pickled_weights_are_refused_and_never_run(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save({"x": Sneaky(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights .pytorch_model.bin., which can run"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_pickles_beside_safetensors_are_left_alone(folder):
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert load(folder).n_layers == 3


OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({marker!r}).touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_a_model_runs_only_when_asked(folder, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own"}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(OWN_CODE.format(marker=str(marker)))
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(ModelError, match="needs Python code of its own.*--trust-remote-code"):
        load(folder)
    assert not marker.exists()
    load_language_model(str(folder), device="cpu", dtype="float32", trust_remote_code=True)
    assert marker.exists()


def copy_to(source):
    return lambda target: [shutil.copy(file, target) for file in source.iterdir()]


def test_a_cached_hub_model_is_loaded_without_a_network(saved):
    cache_repository("owner/tiny", copy_to(saved), revision="v2")
    assert load("owner/tiny@v2").content_hash == content_hash(saved)


def test_a_hub_repository_of_pickles_is_refused_before_it_is_fetched():
    def write(folder):
        (folder / "config.json").write_text("{}")
        (folder / "pytorch_model.bin").write_bytes(b"?")

    cache_repository("owner/old", write)
    with pytest.raises(ModelError, match="'owner/old' has only pickled weights"):
        load("owner/old")


def test_a_hub_repository_of_gguf_files_lists_them():
    cache_repository("owner/g", lambda folder: (folder / "x.Q4.gguf").write_bytes(b"GGUF"))
    with pytest.raises(ModelError, match="1 GGUF files; name one of them: owner/g/x.Q4.gguf"):
        load("owner/g")
    with pytest.raises(ModelError, match=r"x\.Q4\.gguf cannot be read as a GGUF model"):
        load("owner/g/x.Q4.gguf")


def test_a_hub_repository_of_something_else_says_what_it_found():
    cache_repository("owner/data", lambda folder: (folder / "README.md").write_text("hi"))
    with pytest.raises(ModelError, match="'owner/data' holds no model.*found README.md"):
        load("owner/data")


def test_a_missing_gguf_file_is_named(tmp_path):
    with pytest.raises(ModelError, match="none.gguf does not exist"):
        load(tmp_path / "none.gguf")


def test_a_gguf_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match="bad.gguf cannot be read as a GGUF model: "):
        load(tmp_path / "bad.gguf")


def test_a_gguf_file_is_converted_without_bars_of_other_libraries(tmp_path, monkeypatch, capsys):
    def load_with_bar(*_, **__):
        for _ in tqdm([1], desc="de-quantizing"):
            raise ValueError("stop here")

    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: None)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_with_bar)
    with pytest.raises(ModelError, match="stop here"):
        load(tmp_path / "x.gguf")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ModelError, match=f"--device '{device}' cannot be used: "):
        pick_device(device)


@pytest.mark.parametrize("dtype", ["float12", "int8", "nn"])
def test_an_unknown_dtype_is_refused(dtype):
    with pytest.raises(ModelError, match=f"unknown --dtype '{dtype}'; choose one of bfloat16, fl"):
        pick_precision(torch.device("cpu"), dtype)


def test_auto_picks_a_device_and_a_dtype():
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_precision(torch.device("cpu")) in ("mixed", "float32")


def test_the_content_hash_changes_with_a_weight(folder, saved):
    before = content_hash(folder)
    assert before == content_hash(saved) == load(folder).content_hash
    model = make_model()
    model.lm_head.weight.data[0, 0] += 1
    model.save_pretrained(folder)
    assert content_hash(folder) != before


def test_the_content_hash_is_that_of_another_version_of_transformers(folder, saved):
    config = json.loads((folder / "config.json").read_text())
    newer = {**config, "transformers_version": "99.0.0", "rope_parameters": None}
    (folder / "config.json").write_text(json.dumps(newer))
    assert content_hash(folder) == content_hash(saved)


def test_the_content_hash_is_remembered(folder, monkeypatch):
    before = content_hash(folder)
    monkeypatch.delattr(hashes, "file_hash")
    assert content_hash(folder) == before


def test_the_content_hash_does_not_depend_on_the_path(folder, saved):
    assert content_hash(folder) == content_hash(saved)
