"""vLLM as the engine: the tables are those of Transformers. Needs vLLM, its CPU build will do."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from facsynth.errors import DataError
from facsynth.models.lm import load_language_model
from facsynth.models.settings import ModelSettings
from facsynth.records import Message, Sample
from facsynth.scale.settings import ScaleSettings
from facsynth.scale.where import extract_where
from facsynth.table.settings import ExtractSettings
from tiny import make_tokenizer, random_sae

LAYERS = (0, 2, 3)
"""The last one is the model's last, which Transformers reports behind the final norm only."""

SAMPLES = [
    *(
        Sample(f"t{i}", text=f"the cat sat on {'the red mat and ' * (i % 12)}you")
        for i in range(20)
    ),
    Sample("same beginning", text="the cat sat on the red mat and " * 20),
    Sample("empty", text=" "),
    Sample("chat", messages=(Message("user", "a ball"), Message("assistant", "on the mat"))),
]


def save_model(folder: Path) -> Path:
    """A Llama with heads of a width that vLLM's kernels know."""
    config = LlamaConfig(
        vocab_size=304,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=512,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).float().eval().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def extract_both(folder: Path, where: ScaleSettings) -> list[tuple[object, object]]:
    """Tables of one SAE on each layer, by Transformers and by vLLM."""
    model = ModelSettings(str(save_model(folder / "model")), dtype="float32")
    saes = {n: random_sae("jumprelu", d_in=128, d_sae=512, layer=n, seed=n) for n in LAYERS}
    settings = ExtractSettings(max_length=256, part_samples=9, hidden=True)
    lm = load_language_model(model.model, dtype="float32")
    found = []
    for name, how in (("plain", ScaleSettings()), ("vllm", where)):
        folders = {folder / f"{name}-{n}": (sae, str(n)) for n, sae in saes.items()}
        tables = extract_where(SAMPLES, lm, folders, how, model, settings=settings)
        found.append([one.activations(hidden=True) for one in tables])
    return list(zip(*found, strict=True))


def dense(rows) -> np.ndarray:
    found = np.zeros((rows.n_tokens.size, rows.n_features), np.float32)
    owner = np.repeat(np.arange(rows.n_tokens.size), np.diff(rows.row_starts))
    found[owner, rows.feature_ids] = rows.values
    return found


def check(folder: Path, where: ScaleSettings | None = None) -> None:
    """Fail unless vLLM's activations, positions and hidden states are those of Transformers."""
    for plain, engine in extract_both(folder, where or ScaleSettings(engine="vllm")):
        a, b = dense(plain), dense(engine)
        agree = (a > 0) == (b > 0)
        assert agree.mean() > 0.999, agree.mean()
        assert np.abs(a - b)[agree].max() < 1e-3 * a.max()
        assert np.allclose(plain.hidden, engine.hidden, atol=1e-3)
        assert plain.n_tokens.tolist() == engine.n_tokens.tolist()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # what vLLM imports is deprecated in many places
def test_tables_of_vllm_are_those_of_transformers(tmp_path):
    pytest.importorskip("vllm")
    check(tmp_path)


def test_without_vllm_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    model = ModelSettings(str(save_model(tmp_path / "model")))
    lm = load_language_model(model.model, dtype="float32", weights=False)
    saes = {tmp_path / "t": (random_sae(d_in=128), "sae")}
    with pytest.raises(DataError, match=r"facsynth\[vllm\]"):
        extract_where(SAMPLES[:2], lm, saes, ScaleSettings(engine="vllm"), model)
