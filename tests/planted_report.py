"""Reports of small planted tables; feature `i` fires on word `i` of `tiny_pair.PLANTED`."""

import base64
import gzip
import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from facsynth.records import Message, Sample
from facsynth.report.collect import make_report
from facsynth.report.paint import Painter
from facsynth.report.sets import Reader, ReportInputs
from facsynth.report.settings import ReportSettings
from tiny_pair import N_FEATURES, planted_pair, planted_table, talk

HOSTILE = (
    "</script></title><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    "\"'& javascript:alert(1) \u2028\u202eevil\u202c\x1b[31mred\x00"
)

ANCHOR = [
    "we saw the cat near the old house today",
    "they liked the dog and the kitten again",
    "a fish in the sea under the red sun",
    "the bird took some bread this morning",
    "his dog saw her cat on the road",
    "some snow on the table with tea",
    "hello again my good old friend",
    "thanks for the small red fish today",
    "the sun was very good this evening",
    "your puppy never liked the sea",
]
SEED = ["the cat saw her dog", "a kitten and the dog", "the sun was red"]
WRITTEN = ["we found a fish under the tree", "some snow on my road", "the cat again"]
MISSING = {2: "fish", 3: "bird", 4: "sea", 6: "tea", 7: "snow"}
"""Features of the anchor that the seed lacks."""


def samples(prefix, texts):
    return [talk(f"{prefix}-{i}", text) for i, text in enumerate(texts)]


@cache
def tables():
    folder = Path(tempfile.mkdtemp())
    sets = {"anchor": ANCHOR, "seed": SEED, "synthetic": WRITTEN}
    return {
        kind: planted_table(samples(kind, texts), folder / kind) for kind, texts in sets.items()
    }


def reader(*, paint=True):
    lm, sae = planted_pair()
    painter = Painter(lm, sae) if paint else None
    return Reader(lm.tokenizer, sae.directions, painter)


def planted_inputs(*kinds, paint=True, **changes):
    """All three tables by default, with where the written samples come from."""
    chosen = {kind: tables()[kind] for kind in kinds or ("anchor", "seed", "synthetic")}
    origins = {
        "synthetic-0": {"target_feature": 2, "step": "one", "round": 1, "generator": "writer"},
        "synthetic-2": {"target_feature": 3, "step": "two", "round": 1, "generator": "writer"},
    }
    inputs = ReportInputs("Planted words", chosen, 1.0, reader(paint=paint), provenance=origins)
    return replace(inputs, **changes)


@cache
def planted_report():
    """All three tables, painted; it must not be changed."""
    rejected = (
        {"sample_id": "r-1", "text": "a bird?", "target_feature": 3, "reason": "too short"},
    )
    return make_report(planted_inputs(rejected=rejected))


def hostile_report(text=HOSTILE, **changes):
    """The same with a text in every place that holds texts of data sets or models."""
    names = {f: {"name": text, "near_misses": []} for f in range(N_FEATURES)}
    grades = {f: {"relevant": True, "grade": "yes", "reason": text} for f in range(N_FEATURES)}
    origin = {"synthetic-0": {"target_feature": 2, "step": text, "generator": text}}
    row = {"sample_id": text, "messages": [{"role": text, "content": text}], "reason": text}
    inputs = planted_inputs(
        title=text,
        explanations=names,
        judgements=grades,
        provenance=origin,
        rejected=(row,),
        facts=((text, text),),
        **changes,
    )
    made = make_report(inputs, ReportSettings(map=False))
    first, *others = made.samples
    parts = tuple(replace(part, role=text) for part in first.parts)
    topics = tuple(replace(topic, name=text) for topic in made.topics)
    return replace(made, samples=(replace(first, parts=parts), *others), topics=topics)


def page_data(path):
    """What the scripts of a page read: one table of columns for each report."""
    packed = path.read_text(encoding="utf-8").split('id="data">')[1].split("<")[0]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def pair_sample(sample_id, asked, chosen, rejected):
    turns = (Message("user", asked), Message("assistant", chosen))
    return Sample(sample_id, messages=turns, rejected=(turns[0], Message("assistant", rejected)))
