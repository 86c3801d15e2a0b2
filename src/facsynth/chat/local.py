"""Chat with a Transformers model in this process, in batches that can be repeated exactly.

Every text draws from random numbers that come from the hash of its request. A batch is a run of
consecutive requests with equal settings: the same batch gives the same texts on the same machine,
whatever ran before, so batches may be kept, dropped and run again one by one. In other batches a
text may differ where the rounding of the model's arithmetic does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jinja2 import TemplateError

from facsynth.chat.clean import clean_reply, is_mark, opened_thinking
from facsynth.chat.decode import Drawing, write_tokens
from facsynth.chat.fence import break_tokens
from facsynth.chat.model import (
    ChatFailure,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    collect,
)
from facsynth.errors import DataError, ModelError
from facsynth.records import Message, fold_system

__all__ = ["LocalChat"]


class LocalChat:
    """Batched generation with a loaded Transformers model.

    A prompt that leaves no room for its reply in the context, and an answer without any text, are
    recorded failures. The `schema` of a request is not enforced; `ask_structured` says it in
    words. What a request does not set, such as a repetition penalty, is the model's own.
    Whoever changes the model, by a hook for instance, must give it another name.
    """

    deterministic_batches = True
    """The promise of `BatchedChatModel` holds."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        batch_size: int = 32,
    ) -> None:
        """Wrap a model that is on its device already.

        Args:
            model: A causal language model of Transformers.
            tokenizer: Its tokenizer, with a chat template.
            name: Identity for caches: what tells these weights, their precision and their
                modifications from all others.
            batch_size: Most requests in a batch; part of what determines the texts.

        Raises:
            ModelError: The tokenizer has no chat template, or neither padding nor end token.
            DataError: The batch size is below 1.
        """
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}; it must be at least 1")
        if not tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer of {name} has no chat template, so it cannot chat; "
                "use the instruct version of the model"
            )
        self._model = model
        self._tokenizer = tokenizer
        self._name = name
        self._batch_size = batch_size
        self._end_ids = _end_ids(model, tokenizer)
        pad_id = tokenizer.pad_token_id
        if pad_id is None and not self._end_ids:
            raise ModelError(
                f"the tokenizer of {name} has neither a padding nor an end token; set pad_token"
            )
        added = tokenizer.added_tokens_decoder.items()
        self._special_tokens = {
            *tokenizer.all_special_tokens,
            *(t.content for _, t in added if t.special),
        }
        self._special_ids = {*tokenizer.all_special_ids, *(i for i, t in added if t.special)}
        self._pad_id = int(pad_id if pad_id is not None else self._end_ids[0])

    @property
    def name(self) -> str:
        """The name given, which stands for the weights."""
        return self._name

    def batches(self, requests: Sequence[ChatRequest]) -> list[list[int]]:
        """Positions of the requests that run together: consecutive and of equal settings."""
        batches: list[list[int]] = []
        for position, request in enumerate(requests):
            if (
                batches
                and len(batches[-1]) < self._batch_size
                and _settings(requests[batches[-1][0]]) == _settings(request)
            ):
                batches[-1].append(position)
            else:
                batches.append([position])
        return batches

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Answer the requests, batch by batch.

        Raises:
            ModelError: The device has not enough memory for a batch.
        """
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests and pass on each batch; see `StreamingChatModel`."""
        for batch in self.batches(requests):
            outcomes = self._run([requests[position] for position in batch])
            on_outcomes(list(zip(batch, outcomes, strict=True)))

    def _run(self, batch: list[ChatRequest]) -> list[Outcome]:
        """Outcomes of one batch."""
        prompts, opened = zip(*map(self._prompt, batch), strict=True)
        n_new = batch[0].max_tokens
        context = _context(self._model)
        fits = [context is None or len(prompt) + n_new <= context for prompt in prompts]
        answers = iter(
            self._generate(
                [prompt for prompt, is_fit in zip(prompts, fits, strict=True) if is_fit],
                [one for one, is_fit in zip(batch, fits, strict=True) if is_fit],
            )
        )
        return [
            self._outcome(len(prompt), next(answers), n_new, mark)
            if is_fit
            else ChatFailure(
                f"the prompt has {len(prompt)} tokens, which with max_tokens {n_new} "
                f"is more than the context of {context}"
            )
            for prompt, mark, is_fit in zip(prompts, opened, fits, strict=True)
        ]

    def _prompt(self, request: ChatRequest) -> tuple[list[int], str]:
        """The tokens of a prompt, and the mark by which it opens the model's thinking."""
        first, *rest = request.messages
        if request.is_raw:
            ids = self._tokenizer(first.content, add_special_tokens=False)["input_ids"]
            return list(ids), ""
        has_system = first.role == "system" and bool(rest) and rest[0].role == "user"
        try:
            text = self._render(request.messages)
        except (TemplateError, TypeError):
            if not has_system:
                raise
            text = ""
        if has_system and first.content.strip() not in text:
            text = self._render(fold_system(request.messages))
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return list(ids), opened_thinking(text)

    def _render(self, messages: Sequence[Message]) -> str:
        turns = [
            {"role": turn.role, "content": break_tokens(turn.content, self._special_tokens)}
            for turn in messages
        ]
        return str(
            self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        )

    def _generate(
        self,
        prompts: list[list[int]],
        batch: list[ChatRequest],
    ) -> list[list[int]]:
        """A text for each prompt."""
        if not prompts:
            return []
        first = batch[0]
        drawing = Drawing(
            n_new=first.max_tokens,
            temperature=float(first.temperature),
            top_p=float(first.top_p),
            end_ids=tuple(self._end_ids),
            pad_id=self._pad_id,
        )
        try:
            with torch.inference_mode(), _evaluating(self._model):
                return write_tokens(
                    self._model, prompts, [_seed(request) for request in batch], drawing
                )
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self.name} ran out of memory with {len(prompts)} prompts of up to "
                f"{max(map(len, prompts))} tokens; lower batch_size, now {self._batch_size}"
            ) from error

    def _text(self, tokens: list[int]) -> str:
        """The text of tokens, without special ones except the marks around thinking."""
        names = dict(zip(tokens, self._tokenizer.convert_ids_to_tokens(tokens), strict=True))
        hidden = {token for token in self._special_ids if not is_mark(names.get(token, ""))}
        text: str = self._tokenizer.decode(
            [token for token in tokens if token not in hidden],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return text

    def _outcome(self, n_prompt: int, tokens: list[int], n_new: int, opened: str) -> Outcome:
        ends = [place for place, token in enumerate(tokens) if token in self._end_ids]
        n_text = ends[0] if ends else len(tokens)
        n_out = n_text + bool(ends)
        reply = clean_reply(opened + self._text(tokens[:n_text]))
        if not reply.text:
            why = " but for thinking" if reply.thinking else ""
            return ChatFailure(f"the answer is empty{why}", n_prompt, n_out)
        return ChatReply(reply.text, n_prompt, n_out, truncated=not ends and n_out >= n_new)


def _settings(request: ChatRequest) -> tuple[int, float, float]:
    return (request.max_tokens, float(request.temperature), float(request.top_p))


def _seed(request: ChatRequest) -> int:
    return int(request.key[:14], 16)


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer, from the model's generation settings and the tokenizer."""
    of_model = model.generation_config.eos_token_id
    ends = of_model if isinstance(of_model, list) else [of_model]
    return sorted({int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None})


def _context(model: Any) -> int | None:
    """Most tokens of prompt and answer together; None when the model sets no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return None if limit is None else int(limit)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off, and back on afterwards if it was on."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
