"""How well the model of the features expects a text."""

import numpy as np
import pytest
import torch

from facsynth.models.lm import load_language_model
from facsynth.models.tokens import tokenize_samples
from facsynth.records import Sample
from facsynth.synthesize.fluency import Fluency, _shuffled, mean_surprise
from tiny import tiny_lm

TEXTS = ["the cat sat on the mat", "a red ball and a cat saw the mat on the red ball", "the"]


@pytest.fixture(scope="module")
def lm():
    return tiny_lm()


def read(texts, lm):
    samples = [Sample(str(i), text=text) for i, text in enumerate(texts)]
    return tokenize_samples(samples, lm.tokenizer)


def test_surprise_is_the_mean_of_what_each_token_alone_gives(lm):
    texts = read(TEXTS, lm)
    for text, found in zip(texts, mean_surprise(texts, lm), strict=True):
        ids = torch.from_numpy(text.input_ids.astype(np.int64))[None]
        logs = lm.model(input_ids=ids).logits[0].log_softmax(-1).detach().numpy()
        at = np.flatnonzero(text.scored)
        expected = -np.mean([logs[i - 1, text.input_ids[i]] for i in at])
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_text_without_a_scored_token_has_no_surprise(lm):
    assert np.isnan(mean_surprise(read([""], lm), lm)).all()
    assert Fluency(0.0, lm).exceeds([""]) == [False]


def test_the_limit_is_the_quantile_of_the_given_texts(lm):
    texts = [f"the cat sat {i} on the mat" for i in range(40)]
    fluency = Fluency.of(texts, lm, 0.1)
    assert sum(fluency.exceeds(texts)) == 4


def test_too_few_texts_set_no_limit(lm):
    assert Fluency.of(TEXTS, lm, 0.02) is None
    assert Fluency.of(TEXTS * 20, lm, 0.0) is None


def test_the_order_of_words_is_shuffled_by_the_text_alone():
    assert _shuffled("a b c d e f") == _shuffled("a b c d e f")
    assert sorted(_shuffled("a b c d e f").split()) == list("abcdef")
    assert sorted(_shuffled("猫在垫子上")) == sorted("猫在垫子上")


@pytest.mark.slow
def test_words_in_no_order_are_found_and_written_texts_are_kept():
    from facsynth.data.questions import question_samples

    texts = [s.messages[0].content for s in question_samples(200, random_seed=4)]
    lm = load_language_model()
    fluency = Fluency.of(texts[:100], lm, 0.02)
    words = " ".join(texts).split()
    order = np.random.default_rng(0)
    salad = [" ".join(order.choice(words, len(t.split()))) for t in texts[100:150]]
    assert np.mean(fluency.exceeds(salad)) > 0.7
    assert np.mean(fluency.exceeds(texts[100:])) < 0.08
