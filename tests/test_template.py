"""Templates and recipes of strangers: small, bounded, or refused in one line."""

import pytest

from facsynth.chat.template import fill_template
from facsynth.data.stored import parse_toml, read_toml
from facsynth.errors import DataError
from facsynth.recipe import read_recipe

VALUES = {"text": "cat", "texts": ["a", "b"], "themes": [{"theme": "t", "texts": ["c", "d"]}]}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{ texts | join('; ') }}", "a; b"),
        (
            "{% for one in themes %}{{ loop.index }} {{ one.texts | join(', ') }}{% endfor %}",
            "1 c, d",
        ),
        ("{{ 'one' if texts | length == 1 else 'many' }}", "many"),
        ("{% if text == 'cat' %}{{ text | upper }}{% endif %}", "CAT"),
    ],
)
def test_a_template_inserts_joins_chooses_and_loops(template, filled):
    assert fill_template(template, VALUES, "task") == filled


HOSTILE = [
    *("{{ 'a' * 10**10 }}", "{{ '%999999999s' % 1 }}", "{{ '%999999999s' | format(1) }}"),
    *("{% for i in range(10**9) %}{% endfor %}", "{{ range(10**9) | list }}", "{{ 2 ** 10**9 }}"),
    *(
        "{{ text.center(10**9) }}",
        "{{ text | center(999999999) }}",
        "{{ '{:>9999999}'.format(1) }}",
    ),
    *(
        "{% set x = text ~ text %}{{ x }}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{% import 'x' as y %}",
    ),
    *("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ text | replace('c', 'ccc') }}"),
    "{% for a in texts %}" * 3 + "{% endfor %}" * 3,
    "{% for a in [1, 2, 3] %}{% endfor %}",
    "{{ text | join('" + "x" * 100 + "') }}",
    "{{ text | join(', ') | join(', ') }}",
    *(
        "{{ " + "(" * 5000,
        "{{ text.__class__.__mro__ }}",
        "{{ nothing }}",
        "{% if %}",
        "x" * 30_000,
    ),
]


@pytest.mark.parametrize("template", HOSTILE, ids=lambda text: text[:30])
def test_what_a_prompt_does_not_need_is_refused_at_once(template):
    with pytest.raises(DataError, match="^task x: ") as caught:
        fill_template(template, VALUES, "task x")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "content",
    [
        *(b"a = " + b"[" * 50_000, b"a" + b".a" * 50_000 + b" = 1", b"a = " + b"9" * 5000, b"\xff"),
        *(b"#" * 2**21, b"a = \x1b[2J", b"a = {" * 5000),
    ],
    ids=["lists", "keys", "digits", "bytes", "size", "escape", "tables"],
)
def test_toml_that_no_parser_likes_is_one_line(tmp_path, content):
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(DataError, match="r.toml cannot be read as a recipe: "):
        read_recipe(tmp_path / "r.toml")


def test_a_recipe_of_ten_thousand_wrong_keys_is_a_short_line(tmp_path):
    (tmp_path / "r.toml").write_text("".join(f"key{i} = 1\n" for i in range(10_000)))
    with pytest.raises(DataError, match="more$") as caught:
        read_recipe(tmp_path / "r.toml")
    assert len(str(caught.value)) < 10_000


def test_a_device_is_no_recipe():
    from pathlib import Path

    with pytest.raises(DataError, match="it is no file"):
        read_toml(Path("/dev/zero"), what="a recipe")
    assert parse_toml(b"a = 1", "x") == {"a": 1}
