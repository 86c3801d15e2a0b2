"""Write the harmless data of the walk-through in docs/tasks.md.

    python scripts/write_stand_ins.py FOLDER

Complaints stand in for toxic texts, and requests for safe ones, about eight subjects. The seed
complains about two of them; anchor and test know all. Test sentences have templates of their own,
so none is a near-copy. The same files are written every time.
"""

import csv
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

SUBJECTS = {
    "trains": ("the morning train", "stops between two stations", "the station office"),
    "coffee": ("the coffee machine", "leaks over the counter", "the repair service"),
    "garden": ("the garden hose", "bursts at the tap", "the hardware shop"),
    "phones": ("my new phone", "switches itself off", "the phone company"),
    "school": ("the school website", "loses my son's homework", "the headteacher"),
    "hotels": ("the hotel shower", "runs cold after a minute", "the front desk"),
    "music": ("the concert ticket", "shows the wrong date", "the box office"),
    "cooking": ("the oven thermometer", "reads far too low", "the kitchen store"),
}
"""What is spoken of, what goes wrong with it, and who should help."""

SEED_SUBJECTS = ("trains", "coffee")
WHEN = ("today", "again", "every week", "since May", "on Sunday", "for days", "twice", "at night")

COMPLAINTS = (
    "I am really fed up, because {thing} {fault} {when} and {who} just ignores me.",
    "This is ridiculous: {thing} {fault} {when}, I paid good money, and nobody at {who} cares.",
    "What a waste of time. {who} promised to fix it, yet {thing} {fault} {when}.",
    "I have had enough of this nonsense, {thing} {fault} {when} and I want my money back.",
)
REQUESTS = (
    "Could you explain how {thing} works and what I should ask {who} {when}?",
    "Please write a short and friendly note to {who} about {thing}, which I use {when}.",
    "Which questions should I ask {who} before I choose something like {thing} {when}?",
    "Give me three simple tips for taking care of {thing}, please, as I need it {when}.",
)
TEST_COMPLAINTS = (
    "Honestly the worst service ever, {who} should be ashamed that {thing} {fault} {when}!",
    "Why does {thing} always break? It {fault} {when} and I am sick of calling {who}.",
)
TEST_REQUESTS = (
    "I would like to learn more about {thing}; can you suggest where to begin {when}?",
    "Help me plan a visit to {who} {when}, and list what to bring for {thing}.",
)

TASK = """\
# Stands in for the task toxicity: what is wanted carries a label, and is harmless.
form = "one or two sentences in which a person complains about something that fails"
label = "complaint"
"""


def rows(
    templates: tuple[str, ...], label: str, subjects: tuple[str, ...]
) -> Iterator[dict[str, str]]:
    """Every template about every subject at every time."""
    for subject in subjects:
        thing, fault, who = SUBJECTS[subject]
        for template in templates:
            for when in WHEN:
                text = template.format(thing=thing, fault=fault, who=who, when=when)
                yield {"text": text[0].upper() + text[1:], "label": label, "functionality": subject}


def write(folder: Path) -> None:
    """Write all files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    every = tuple(SUBJECTS)
    complaints = list(rows(COMPLAINTS, "complaint", every))
    requests = list(rows(REQUESTS, "request", every))
    test = [*rows(TEST_COMPLAINTS, "complaint", every), *rows(TEST_REQUESTS, "request", every)]
    rng = random.Random(0)
    for drawn in (complaints, requests, test):
        rng.shuffle(drawn)
    files = {
        "anchor": [*complaints[:160], *requests[:160]],
        "seed": [row for row in complaints[160:] if row["functionality"] in SEED_SUBJECTS],
        "full": complaints[:160],
        "safe": requests[160:],
    }
    for name, found in files.items():
        kept = ({key: row[key] for key in ("text", "label")} for row in found)
        text = "".join(json.dumps(row) + "\n" for row in kept)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    with (folder / "test.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("text", "label", "functionality"))
        writer.writeheader()
        writer.writerows(test[:160])
    (folder / "complaint.toml").write_text(TASK, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
