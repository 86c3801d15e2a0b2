"""Models that follow instructions: what they learn of a conversation, training, and answers.

The answers in a conversation are found by the rule that extraction uses for `--score assistant`,
which needs no marks in the chat template. The special token after an answer belongs to it: without
it a model would never learn to stop.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from facsynth.chat.cache import CachedChat
from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatReply, ChatRequest, Outcome
from facsynth.data.write import write_jsonl
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.tasks.classifier import load_adapters
from facsynth.tasks.fit import Job, fit_jobs, save_trained
from facsynth.tasks.folder import TrainedTask, Training
from facsynth.tasks.hidden_states import check_context, cut_tokens
from facsynth.tasks.instruction.benchmarks import Benchmark
from facsynth.tasks.settings import Loader, TuneSettings, is_control

__all__ = ["answer_benchmark", "answer_rows", "chat_tokenizer", "fit_instructions", "tuned_model"]

_IGNORED = -100
"""Label of a token that the loss leaves out."""

_ALPACA = (
    "{{ bos_token if bos_token is defined and bos_token else '' }}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.{% endif %}{{ '\n\n' }}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n### Response:\n"
    "{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}\n\n{% endif %}"
    "{% endfor %}"
)
"""LLaMA-Factory's template `alpaca`, which the paper trains a base model with."""


def chat_tokenizer(tokenizer: Any) -> tuple[Any, str]:
    """A tokenizer with a chat template, and where that is from: `model` or `alpaca`.

    Raises:
        DataError: There is no template and no token that ends an answer.
    """
    if tokenizer.chat_template:
        return tokenizer, "model"
    if tokenizer.eos_token is None:
        raise DataError("the tokenizer has no chat template and no end token; set eos_token")
    own = copy.deepcopy(tokenizer)
    own.chat_template = _ALPACA
    return own, "alpaca"


def answer_rows(
    samples: Sequence[Sample], lm: LanguageModel, tokenizer: Any, settings: TuneSettings
) -> tuple[list[dict[str, list[int]]], int]:
    """`input_ids` and `labels` of each conversation, and how many conversations were cut.

    Raises:
        DataError: A conversation has no answer within `max_length`.
    """
    check_context(lm, settings.max_length, "--max-length")
    texts = tokenize_samples(samples, tokenizer, score="assistant", max_length=1_000_000)
    special = {*tokenizer.all_special_ids}
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    rows = [_row(cut_tokens(t, settings.max_length, settings.cut), special) for t in texts]
    for text, row in zip(texts, rows, strict=True):
        if set(row["labels"]) == {_IGNORED}:
            raise DataError(
                f"sample {text.sample_id!r} has {len(text.input_ids)} tokens and no answer within "
                f"the {settings.max_length} that are read; raise --max-length or leave it out"
            )
    return rows, sum(len(text.input_ids) > settings.max_length for text in texts)


def fit_instructions(
    training: Training, load: Loader, *, progress: Progress = SILENT
) -> TrainedTask:
    """Train a model for each random seed on the answers of its conversations.

    A control learns from answers that are exchanged between conversations.
    """
    lm, samples, settings = load(), training.samples, training.train
    tokenizer, template = chat_tokenizer(lm.tokenizer)
    rows, n_cut = answer_rows(samples, lm, tokenizer, settings)
    jobs = []
    for name, random_seed in settings.models.items():
        rng = np.random.default_rng(random_seed)
        picked = np.sort(rng.permutation(len(samples))[: training.settings.max_samples]).tolist()
        own = [rows[i] for i in picked]
        if is_control(name):
            mixed = _exchange_answers([samples[i] for i in picked], rng)
            own, _ = answer_rows(mixed, lm, tokenizer, settings)
        jobs.append(Job(name, random_seed, own))
    found = fit_jobs(
        jobs, lm, load, training, "instruction", tokenizer=tokenizer, progress=progress
    )
    return save_trained(training, lm, found, n_cut=n_cut, template=template)


@contextmanager
def tuned_model(trained: TrainedTask, name: str, lm: LanguageModel) -> Iterator[LanguageModel]:
    """The trained model of this name, ready to chat; `base` is the untrained one."""
    tokenizer, _ = chat_tokenizer(lm.tokenizer)
    folder = trained.folder / name
    if name == "base":
        yield replace(lm, tokenizer=tokenizer)
    elif not (folder / "adapter_config.json").is_file():
        yield load_language_model(str(folder), device=str(lm.device), dtype=lm.dtype)
    else:
        with load_adapters(lm.model, folder) as model:
            yield LanguageModel(model, tokenizer, f"{lm.name} + {name}", lm.content_hash)


def answer_benchmark(
    trained: TrainedTask,
    name: str,
    lm: LanguageModel,
    benchmark: Benchmark,
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress = SILENT,
) -> list[Outcome]:
    """Answers of one model, greedily, each to one user message; kept in the task's folder."""
    kind = benchmark.kind
    requests = [
        ChatRequest(
            (Message("user", item.prompt + kind.request),),
            max_tokens=max_new_tokens,
            temperature=0.0,
        )
        for item in benchmark.items
    ]
    with tuned_model(trained, name, lm) as model:
        identity = f"{lm.content_hash} {model.model.dtype} {name}"
        local = LocalChat(model.model, model.tokenizer, name=identity, batch_size=batch_size)
        chat = CachedChat(local, trained.folder / f"answers-{name}.sqlite")
        with progress.task(f"answers of {name}", len(requests), "answers") as task:
            outcomes = chat.reply(requests, on_done=task.advance)
    texts = [outcome.text if isinstance(outcome, ChatReply) else "" for outcome in outcomes]
    rows = zip(benchmark.items, texts, strict=True)
    write_jsonl(
        [{"prompt": item.prompt, "response": text} for item, text in rows],
        trained.folder / f"answers-{kind.name}-{name}.jsonl",
    )
    return outcomes


def _row(text: TokenizedSample, special: set[int]) -> dict[str, list[int]]:
    learned = text.scored.copy()
    ends = np.isin(text.input_ids[1:], sorted(special)) & text.scored[:-1]
    learned[1:] |= ends
    labels = np.where(learned, text.input_ids, _IGNORED)
    return {"input_ids": text.input_ids.tolist(), "labels": labels.tolist()}


def _exchange_answers(samples: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
    """Each conversation with the last answer of another one."""
    step = int(rng.integers(1, max(2, len(samples))))
    order = rng.permutation(len(samples))
    found = list(samples)
    for i, j in zip(order.tolist(), np.roll(order, step).tolist(), strict=True):
        answer = samples[j].messages[-1]
        found[i] = replace(samples[i], messages=(*samples[i].messages[:-1], answer))
    return found
