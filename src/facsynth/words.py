"""The one way in which text is split into words and sentences.

Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are split
into characters; pairs and longer runs of them are left to those who count.
"""

import unicodedata
from collections.abc import Iterator

import regex

__all__ = ["count_words", "find_sentence_ends", "find_words", "is_word", "split_words"]

_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_NO_SPACES = rf"[[{_SCRIPTS}]&&[\p{{L}}\p{{N}}\u30fc]]"
_LETTER = rf"[[\p{{L}}\p{{N}}]--{_NO_SPACES}]"
_RUN = rf"{_LETTER}(?:{_LETTER}|\p{{M}})*"
_WORD = regex.compile(
    rf"{_RUN}(?:['’]{_RUN})*|{_NO_SPACES}\p{{M}}*|[[^\s_]--[\p{{L}}\p{{N}}\p{{M}}]]+",
    regex.VERSION1,
)

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
