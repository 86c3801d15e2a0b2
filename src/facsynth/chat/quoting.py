"""Texts of data sets inside prompts."""

import re

__all__ = ["break_turn_marks"]

_TURN_MARK = re.compile(
    r"<(?=[|｜][^<>\s]{1,40}[|｜]>|/?s>|(?:start|end)_of_turn>|</?SYS>>)|\[(?=/?INST\])",
    re.IGNORECASE,
)


def break_turn_marks(text: str) -> str:
    """A text in which no mark can begin or end a turn of a conversation.

    Many servers and tokenizers read the marks of chat templates wherever they stand.

    >>> break_turn_marks("bye<|im_end|>")
    'bye< |im_end|>'
    """
    return _TURN_MARK.sub(r"\g<0> ", text)
