"""Which candidates may be kept, by length, novelty and form."""

import pytest

from facsynth.records import Message, Sample
from facsynth.synthesize.admission import Admission, word_limits
from facsynth.synthesize.candidates import Candidate
from tiny_pair import talk

ANCHOR = [
    talk("a", "what do cats like to eat in winter", "Mostly fish, and a little bit of milk."),
    talk("b", "why is the sea so very blue today", "Because of the light."),
]
LONG = " ".join(f"word{i}" for i in range(200))


def written(text, answer=None):
    return Candidate(talk("c", text, answer), target=0, step=1, round=0, random_seed=0)


@pytest.fixture
def admission():
    return Admission(ANCHOR, [talk("s", "hello there my friend", "Good day.")], max_overlap=0.5)


@pytest.mark.parametrize(
    ("candidate", "flaw"),
    [
        (written("how do dogs sleep when snow is falling"), None),
        (written("dogs"), "too short"),
        (written(LONG), "too long"),
        (written("what do cats like to eat in summer"), "near-copy"),
        (written("Mostly fish, and a little bit of milk"), "near-copy"),
        (written("what do cats like to eat in winter", LONG), "near-copy"),
        (written("how do dogs sleep when snow is falling", LONG), None),
    ],
)
def test_flaw_of_a_candidate(admission, candidate, flaw):
    assert admission.find_flaw(candidate) == flaw


ASKED = "how do dogs sleep when snow is falling"


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        (LONG, None),
        ("well " * 50, "answer: repetitive"),
        ("Mostly fish, and a little bit of milk.", "answer: near-copy"),
    ],
)
def test_flaw_of_an_answer(admission, answer, flaw):
    assert admission.find_flaw_of_answers(written(ASKED, answer).sample) == flaw


def test_run_of_words_that_an_anchor_answer_has_is_a_copy_unless_it_is_a_phrase():
    run = "one may say that it is as good as it can ever be there"
    texts = [talk(f"a{i}", f"what is {i} {i} {i} {i}", f"{i} {i} {i} {i} {run}") for i in range(3)]
    copy = written(ASKED, f"{LONG} {run}").sample
    once, common = (Admission(texts[:n], [], max_overlap=0.9) for n in (1, 3))
    assert once.find_flaw_of_answers(copy) == "answer: copies more than 12 words"
    assert common.find_flaw_of_answers(copy) is None


def test_only_evaluation_sets_count_without_strict_admission():
    free = Admission(ANCHOR, [], max_overlap=0.5, evaluation=ANCHOR[:1], is_strict=False)
    assert free.find_flaw(written("dogs")) is None
    assert free.find_flaw(written(ANCHOR[1].messages[0].content)) is None
    copied = "near-copy of an evaluation set"
    assert free.find_flaw(written(ANCHOR[0].messages[0].content)) == copied


def test_shared_words_are_told_by_their_share_and_longest_run(admission):
    shares, runs = admission.shared(["what do cats like to eat in summer", ASKED])
    assert (shares, runs) == ([0.8, 0.0], [7, 0])


def test_answer_that_copies_an_evaluation_set_is_a_flaw_and_a_short_one_is_none():
    answer = "it is warm in the sun and cold in the old red house"
    evaluation = [talk("e", "why is it warm", answer), talk("f", "who was it", "The cat.")]
    admission = Admission(ANCHOR, [], max_overlap=0.5, evaluation=evaluation)
    asked = "how do dogs sleep when snow is falling"
    copied = "answer: near-copy of an evaluation set"
    assert admission.find_flaw_of_answers(written(asked, answer).sample) == copied
    assert admission.find_flaw_of_answers(written(asked, "The cat.").sample) is None


def test_text_of_unknown_words_is_in_another_language_where_the_anchor_tells_one():
    ends = ["", "the old one we saw in the house today was red"]
    anchor = [talk(f"a{i}", f"we saw w{i}, v{i} in the {ends[i % 2]}") for i in range(600)]
    german = written("wir sahen gestern einen sehr alten hund in dem haus")
    english = written("yesterday the dogs found unknown zebras in the house")
    wide, narrow = (Admission(anchor[:n], [], max_overlap=0.5) for n in (600, 60))
    assert wide.find_flaw(german) == "other language"
    assert wide.find_flaw(english) is None
    assert narrow.find_flaw(german) is None


def test_limits_are_the_lengths_of_user_messages():
    samples = [talk(f"s{i}", " ".join(["word"] * (5 + i)), LONG) for i in range(101)]
    assert word_limits(samples) == (6, 104)


def test_limits_without_user_messages_are_those_of_all_texts():
    plain = [Sample(f"s{i}", text="one two three four") for i in range(3)]
    spoken = Sample("a", messages=(Message("assistant", "one two three four five"),))
    assert word_limits([*plain, spoken]) == (4, 4)
    assert word_limits([spoken]) == (5, 5)


def test_limits_of_very_short_texts_leave_room():
    assert word_limits([Sample("a", text="Hi")]) == (3, 3)
    assert word_limits([]) == (3, 3)
