"""The assistant's answers to synthetic user messages."""

from collections.abc import Sequence
from dataclasses import replace

from facsynth.chat.model import ChatModel, ChatReply, ChatRequest
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.synthesize.asking import ask
from facsynth.synthesize.prompts import whole_sentences

__all__ = ["with_replies"]


def with_replies(
    samples: Sequence[Sample],
    chat: ChatModel,
    *,
    seed: int = 0,
    max_tokens: int = 128,
    progress: Progress = SILENT,
) -> tuple[list[Sample], str | None]:
    """Samples with an assistant message behind them; unanswered ones stay as they are.

    An answer that `max_tokens` cut off ends with its last whole sentence.

    Returns:
        The samples, and what the budget said when it did not allow every answer.

    Raises:
        ChatError: More than half of the requests failed.
    """
    requests = [ChatRequest(messages=s.messages, seed=seed, max_tokens=max_tokens) for s in samples]
    asked = ask(requests, chat, name="answers", progress=progress)
    answers = [_answer(reply) if isinstance(reply, ChatReply) else "" for reply in asked.outcomes]
    answered = [
        replace(sample, messages=(*sample.messages, Message("assistant", answer)))
        if answer
        else sample
        for sample, answer in zip(samples, answers, strict=True)
    ]
    return answered, asked.stopped


def _answer(reply: ChatReply) -> str:
    text = reply.text.strip()
    return whole_sentences(text) if reply.truncated else text
