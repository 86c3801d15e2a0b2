import pytest
from hypothesis import given
from hypothesis import strategies as st

from facsynth.chat.clean import clean_reply

ANSWER = "The market opens at nine."


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>Okay, the user wants a text.</think>\n\n{ANSWER}",
        f"\n<think>\n</think>\n{ANSWER}",
        f"Okay, the user wants a text.\n</think>\n\n{ANSWER}",
        f"[THINK]Okay.[/THINK]{ANSWER}",
        f"◁think▷Okay.◁/think▷{ANSWER}",
        f"<thinking>Okay.</thinking> {ANSWER}",
        f"<|channel>thought\nOkay.<channel|>{ANSWER}",
        f"<think>One.</think><think>Two.</think>{ANSWER}",
        f"<|channel|>analysis<|message|>Okay.<|end|><|start|>assistant<|channel|>final<|message|>"
        f"{ANSWER}<|return|>",
        f"{ANSWER}<|im_end|>",
        f"{ANSWER}</s>",
        f"{ANSWER}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nThanks",
        f"{ANSWER}<end_of_turn>\n<start_of_turn>user\nThanks",
        f"<|im_start|>assistant\n{ANSWER}<|im_end|>",
        f"<think>Okay.</think>{ANSWER}<|im_end|>\n<|im_start|>user\nThanks",
        [{"type": "text", "text": "The market "}, {"type": "text", "text": "opens at nine."}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Okay."}]}, {"text": ANSWER}],
        [ANSWER],
    ],
)
def test_only_the_answer_is_left_of_a_reply(reply):
    assert clean_reply(reply)[::2] == (ANSWER, False)


@pytest.mark.parametrize(
    "reply", ["<think>Okay, the user", "[THINK]Okay", "<|channel|>analysis<|message|>Okay, the"]
)
def test_thinking_that_never_ended_is_no_answer(reply):
    assert clean_reply(reply)[::2] == ("", True)


def test_an_answer_behind_thinking_may_tell_about_marks():
    assert (
        clean_reply("<think>a</think>Put </think> at the end.").text == "Put </think> at the end."
    )


@pytest.mark.parametrize("mark", ["</think>", "</s>", "<|im_end|>"])
def test_marks_in_the_strings_of_json_are_kept(mark):
    reply = f'{{"explanation": "fires on {mark} tokens"}}'
    assert clean_reply(f" {reply}\n").text == reply


def test_parts_of_unknown_kinds_are_passed_over():
    assert clean_reply([3, None, {"type": "text", "text": ANSWER}]).text == ANSWER


def test_any_number_of_blocks_is_taken_off():
    assert clean_reply("<think>a</think>" * 5000 + ANSWER).text == ANSWER


def test_thinking_is_kept_apart():
    assert clean_reply("<think>\nA draft.\n</think>It is so.").thinking == "A draft."


def test_a_text_about_marks_keeps_them():
    text = "Put <think> and </think> around the steps, or [THINK] with Magistral."
    assert clean_reply(text).text == text


@pytest.mark.parametrize("reply", [None, "", "  ", [], [{"type": "image_url"}]])
def test_a_reply_without_text_is_empty(reply):
    assert clean_reply(reply) == ("", "", False)


@given(st.text(alphabet=st.characters(exclude_characters="<>[]◁▷")))
def test_a_text_without_marks_is_only_stripped(text):
    assert clean_reply(text).text == text.strip()
