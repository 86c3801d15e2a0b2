"""Is a text what was asked for, or does the generator talk about its task?

The rules are few and stated, so that a user can see why a text went. They look at what was written
as a sample only; an assistant's answer may well begin with "Sure, here is".
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

__all__ = ["has_remark", "main_scripts", "script_share"]

_KINDS = (
    "answer|continuation|conversation|dialogue|draft|example|instruction|message|note|paragraph|"
    "passage|post|prompt|question|reply|response|revision|rewrite|sample|sentence|story|text|"
    "variation|version"
)
_ANNOUNCES = re.compile(
    r"^\W*(?:(?:sure|certainly|absolutely|of course|okay|ok|great)\b[^\n:]{0,30}?[!,.:]\s*)?"
    r"(?:here(?:['’]s| is| are)|below (?:is|are)|this is)\s+"
    rf"(?:a|an|the|my|your|one|some|two|three|another)\b[^\n.!?]{{0,60}}?\b(?:{_KINDS})s?\b[^\n]*?:",
    re.IGNORECASE,
)
"""Announces a text: "Here is a message on the theme: …"."""

_REFUSES = re.compile(
    r"^\W*(?:as an? (?:ai|artificial|language model)|"
    r"i(?:['’]m| am) (?:sorry|afraid),?\s*(?:but )?i (?:can['’]?t|cannot|am unable|won['’]t)|"
    r"i (?:can['’]?t|cannot|am unable to|am not able to) (?:write|help|provide|assist|create|"
    r"generate|fulfil|comply|complete))",
    re.IGNORECASE,
)
_ASKS_BACK = re.compile(
    r"(?:let me know if you(?:['’]d| would)? (?:like|need|want)|i hope this (?:helps|meets|works)|"
    r"feel free to (?:modify|adjust|edit|change|ask))[^\n]*$",
    re.IGNORECASE,
)
"""Ends with an offer to change the text."""

_RULE = r"no (?:title|comments?|quotes?|quotation marks?)"
_REPEATS = re.compile(rf"\b{_RULE},? (?:and )?{_RULE}\b", re.IGNORECASE)
"""Repeats the rules of the system prompt."""

_COMMON_SHARE = 0.01


def has_remark(text: str) -> bool:
    """Whether a text announces itself, refuses, repeats its rules, or ends with an offer.

    >>> has_remark("Sure! Here is a message about the sea: I love the waves.")
    True
    >>> has_remark("Sure, I will be there at six. Here is a bottle of wine for you!")
    False
    """
    return any(rule.search(text.strip()) for rule in (_ANNOUNCES, _REFUSES, _ASKS_BACK, _REPEATS))


def main_scripts(texts: Iterable[str]) -> frozenset[str]:
    """Scripts, such as LATIN or CYRILLIC, of at least 1 % of the letters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(map(_script, filter(str.isalpha, text)))
    total = counts.total()
    return frozenset(script for script, n in counts.items() if n >= _COMMON_SHARE * total)


def script_share(text: str, scripts: frozenset[str]) -> float:
    """Share of a text's letters in these scripts, in [0, 1]; 1 for a text without letters.

    >>> script_share("one два", frozenset({"LATIN"}))
    0.5
    """
    found = [_script(letter) in scripts for letter in text if letter.isalpha()]
    return sum(found) / len(found) if found else 1.0


def _script(letter: str) -> str:
    """First word of the letter's Unicode name, which tells its script."""
    return unicodedata.name(letter, "UNNAMED").split()[0].split("-")[0]
