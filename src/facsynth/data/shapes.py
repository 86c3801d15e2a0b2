"""One row of a data set becomes a sample, by all of its fields.

The richest reading wins: a preference pair over a conversation, a conversation over a prompt with
its answer, these over plain text. Companions (system, history, input, tools, label, id) are read
with it. A field whose text is in the sample anyway counts as read; every other field is named in
the reading, with whether it holds text. Texts are never changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from facsynth.data.fields import Answers, RowFields, find_answers, is_choice
from facsynth.data.roles import is_turn, kind_of, read_string, read_tools, read_turns
from facsynth.data.settings import ReadSettings
from facsynth.data.turns import is_transcript, main_thread, turns_of_columns
from facsynth.data.unread import bears_text, is_prose, renders, strings_in
from facsynth.errors import DataError
from facsynth.records import Message, Sample

__all__ = ["PlacedRow", "Reading", "read_row"]


_ASKERS = ("user", "human", "system", "tool")

_SWITCHES = frozenset(("", "on", "off", "true", "false", "none", "low", "medium", "high"))
"""What sets say of how much was thought, which is no reasoning."""


class PlacedRow(NamedTuple):
    """What stands at one place of a data set."""

    file: str
    """The file or the data set."""
    at: str
    """Where a user finds the row in it, such as `line 7`."""
    fallback_id: str
    """Id of the sample when the row has none."""
    value: object

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{self.file}, {self.at}" if self.at else self.file


@dataclass(frozen=True)
class Reading:
    """A sample, and what of its row it holds."""

    sample: Sample
    shape: str
    """What the row was read as, such as `prompt + answer`."""

    fields: tuple[str, ...]
    """Fields that were read, in the order of the row."""

    unread: Mapping[str, bool] = field(default_factory=dict)
    """Fields that were not, and whether they hold text."""

    has_own_id: bool = False


def read_row(row: PlacedRow, settings: ReadSettings | None = None) -> Reading:
    """The sample that a row holds.

    Raises:
        DataError: The row has no known fields, or they do not hold what they should.
    """
    try:
        fields = {"text": row.value} if isinstance(row.value, str) else row.value
        if not isinstance(fields, Mapping):
            raise DataError(f"{kind_of(fields)} where an object with fields was expected")
        return _Row(fields, (settings or ReadSettings()).named_fields).reading(row.fallback_id)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error


class _Content(NamedTuple):
    shape: str
    messages: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    text: str | None = None


class _Row(RowFields):
    """A row whose fields are taken one after the other."""

    def __init__(self, fields: Mapping[str, Any], named: Mapping[str, str]) -> None:
        super().__init__(fields, named)
        self.partly: dict[str, str] = {}
        self.is_bare = False

    # The sample

    def reading(self, fallback_id: str) -> Reading:
        own_id = self._scalar("id")
        answers = find_answers(self) if not self.is_named else self._named_pair()
        content = self._content(answers)
        label = None if answers and answers.verdict == "label" else self._scalar("label")
        sample = Sample(
            sample_id=own_id or fallback_id,
            messages=content.messages,
            text=content.text,
            rejected=content.rejected,
            label=label,
            tools=self._tools(),
        )
        unread = self._unread(sample)
        read = tuple(str(name) for name, _ in self.each() if name in self.taken)
        return Reading(sample, content.shape, read, unread, bool(own_id))

    def _scalar(self, part: str) -> str | None:
        name, value = self.peek(part)
        if value is None or isinstance(value, list | Mapping):
            return None
        self.mark(name)
        return read_string(str(value), f"`{name}`")

    def _tools(self) -> tuple[str, ...]:
        name, value = self.peek("tools")
        if value is None and isinstance(inner := self.held("input"), Mapping):
            name, value = "input", inner.get("tools")
        if value is None:
            return ()
        try:
            tools = read_tools(value)
        except DataError:  # prose about tools, which is named as not read
            return ()
        self.mark(name)
        return tools

    def _named_pair(self) -> Answers | None:
        (chosen, one), (rejected, other) = self.peek("chosen"), self.peek("rejected")
        return Answers(one, other, (chosen, rejected)) if chosen and rejected else None

    def _content(self, answers: Answers | None) -> "_Content":
        """The richest reading: a pair, a conversation or a prompt with its answer, a text."""
        before = set(self.taken)
        kind, asked, hh_prompt = self._asked()
        has_text = not kind and isinstance(self.peek("text")[1], str)
        if answers is None and kind == "conversation" and _is_answered(asked):
            answers = self._second_answer(asked[-1])
        if answers is not None and (pair := self._pair(answers, kind, asked, hh_prompt)):
            if not has_text or pair.messages[0].role != "assistant":
                return pair
            answers = None
        is_whole = kind == "conversation" and _is_answered(asked)
        if not is_whole and (self.is_named or not has_text):
            told = self._single_answer(answers, kind, hh_prompt)
            if self.is_bare and told[0].role == "assistant" and not kind and not self.is_named:
                raise DataError(
                    f"an answer without a question; found {self.found()}; name the fields with "
                    "--fields"
                )
            if kind == "prompt" and self._is_text_beside(told):
                self.taken = before
                return self._text("")
            asked = _joined(asked, told)
        messages = self._with_system(_without_blank(asked))
        said = (m for m in messages if kind == "conversation" or m.role != "system")
        if any(kind == "conversation" or not _is_blank(message) for message in said):
            kind = kind or ("answer" if messages[0].role == "assistant" else "conversation")
            is_answered = kind == "prompt" and _is_answered(messages)
            return _Content("prompt + answer" if is_answered else kind, messages)
        self.taken = before  # a system message alone is not read
        return self._text(kind)

    def _is_text_beside(self, told: tuple[Message, ...]) -> bool:
        """Whether the row is a text with a question or context in another column, unanswered."""
        is_answered = any(message.role == "assistant" for message in told)
        return not (is_answered or self.is_named) and isinstance(self.peek("text")[1], str)

    def _pair(
        self, answers: Answers, kind: str, asked: tuple[Message, ...], hh_prompt: str
    ) -> "_Content | None":
        """Both conversations, where two answers are known and neither is empty."""
        if answers.rejected is None:
            return None
        sides = [self._answer(value, answers.fields, hh_prompt) for value in answers.values]
        if kind == "conversation" and any(asked[-1:] == side[-1:] for side in sides):
            asked = asked[:-1]  # the conversation holds one of the answers already
        pair = [_joined(asked, side) for side in sides]
        if not all(_is_answered(side) for side in pair):
            return None
        self.mark(*answers.fields, answers.verdict)
        self.partly |= answers.left_out
        told = "ranked answers" if answers.left_out else "chosen + rejected"
        shape = f"{kind} + {told}" if kind and pair[0] != sides[0] else told
        return _Content(shape, self._with_system(pair[0]), self._with_system(pair[1]))

    def _second_answer(self, told: Message) -> Answers | None:
        """A rejected answer beside a conversation that ends with the better one, as in Swift."""
        name, value = self.peek("rejected")
        turn = {"role": told.role, "content": told.content}
        return Answers(turn, value, ("", name)) if isinstance(value, str | list | Mapping) else None

    def _text(self, kind: str) -> "_Content":
        name, value = self.take("text")
        if value is not None:
            return _Content("text", text=read_string(value, f"`{name}`"))
        if kind:
            raise DataError(f"the row has no text; found {self.found()}")
        if self.is_named:
            parts = ("messages", "user", "chosen", "text", "assistant")
            wanted = ", ".join(f"`{name}`" for part in parts for name in self.parts[part])
            raise DataError(f"no field {wanted}; found {self.found()}; name one of these")
        texts = {name: held for name, held in self.each() if held and isinstance(held, str)}
        longest = max(texts, key=lambda name: len(texts[name]), default="FIELD")
        fields = f"--fields text={longest[:60]}"
        if len(texts) > 1:
            asked, answered = (name[:60] for name in list(texts)[:2])
            fields = f"--fields user={asked},assistant={answered} or {fields}"
        raise DataError(
            "no known fields, such as `messages`, `prompt`, `instruction`, `question`, `chosen` + "
            f"`rejected` or `text`; found {self.found()}; rename them or name them with --fields, "
            f"such as {fields}"
        )

    # Who asked

    def _asked(self) -> tuple[str, tuple[Message, ...], str]:
        """What was said before the answer: its kind, the turns, and a prompt in HH-RLHF's form."""
        earlier = self._history()
        for name in (*self.parts["messages"], *self.parts["input"]):
            value = self.held(name)
            if self._is_conversation(name, value):
                self.mark(name)
                role = "user" if name == "turns" else None  # MT-Bench has questions alone
                told = value if isinstance(value, list) else ()
                if n := sum(map(_is_untrained, told)):
                    self.partly[name] = f"{name} (marks that {n} turns are not trained on)"
                turns = _without_blank(read_turns(value, f"`{name}`", role))
                return "conversation", earlier + turns, ""
        name, value = self.peek("user")
        if isinstance(value, list | Mapping):
            self.mark(name)
            if isinstance(value, Mapping) and value.get("replies"):
                value, n_left = main_thread(value)
                self.partly |= {name: f"{name} ({n_left} other replies)"} if n_left else {}
                return "conversation", earlier + read_turns(value, f"`{name}`", "user"), ""
            turns = read_turns(value, f"`{name}`", "user") if value else ()
            return "prompt" if turns or earlier else "", earlier + turns, ""
        texts = self._prompt_texts()
        if not texts:
            return ("prompt" if earlier else ""), earlier, ""
        prompt = "\n\n".join(text for text in texts if text)
        turns = read_turns(prompt, "the prompt", "user")
        is_hh = len(turns) > 1 or turns[0].content != prompt
        return "prompt", earlier + _without_blank(turns), prompt if is_hh else ""

    def _is_conversation(self, name: str, value: object) -> bool:
        """Whether a field holds turns, or the JSON of turns as cells of CSV files do.

        Lists of strings are turns only where nothing else in the row is a question or a text.
        """
        if isinstance(value, Mapping):
            turns = turns_of_columns(value) if name in self.parts["messages"] else None
            return bool(value.get("messages")) or (turns is not None and is_turn(turns[0]))
        if name not in self.parts["messages"]:
            return isinstance(value, list) and bool(value) and is_turn(value[0])
        if isinstance(value, str):
            return is_transcript(value) or (value.lstrip()[:1] == "[" and "{" in value[:10])
        if not isinstance(value, list) or not value:
            return False
        if isinstance(value[0], str):
            return not any(self.peek(part)[0] for part in ("user", "instruction", "text"))
        always = ("messages", "conversations", "turns", "contents")
        return name in always or self.is_named or is_turn(value[0])

    def _prompt_texts(self) -> list[str]:
        """Instruction, question and input, without those that another of them repeats."""
        found: dict[str, str] = {}
        for part in ("instruction", "user", "input"):
            name, value = self.peek(part)
            if value is None or (part == "input" and not isinstance(value, str)):
                continue
            if name == "user" and " " not in str(value) and self.peek("text")[0]:
                continue  # who wrote it, in logs of chats
            found[part] = read_string(value, f"`{name}`")
            self.mark(name)
        question = found.get("user")
        if question is not None and found.get("instruction", question) in question:
            found.pop("instruction", None)
        elif question is not None and question in found["instruction"]:
            del found["user"]
        if question and is_prose(found.get("input", "")) and found["input"] in question:
            del found["input"]
        return list(found.values())

    def _history(self) -> tuple[Message, ...]:
        name, value = self.peek("history")
        if not isinstance(value, list):
            if isinstance(value, str) and value and not self.peek("user")[0]:
                self.mark(name)
                return (Message("user", read_string(value, f"`{name}`")),)
            return ()
        self.mark(name)
        exchanges = [turn for turn in value if isinstance(turn, list | tuple)]
        if len(exchanges) < len(value):
            return read_turns(value, f"`{name}`") if value else ()
        turns = [words for pair in exchanges for words in pair]
        return read_turns(turns, f"`{name}`") if turns else ()

    # Who answered

    def _single_answer(
        self, answers: Answers | None, kind: str, hh_prompt: str
    ) -> tuple[Message, ...]:
        if answers is not None:
            self.mark(*answers.fields[:1])
            self.partly |= answers.left_out
            return self._answer(answers.chosen, answers.fields, hh_prompt)
        name, value = self.peek("assistant")
        if value is None and kind == "prompt" and not self.is_named:
            names = ("text", "content") if self.held("prompt") else ("content",)
            name, value = next(
                ((n, v) for n in names if isinstance(v := self.held(n), str)), ("", None)
            )
        if value is None:
            return ()
        self.mark(name)
        if isinstance(value, bool | int | float):
            value = self._chosen_option(value)
        if self.peek("tools")[0] and _are_calls(value):  # xLAM
            value = [{"role": "function_call", "content": value}]
        if is_choice(value):
            self.partly[name] = f"{name} ({len(value) - 1} of {len(value)})"
            value = value[0]
        told = self._answer(value, (name,), hh_prompt)
        self.is_bare = isinstance(value, str)
        field, reasoning = self.peek("reasoning")
        if isinstance(reasoning, str) and len(told) == 1 and reasoning.lower() not in _SWITCHES:
            self.mark(field)
            told = (Message(told[0].role, told[0].content, reasoning=reasoning),)
        return told

    def _chosen_option(self, number: bool | int | float) -> str:
        """A number as an answer: itself, or the option that it names."""
        options = self.held("choices") or self.held("options")
        is_place = isinstance(options, list) and not isinstance(number, bool)
        if is_place and number in range(len(options)):
            return str(options[int(number)])
        return str(number)

    def _answer(self, value: object, names: Sequence[str], hh_prompt: str) -> tuple[Message, ...]:
        """The turns of an answer; a string may go on where an HH-RLHF prompt ends."""
        what = f"`{names[0]}`"
        if isinstance(value, str) and hh_prompt:
            value = value if value.startswith(hh_prompt) else hh_prompt + value
        return read_turns(value, what, "assistant") if value != [] else ()

    def _with_system(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        name, value = self.peek("system")
        if value is None or any(message.role == "system" for message in messages):
            return messages
        if isinstance(value, str | list):  # as text or, of Anthropic and Bedrock, in parts
            value = {"content": value}
        if not isinstance(value, Mapping):
            return messages
        self.mark(name)
        (system,) = read_turns({**value, "role": "system"}, f"`{name}`")
        return messages if _is_blank(system) else (system, *messages)

    # What was not read

    def _unread(self, sample: Sample) -> dict[str, bool]:
        """Fields that the sample does not hold, and whether they bear text."""
        read = self.taken | {self.spelling[name] for name in self.partly}
        left = [(name, held) for name, held in self.each() if name not in read]
        unread = dict.fromkeys(self.partly.values(), True)
        if not left:
            return unread
        messages = (*sample.messages, *sample.rejected)
        said = (sample.text, *(words for m in messages for words in (m.content, m.reasoning)))
        parts = [words for words in said if words]
        whole = "\n".join(parts)
        label, _ = self.peek("label")  # of several values, or it would have been read
        for name, held in left:
            texts = [text for text in strings_in(held) if text.strip()]
            is_text = bears_text(name, held)
            if is_text is None:
                continue
            if is_text and all(text.strip() in whole or renders(text, parts) for text in texts):
                self.taken.add(name)
            else:
                unread[str(name)] = is_text or name == label
        return unread


def _are_calls(value: object) -> bool:
    """Whether an answer is a list of calls, or the JSON of one."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, Mapping) and "name" in one for one in value)
    return isinstance(value, str) and value[:1] == "["


def _is_untrained(turn: object) -> bool:
    """Whether trainers leave an answer out of the loss, by the marks of OpenAI and Axolotl."""
    if not isinstance(turn, Mapping) or (turn.get("role") or turn.get("from")) in _ASKERS:
        return False
    return any(turn.get(name) in (0, False) for name in ("weight", "train", "loss"))


def _joined(asked: tuple[Message, ...], told: tuple[Message, ...]) -> tuple[Message, ...]:
    """The question and the answer, which may repeat the question."""
    if told and told[0].role != "assistant" and set(asked) <= set(told):
        return told
    return asked + told


def _is_answered(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[-1].role == "assistant" and not _is_blank(messages[-1])


def _is_blank(message: Message) -> bool:
    return not message.content.strip() and not message.tool_calls and not message.reasoning


def _without_blank(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns without an empty answer at their end: such a sample is unanswered."""
    is_empty = bool(messages) and messages[-1].role == "assistant" and _is_blank(messages[-1])
    return messages[:-1] if is_empty else messages
