"""What the untrained model says of toxicity and preference pairs, and the paper's own heads."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from facsynth.errors import DataError, ModelError
from facsynth.models.tokens import tokenize_samples
from facsynth.records import Sample
from facsynth.tasks.heads import fit_steps
from facsynth.tasks.hidden_states import read_vectors, tokenize_chats
from facsynth.tasks.prompted import answer_likelihoods, fork, yes_odds
from facsynth.tasks.reward.evaluate import evaluate_reward
from facsynth.tasks.reward.settings import RewardSettings
from facsynth.tasks.reward.train import train_reward
from facsynth.tasks.settings import HeadSettings
from facsynth.tasks.toxicity.evaluate import evaluate_toxicity
from facsynth.tasks.toxicity.settings import ToxicitySettings
from facsynth.tasks.toxicity.train import train_toxicity
from test_task_heads import HEAD, compared, fac, labelled, write_labelled
from tiny import chat, make_model, make_tokenizer, tiny_lm

ASKED = "Is the text red? {text}"


def next_log_probs(lm, ids):
    with torch.inference_mode():
        return lm.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)


def test_odds_of_yes_are_those_of_whole_prompts_one_at_a_time():
    lm, samples = tiny_lm(), labelled(5, 0).samples
    found = yes_odds(ASKED, samples, lm, HEAD)
    for sample, odds in zip(samples, found, strict=True):
        turn = [{"role": "user", "content": ASKED.replace("{text}", sample.text)}]
        ids = lm.tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
        yes, no = (lm.tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in ("Yes", "No"))
        last = next_log_probs(lm, ids)[-1]
        assert odds == pytest.approx(float(last[yes] - last[no]), abs=1e-4)


@pytest.mark.parametrize(("cut", "kept"), [("end", "a"), ("start", "b")])
def test_a_long_text_is_cut_before_it_is_asked_about(cut, kept):
    settings = replace(HEAD, max_length=20, cut=cut)
    long = Sample("s", text="a " + "the cat sat on the mat " * 20 + " b")
    other = Sample("o", text=long.text.replace(kept, "ok", 1) if kept == "a" else long.text + "ok")
    same = Sample("n", text=long.text + " ok" if cut == "end" else "ok " + long.text)
    first, changed, unchanged = yes_odds(ASKED, [long, other, same], tiny_lm(), settings)
    assert first == pytest.approx(unchanged, abs=1e-5)
    assert abs(first - changed) > 1e-4


def test_words_that_a_tokenizer_cannot_tell_apart_are_refused():
    with pytest.raises(ModelError, match="cannot tell 'Yes' from 'Yes!'"):
        fork(tiny_lm(), "the cat ", ("Yes", "Yes!"))


def test_likelihoods_are_sums_over_the_answers_words():
    lm = tiny_lm()
    samples = [chat("a", "the cat", "a ball"), chat("b", "the cat", "sat on", "ok", "a red mat")]
    texts = tokenize_samples(samples, lm.tokenizer, score="assistant")
    for text, found in zip(texts, answer_likelihoods(samples, lm, HEAD), strict=True):
        every = next_log_probs(lm, text.input_ids.tolist())
        said = [i for i in range(1, len(text.input_ids)) if text.scored[i]]
        expected = sum(float(every[i - 1, text.input_ids[i]]) for i in said)
        assert found == pytest.approx(expected, abs=1e-3)


def test_the_untrained_model_stands_beside_the_trained_ones(tmp_path):
    trained = train_toxicity(labelled(20, 0), tiny_lm, tmp_path / "t", ToxicitySettings(train=HEAD))
    found = evaluate_toxicity(trained, labelled(20, 1), tiny_lm, base=True, allow_overlap=True)
    assert found["base"]["auprc"] == found.headline().base == found["base_auprc"] < 0.95
    assert "base" not in [row["model"] for row in found.models]
    assert "of the untrained model" in found.tables()[0].rows[1][0]
    trained = train_reward(compared(8, 0), tiny_lm, tmp_path / "r", RewardSettings(train=HEAD))
    found = evaluate_reward(trained, compared(8, 1), tiny_lm, base=True, allow_overlap=True)
    assert 0 <= found["base_accuracy_per_word"] <= 1
    assert found["base"]["accuracy"] == np.mean(found.items.scores["base"])


def test_the_base_from_the_command_line(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    data = write_labelled(tmp_path / "a.jsonl", labelled(12, 0))
    words = ("--model", tmp_path / "model", "--dtype", "float32", "--head-only")
    fac("task", "toxicity", "train", data, "-o", tmp_path / "t", *words)
    args = ("task", "toxicity", "evaluate", tmp_path / "t", data, "--allow-overlap", "--base")
    done = fac(*args, "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    done = fac("task", "compare", tmp_path / "t", "--reference", "base", "--json")
    [compared_row] = json.loads(done.stdout)["rows"]
    assert compared_row["base"] == row["base_auprc"]
    assert compared_row["difference"] == pytest.approx(row["auprc"] - row["base_auprc"])


# The paper's heads


PAPER = replace(HEAD, head=HeadSettings(recipe="paper"), random_seed=(1, 2))


@pytest.mark.parametrize("pairs", [False, True])
def test_the_papers_head_is_that_of_torch(pairs):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10, 2 if pairs else 1, 6)).astype(np.float32)
    positive = None if pairs else np.arange(10) % 3 == 0
    found = fit_steps(rows, positive, epochs=3, random_seed=5)
    drawn, x = np.random.default_rng(5), torch.from_numpy(rows).double()
    w = torch.from_numpy(drawn.normal(0, 0.02, (1 if pairs else 2, 6))).requires_grad_()
    adam, step = torch.optim.AdamW([w], lr=8e-5, weight_decay=0.0), 0
    for _ in range(3):
        for batch in torch.from_numpy(drawn.permutation(10)).split(4):
            out = x[batch] @ w.T
            if pairs:
                loss = -torch.nn.functional.logsigmoid(out[:, 0] - out[:, 1]).mean()
            else:
                y = torch.from_numpy(positive).long()
                loss = torch.nn.functional.cross_entropy(out[:, 0], y[batch])
            adam.param_groups[0]["lr"], step = 8e-5 * (1 - step / 9), step + 1
            adam.zero_grad()
            loss.backward()
            adam.step()
    last = w.detach().numpy()
    expected = last[0] if pairs else last[1] - last[0]
    np.testing.assert_allclose(found, [*expected, 0.0], atol=1e-9)


def test_the_papers_head_of_pairs_ranks_the_better_answer_first():
    rows = np.random.default_rng(0).standard_normal((40, 2, 6)).astype(np.float32)
    rows[:, 0, 2] += 3
    found = fit_steps(rows, None, epochs=40, random_seed=5, learning_rate=1e-2)
    assert (rows[:, 0] @ found[:-1] > rows[:, 1] @ found[:-1]).mean() > 0.9
    assert found[-1] == 0


def test_the_papers_head_reads_what_a_classifier_of_transformers_reads():
    lm, samples = tiny_lm(), labelled(4, 3).samples
    rows = read_vectors(samples, lm, PAPER).rows
    for text, row in zip(tokenize_chats(samples, lm, PAPER), rows, strict=True):
        with torch.inference_mode():
            out = lm.model(torch.from_numpy(text.input_ids)[None].long(), output_hidden_states=True)
        np.testing.assert_allclose(row, out.hidden_states[-1][0, -1].numpy(), atol=1e-4)


def test_the_papers_heads_differ_by_their_random_seeds(tmp_path):
    trained = train_toxicity(labelled(16, 0), tiny_lm, tmp_path, ToxicitySettings(train=PAPER))
    assert trained.config["random_seeds"] == [1, 2]
    assert not np.array_equal(trained.tensors["model-1"], trained.tensors["model-2"])
    found = evaluate_toxicity(trained, labelled(16, 1), tiny_lm, allow_overlap=True)
    assert found["auprc_sd"] is not None


def test_the_papers_head_has_no_layer_to_choose():
    with pytest.raises(DataError, match="--recipe paper has its own layer"):
        HeadSettings(recipe="paper", layer=3)
