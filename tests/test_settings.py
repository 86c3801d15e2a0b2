from dataclasses import dataclass, field
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from facsynth.cli.from_settings import settings_options
from facsynth.cli.sections import SectionedCommand
from facsynth.errors import DataError
from facsynth.settings import Settings, changed_settings, read_settings, settings_of


@dataclass(frozen=True)
class Spending(Settings):
    """What may be spent."""

    budget_calls: int | None = None
    """Calls that may be made."""

    failures: float = 0.2
    """Share of failed
    calls to stop at."""

    def __post_init__(self) -> None:
        if self.failures > 1:
            raise DataError(f"failures is {self.failures}; it is a share")


@dataclass(frozen=True)
class Writing(Settings):
    """What is written."""

    task: str
    """The task."""

    order: Literal["rank", "cover"] = "rank"
    """Which feature comes first."""

    avoid: tuple[str, ...] = ()
    """Sets not to copy."""

    reply: bool = True
    """Whether to write answers."""

    spending: Spending = field(default_factory=Spending)


@click.command(cls=SectionedCommand)
@settings_options(Writing, "settings", without=("order",))
@click.option("--dry-run", is_flag=True)
def write(settings: Writing, dry_run: bool) -> None:
    click.echo(repr(settings))


def run(*arguments: str) -> str:
    return CliRunner().invoke(write, arguments).output


def test_help_has_a_section_for_each_record():
    text = run("--help")
    own, writing, spending = (
        text.index(f"{s}:") for s in ("Options", "What is written", "What may be spent")
    )
    assert own < text.index("--dry-run") < writing < text.index("--task") < spending
    assert spending < text.index("--budget-calls")


def test_explanations_are_the_docstrings_below_the_fields():
    assert settings_of(Spending)[1].text == "Share of failed calls to stop at."


def test_options_make_the_record_with_its_groups():
    made = Writing("reward", avoid=("a", "b"), reply=False, spending=Spending(budget_calls=3))
    given = (
        "--task",
        "reward",
        "--avoid",
        "a",
        "--avoid",
        "b",
        "--no-reply",
        "--budget-calls",
        "3",
    )
    assert run(*given) == f"{made}\n"


def test_a_field_without_default_is_required():
    assert "Missing option '--task'" in run()


def test_a_value_that_the_record_refuses_is_a_usage_error():
    result = CliRunner().invoke(write, ["--task", "x", "--failures", "2"])
    assert result.exit_code == 2
    assert "failures is 2.0; it is a share" in result.output


def test_help_shows_default_and_explanation_once():
    text = " ".join(run("--help").split())
    assert "--failures FLOAT Share of failed calls to stop at. [default: 0.2]" in text
    assert "--order" not in text


def test_a_table_makes_the_same_record():
    table = {"task": "reward", "avoid": ["a"], "spending": {"failures": 1}}
    made = Writing("reward", avoid=("a",), spending=Spending(failures=1.0))
    assert read_settings(Writing, table, "r.toml") == made


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"task": "x", "ordr": "rank"}, "unknown key `ordr`; did you mean `order`?"),
        ({"order": "rank"}, "the key `task` is missing"),
        ({"task": "x", "order": "best"}, "`order` is \"best\"; input should be 'rank' or 'cover'"),
        ({"task": "x", "spending": {"budget_calls": 1.5}}, "`spending.budget_calls` is 1.5"),
        ({"task": "x", "avoid": "a"}, '`avoid` is "a"'),
        ({"task": "x", "spending": {"failures": 2}}, "failures is 2.0; it is a share"),
        ({"task": "x", "reply": 1}, "`reply` is 1"),
    ],
)
def test_a_bad_table_names_the_key_and_the_value(table, complaint):
    with pytest.raises(DataError) as error:
        read_settings(Writing, table, "r.toml")
    assert str(error.value).startswith("r.toml: ")
    assert complaint in str(error.value)


def test_changed_settings_are_named_with_their_group_and_unknown_or_missing_ones_are_none():
    stored = {"task": "x", "avoid": ["a"], "spending": {"budget_calls": 3}, "of_another_version": 1}
    same = Writing("x", avoid=("a",), spending=Spending(budget_calls=3))
    assert changed_settings(same, stored) == []
    other = Writing("y", reply=False, spending=Spending(budget_calls=3, failures=0.1))
    assert changed_settings(other, stored) == ["task", "avoid", "reply", "spending.failures"]


@dataclass(frozen=True)
class Careful(Settings):
    spending: Spending = field(default_factory=lambda: Spending(budget_calls=7, failures=0.1))


def test_options_of_a_group_default_to_what_the_record_around_it_gives():
    @click.command()
    @settings_options(Careful, "settings", without=("spending.budget_calls",))
    def spend(settings: Careful) -> None:
        click.echo(repr(settings))

    assert "Spending(budget_calls=7, failures=0.1)" in CliRunner().invoke(spend).output


@dataclass(frozen=True)
class Journey(Settings):
    careful: Careful | None = None
    lavish: Careful = field(default_factory=lambda: Careful(Spending(budget_calls=99)))


def test_a_table_keeps_what_the_record_around_its_group_sets():
    made = read_settings(Careful, {"spending": {"failures": 0.3}}, "r.toml")
    assert made == Careful(Spending(budget_calls=7, failures=0.3))
    table = {"careful": {"spending": {"failures": 0.3}}, "lavish": {"spending": {}}}
    assert read_settings(Journey, table, "r.toml") == Journey(made)


def test_hints_reach_into_a_group_that_may_be_missing():
    with pytest.raises(DataError, match="unknown key `careful.spendin`; did you mean `spending`"):
        read_settings(Journey, {"careful": {"spendin": 1}}, "r.toml")
