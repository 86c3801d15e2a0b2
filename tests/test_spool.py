import json
import tracemalloc

import pytest

from facsynth.data.pairs import split_pairs
from facsynth.data.spool import spool_samples
from facsynth.errors import DataError
from facsynth.models.tokens import tokenize_samples
from facsynth.records import Message, Sample, ToolCall
from facsynth.table.extract import extract_table
from facsynth.table.settings import ExtractSettings
from tiny import coordinate_sae, make_tokenizer, tiny_lm

CALL = Message("assistant", "", tool_calls=(ToolCall("find", "{}", "1"),))
TOOL = '{"type": "function", "function": {"name": "find"}}'
SAMPLES = [
    Sample("a", text="one"),
    Sample("b", messages=(Message("user", "q"), CALL), label="x", tools=(TOOL,)),
    Sample(
        "c",
        messages=(Message("user", "q"), Message("assistant", "yes")),
        rejected=(Message("user", "q"), Message("assistant", "no")),
    ),
]


def test_samples_come_back_from_disk_as_they_were():
    spool = spool_samples(SAMPLES)
    assert (list(spool), len(spool)) == (SAMPLES, 3)
    assert (spool[-1], spool[1:]) == (SAMPLES[2], SAMPLES[1:])
    assert spool.report.n_read == 3


def test_samples_are_changed_on_their_way_to_disk():
    assert [one.sample_id for one in spool_samples(SAMPLES[2:], change=split_pairs)] == [
        "c#chosen",
        "c#rejected",
    ]
    with pytest.raises(DataError, match="not a preference pair"):
        spool_samples(SAMPLES, change=split_pairs)


@pytest.mark.slow
def test_memory_of_reading_hardly_grows_with_the_samples(tmp_path):
    peaks = []
    for n in (100, 1000):
        file = tmp_path / f"{n}.jsonl"
        rows = ({"text": f"{i} " + "word " * 400} for i in range(n))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tracemalloc.start()
        spool_samples(file)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Where each text is in the file takes 8 bytes a sample, the rest is garbage not yet collected;
    # the texts alone would take 2,000.
    assert peaks[1] - peaks[0] < 900 * 200


def test_a_table_from_disk_is_the_one_from_memory(tmp_path):
    lm, sae, settings = tiny_lm(), coordinate_sae(), ExtractSettings(part_samples=2)
    samples = [Sample(f"data-{i}", text=f"the cat sat on {i}") for i in range(1, 6)]
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in samples))
    for name, data in (("disk", file), ("memory", samples)):
        extract_table(data, lm, sae, tmp_path / name, settings=settings)
    for inner in ("part-00002.parquet", "samples/part-00002.parquet"):
        assert (tmp_path / "disk" / inner).read_bytes() == (
            tmp_path / "memory" / inner
        ).read_bytes()


@pytest.mark.parametrize(
    "text", ["the cat sat " * 4000, "x" * 50_000, " " * 30_000 + "cat " * 3000]
)
def test_a_long_text_is_cut_to_the_tokens_of_the_whole(text):
    tokenizer = make_tokenizer()
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    [cut] = tokenize_samples([Sample("a", text=text)], tokenizer, max_length=20)
    ids = [int(i) for i in cut.input_ids]
    skip = len(ids) and ids[0] != whole[0]  # the beginning-of-sequence token
    assert ids[skip:] == whole[: 20 - skip]
    assert cut.n_truncated > 0 or len(whole) < 20


def test_a_long_text_costs_what_its_beginning_costs():
    seen = []

    class Counting:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, texts, **options):
            seen.append(sum(map(len, texts)))
            return self.inner(texts, **options)

    text = "the cat sat on the mat. " * 100_000
    [cut] = tokenize_samples([Sample("a", text=text)], Counting(make_tokenizer()), max_length=32)
    assert sum(seen) < 10_000
    assert len(cut.rendered) < 10_000
