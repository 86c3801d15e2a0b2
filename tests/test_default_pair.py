"""The embedded default: the real model, the shipped SAE, real conversations."""

import json
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from facsynth.data.chitchat import chitchat_samples
from facsynth.data.write import write_jsonl
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.models.residual import read_residual
from facsynth.models.tokens import tokenize_samples
from facsynth.records import FeatureActivations, Message, Sample
from facsynth.sae.evaluate import evaluate_sae
from facsynth.sae.files import load_sae
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.extract import extract_features
from facsynth.table.settings import ExtractSettings

pytestmark = pytest.mark.slow

MINI = """
name = "mini"
[anchor]
source = "chitchat"
n_samples = 60
random_seed = 1
[seed]
source = "chitchat"
n_samples = 12
prompts = ["Mozart or Beethoven?"]
random_seed = 2
[extract]
score = "user"
max_length = 128
part_samples = 20
[synthesize]
min_anchor_samples = 2
[synthesize.effort]
max_samples = 4
max_candidates = 12
round_size = 6
[synthesize.sampling]
max_length = 24
[generator]
batch_size = 4
"""


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_language_model()


@pytest.fixture(scope="module")
def sae() -> SparseAutoencoder:
    return load_sae()


def test_the_default_model_knows_the_capital_of_france(lm: LanguageModel) -> None:
    chat = [{"role": "user", "content": "What is the capital of France? One word."}]
    ids = lm.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    out = lm.model.generate(**ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in lm.tokenizer.decode(out[0, ids["input_ids"].shape[1] :])


def test_the_shipped_sae_belongs_to_the_default_model(
    lm: LanguageModel, sae: SparseAutoencoder
) -> None:
    assert sae.config.model_hash == lm.content_hash
    assert (sae.config.layer, sae.config.d_in) == (14, 576)


def test_the_shipped_sae_explains_conversations_it_has_not_seen(
    lm: LanguageModel, sae: SparseAutoencoder
) -> None:
    texts = tokenize_samples(chitchat_samples(60, random_seed=5), lm.tokenizer)
    quality = evaluate_sae(lm, sae, texts, max_loss_tokens=300)
    assert quality.explained_variance > 0.7
    assert quality.recovered > 0.9


def test_fast_extraction_finds_the_features_of_one_text_per_forward(
    lm: LanguageModel, sae: SparseAutoencoder
) -> None:
    samples = chitchat_samples(24, random_seed=3)
    fast = extract_features(samples, lm, sae, settings=ExtractSettings(max_length=128))
    same = union = 0
    for row, text in enumerate(tokenize_samples(samples, lm.tokenizer, max_length=128)):
        z = sae.encode(read_residual(lm, [text.input_ids], sae.config.layer)[0])
        slow = set(np.flatnonzero(z[torch.from_numpy(text.scored)].amax(0).numpy() > 1.0))
        start, end = fast.row_starts[row : row + 2]
        strong = fast.values[start:end] > 1.0
        found = set(fast.feature_ids[start:end][strong].tolist())
        same, union = same + len(slow & found), union + len(slow | found)
    assert same / union > 0.97


def test_a_float32_residual_stream_lies_nearer_to_float32_than_bfloat16() -> None:
    samples, settings = chitchat_samples(12, random_seed=3), ExtractSettings(max_length=64)
    exact, mixed, rounded = (
        extract_features(samples, load_language_model(dtype=dtype), load_sae(), settings=settings)
        for dtype in ("float32", "mixed", "bfloat16")
    )
    assert _jaccard(exact, mixed) > max(0.985, _jaccard(exact, rounded))


def _jaccard(one: FeatureActivations, other: FeatureActivations) -> float:
    a, b = (
        {
            (row, int(feature))
            for row, (start, end) in enumerate(pairwise(rows.row_starts))
            for feature, value in zip(
                rows.feature_ids[start:end], rows.values[start:end], strict=True
            )
            if value > 1.0
        }
        for rows in (one, other)
    )
    return len(a & b) / len(a | b)


def test_a_conversation_about_music_and_one_about_maths_share_few_features(
    lm: LanguageModel, sae: SparseAutoencoder
) -> None:
    texts = ["Which violin concerto do you like best?", "The derivative of x squared is 2x."]
    samples = [Sample(str(i), (Message("user", t),)) for i, t in enumerate(texts)]
    rows = extract_features(samples, lm, sae)
    sets = [
        set(rows.feature_ids[a:b][rows.values[a:b] > 1.0].tolist())
        for a, b in zip(rows.row_starts[:-1], rows.row_starts[1:], strict=True)
    ]
    assert len(sets[0] & sets[1]) < 0.5 * min(map(len, sets))


def test_coverage_against_the_shipped_reference_works_out_of_the_box(tmp_path: Path) -> None:
    rows = [{"text": s.messages[0].content} for s in chitchat_samples(30, random_seed=4)]
    write_jsonl(rows, tmp_path / "seed.jsonl")
    command = [sys.executable, "-m", "facsynth"]
    table = str(tmp_path / "table")
    extract = [*command, "extract", str(tmp_path / "seed.jsonl"), "-o", table]
    subprocess.run(extract, check=True, capture_output=True)
    coverage = [*command, "coverage", "--anchor", "reference", "--seed", table]
    coverage += ["--threshold", "1", "--json"]
    row = json.loads(subprocess.run(coverage, check=True, capture_output=True).stdout)
    assert 0.2 < row["fac"] < 0.95
    assert row["controls"]["random_hellinger"] < row["representativeness"]["hellinger"]


def _run(recipe: Path, folder: Path, *, kill_after_s: float | None = None) -> int:
    command = [sys.executable, "-m", "facsynth", "run", str(recipe), "-o", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return -1


@pytest.mark.timeout(1800)
def test_a_killed_run_ends_with_the_data_of_an_undisturbed_one(tmp_path: Path) -> None:
    recipe = tmp_path / "mini.toml"
    recipe.write_text(MINI)
    started = time.monotonic()
    assert _run(recipe, tmp_path / "whole") == 0
    seconds = time.monotonic() - started
    _run(recipe, tmp_path / "killed", kill_after_s=random.Random(0).uniform(0.2, 0.7) * seconds)
    assert _run(recipe, tmp_path / "killed") == 0
    whole, killed = (tmp_path / n / "synthesize" / "synthetic.jsonl" for n in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()
    before, after = (
        json.loads((tmp_path / "whole" / "coverage" / f"{n}.json").read_text())
        for n in ("before", "after")
    )
    assert after["fac"] > before["fac"]
    fac = _fac_by_pandas(tmp_path / "whole", ["seed", "synthesize/table"], before["threshold"])
    assert fac == after["fac"]


def _fac_by_pandas(folder: Path, parts: list[str], threshold: float) -> float:
    def active(name: str) -> set[int]:
        table = pd.concat(
            pd.read_parquet(p) for p in sorted((folder / name).glob("part-*.parquet"))
        )
        long = table.explode(["feature_ids", "activations"])
        return set(long.feature_ids[long.activations > threshold])

    anchor = active("anchor")
    return len(anchor & set().union(*map(active, parts))) / len(anchor)
