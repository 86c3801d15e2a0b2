"""The one way in which text is split into words and sentences.

Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are split
into characters; pairs and longer runs of them are left to those who count.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import regex

__all__ = [
    "count_scripts",
    "count_words",
    "find_sentence_ends",
    "find_words",
    "is_function_word",
    "is_word",
    "main_scripts",
    "script_share",
    "split_words",
]

_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_NO_SPACES = rf"[[{_SCRIPTS}]&&[\p{{L}}\p{{N}}\u30fc]]"
_LETTER = rf"[[\p{{L}}\p{{N}}]--{_NO_SPACES}]"
_RUN = rf"{_LETTER}(?:{_LETTER}|\p{{M}})*"
_WORD = regex.compile(
    rf"{_RUN}(?:['’]{_RUN})*|{_NO_SPACES}\p{{M}}*|[[^\s_]--[\p{{L}}\p{{N}}\p{{M}}]]+",
    regex.VERSION1,
)

# The same words in ASCII, six times as fast on Alpaca instructions.
_PLAIN_WORD = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")

_SENTENCE_END = regex.compile(r"(?:(?<!\d)\.|[?!…])[\"'”’)\]]*(?=\s|$)|[。？！]")


def find_sentence_ends(text: str) -> Iterator[int]:
    """Where sentences end; a rest without a full stop is no sentence.

    >>> text = 'It is 3.5 m. "Why?" So wh'
    >>> [text[:end] for end in find_sentence_ends(text)]
    ['It is 3.5 m.', 'It is 3.5 m. "Why?"']
    """
    for match in _SENTENCE_END.finditer(text):
        yield match.end()


def find_words(text: str) -> Iterator[tuple[str, int, int]]:
    """Each word in lower case, with its start and end in the text; runs of marks are words too.

    >>> [word for word, _, _ in find_words("Don't stop: 東京!")]
    ["don't", 'stop', ':', '東', '京', '!']
    """
    for match in _WORD.finditer(text):
        word = match.group().lower()
        if not word.isascii():
            word = unicodedata.normalize("NFC", word)
        yield word, match.start(), match.end()


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, punctuation left out.

    >>> split_words("Don't stop: it's 5 o’clock!")
    ["don't", 'stop', "it's", '5', 'o’clock']
    """
    if text.isascii():
        return _PLAIN_WORD.findall(text.lower())
    return [word for word, _, _ in find_words(text) if is_word(word)]


def count_words(text: str) -> int:
    """Number of words of a text, without punctuation.

    >>> count_words("Well - don't you, “Zoë”, think so?")
    6
    """
    return len(split_words(text))


def is_word(word: str) -> bool:
    """Whether it begins with a letter or a digit, so is no punctuation."""
    return word[:1].isalnum()


# Function words

_FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "some",
        "any",
        "each",
        "every",
        "either",
        "neither",
        "no",
        "none",
        "both",
        "all",
        "such",
        "another",
        "other",
        "others",
        "own",
        "same",
        "i",
        "me",
        "my",
        "mine",
        "myself",
        "you",
        "your",
        "yours",
        "yourself",
        "he",
        "him",
        "his",
        "himself",
        "she",
        "her",
        "hers",
        "herself",
        "it",
        "its",
        "itself",
        "we",
        "us",
        "our",
        "ours",
        "ourselves",
        "they",
        "them",
        "their",
        "theirs",
        "themselves",
        "one",
        "ones",
        "who",
        "whom",
        "whose",
        "which",
        "what",
        "when",
        "where",
        "why",
        "how",
        "whatever",
        "whoever",
        "anyone",
        "anything",
        "someone",
        "something",
        "everyone",
        "everything",
        "nothing",
        "there",
        "here",
        "and",
        "or",
        "but",
        "nor",
        "so",
        "yet",
        "if",
        "then",
        "else",
        "than",
        "because",
        "while",
        "although",
        "though",
        "unless",
        "until",
        "since",
        "whether",
        "as",
        "like",
        "of",
        "at",
        "by",
        "for",
        "with",
        "about",
        "against",
        "between",
        "into",
        "through",
        "during",
        "before",
        "after",
        "above",
        "below",
        "to",
        "from",
        "up",
        "down",
        "in",
        "out",
        "on",
        "off",
        "over",
        "under",
        "again",
        "further",
        "once",
        "upon",
        "within",
        "without",
        "among",
        "along",
        "across",
        "toward",
        "towards",
        "per",
        "via",
        "is",
        "am",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "do",
        "does",
        "did",
        "done",
        "doing",
        "have",
        "has",
        "had",
        "having",
        "can",
        "could",
        "will",
        "would",
        "shall",
        "should",
        "may",
        "might",
        "must",
        "ought",
        "need",
        "let",
        "get",
        "gets",
        "got",
        "getting",
        "make",
        "makes",
        "made",
        "making",
        "use",
        "uses",
        "used",
        "using",
        "go",
        "goes",
        "going",
        "went",
        "come",
        "give",
        "gives",
        "given",
        "put",
        "take",
        "takes",
        "took",
        "say",
        "says",
        "said",
        "want",
        "wants",
        "not",
        "only",
        "just",
        "very",
        "too",
        "also",
        "even",
        "still",
        "already",
        "much",
        "many",
        "more",
        "most",
        "less",
        "least",
        "few",
        "several",
        "own",
        "well",
        "really",
        "quite",
        "rather",
        "now",
        "ever",
        "never",
        "always",
        "often",
        "yes",
        "ok",
        "okay",
        "etc",
        "thus",
        "therefore",
        "however",
        "maybe",
        "perhaps",
        "yourself",
        "im",
        "ive",
        "dont",
        "cant",
        "isnt",
        "ll",
        "ve",
        "re",
    ]
)


def is_function_word(word: str) -> bool:
    """Whether an English word says how a sentence is built, and little of what it is about.

    >>> [word for word in ("you", "don't", "tax") if is_function_word(word)]
    ['you', "don't"]
    """
    stem = word.replace("’", "'").split("'")[0]
    return word in _FUNCTION_WORDS or ("'" in word.replace("’", "'") and len(stem) <= _CONTRACTED)


_CONTRACTED = 6
"""Letters before the apostrophe of what is taken for a contraction, such as "couldn't"."""


# Scripts

_MAIN_SHARE = 0.01
"""A script with fewer of the letters is none of the main ones."""


def main_scripts(texts: Iterable[str]) -> frozenset[str]:
    """Scripts, such as LATIN or CYRILLIC, of at least 1 % of the letters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(count_scripts(text))
    total = counts.total()
    return frozenset(script for script, n in counts.items() if n >= _MAIN_SHARE * total)


def count_scripts(text: str) -> Counter[str]:
    """Letters of each script, such as LATIN.

    >>> count_scripts("one два 3")
    Counter({'LATIN': 3, 'CYRILLIC': 3})
    """
    return Counter(map(_script, filter(str.isalpha, text)))


def script_share(text: str, scripts: frozenset[str]) -> float:
    """Share of a text's letters in these scripts, in [0, 1]; 1 for a text without letters.

    >>> script_share("one два", frozenset({"LATIN"}))
    0.5
    """
    found = [_script(letter) in scripts for letter in text if letter.isalpha()]
    return sum(found) / len(found) if found else 1.0


@cache
def _script(letter: str) -> str:
    """The script of a letter: the first word of its Unicode name."""
    return unicodedata.name(letter, "UNNAMED").split()[0].split("-")[0]
