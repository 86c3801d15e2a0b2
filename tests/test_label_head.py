"""A head on the seed that says whether a text carries its label."""

from dataclasses import replace

import numpy as np
import pytest

from activations import make_activations
from facsynth.errors import DataError
from facsynth.synthesize.judge import NOT_CONFIRMED
from facsynth.synthesize.label_head import LabelHead, fit_kernel
from facsynth.table.settings import ExtractSettings
from test_rounds import BRIEF, World
from tiny_pair import PLANTED, asked_for, planted_in, planted_table, talk, write_about

TWO = ("rude", "kind")


def samples(n, rng, noise=0.0):
    """`n` samples of each label: rude ones activate 0, kind ones 1, all of them some of 2 to 9."""
    labels = [label for label in TWO for _ in range(n)]
    rows = []
    for label in labels:
        own = TWO.index(label) ^ int(rng.random() < noise)
        others = rng.choice(np.arange(2, 10), 3, replace=False)
        rows.append({own: 3.0, **{int(f): float(rng.random() * 5) for f in others}})
    return make_activations(rows, n_features=10), labels


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_head_tells_the_label_of_new_samples(rng):
    head = LabelHead.fit(*samples(30, rng), TWO)
    new, labels = samples(20, rng)
    assert head.accuracy == 1.0
    assert head.agrees(new, "rude").tolist() == [label == "rude" for label in labels]
    assert (head.agrees(new, "kind") == ~head.agrees(new, "rude")).all()


def test_value_at_a_sample_left_out_is_that_of_a_fit_without_it(rng):
    points, signs = rng.normal(size=(7, 3)), np.array([1.0, -1, 1, 1, -1, -1, 1])
    kernel, ridge = points @ points.T, rng.random(7) + 0.5
    _, left_out = fit_kernel(kernel, ridge, signs)
    for i in range(7):
        rest = np.arange(7) != i
        inner, _ = fit_kernel(kernel[rest][:, rest], ridge[rest], signs[rest])
        assert left_out[i] == pytest.approx(kernel[i, rest] @ inner)


def test_head_on_labels_that_mean_nothing_is_a_guess(rng):
    rows, labels = samples(40, rng, noise=0.5)
    assert LabelHead.fit(rows, labels, TWO).accuracy < 0.7


def test_rare_label_weighs_as_much_as_a_frequent_one(rng):
    rows, labels = samples(200, rng)
    few = [label if label == "rude" or i < 225 else None for i, label in enumerate(labels)]
    new, truth = samples(20, rng)
    assert LabelHead.fit(rows, few, TWO).agrees(new, "kind").tolist() == [
        t == "kind" for t in truth
    ]


def test_too_few_samples_of_a_label_are_an_error(rng):
    rows, labels = samples(20, rng)
    with pytest.raises(DataError, match="it has 20 of rude and 0 of calm"):
        LabelHead.fit(rows, labels, ("rude", "calm"))


# In a run

TASK = """
form = "a remark"
label = "rude"

[completion]
kind = "contrast"
label = "kind"
ask = "The other way round: {{ text }}"
"""
TONES = {"rude": PLANTED[0], "kind": PLANTED[1]}
"""Words that all seed samples of a label have."""


def toned(request):
    """About the word that is shown; in the wrong tone for every other word."""
    asked = asked_for(request)
    word = planted_in(asked)
    if "other way" in asked:
        return f"they found her very good {TONES['kind']} near my {word} house"
    tone = "rude" if PLANTED.index(word or PLANTED[0]) % 2 == 0 else "kind"
    return f"{write_about(word or 'red', request)} {TONES[tone]}"


def test_run_keeps_no_text_that_the_head_gives_another_label(tmp_path):
    world, task = World(tmp_path), tmp_path / "tone.toml"
    task.write_text(TASK)
    seeds = [
        replace(talk(f"{label}-{i}", f"we saw {i} {word} near your house"), label=label)
        for label, word in TONES.items()
        for i in range(20)
    ]
    world.seed = planted_table(seeds, tmp_path / "labelled", settings=ExtractSettings("user"))
    result = world.run("toned", toned, replace(BRIEF, task=str(task)))
    texts = [one.candidate.written for one in result.kept if not one.is_contrast]
    assert texts
    assert all(TONES["rude"] in text for text in texts)
    assert result.outcomes[NOT_CONFIRMED] > 0
    assert result.row()["head_accuracy"] == 1.0
