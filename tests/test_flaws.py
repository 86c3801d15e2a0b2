"""Whether a text is a text at all: long and regular ones are, loops are not."""

import random

import pytest

from facsynth.data.flaws import MOST_REPEATED, find_flaw, repetition, repetition_limit

SUBJECTS = ["the cook", "a farmer", "my aunt", "the pilot", "our mayor", "a young baker"]
VERBS = ["painted", "counted", "repaired", "sold", "wanted", "lost", "found", "drew"]
THINGS = ["the fence", "a radio", "three apples", "the bicycle", "a letter", "some rye bread"]
PLACES = ["at the station", "in the rain", "near the harbour", "last winter", "on Monday"]


def answer(n_sentences, *, start=0):
    """Sentences out of few words, as regular as a list of steps."""
    rng = random.Random(start)
    parts = (SUBJECTS, VERBS, THINGS, PLACES)
    return " ".join(" ".join(map(rng.choice, parts)) + "." for _ in range(n_sentences))


CODE = """
def read_{0}(path: Path) -> list[{1}]:
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [{1}(row["{2}"], int(row["{3}"])) for row in rows if row["{2}"]]
"""
CHINESE = (
    "春天来了，花园里的树木慢慢地发芽。孩子们在公园里放风筝，老人们坐在长椅上聊天。"
    "河边的柳树随风摇摆，小鸟在枝头唱歌。农民开始在田里种菜，市场上也有了新鲜的水果。"
    "下午下了一场小雨，空气变得很清新。晚上大家一起吃饭，谈论明天要去哪里散步。"
    "周末我们打算坐火车去海边，看看日出，然后在沙滩上走一走。"
)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", "no words"),
        ("... \n!", "no words"),
        ("too few", "too short"),
        ("one two three four five six seven", "too long"),
        ("we walk to town and back", None),
        ("Wir gehen über die Straße", None),
    ],
)
def test_flaw_of_a_text_of_three_to_six_words(text, flaw):
    assert find_flaw(text, min_words=3, max_words=6) == flaw


@pytest.mark.parametrize(
    "text",
    [
        answer(90),
        "\n".join(f"{n}. **{answer(1, start=n)}** It is step {n} of 40." for n in range(40)),
        "".join(CODE.format(*names) for names in (("a", "B", "c", "d"), ("e", "F", "g", "h"))),
        CHINESE,
        CHINESE + CHINESE[::-1],
        "No, no, no, no, no!",
        "we like it here so we like it here and we like it here",
    ],
    ids=["600 words", "list", "code", "Chinese", "long Chinese", "refrain", "thrice"],
)
def test_good_texts_are_no_loops(text):
    assert find_flaw(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "ha " * 20,
        " ".join(f"w{i % 7}" for i in range(20)),
        "I think that we should go and see what happens next. " * 6,
        answer(10) + " and then he said that" * 20,
        answer(90) + " and then he said that" * 10,
        "我想我们应该去看看。" * 8,
        CODE * 4,
    ],
    ids=["word", "seven", "sentence", "half", "end", "Chinese", "code"],
)
def test_loops_are_repetitive(text):
    assert find_flaw(text) == "repetitive"


def test_repetition_does_not_grow_with_the_length_of_good_texts():
    rates = [repetition(" ".join(map(str, range(n)))) for n in (10, 100, 1000)]
    assert rates == [0, 0, 0]


def test_limit_follows_texts_that_repeat_themselves():
    verse = answer(1) + " La la la, the sun comes up and we go home, all day and night we sing. "
    song = verse * 3
    assert find_flaw(song) == "repetitive"
    limit = repetition_limit([song] * 3)
    assert limit > MOST_REPEATED
    assert find_flaw(song, most_repeated=limit) is None
    assert repetition_limit([]) == repetition_limit([answer(20)]) == MOST_REPEATED
