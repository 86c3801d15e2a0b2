"""What commands that ask an LLM about features share: the stack of models, and the estimate."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from facsynth.chat.budget import Spending, limited_chat
from facsynth.chat.cache import CachedChat
from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.model import ChatModel, ChatRequest
from facsynth.chat.policy import Policy, estimate
from facsynth.progress import Progress

__all__ = ["cached", "endpoint_stack", "policy_of_options", "said_without_llm", "say_estimate"]


def _cache_of(output: Path) -> Path:
    """Where the replies for an output file are kept."""
    return output.with_name(f"{output.name}.replies.sqlite")


def policy_of_options(options: dict[str, Any]) -> Policy:
    """What may be spent, by `endpoint_options`; its fields are named like the options."""
    return Policy(**{field.name: options[field.name] for field in fields(Policy)})


def endpoint_stack(options: dict[str, Any], output: Path) -> tuple[ChatModel, Spending]:
    """The endpoint of `endpoint_options` behind the replies kept beside an output file."""
    endpoint = EndpointChat(
        options["chat_model"],
        base_url=options["api_base"],
        api_key_env=options["api_key_env"],
        settings=options["endpoint"],
    )
    spending = Spending(policy_of_options(options), _cache_of(output))
    return limited_chat(endpoint, spending), spending


def cached(model: ChatModel, output: Path) -> CachedChat:
    """A model behind the replies kept beside an output file."""
    return CachedChat(model, _cache_of(output))


def said_without_llm(options: dict[str, Any], progress: Progress) -> bool:
    """Whether only an estimate was wanted and no LLM is asked; then it has been said."""
    if not options["dry_run"] or options["chat_model"]:
        return False
    progress.say("calls ahead: none, without --chat-model")
    return True


def say_estimate(requests: list[ChatRequest], options: dict[str, Any], progress: Progress) -> None:
    """Say what calls lie ahead, before any is made."""
    ahead = estimate(requests, policy_of_options(options))
    progress.say(f"calls ahead: {ahead}")
