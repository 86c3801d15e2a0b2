"""What runs on a GPU gives what the CPU gives; skipped where there is none."""

import numpy as np
import pytest
import torch

from facsynth.models.lm import load_language_model
from facsynth.models.tokens import tokenize_samples
from facsynth.sae.files import load_sae
from facsynth.sae.train.settings import TrainSettings
from facsynth.sae.train.train import train_sae
from facsynth.table.extract import extract_features
from tiny_pair import PLANTED, save_pair, talk

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

SAMPLES = [
    talk(f"s{i}", f"we saw the {word} and the house " * (1 + i % 3), "it was good")
    for i, word in enumerate(PLANTED * 6)
]


@pytest.fixture
def models(tmp_path):
    """The same model on the CPU and on the GPU, in float32."""
    save_pair(tmp_path)
    return [
        load_language_model(str(tmp_path / "model"), device=device, dtype="float32")
        for device in ("cpu", "cuda")
    ]


def test_an_sae_on_the_cpu_follows_the_model_and_finds_the_same(models, tmp_path):
    found = [extract_features(SAMPLES, lm, load_sae(tmp_path / "sae")) for lm in models]
    for name in ("row_starts", "feature_ids", "positions"):
        assert np.array_equal(*(getattr(one, name) for one in found))
    np.testing.assert_allclose(found[1].values, found[0].values, rtol=1e-4)


def test_training_on_a_gpu_learns_as_much(models):
    settings = TrainSettings(n_features=16, k=2, epochs=8, batch_tokens=64, group_tokens=500)
    losses = []
    for lm in models:
        texts = tokenize_samples(SAMPLES, lm.tokenizer)
        sae = train_sae(lm, texts, layer=0, settings=settings).cpu()
        rows = lm.model.get_input_embeddings().weight.detach().float().cpu()
        losses.append(float((rows - sae.reconstruct(rows)).square().mean()))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
