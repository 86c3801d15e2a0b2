"""Build the corpus of the default SAE: chat and plain text from public data sets, as JSONL.

    python studies/default_sae/corpus.py DATA_FOLDER corpus.jsonl

DATA_FOLDER holds the data sets in the layout of `sources`. Text with a non-commercial licence and
all evaluation sets are excluded. Long documents are cut at white space into windows of at most
1,600 characters; the order is shuffled with a fixed random seed.
"""

import csv
import gzip
import io
import json
import random
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WINDOW = 1600
SEED = 20261122
SHARE = 0.84
"""Share of the shuffled texts to keep: about 5.6 million scored tokens."""

Row = dict[str, Any]


def opened(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    return path.open(encoding="utf-8")


def rows(path: Path) -> list[Row]:
    found: list[Row]
    with opened(path) as stream:
        if ".jsonl" in path.name:
            return [json.loads(line) for line in stream if line.strip()]
        if ".csv" in path.name:
            return list(csv.DictReader(stream))
        found = json.load(stream)
    return found


def chat(*turns: str) -> Row:
    roles = ("user", "assistant")
    return {
        "messages": [
            {"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns) if turn.strip()
        ]
    }


def windows(text: str) -> Iterator[Row]:
    words, piece, size = text.replace("\r\n", "\n").split(" "), [], 0
    for word in words:
        piece.append(word)
        size += len(word) + 1
        if size >= WINDOW:
            yield {"text": " ".join(piece)}
            piece, size = [], 0
    if size > 40:
        yield {"text": " ".join(piece)}


def zipped(path: Path) -> Iterator[Row]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("/") or Path(name).name.lower().startswith(("readme", "citation")):
                continue
            yield from windows(archive.read(name).decode("utf-8", errors="replace"))


def instructions(data: list[Row], answer: str = "output") -> Iterator[Row]:
    for row in data:
        question = "\n\n".join(filter(None, [row["instruction"], row.get("input", "")]))
        yield chat(question, row[answer])


def hh(data: list[Row]) -> Iterator[Row]:
    for row in data:
        parts = row["chosen"].split("\n\nHuman: ")[1:]
        turns = [turn for part in parts for turn in part.split("\n\nAssistant: ", 1)]
        yield chat(*turns)


def plain(values: list[str]) -> Iterator[Row]:
    for value in values:
        yield from windows(value)


def user_only(values: list[str]) -> Iterator[Row]:
    for value in values:
        yield chat(value)


def dialogues(values: list[list[str]]) -> Iterator[Row]:
    for turns in values:
        yield chat(*turns[:16])


def persona(data: list[Row]) -> Iterator[Row]:
    for row in data:
        lines = row["Best Generated Conversation"].splitlines()
        yield chat(*[line.split(": ", 1)[-1] for line in lines][:16])


def sources(d: Path) -> dict[str, tuple[int, Iterator[Row]]]:
    """Each source with its limit in characters."""
    nltk = ["abc", "movie_reviews", "state_union", "inaugural", "webtext", "subjectivity"]
    nltk += ["product_reviews_1", "product_reviews_2", "pros_cons"]
    million = 1_000_000
    gpteacher = d / "gpteacher"
    demo = d / "llamafactory_demo"
    return {
        **{
            f"nltk/{name}": (
                2_200_000 if name == "movie_reviews" else million,
                zipped(d / "nltk" / f"{name}.zip"),
            )
            for name in nltk
        },
        "wikitext2/valid": (
            1_200_000,
            plain([(d / "wikitext2/valid.txt").read_text(encoding="utf-8")]),
        ),
        "tinyshakespeare": (
            400_000,
            plain([(d / "tinyshakespeare/input.txt").read_text(encoding="utf-8")]),
        ),
        "fineweb_edu": (
            1_200_000,
            plain(
                (d / "fineweb_edu/fineweb_edu_test.txt")
                .read_text(encoding="utf-8")
                .replace("\\n", "\n")
                .split("\n\n\n")
            ),
        ),
        "c4_small": (
            1_500_000,
            plain([r["input"] + r["output"] for r in rows(d / "c4_small/c4_ref.json.gz")]),
        ),
        "c4_demo": (700_000, plain([r["text"] for r in rows(demo / "c4_demo.jsonl")])),
        "tldr_pages": (
            700_000,
            plain([r["text"] for r in rows(d / "tldr_pages/tldr_en.jsonl.gz")]),
        ),
        "rust_book": (600_000, plain([r["text"] for r in rows(d / "rust_book/rust_book.jsonl")])),
        "persona_chat": (
            2_000_000,
            persona(rows(d / "synthetic_persona_chat/Synthetic-Persona-Chat_valid.csv")),
        ),
        "sgd": (
            1_200_000,
            dialogues(
                [
                    [t if isinstance(t, str) else t["utterance"] for t in r["turns"]]
                    for r in rows(d / "sgd_dialogues/sgd_dev_text.jsonl")
                ]
            ),
        ),
        "t0_p3": (
            2_500_000,
            (
                chat(r["prompt"], r["completion"])
                for r in rows(d / "t0_p3_sample/t0_p3_sample.jsonl.gz")
            ),
        ),
        "gpteacher_roleplay": (
            1_600_000,
            instructions(
                rows(gpteacher / "roleplay-simple-deduped-roleplay-instruct.json"), "response"
            ),
        ),
        "gpteacher_code": (
            1_600_000,
            instructions(rows(gpteacher / "codegen-instruct.json.gz"), "response"),
        ),
        "gpteacher_tools": (
            700_000,
            instructions(rows(gpteacher / "toolformer-similarity-0.6-dataset.json"), "response"),
        ),
        "llms_from_scratch": (
            300_000,
            instructions(rows(d / "llms_from_scratch/instruction-data.json")),
        ),
        "self_instruct_seeds": (
            200_000,
            (
                chat(
                    "\n\n".join(filter(None, [r["instruction"], r["instances"][0]["input"]])),
                    r["instances"][0]["output"],
                )
                for r in rows(d / "self_instruct/seed_tasks.jsonl")
            ),
        ),
        "gsm8k_train": (
            1_000_000,
            (chat(r["question"], r["answer"]) for r in rows(d / "gsm8k/train.jsonl.gz")),
        ),
        "hh_harmless": (1_600_000, hh(rows(d / "hh_rlhf/harmless-base_test.jsonl.gz"))),
        "davidson": (
            500_000,
            user_only([r["tweet"] for r in rows(d / "davidson/labeled_data.csv.gz")]),
        ),
        "toxic_spans": (
            700_000,
            user_only([r["text"] for r in rows(d / "toxic_spans/tsd_train.csv.gz")]),
        ),
    }


def main(data: Path, target: Path) -> None:
    rng = random.Random(SEED)
    chosen: list[tuple[str, Row]] = []
    for name, (limit, found) in sources(data).items():
        pool = [row for row in found if row.get("text") or row.get("messages")]
        rng.shuffle(pool)
        size = taken = 0
        for row in pool:
            size += sum(len(m["content"]) for m in row.get("messages", ())) or len(row["text"])
            chosen.append((name, row))
            taken += 1
            if size >= limit:
                break
        print(f"{name:24s} {taken:7,d} texts {size:11,d} characters")
    rng.shuffle(chosen)
    chosen = chosen[: round(len(chosen) * SHARE)]
    with target.open("w", encoding="utf-8") as stream:
        for index, (name, row) in enumerate(chosen):
            stream.write(json.dumps({"id": f"{name}-{index}", **row}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
