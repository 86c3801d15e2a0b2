"""Whether a text is new."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.data.copies import KnownRuns, KnownTexts, SketchedTexts, index_texts, longest_runs

ANCHOR = "I took the early train to the coast and walked along the beach until noon."
WORDS = st.lists(st.sampled_from(["sea", "cat", "tea", "sun", "ice", "dog"]), min_size=1)


def test_hashes_bring_the_known_texts_back():
    known = KnownTexts.from_hashes(KnownTexts([ANCHOR]).hashes())
    assert known.overlap(ANCHOR) == 1
    assert known.overlap("the cat and the dog slept in the sun") == 0


@pytest.mark.parametrize(
    "text",
    [
        ANCHOR,
        ANCHOR.upper(),
        "“I took the early train - to the coast - and walked along the beach, until noon!”",
        "walked along the beach",
    ],
)
def test_copy_overlaps_wholly_whatever_its_case_and_punctuation(text):
    assert KnownTexts([ANCHOR]).overlap(text) == 1.0


def test_text_with_other_words_does_not_overlap():
    assert KnownTexts([ANCHOR]).overlap("My neighbour bakes bread on Sundays.") == 0.0


def test_overlap_is_the_share_of_known_four_grams():
    known = KnownTexts(["a b c d e"])
    assert known.overlap("a b c d x y") == pytest.approx(1 / 3)


def test_short_text_is_known_only_as_a_whole():
    known = KnownTexts(["Tell me more"])
    assert known.overlap("tell me more!") == 1.0
    assert known.overlap("tell me") == known.overlap("tell me more now") == 0.0


def test_words_of_two_texts_do_not_join():
    assert KnownTexts(["a b c", "d e f"]).overlap("b c d e") == 0.0


def test_text_without_words_overlaps_with_nothing():
    assert KnownTexts([ANCHOR, "?!"]).overlap("?!") == 0.0


@settings(deadline=None)
@given(WORDS, st.lists(WORDS))
def test_overlap_grows_with_known_texts_up_to_one(text, others):
    known, shares = KnownTexts(), []
    for other in [*others, text]:
        known.add(" ".join(other))
        shares.append(known.overlap(" ".join(text)))
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] <= shares[-1] == 1.0


def planted_copies():
    """Texts, near-copies of them with two words changed, and texts of other words."""
    rng = random.Random(0)
    texts = [[f"w{rng.randrange(5000)}" for _ in range(40)] for _ in range(60)]
    copies = [[f"x{i}" if i % 14 == 13 else w for i, w in enumerate(text)] for text in texts]
    others = [[f"w{rng.randrange(5000)}" for _ in range(40)] for _ in range(60)]
    return ([" ".join(words) for words in group] for group in (texts, copies, others))


def test_exact_index_and_sketches_agree_on_planted_near_copies():
    texts, copies, others = planted_copies()
    exact, sketched = KnownTexts(texts), SketchedTexts(texts)
    for text in (*texts, *copies, *others):
        assert sketched.overlap(text) == pytest.approx(exact.overlap(text), abs=0.2)
        assert (sketched.overlap(text) > 0.5) == (exact.overlap(text) > 0.5)
    assert all(exact.overlap(text) > 0.5 for text in copies)


def test_sketches_take_in_texts_and_know_short_ones_as_a_whole():
    known = SketchedTexts(["Tell me more"])
    known.add(ANCHOR)
    assert known.overlap("tell me more!") == known.overlap(ANCHOR.upper()) == 1.0
    assert known.overlap("tell me") == known.overlap("?!") == 0.0


@pytest.mark.parametrize(("limit", "kind"), [(20, KnownTexts), (10, SketchedTexts)])
def test_many_texts_are_sketched(limit, kind):
    assert isinstance(index_texts([ANCHOR], exact_limit=limit), kind)


def test_run_that_three_anchor_texts_have_is_a_phrase():
    run = "a b c d e"
    texts = [f"{i} {run} {i}" for i in range(3)]
    rare, common = (KnownRuns(texts[:n], 5, anchor=texts[:n]) for n in (2, 3))
    assert (rare.copies(f"x {run} y"), common.copies(f"x {run} y")) == (True, False)
    assert not rare.copies("a b c d")


LETTERS = st.lists(st.sampled_from("abc"), max_size=12).map(" ".join)


@given(LETTERS, st.lists(LETTERS, max_size=3))
def test_longest_run_is_that_of_a_search_by_hand(text, known):
    words = text.split()
    runs = [words[i:j] for i in range(len(words)) for j in range(i + 4, len(words) + 1)]
    found = [len(run) for run in runs for other in known if f" {' '.join(run)} " in f" {other} "]
    assert longest_runs([text], known) == [max(found, default=0)]
