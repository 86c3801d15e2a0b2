"""What a sample of a task is: the templates of its prompts and the form of its rows.

A task is a TOML file, one of the package's or a user's own; `generic.toml` provides what it leaves
out. Its templates are Jinja2, rendered in a sandbox; texts of data sets and of models reach them
only as quotations.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from facsynth.chat.template import fill_template
from facsynth.data.stored import parse_toml
from facsynth.errors import DataError
from facsynth.settings import Settings, read_settings

__all__ = ["TASKS", "Completion", "TaskFormat", "read_task"]

TASKS = ("generic", "toxicity", "reward", "sycophancy", "survival", "instruction")
"""Tasks with templates in the package."""

_TURNS, _REQUESTS = ("opening", "again"), ("first", "second")
_INHERITED = ("form", "system", "tools", "next", *_TURNS, *_REQUESTS)
_ASKED = {"themes": ["a"], "form": "d", "n_words": 9}

_TRIALS: dict[str, dict[str, Any]] = {
    "system": {},
    "opening": _ASKED,
    "again": _ASKED,
    "first": {"theme": "a", "texts": ["b"], "form": "c", "n_words": 9},
    "second": {"theme": "a", "strong": "b", "weak": "c", "form": "d"},
    "tools": {"tools": ["a"]},
    "next": {"turns": [{"role": "person", "text": "b"}]},
    "ask": {"text": "a", "flaw": "b"},
    "check": {"text": "a", "first": "b", "second": "c"},
}
"""What each template may use, with values to try it on."""


@dataclass(frozen=True)
class Completion(Settings):
    """What the generator adds to a written text."""

    kind: Literal["answer", "contrast", "pair", "choice"]
    """`answer`: the assistant's answer. `contrast`: a second sample with another label. `pair`: a
    chosen and a rejected answer. `choice`: two options of an item that measures a behaviour."""

    ask: str = ""
    """Template of the request, with `text` and, for a pair, `flaw`; an answer needs none."""

    check: str = ""
    """Template of the question that tests a sample's label, with `text`, `first` and `second`: the
    number of the right one of two labels, answers or options. Without it nothing is tested."""

    label: str | None = None
    """Only of `contrast`: label of the second sample."""

    flaws: tuple[str, ...] = ()
    """Only of `pair`: what may be wrong with the rejected answer; one is drawn per pair."""

    max_tokens: int = 256
    """Longest reply, in the generator's tokens."""

    check_tokens: int = 32
    """Longest reply to `check`, in tokens."""


@dataclass(frozen=True)
class TaskFormat(Settings):
    """Templates and rows of one task."""

    name: str
    form: str
    """What is written, in words that complete "Write …"."""

    system: str
    opening: str
    """Template of the first turn of a prompt in turns, with `themes`, `form` and `n_words`."""

    again: str
    """Template of the further turns, each after a text that is shown as an answer."""

    first: str
    """Template of step 1 as a request, with `theme`, `texts`, `form` and `n_words`; any of the
    first two may be empty."""

    second: str
    """Template of step 2 as a request, with `theme`, `strong`, `weak` and `form`."""

    tools: str
    """Template of what is added to a prompt where the assistant has tools, with `tools`, a line on
    each."""

    next: str
    """Template of the request for the user's next message, with `turns` (`role`, `text`)."""

    prompt: Literal["turns", "request"] = "turns"
    """How the generator is asked where the run does not say. A task file with templates of requests
    and none of turns is asked by requests."""

    label: str | None = None
    """Label of every written sample."""

    sensitive: bool = False
    """Whether texts may offend or harm: data cards warn, reports hide them until clicked."""

    completion: Completion | None = None
    """None where the written text is the whole sample."""

    content_hash: str = ""
    """SHA-256 of the task file and of what it inherits."""

    def __post_init__(self) -> None:
        done = self.completion
        if done and done.kind != "answer" and not done.ask.strip():
            raise DataError(f"a completion of the kind {done.kind} needs `ask`")
        if done and done.kind == "contrast" and not (self.label and done.label):
            raise DataError("a contrast needs two labels: `label` and `completion.label`")
        if done and done.kind == "pair" and not done.flaws:
            raise DataError("a pair needs `flaws`, of which each rejected answer has one")
        for name in ("max_tokens", "check_tokens"):
            if done and getattr(done, name) < 1:
                value = getattr(done, name)
                raise DataError(f"completion.{name} is {value}; it must be 1 or more")

    def fill(self, part: str, **values: object) -> str:
        """One of the templates, such as `opening`, with its values.

        Raises:
            DataError: The template is broken, or uses a value that it is not given.
        """
        done = self.completion
        where = done if part in ("ask", "check") else self
        template = str(getattr(where, part)) if where else ""
        return fill_template(template, values, f"task {self.name}: `{part}`")


def read_task(task: str = "generic", *, reply_tokens: int | None = None) -> TaskFormat:
    """Read one of `TASKS`, or a TOML file.

    Args:
        task: A name, or the path of a file that ends in `.toml`.
        reply_tokens: Longest reply of a completion and of a check, in place of the task's own.

    Raises:
        DataError: The task does not exist, or its file has unknown, missing or unfit values, or
            a broken template.
    """
    if task in TASKS:
        raw = _package_file(task)
    elif task.endswith(".toml"):
        try:
            raw = Path(task).read_bytes()
        except OSError as error:
            raise DataError(f"{task} cannot be read as a task: {error}") from error
    else:
        raise DataError(f"there is no task {task!r}; choose {', '.join(TASKS)} or a .toml file")
    base = _package_file("generic")
    values = parse_toml(base, "generic.toml is not valid TOML")
    inherited = {name: values[name] for name in _INHERITED}
    own = parse_toml(raw, f"{task} is not valid TOML")
    if task not in TASKS and own.keys() & set(_REQUESTS) and not own.keys() & set(_TURNS):
        inherited["prompt"] = "request"
    digest = hashlib.sha256(base + raw).hexdigest()
    made = _build(task, {**inherited, **own}, digest)
    if reply_tokens is None or made.completion is None:
        return made
    done = replace(made.completion, max_tokens=reply_tokens, check_tokens=reply_tokens)
    return replace(made, completion=done)


def _build(task: str, values: Mapping[str, Any], digest: str) -> TaskFormat:
    named = {"name": Path(task).stem, **values, "content_hash": digest}
    made = read_settings(TaskFormat, named, f"task {task}")
    for part, trial in _TRIALS.items():
        made.fill(part, **trial)
    return made


def _package_file(name: str) -> bytes:
    return (files("facsynth.synthesize") / "templates" / f"{name}.toml").read_bytes()
