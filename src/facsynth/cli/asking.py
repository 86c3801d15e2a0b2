"""What commands that ask an LLM about features share: the stack of models, and the estimate."""

from pathlib import Path
from typing import Any

from facsynth.chat.budget import BudgetedChat, Limits, estimate, limited_chat
from facsynth.chat.cache import CachedChat
from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.model import ChatModel, ChatRequest
from facsynth.progress import Progress

__all__ = ["cache_of", "cached", "endpoint_stack", "limits_of", "said_without_llm", "say_estimate"]


def cache_of(output: Path) -> Path:
    """Where the replies for an output file are kept."""
    return output.with_name(f"{output.name}.replies.sqlite")


def limits_of(options: dict[str, Any]) -> Limits:
    """What may be spent, by `endpoint_options`."""
    return Limits(
        max_calls=options["max_calls"],
        max_tokens=options["max_tokens"],
        max_cost=options["max_cost"],
        price_in=options["price_in"],
        price_out=options["price_out"],
    )


def endpoint_stack(options: dict[str, Any], output: Path) -> BudgetedChat:
    """The endpoint of `endpoint_options`, inside what its limits leave for an output file."""
    endpoint = EndpointChat(
        options["chat_model"], base_url=options["api_base"], api_key_env=options["api_key_env"]
    )
    return limited_chat(endpoint, limits_of(options), cache_of(output))


def cached(model: ChatModel, output: Path) -> CachedChat:
    """A model behind the replies kept beside an output file."""
    return CachedChat(model, cache_of(output))


def said_without_llm(options: dict[str, Any], progress: Progress) -> bool:
    """Whether only an estimate was wanted and no LLM is asked; then it has been said."""
    if not options["dry_run"] or options["chat_model"]:
        return False
    progress.say("calls ahead: none, without --chat-model")
    return True


def say_estimate(requests: list[ChatRequest], options: dict[str, Any], progress: Progress) -> None:
    """Say what calls lie ahead, before any is made."""
    ahead = estimate(requests, price_in=options["price_in"], price_out=options["price_out"])
    progress.say(f"calls ahead: {ahead}")
