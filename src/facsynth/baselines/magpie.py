"""Magpie (arXiv 2406.08464): let an aligned model finish the user's turn of its own template.

The generator gets what its chat template puts before the words of a user, and nothing else; what
it writes is a user's message (section 2.1, step 1). Answers come from the template in full (step
2), as for all methods. As in the paper, the system message may hold the domain: it names the form.

Deviations: seed texts set no example, as in the paper, but their lengths and language filter what
is kept; the paper's own filters (length, quality by a judge, nearest neighbours) are left to the
common filter.
"""

from typing import Any

from jinja2 import TemplateError

from facsynth.baselines.job import Job
from facsynth.chat.model import RAW
from facsynth.errors import DataError
from facsynth.records import Message, fold_system

__all__ = ["user_turn", "write_magpie"]

_MARK = "facsynthmark"


def write_magpie(job: Job) -> None:
    """Ask for continuations of the user's turn.

    Raises:
        DataError: It is not known what stands before the user's words.
    """
    start = job.settings.user_turn or (user_turn(job) if job.local.tokenizer else "")
    if not start:
        raise DataError(
            "magpie needs the beginning of a user's turn of the generator's chat template; name it "
            "with --user-turn, such as $'<|im_start|>user\\n'"
        )
    while n := job.n_lacking:
        job.next_round()
        prompt = (Message(RAW, start),)
        for text in job.ask([prompt] * n, "texts"):
            job.keep(text)


def user_turn(job: Job) -> str:
    """What the generator's template puts before a user's words, with the form as its domain."""
    assert job.local.tokenizer is not None
    tokenizer = job.local.tokenizer()
    about = Message("system", f"You talk with people. Each of them begins with {job.form}.")
    turns = (about, Message("user", _MARK))
    try:
        text = _render(tokenizer, turns)
    except TemplateError:
        text = ""
    if about.content not in text:
        text = _render(tokenizer, fold_system(turns))
    return text.partition(_MARK)[0]


def _render(tokenizer: Any, turns: tuple[Message, ...]) -> str:
    plain = [{"role": turn.role, "content": turn.content} for turn in turns]
    return str(tokenizer.apply_chat_template(plain, tokenize=False))
