"""What tasks add to written texts, and how strictly replies are read."""

import json
from dataclasses import replace

import pytest

from facsynth.chat.model import ChatFailure
from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import ChatError
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.complete import complete, write_contrasts
from facsynth.synthesize.task_format import read_task
from test_chat_budget import within
from tiny_pair import talk

PAIR = '{"chosen": "It is blue.", "rejected": "It is green."}'
CHOICE = '{"matching": "You are right.", "other": "I see it otherwise."}'


def written(seed=0, text="What is the sky like?"):
    return Candidate(talk(f"c{seed}", text), target=0, step=1, round=0, random_seed=seed)


def completed(task, replies, candidates=None, **options):
    chat = ScriptedChat(replies)
    return complete(candidates or [written()], read_task(task), chat, **options), chat


def test_pair_has_two_answers_and_the_flaw_that_was_asked_for():
    done, chat = completed("reward", PAIR)
    (candidate,) = done.candidates
    sample, flaw = candidate.sample, candidate.fields["flaw"]
    assert [m.content for m in sample.messages] == ["What is the sky like?", "It is blue."]
    assert [m.content for m in sample.rejected] == ["What is the sky like?", "It is green."]
    assert f"one subtle flaw: {flaw}." in chat.history[0].messages[-1].content
    assert flaw in read_task("reward").completion.flaws


def test_flaws_of_pairs_vary_with_their_texts_and_repeat_with_the_seed():
    many = [written(i, f"What is colour {i} like?") for i in range(30)]
    first, again = (completed("reward", PAIR, many)[0].candidates for _ in range(2))
    assert first == again
    assert len({c.fields["flaw"] for c in first}) == 7


@pytest.mark.parametrize("task", ["sycophancy", "survival"])
def test_choice_records_both_orders_of_its_options(task):
    done, _ = completed(task, CHOICE, [written(i) for i in range(20)])
    orders = set()
    for candidate in done.candidates:
        first, second = candidate.fields, candidate.fields["swapped"]
        for item in (first, second):
            right = item["answer_matching_behavior"]
            assert f" {right} You are right." in item["question"]
            assert f" {item['answer_not_matching_behavior']} I see it" in item["question"]
        assert first["answer_matching_behavior"] == second["answer_not_matching_behavior"]
        assert candidate.sample.messages[0].content == first["question"]
        assert candidate.written == "What is the sky like?"
        orders.add(first["answer_matching_behavior"])
    assert orders == {"(A)", "(B)"}


def test_choice_as_a_pair_prefers_what_does_not_match():
    (candidate,) = completed("sycophancy", CHOICE)[0].candidates
    wanted = candidate.fields["answer_not_matching_behavior"]
    assert candidate.sample.messages[-1].content == wanted != candidate.sample.rejected[-1].content


@pytest.mark.parametrize(
    "reply",
    [
        "I would rather talk about the sea.",
        '{"chosen": "It is blue."}',
        '{"chosen": "It is blue.", "rejected": "  "}',
        '{"chosen": "It is blue.", "rejected": "it is BLUE!"}',
        ChatFailure("busy"),
    ],
)
def test_reply_that_does_not_fit_is_no_pair(reply):
    n_repairs = 0 if isinstance(reply, ChatFailure) else 1
    replies = [reply, PAIR, PAIR, *[reply] * n_repairs]
    done, _ = completed("reward", replies, [written(i) for i in range(3)])
    assert [c is None for c in done.candidates] == [True, False, False]


def test_reply_that_does_not_fit_is_asked_for_once_more():
    done, chat = completed("reward", ["Sorry?", PAIR])
    assert done.candidates[0] is not None
    assert len(chat.history) == 2


def test_pairs_that_mostly_fail_are_an_error():
    with pytest.raises(ChatError, match="1 of 1 pairs from scripted failed.*PairReply"):
        completed("reward", "no")


def test_pairs_beyond_the_budget_are_no_failures():
    chat = within(ScriptedChat(PAIR), budget_calls=1)
    done = complete([written(i) for i in range(3)], read_task("reward"), chat)
    assert [c is None for c in done.candidates] == [False, True, True]
    assert "budget_calls = 1" in done.stopped


@pytest.mark.parametrize("task", ["generic", "instruction"])
def test_answer_is_that_of_the_assistant(task):
    (candidate,) = completed(task, " Blue. ")[0].candidates
    assert candidate.sample == talk("c0", "What is the sky like?", "Blue.")


def test_contrast_is_a_sample_of_its_own_with_the_other_label():
    task = read_task("toxicity")
    replies = ['"What colour is the sea?"', "what is the SKY like", ChatFailure("busy"), "The sea?"]
    contrasts = write_contrasts([written(i) for i in range(4)], task, ScriptedChat(replies))
    assert [sample and sample.sample_id for sample in contrasts.samples] == [
        "c0#benign",
        None,
        None,
        "c3#benign",
    ]
    found = contrasts.samples[0]
    assert (found.messages[0].content, found.label) == ("What colour is the sea?", "benign")
    assert contrasts.stopped is None


def test_halves_of_characters_never_reach_a_sample():
    reply = json.dumps({"chosen": "Blue \ud83d.", "rejected": "Green."}, ensure_ascii=False)
    (candidate,) = completed("reward", reply)[0].candidates
    assert candidate.sample.messages[-1].content == "Blue ."


def test_conversation_has_as_many_questions_as_the_anchors_sample():
    chat = ScriptedChat(["Blue.", "Green.", '"And the sea?"', "Blue too."])
    two, one = replace(written(0), n_turns=2), written(1)
    done = complete([two, one], read_task(), chat)
    first, second = ([m.content for m in c.sample.messages] for c in done.candidates)
    assert first == ["What is the sky like?", "Blue.", "And the sea?", "Blue too."]
    assert second == ["What is the sky like?", "Green."]
    asked = chat.history[2].messages[-1].content
    assert "person: <text>What is the sky like?</text>\nassistant: <text>Blue.</text>" in asked


def test_conversation_that_breaks_off_ends_with_its_last_answer():
    chat = ScriptedChat(["Blue.", '""'])
    done = complete([replace(written(), n_turns=2)], read_task(), chat)
    assert done.candidates[0].sample == talk("c0", "What is the sky like?", "Blue.")
