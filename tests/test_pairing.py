"""Whether an SAE belongs to a model: errors for what cannot be, a warning for another name."""

import warnings
from dataclasses import replace

import pytest

from facsynth.errors import MismatchError, ModelError
from facsynth.sae.pairing import PairWarning, check_pair, name_remark
from facsynth.table import extract
from tiny import random_sae, tiny_lm


def remark(trained, used):
    return name_remark(random_sae(model_name=trained).config, used)


@pytest.mark.parametrize(
    ("trained", "used"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("gpt2", "openai-community/gpt2"),
        ("google/gemma-3-270m", "/cache/gguf/gemma-3-270m.Q4_K_M.gguf"),
        ("meta-llama/Llama-2-7b", "meta-llama/Llama-2-7b-hf"),
        ("", "anything"),
        ("owner/one", "/models/some-folder"),
        ("gpt2-small", "openai-community/gpt2"),
    ],
)
def test_the_same_model_needs_no_remark(trained, used):
    assert remark(trained, used) == ""


@pytest.mark.parametrize(
    ("trained", "used"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("google/gemma-2-2b", "google/gemma-2-2b-it"),
        ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"),
        ("Qwen/Qwen3-1.7B-Base", "Qwen/Qwen3-1.7B"),
        ("google/gemma-3-4b-pt", "google/gemma-3-4b-it"),
    ],
)
def test_a_base_models_sae_on_its_instruct_model_is_remarked(trained, used):
    assert "another tuning of the same model" in remark(trained, used)
    assert "another tuning of the same model" in remark(used, trained)


def test_other_models_of_the_same_shape_are_remarked():
    assert "if they are different models" in remark("owner/one-1b", "owner/two-1b")


def test_another_name_is_a_warning_and_the_pair_is_used():
    lm = replace(tiny_lm(), name="tiny-Instruct")
    with pytest.warns(PairWarning, match="trained on tiny and is used on tiny-Instruct"):
        check_pair(lm, random_sae(model_name="tiny"))


def test_the_same_weights_under_another_name_are_no_warning():
    sae = random_sae(model_name="tiny", model_hash=tiny_lm().content_hash)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_pair(replace(tiny_lm(), name="copy-Instruct"), sae)


def test_another_width_names_both_and_the_model():
    with pytest.raises(MismatchError, match="width 8, but tiny llama has width 16 .*trained on x"):
        check_pair(tiny_lm(), random_sae(d_in=8, model_name="x"))


def test_a_layer_that_the_model_has_not():
    with pytest.raises(ModelError, match="has the layers 0 to 2, not 7"):
        check_pair(tiny_lm(), random_sae(layer=7))


def test_extraction_checks_the_same_way():
    assert extract.check_pair is check_pair
