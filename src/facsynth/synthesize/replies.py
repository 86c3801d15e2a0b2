"""The assistant's answers to synthetic user messages."""

from collections.abc import Sequence
from dataclasses import replace

from facsynth.chat.model import ChatModel, ChatReply, ChatRequest
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample

__all__ = ["with_replies"]


def with_replies(
    samples: Sequence[Sample],
    chat: ChatModel,
    *,
    seed: int = 0,
    max_tokens: int = 128,
    progress: Progress = SILENT,
) -> list[Sample]:
    """Samples with an assistant message behind them; unanswered ones stay as they are."""
    requests = [ChatRequest(messages=s.messages, seed=seed, max_tokens=max_tokens) for s in samples]
    with progress.task("answers", len(requests), "texts") as task:
        replies = chat.reply(requests, on_done=lambda n: task.advance(n))
    return [
        replace(sample, messages=(*sample.messages, Message("assistant", reply.text.strip())))
        if isinstance(reply, ChatReply)
        else sample
        for sample, reply in zip(samples, replies, strict=True)
    ]
