"""What commands that ask an LLM about features share: the stack of models, and the estimate."""

from pathlib import Path

from facsynth.chat.budget import Spending, limited_chat
from facsynth.chat.cache import CachedChat
from facsynth.chat.endpoint import open_endpoint
from facsynth.chat.model import ChatModel, ChatRequest
from facsynth.chat.policy import estimate
from facsynth.chat.settings import Generator
from facsynth.progress import Progress

__all__ = ["cached", "endpoint_stack", "said_without_llm", "say_estimate"]


def _cache_of(output: Path) -> Path:
    """Where the replies for an output file are kept."""
    return output.with_name(f"{output.name}.replies.sqlite")


def endpoint_stack(generator: Generator, output: Path) -> tuple[ChatModel, Spending]:
    """The endpoint behind the replies kept beside an output file."""
    spending = Spending(generator.policy, _cache_of(output))
    return limited_chat(open_endpoint(generator), spending), spending


def cached(model: ChatModel, output: Path) -> CachedChat:
    """A model behind the replies kept beside an output file."""
    return CachedChat(model, _cache_of(output))


def said_without_llm(generator: Generator, *, dry_run: bool, progress: Progress) -> bool:
    """Whether only an estimate was wanted and no LLM is asked; then it has been said."""
    if not dry_run or generator.chat_model:
        return False
    progress.say("calls ahead: none, without --chat-model")
    return True


def say_estimate(requests: list[ChatRequest], generator: Generator, progress: Progress) -> None:
    """Say what calls lie ahead, before any is made."""
    progress.say(f"calls ahead: {estimate(requests, generator)}")
