"""Names for features without an LLM: the terms that distinguish a feature's spans.

A term is a word or a pair of adjacent words. The word at the peak counts most, its neighbours a
little. A term scores by the z-value of its log-odds against the anchor with an
informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, equations 16 to 22), so "the" names
nothing unless a feature really is about "the".
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from facsynth.records import Sample, Span, sample_text
from facsynth.words import find_words, is_function_word, is_word, split_words

__all__ = [
    "TermCounts",
    "as_shares",
    "count_terms",
    "name_feature",
    "name_terms",
    "name_topic",
    "peak_word",
    "terms_of",
    "word_weights",
]

_N_TERMS = 3
"""Most terms in a name."""

_NEIGHBOUR_WEIGHT = 0.15
_BESIDE_WEIGHT = 0.4
"""What a word beside the peaks of a sample counts in the name of a topic; at a peak it is 1."""

_PRIOR_WORDS = 10.0
"""Weight of the anchor's word frequencies, in words; a feature has about ten spans."""

_PAIR_FACTOR = 1.25
"""A pair must score this much better than its words: "united states" does, "a cat" does not."""

_LEAST_SHARE, _LEAST_TOPIC_SHARE = 0.2, 0.15
"""A further term is named when it scores this share of the best one; words beside the peaks, which
name topics, score less."""


_LEAST_SHARED = 0.25
"""Share of the peaks that are at content words of several samples, from which on these words say
what a topic is about."""

_LEAST_ALIKE, _LEAST_PHRASE, _MOST_PHRASE = 0.6, 3, 6
"""Share of a feature's spans that have the same words around their peaks, from which on these words
are a name, and the fewest and most of them."""

_LEAST_STEM = 4
"""Two words that are alike in this many first letters, and in all but the last of the shorter one,
are forms of one word."""

_QUESTION_WORDS = ("who", "what", "which", "when", "where", "why", "how")

_ENDINGS = ("s", "ed", "er", "ing")
"""What makes another form of a shorter word, such as "pay"."""


@dataclass(frozen=True)
class TermCounts:
    """How often words and pairs of words occur in a set of texts."""

    words: Mapping[str, int]
    pairs: Mapping[str, int]
    n_words: int
    """Sum over the words."""

    def frequency(self, term: str) -> int:
        """Count of a term, 0 if it does not occur."""
        return self.words.get(term) or self.pairs.get(term, 0)


def count_terms(samples: Iterable[Sample]) -> TermCounts:
    """Count the words and the pairs of words of samples, in lower case."""
    words: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for sample in samples:
        found = list(find_words(sample_text(sample)))
        words.update(word for word, _, _ in found)
        pairs.update(_pairs(found))
    return TermCounts(words, pairs, words.total())


def name_feature(spans: Sequence[Span], background: TermCounts) -> str:
    """The terms of `name_terms` as one line; "(no name)" without any.

    A mark comes first only where no word tells anything: then it is the name, in quotes.
    """
    terms = name_terms(spans, background)
    if terms and not any(map(str.isalnum, terms[0])):
        return f"“{terms[0]}”"
    return ", ".join(terms) or "(no name)"


def name_terms(
    spans: Sequence[Span], background: TermCounts, *, n_terms: int = _N_TERMS
) -> tuple[str, ...]:
    """Up to `n_terms` distinctive terms of a feature's spans, the best first.

    Of a pair and its own words, only the better one is named.

    Returns:
        The terms; none without spans or without words in them.
    """
    words = word_weights(spans)
    total = sum(words.values())

    def score(term: str, weight: float) -> float:
        count = float(background.frequency(term))
        return _log_odds_z(weight, total, count, float(background.n_words))

    scores = {word: score(word, weight) for word, weight in words.items()}
    for pair, weight in _pair_weights(spans).items():
        z, parts = score(pair, weight), split_words(pair)
        is_usual = weight >= max(words.get(word, 0.0) for word in parts) / 2
        if is_usual and z > _PAIR_FACTOR * max(scores.get(word, 0.0) for word in parts):
            scores[pair] = z
    n_spans = Counter(term for span in spans for term in terms_of(span.text))
    # A word beside the mark that all spans share says something only if it is there again.
    peaks = Counter(peak_word(span) for span in spans)
    telling = {
        t
        for t in scores
        if not _is_short(t)
        and (t in peaks or n_spans[t] > 1)
        and (not is_function_word(t) or 2 * peaks[t] >= len(spans))
    }
    return _best_terms(scores, telling, background, n_terms)


def name_topic(groups: Sequence[Sequence[Span]], background: TermCounts) -> str:
    """What the spans of several features have in common, as one line.

    Where their peaks are at the same words, these are the name: content words, or else the words
    that build a sentence, as in questions. Where peaks are at marks or always at other words, such
    as at the brackets of code, the words around them are. A phrase that most spans of the first
    feature share, as of a template, goes ahead.

    Args:
        groups: Spans of each feature; people see an example of the first.
        background: Counts of the anchor's words.
    """
    every = [span for spans in groups for span in spans]
    seen = dict.fromkeys((span.sample_id, peak_word(span)) for span in every)
    peaks = Counter(word for _, word in seen)
    there = dict.fromkeys((span.sample_id, w) for span in every for w in split_words(span.text))
    samples = Counter(word for _, word in there)
    weights = {word: peaks[word] + _BESIDE_WEIGHT * n for word, n in samples.items()}
    found = _shared_peaks(groups[0], peaks, weights)
    found = found or _words_around(groups, samples, weights, background)
    if phrase := _shared_phrase(groups[0]):
        others = [term for term in found if not any(_is_form(term, one) for one in phrase)]
        return ", ".join([f"“{' '.join(phrase)}”", *others[: _N_TERMS - 1]])
    shares = [span for spans in groups for span in as_shares(spans)]
    return ", ".join(found) or name_feature(shares, background)


def _shared_phrase(spans: Sequence[Span]) -> list[str]:
    """The words from the peak on and before it that most spans share; none where they are few."""
    texts = list[tuple[list[str], int, int]]()  # words, and the first and last+1 of the phrase
    for span in spans:
        found = list(find_words(span.text))
        at = [i for i, word in enumerate(found) if _holds_peak(span, word)][:1]
        texts += [([word for word, _, _ in found], i, i) for i in at]
    phrase: list[str] = []
    while len(phrase) < _MOST_PHRASE:
        ahead = Counter((w[end], True) for w, _, end in texts if end < len(w))
        back = Counter((w[start - 1], False) for w, start, _ in texts if phrase and start)
        nearby = {one: n for one, n in (ahead | back).items() if is_word(one[0])}
        (word, is_ahead), n = max(nearby.items(), key=itemgetter(1), default=(("", True), 0))
        if n < max(3.0, _LEAST_ALIKE * len(spans)):
            break
        phrase = [*phrase, word] if is_ahead else [word, *phrase]
        texts = [
            (w, start, end + 1) if is_ahead else (w, start - 1, end)
            for w, start, end in texts
            if (w[end : end + 1] if is_ahead else w[max(0, start - 1) : start]) == [word]
        ]
    return phrase if len(phrase) >= _LEAST_PHRASE else []


def _shared_peaks(
    first: Sequence[Span], peaks: Counter[str], weights: Mapping[str, float]
) -> list[str]:
    """Words at the peaks of several samples, the heaviest first; none where they say little.

    Args:
        first: Spans of the feature whose most frequent word leads, if it is among them.
        peaks: Samples by the word at a peak.
        weights: Of words.
    """
    shared = [word for word, n in peaks.items() if n > 1 and not _is_short(word)]
    content = [w for w in shared if not is_function_word(w) and not _is_short(w, least=3)]
    n_building = sum(n for word, n in peaks.items() if is_function_word(word))
    if sum(peaks[word] for word in content) >= _LEAST_SHARED * peaks.total():
        shared = content
    elif 2 * n_building >= peaks.total():
        shared = [word for word in shared if is_function_word(word)]
    else:
        return []
    lead = max(Counter(map(peak_word, first)).items(), key=itemgetter(1), default=("", 0))[0]
    least = _LEAST_TOPIC_SHARE * max((peaks[word] for word in shared), default=0)
    named: list[str] = []
    for word in sorted(shared, key=lambda word: (word != lead, -weights.get(word, 0.0), word)):
        if peaks[word] >= least and not any(_is_form(word, other) for other in named):
            named.append(word)
    return named[:_N_TERMS]


def _words_around(
    groups: Sequence[Sequence[Span]],
    samples: Mapping[str, int],
    weights: Mapping[str, float],
    background: TermCounts,
) -> list[str]:
    """The best term of the first feature, then the words that the spans of several features share.

    Features of a group share their strongest samples, so words of a single sample say nothing.
    """
    owned = dict.fromkeys(
        (i, w) for i, g in enumerate(groups) for s in g for w in split_words(s.text)
    )
    owners = Counter(word for _, word in owned)
    is_single = len({span.sample_id for spans in groups for span in spans}) == 1
    weights = {
        word: weight
        for word, weight in weights.items()
        if owners[word] > 1 and (samples[word] > 1 or is_single) and not _is_short(word, least=3)
    }
    total, n_all = sum(weights.values()), float(background.n_words)
    scores = {
        word: _log_odds_z(weight, total, float(background.frequency(word)), n_all)
        for word, weight in weights.items()
    }
    scores = {word: z for word, z in scores.items() if z > 0}
    telling = {word for word in scores if not is_function_word(word)}
    common = _best_terms(scores, telling, background, _N_TERMS, least=_LEAST_TOPIC_SHARE)
    if not common:
        return []
    first = [term for term in name_terms(groups[0], background, n_terms=1) if _can_lead(term)]
    rest = [term for term in common if not any(_is_form(term, one) for one in first)]
    return [*first, *rest][:_N_TERMS]


def _can_lead(term: str) -> bool:
    """Whether a topic may begin with a term: no mark, and of function words only who to why."""
    return not _is_short(term) and (term in _QUESTION_WORDS or not is_function_word(term))


def as_shares(spans: Sequence[Span]) -> list[Span]:
    """Spans with activations as shares of the strongest, so that features count alike."""
    return [replace(span, activation=share) for span, share in _shares(spans)]


def _best_terms(
    scores: Mapping[str, float],
    telling: Collection[str],
    background: TermCounts,
    n_terms: int,
    *,
    least: float = _LEAST_SHARE,
) -> tuple[str, ...]:
    """The best terms that share no word: telling ones first, and at most one mark or letter.

    Terms that are not telling are named only where none is.
    """

    def rank(term: str) -> tuple[bool, float, int, str]:  # of equal ones, that of the rarer words
        rarest = max(map(background.frequency, split_words(term)), default=0)
        return term not in telling, -scores[term], rarest, term

    named: list[str] = []
    for term in sorted(scores, key=rank):
        if len(named) == n_terms:
            break
        is_weak = bool(named) and scores[term] < least * scores[named[0]]
        is_second_mark = _is_short(term) and any(map(_is_short, named))
        is_filler = term not in telling and bool(named) and named[0] in telling
        if is_weak or is_second_mark or is_filler:
            continue
        if not any(_is_form(term, other) for other in named):
            named.append(term)
    return tuple(named)


def _is_form(term: str, other: str) -> bool:
    """Whether two terms share a word, or are forms of one: "word" and "words"."""
    if set(split_words(term)) & set(split_words(other)):
        return True
    short, long = sorted((term, other), key=len)
    if len(short) < _LEAST_STEM:
        return long.removeprefix(short) in _ENDINGS
    return long.startswith(short[: max(_LEAST_STEM, len(short) - 1)])


def _is_short(term: str, least: int = 2) -> bool:
    """Whether a term has few letters; marks, numbers and letters say little by themselves."""
    n_letters = sum(map(str.isalpha, term))
    return n_letters == 0 or (term.isascii() and n_letters < least)


def terms_of(text: str) -> set[str]:
    """Every word and every pair of words in a text, in lower case."""
    found = list(find_words(text))
    return {*(word for word, _, _ in found), *_pairs(found)}


def word_weights(spans: Sequence[Span]) -> dict[str, float]:
    """Weight of each word over the spans: by activation at the peaks, a little beside them."""
    weights: defaultdict[str, float] = defaultdict(float)
    for span, share in _shares(spans):
        peak = peak_word(span)
        if peak:
            weights[peak] += share
        for word in dict.fromkeys(split_words(span.text)):
            if word != peak:
                weights[word] += share * _NEIGHBOUR_WEIGHT
    return dict(weights)


def _pair_weights(spans: Sequence[Span]) -> dict[str, float]:
    """Weight of the pairs that the words at the peaks are part of."""
    weights: defaultdict[str, float] = defaultdict(float)
    for span, share in _shares(spans):
        found = list(find_words(span.text))
        at = next((i for i, word in enumerate(found) if _holds_peak(span, word)), None)
        if at is not None:
            for pair in dict.fromkeys(_pairs(found[max(0, at - 1) : at + 2])):
                weights[pair] += share
    return dict(weights)


def _shares(spans: Sequence[Span]) -> list[tuple[Span, float]]:
    """Each span with its activation as a share of the strongest."""
    strongest = max((span.activation for span in spans), default=0.0) or 1.0
    return [(span, span.activation / strongest) for span in spans]


def peak_word(span: Span) -> str:
    """The whole word that the peak token is part of, in lower case; "" of a blank token."""
    for word in find_words(span.text):
        if _holds_peak(span, word):
            return word[0]
    return span.peak.strip().lower()


def _holds_peak(span: Span, word: tuple[str, int, int]) -> bool:
    at = len(span.before) + len(span.peak) - len(span.peak.lstrip())
    return word[1] <= at < word[2]


def _pairs(found: Sequence[tuple[str, int, int]]) -> list[str]:
    """Neighbouring words as one term, joined as in the text: by a blank, or not at all."""
    return [
        f"{one} {two}" if start > end else f"{one}{two}"
        for (one, _, end), (two, start, _) in zip(found, found[1:], strict=False)
        if is_word(one) and is_word(two)
    ]


def _log_odds_z(weight: float, total: float, count: float, n_all: float) -> float:
    """The z-value of the log-odds of a term in the spans against the anchor.

    δ = log((y + α) / (n + α₀ - y - α)) - log((b + α) / (N + α₀ - b - α)), divided by
    √(1 / (y + α) + 1 / (b + α)); y, n: weight of the term and of all words in the spans; b, N:
    the same counts in the anchor; α = α₀ · b / N. The anchor holds the spans, so b is at least y.
    """
    count = max(count, weight)
    n_all = max(n_all, count, 1.0)
    prior = _PRIOR_WORDS * count / n_all
    here, there = weight + prior, count + prior
    rest_here = max(total + _PRIOR_WORDS - here, 1.0)
    rest_there = max(n_all + _PRIOR_WORDS - there, 1.0)
    delta = math.log(here / rest_here) - math.log(there / rest_there)
    return delta / math.sqrt(1 / here + 1 / there)
