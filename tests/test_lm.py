"""Loading language models: from a folder, and what is said when that fails."""

import json

import numpy as np
import pytest
import torch

from facsynth.errors import ModelError
from facsynth.features import hashes
from facsynth.features.extract import extract_features
from facsynth.features.hashes import content_hash
from facsynth.features.lm import load_language_model, load_tokenizer, pick_device, pick_dtype
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


def test_a_tokenizer_is_loaded_alone(saved):
    tokenizer = load_tokenizer(str(saved))
    assert tokenizer.chat_template == tiny_lm().tokenizer.chat_template
    assert tokenizer("the cat")["input_ids"] == tiny_lm().tokenizer("the cat")["input_ids"]


def test_an_unknown_folder_is_no_hub_id():
    with pytest.raises(ModelError, match="'/no/such/folder' is neither a folder, a .gguf file nor"):
        load("/no/such/folder")


def test_a_hub_model_without_network_is_named():
    with pytest.raises(ModelError, match="'owner/model' is no local folder and could not be fetch"):
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


def test_a_missing_gguf_file_is_named(tmp_path):
    with pytest.raises(ModelError, match="none.gguf does not exist"):
        load(tmp_path / "none.gguf")


def test_a_gguf_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match="bad.gguf cannot be read as a GGUF model: "):
        load(tmp_path / "bad.gguf")


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ModelError, match=f"--device '{device}' cannot be used: "):
        pick_device(device)


@pytest.mark.parametrize("dtype", ["float12", "int8", "nn"])
def test_an_unknown_dtype_is_refused(dtype):
    with pytest.raises(ModelError, match=f"unknown --dtype '{dtype}'; choose one of bfloat16, fl"):
        pick_dtype(torch.device("cpu"), dtype)


def test_auto_picks_a_device_and_a_dtype():
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)


def test_the_content_hash_changes_with_a_weight(folder, saved):
    before = content_hash(folder)
    assert before == content_hash(saved) == load(folder).content_hash
    model = make_model()
    model.lm_head.weight.data[0, 0] += 1
    model.save_pretrained(folder)
    assert content_hash(folder) != before


def test_the_content_hash_is_remembered(folder, monkeypatch):
    before = content_hash(folder)
    monkeypatch.delattr(hashes, "file_hash")
    assert content_hash(folder) == before


def test_the_content_hash_does_not_depend_on_the_path(folder, saved):
    assert content_hash(folder) == content_hash(saved)
