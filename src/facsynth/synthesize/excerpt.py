"""What is shown of an anchor sample as an example of a written text."""

from facsynth.records import Sample, Span
from facsynth.words import count_words, find_sentence_ends

__all__ = ["shown_text"]


def shown_text(sample: Sample, span: Span | None = None, *, max_words: int) -> str:
    """The user's message or plain text of a sample, or the sentences of it around a span.

    Args:
        sample: One of the anchor's.
        span: The place that matters. Without one, and where it stands in what somebody else wrote,
            the beginning does.
        max_words: Most words. Of a single sentence that has more, the span is shown, or all of it.
    """
    texts = [message.content for message in sample.messages if message.role == "user"]
    texts = texts if sample.text is None else [sample.text]
    around = span.text.strip() if span else ""
    text = next((text for text in texts if around and around in text), "")
    if not text:
        span, text = None, next(iter(texts), around)
    if _fits(text, max_words):
        return text
    peak = text.find(around) + len(span.before.lstrip()) if span else 0
    shown = _sentences_around(text, peak, max_words)
    return around if span and not _fits(shown, max_words) else shown


def _sentences_around(text: str, place: int, max_words: int) -> str:
    """The sentence at a place, and as many behind it and then before it as there is room for."""
    ends = [end for end in find_sentence_ends(text) if text[end:].strip()]
    bounds = [0, *ends, len(text)]
    first = max(i for i, start in enumerate(bounds[:-1]) if start <= place)
    last = first + 1
    while last + 1 < len(bounds) and _fits(text[bounds[first] : bounds[last + 1]], max_words):
        last += 1
    while first > 0 and _fits(text[bounds[first - 1] : bounds[last]], max_words):
        first -= 1
    return text[bounds[first] : bounds[last]].strip()


def _fits(text: str, max_words: int) -> bool:
    return count_words(text) <= max_words
