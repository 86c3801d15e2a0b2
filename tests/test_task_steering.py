"""Steering on a tiny model: items, the letter's position, vectors, controls."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.errors import DataError, ModelError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT
from facsynth.report.plots import layer_chart
from facsynth.tasks.steering.answers import Steer, answer_log_probs, ask, letter_states
from facsynth.tasks.steering.data import answer_texts, parse_item, read_items, swapped
from facsynth.tasks.steering.evaluate import evaluate_steering
from facsynth.tasks.steering.settings import ControlSettings, SteeringSettings
from facsynth.tasks.steering.train import train_steering
from tiny import FAMILIES, FAMILY_TEMPLATES, make_model, make_tokenizer, random_sae, tiny_lm

NOUNS = ["cat", "mat", "ball", "user", "system"]


def item(i, yes="red", no="ok"):
    """A harmless question; the behaviour is to answer `red`."""
    a, b, letters = (yes, no, "AB") if i % 2 else (no, yes, "BA")
    question = f"You saw the {NOUNS[i % 5]} {i}?\n\nChoices:\n (A) {a}\n (B) {b}"
    return parse_item(f"q{i}", question, f"({letters[0]})", f"({letters[1]})")


ITEMS = [item(i) for i in range(12)]


@pytest.fixture
def train(tmp_path):
    def train(settings, items=ITEMS, **options):
        return train_steering(items, tiny_lm, tmp_path / "vectors", settings, **options)

    return train


@pytest.mark.parametrize("one", ITEMS[:2])
def test_exchanging_twice_gives_the_item_back(one):
    assert swapped(swapped(one)) == one
    assert swapped(one).matching == one.other
    assert swapped(one).question != one.question


def test_options_beside_the_two_answers_stay_where_they_are():
    one = parse_item("q", "Tea?\n(A) Yes\n(B) No\n(C) Later\n", "(C)", "(A)")
    assert swapped(one).question == "Tea?\n(A) Later\n(B) No\n(C) Yes\n"


@pytest.mark.parametrize(
    ("question", "answers", "message"),
    [
        ("Tea?", "AB", "its options are none"),
        (
            "Tea?\n(A) Yes\n(A) No\n(B) Maybe",
            "AB",
            "needs one line that starts with the option .A.",
        ),
        ("Tea?\n(A) Yes\n(B) No", "AA", "must differ"),
        ("Tea?\n(A) Yes\n(B) Yes", "AB", "same text"),
        ("Tea?\n(A) Yes\n(B) No", ["A", "yes"], "not a letter such as"),
    ],
)
def test_items_that_cannot_be_answered_are_refused(question, answers, message):
    with pytest.raises(DataError, match=message):
        parse_item("q", question, *answers)


def test_rows_without_a_question_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "tea"}\n')
    with pytest.raises(DataError, match="line 1: not a question with options"):
        read_items(str(path))


def family_lm(name):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = FAMILY_TEMPLATES[name]
    return LanguageModel(tiny_lm().model, tokenizer, name, name)


@pytest.mark.parametrize("name", FAMILY_TEMPLATES)
def test_the_letter_comes_next_under_every_template(name):
    lm = family_lm(name)
    for one in ITEMS[:2]:
        asked = ask(one, lm)
        text = lm.tokenizer.decode(asked.ids)
        assert text.endswith("(")
        assert lm.tokenizer.decode([asked.matching]).strip("()") == one.matching
        assert lm.tokenizer.decode([asked.other]).strip("()") == one.other
        told = lm.tokenizer.decode(asked.ids[: asked.n_prompt])
        assert told.rstrip().endswith(one.question[-3:].strip())


def whole_pass(lm, one, steer):
    """The slow reference: one text, all of it, the vector added where nothing is the user's."""

    def add(_module, _inputs, output):
        output = output[0] if isinstance(output, tuple) else output
        output[0, one.n_prompt :] += torch.from_numpy(steer.vector).float()

    layer = lm.model.model.layers[steer.layer]
    handle = layer.register_forward_hook(add)
    with torch.no_grad():
        logits = lm.model(torch.from_numpy(one.ids)[None].long()).logits[0, -1]
    handle.remove()
    return logits.log_softmax(-1)[[one.matching, one.other]].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_steered_answers_are_those_of_whole_texts_one_at_a_time(family):
    lm = tiny_lm(family)
    asked = [ask(one, lm) for one in ITEMS]
    vector = np.random.default_rng(0).standard_normal(lm.d_model)
    steers = [Steer(layer, m * vector) for layer, m in ((0, 3.0), (1, -3.0), (2, 3.0), (2, 0.0))]
    found = answer_log_probs(asked, lm, steers, batch_tokens=400)
    for steer, rows in zip(steers, found, strict=True):
        expected = [whole_pass(lm, one, steer) for one in asked]
        np.testing.assert_allclose(rows, expected, atol=2e-4)
    assert np.ptp(found, axis=0).max() > 0.1


def test_steering_reaches_what_lies_behind_the_users_words_and_nothing_else():
    lm, one = tiny_lm(), ask(ITEMS[0], tiny_lm())
    seen = []
    handle = lm.model.model.layers[2].register_forward_pre_hook(lambda _m, i: seen.append(i[0]))
    answer_log_probs([one], lm, [None, Steer(1, np.full(lm.d_model, 5.0))])
    handle.remove()
    prompt, plain, steered = seen
    assert prompt.shape[1] == one.n_prompt
    assert plain.shape[1] == one.ids.size - one.n_prompt
    np.testing.assert_allclose((steered - plain).mean(dim=-1).numpy(), 5.0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_at_the_letters_are_those_of_whole_texts(family):
    lm = tiny_lm(family)
    asked = [ask(one, lm) for one in ITEMS[:4]]
    found = letter_states(asked, lm, [0, 1])
    for row, one in enumerate(asked):
        for side, letter in enumerate((one.matching, one.other)):
            ids = torch.tensor([[*one.ids.tolist(), letter]])
            with torch.inference_mode():
                expected = lm.model(ids, output_hidden_states=True).hidden_states[2][0, -1]
            np.testing.assert_allclose(found[1][row, side], expected.numpy(), atol=2e-4)


def test_a_vector_is_the_mean_difference_at_a_share_of_the_median_length(train):
    trained = train(SteeringSettings((1,), strength=(0.5,)))
    both = [*ITEMS, *map(swapped, ITEMS)]  # nothing is held out where nothing is chosen
    states = letter_states([ask(one, tiny_lm()) for one in both], tiny_lm(), [1])[1]
    expected = (states[:, 0] - states[:, 1]).mean(axis=0)
    expected *= 0.5 * np.median(np.linalg.norm(states, axis=-1)) / np.linalg.norm(expected)
    np.testing.assert_allclose(trained.tensors["vector.42.1"], expected, rtol=1e-3, atol=1e-4)
    assert (trained.config["n_train"], trained.config["n_sweep"]) == (12, 0)
    assert trained.config["strengths"] == {"1": 0.5}


def test_questions_are_kept_out_where_there_is_a_choice(train):
    config = train(SteeringSettings((1,), strength=(0.5, 1.0))).config
    assert (config["n_train"], config["n_sweep"]) == (6, 6)


def test_three_questions_are_enough(train):
    for settings in (SteeringSettings((1,), strength=(0.5,)), SteeringSettings((0, 1))):
        trained = train(settings, ITEMS[:3])
        found = evaluate_steering(trained, [item(8), item(9)], tiny_lm, allow_overlap=True)
        assert -1 <= found["scr"] <= 1


# Which answer shows the behaviour


def test_the_other_answer_can_be_the_matching_one(tmp_path):
    path = tmp_path / "a.jsonl"
    row = {"question": "Tea?\n(A) Yes\n(B) No", "answer_matching_behavior": "(A)"}
    path.write_text(json.dumps(row | {"answer_not_matching_behavior": "(B)"}) + "\n")
    assert answer_texts(read_items(str(path))[0]) == ("Yes", "No")
    assert answer_texts(read_items(str(path), matching="other")[0]) == ("No", "Yes")


def test_words_tell_a_set_that_calls_the_opposite_answer_matching(train, capsys):
    trained = train(SteeringSettings((1,), strength=(0.5,)))
    others = [item(i, yes="ok", no="red") for i in range(20, 30)]
    said = []
    progress = SimpleNamespace(say=said.append, task=SILENT.task)
    for items, opposite in ((others, True), ([item(i) for i in range(20, 30)], False)):
        said.clear()
        found = evaluate_steering(trained, items, tiny_lm, allow_overlap=True, progress=progress)
        assert found["same_words"] == {"n_told": 10, "n_same": 0 if opposite else 10}
        assert any("10 of 10 questions" in line for line in said) == opposite


def test_a_folder_of_vectors_holds_no_word_of_a_question(train):
    folder = train(SteeringSettings((1,), strength=(0.5,))).folder
    assert not any(b"ball" in file.read_bytes() for file in folder.iterdir())


def test_strength_and_layer_are_those_that_steer_kept_out_questions_best(train):
    config = train(SteeringSettings((0, 1), strength=(0.1, 1.0, 10.0), sweep_items=4)).config
    assert len(config["sweep"]) == 6
    best = max(config["sweep"], key=lambda r: (r["is_fluent"], r["scr"], r["chance_gap"]))
    assert config["layer"] == best["layer"]
    assert config["strengths"][str(best["layer"])] == best["strength"]


def planted_lm():
    """A model whose answer is what the residual stream of layer 1 holds at the last token."""
    model = make_model()
    for layer in model.model.layers[2:]:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    return LanguageModel(model, make_tokenizer(), "planted", "planted")


def test_a_planted_direction_controls_the_letter_and_its_opposite_the_other():
    lm = planted_lm()
    asked = [ask(one, lm) for one in ITEMS]
    letters = sorted({one.matching for one in asked})
    head = lm.model.lm_head.weight.data
    direction = (head[letters[0]] - head[letters[1]]).numpy().astype(np.float64) * 50
    up, down = answer_log_probs(asked, lm, [Steer(1, direction), Steer(1, -direction)])
    is_first = np.array([one.matching == letters[0] for one in asked])
    np.testing.assert_array_equal(up[:, 0] > up[:, 1], is_first)
    np.testing.assert_array_equal(down[:, 0] > down[:, 1], ~is_first)


def test_features_of_an_sae_make_the_vector(train):
    sae = random_sae()
    trained = train(SteeringSettings((1,), sae_features=2, strength=(1.0,)), sae=sae)
    chosen = [row["feature_id"] for row in trained.config["features"]]
    weights = np.array([row["difference"] for row in trained.config["features"]])
    expected = weights @ sae.W_dec.numpy()[chosen]
    vector = trained.tensors["vector.42.1"]
    cosine = vector @ expected / np.linalg.norm(vector) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1.0)


def test_the_order_of_the_options_leaves_no_trace_in_the_vector(train):
    settings = SteeringSettings((1,), strength=(0.5,))
    given, exchanged = (
        train(settings, items).tensors["vector.42.1"] for items in (ITEMS, [*map(swapped, ITEMS)])
    )
    np.testing.assert_allclose(given, exchanged, rtol=1e-3, atol=1e-4)


def test_evaluation_reports_rates_and_controls(train):
    trained = train(SteeringSettings((0, 1), max_samples=4, random_seed=(1, 2)), ITEMS[:10])
    found = evaluate_steering(
        trained,
        [item(i) for i in range(20, 24)],
        tiny_lm,
        ControlSettings(random_vectors=2, n_shown=2),
        demonstrations=ITEMS,
        allow_overlap=True,
    )
    assert [row["layer"] for row in found["layers"]] == [0, 1]
    first = found["layers"][0]
    curve = first["vectors"][0]["curve"]
    assert [point["multiplier"] for point in curve] == [-1, -0.5, 0, 0.5, 1]
    assert curve[2]["robust"] == found["unsteered"]["robust"]
    assert first["vectors"][0]["scr"] == pytest.approx(curve[4]["robust"] - curve[0]["robust"])
    assert (len(first["random"]), len(first["shuffled"]), len(first["vectors"])) == (2, 2, 2)
    assert -1 <= found["prompt_only"]["scr"] <= 1


def test_the_lines_of_the_chart_are_means_over_seeds_and_draws():
    """Any field beside layer, kind and mean would split a line into its points."""
    row = {"layer": 1, "vectors": [{"scr": 0.1}, {"scr": 0.3}], "shuffled": [0.0], "random": [0.0]}
    lines, points = layer_chart([row, {**row, "layer": 2}])["layer"]
    assert lines["encoding"]["y"]["aggregate"] == "mean"
    assert set(lines["encoding"]) == {"x", "y", "color"}
    assert points["encoding"]["y"]["field"] == "scr"


def test_a_question_longer_than_the_context_is_refused(train):
    long = parse_item("q", "You saw " * 300 + "?\n(A) Yes\n(B) No", "A", "B")
    with pytest.raises(DataError, match="the prompt of item 'q' is .* reads at most 512"):
        train(SteeringSettings((1,)), [long, *ITEMS])


def test_a_model_without_a_chat_template_is_refused():
    with pytest.raises(ModelError, match="no chat template"):
        ask(ITEMS[0], tiny_lm("llama", "none"))


def test_steering_from_the_command_line(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    path = tmp_path / "items.jsonl"
    names = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
    rows = [dict(zip(names, (i.question, i.matching, i.other), strict=True)) for i in ITEMS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def fac(*words):
        done = CliRunner().invoke(main, ["task", "steering", *map(str, words)])
        assert done.exit_code == 0, done.output
        return done.stdout

    fac("train", path, "-o", tmp_path / "v", "--all-layers", "--model", tmp_path / "model")
    plot = tmp_path / "layers.svg"
    told = fac(
        *("evaluate", tmp_path / "v", path, "--allow-overlap", "--random-vectors", 1),
        *("--demonstrations", path, "--n-shown", 1, "--plot", plot, "--json"),
    )
    row = json.loads(told)
    assert [layer["layer"] for layer in row["layers"]] == [0, 1, 2]
    assert row["scr"] == row["layers"][row["layer"]]["scr"]
    assert "Steering control rate" in plot.read_text()
