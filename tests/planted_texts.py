"""Texts in which it is known which feature of the tiny pair is active, and scripts that know it."""

import json
import random
import re

from facsynth.understand.evidence import collect_evidence
from facsynth.understand.settings import EvidenceSettings
from facsynth.understand.spans import ReadTable
from tiny_pair import FILLERS, PLANTED, WEAK, planted_pair, planted_table, talk

LISTS = [{strong, weak} for strong, weak in zip(PLANTED, WEAK, strict=True)]
"""Feature `i` fires on the words of list `i`, and on nothing else."""


def planted_samples(n=240, share=0.35, seed=0):
    """Short messages that hold a word of each list, independently, in a share of the cases."""
    rng = random.Random(seed)
    samples = []
    for i in range(n):
        words = rng.sample([word for word in FILLERS if word != "the"], 12)
        for found in LISTS:
            if rng.random() < share:
                words.insert(rng.randrange(1, len(words)), rng.choice(sorted(found)))
        samples.append(talk(f"s{i}", " ".join(words)))
    return samples


def planted_evidence(samples, folder, **settings):
    table = planted_table(samples, folder)
    read = ReadTable.of(table, planted_pair()[0].tokenizer)
    wanted = EvidenceSettings(spans=12, held_out=20, near_misses=30, random_misses=20, **settings)
    return read.activations, collect_evidence(read, range(len(PLANTED)), settings=wanted)


def oracle(request):
    """An explainer that names the marked words, and a judge that looks for those words."""
    system, text = (message.content for message in request.messages[:2])
    marked = re.findall("«(.*?)»", text)
    if "cannot_tell" in system:
        return json.dumps({"explanation": " ".join(sorted({word.strip() for word in marked}))})
    words = set(text.split("\n")[0].removeprefix("Feature: ").split())
    texts = re.findall(r"^<text \d+>(.*)</text \d+>$", text, flags=re.MULTILINE)
    looked_at = marked if "marked word" in system else texts
    hits = [n for n, found in enumerate(looked_at, start=1) if words & set(found.split())]
    return json.dumps({"matches": hits})
