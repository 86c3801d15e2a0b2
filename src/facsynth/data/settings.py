"""How a data set is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["PARTS", "ExportSettings", "Form", "ReadSettings"]

Form = Literal[
    "hf",
    "sft",
    "prompt-completion",
    "preference",
    "classification",
    "choice",
    "llamafactory",
    "openai",
    "axolotl",
]
"""`sft`, `prompt-completion`, `preference` and `classification` are TRL's data set formats;
`choice` are the items of CAA (arXiv 2312.06681), each in both orders of its options."""

PARTS = (
    *("user", "input", "assistant", "system", "history", "messages"),
    *("chosen", "rejected", "text", "label", "id", "tools", "reasoning"),
)
"""Parts of a sample that `ReadSettings.fields` can name a field for."""


@dataclass(frozen=True)
class ReadSettings(Settings):
    """How the rows of a data set are found and read."""

    fields: str | Mapping[str, str] = ""
    """Fields of a shape that is not known by itself, such as
    `user=question,assistant=answer,system=persona`. Parts: user, input, assistant, system, history,
    messages, chosen, rejected, text, label, id, tools, reasoning."""

    text_field: str | None = None
    """Read this field as plain text and no other text; the same as `fields` with `text=`."""

    label_field: str | None = None
    """Field with the class of a sample; by default `label`, where a row has one."""

    split: str = "train"
    """Split of a Hub data set, of a `save_to_disk` folder, or of files with a split in the name."""

    data_dir: str | None = None
    """Sub-folder of a folder or of a Hub data set."""

    separator: str | None = None
    """Separator of CSV files, such as `;`; found by itself where it is not given. A `.tsv` file is
    read without quoting unless its separator is given."""

    limit: int | None = None
    """Read at most N rows."""

    sample: int | None = None
    """Keep N random rows out of those read, in their order."""

    random_seed: int = 0
    """Starts the random generator of `sample`."""

    on_bad_row: Literal["error", "skip"] = "error"
    """What a row that cannot be read does: end the run, or be skipped, counted and written to
    `rejected.jsonl`."""

    strict: bool = False
    """Treat a field with text that is not read as an error."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            DataError: A number is below 1, or `fields` names an unknown part.
        """
        for name, number in (("limit", self.limit), ("sample", self.sample)):
            if number is not None and number < 1:
                raise DataError(f"{name} is {number}, but it must be 1 or more")
        if self.separator is not None and len(self.separator) != 1:
            raise DataError(f"the separator is {self.separator!r}, but it must be one character")
        if unknown := [part for part in self.named_fields if part not in PARTS]:
            raise DataError(
                f"--fields names the unknown part {unknown[0]!r}; known are {', '.join(PARTS)}"
            )

    @property
    def named_fields(self) -> dict[str, str]:
        """Field of each part that has one by name, `text_field` and `label_field` included."""
        found: dict[str, str] = {}
        if isinstance(self.fields, str):
            for item in filter(None, self.fields.split(",")):
                part, mark, name = item.partition("=")
                if not mark or not name.strip():
                    raise DataError(f"--fields has {item!r}; write PART=FIELD, with commas between")
                found[part.strip()] = name.strip()
        else:
            found.update(self.fields)
        if self.text_field is not None:
            found["text"] = self.text_field
        if self.label_field is not None:
            found["label"] = self.label_field
        return found


@dataclass(frozen=True)
class ExportSettings(Settings):
    """How samples are written for another tool."""

    format: Literal[Form, "embedding-atlas"] = "hf"
    """hf: folder with a data card; choice: A/B items; llamafactory; openai; axolotl;
    embedding-atlas: a map of a run or a feature table; others: TRL's."""

    name: str | None = None
    """Name of the data set; that of the run by default."""

    clean: bool = False
    """Leave out provenance and sample ids."""

    sensitive: bool = False
    """Warn on top of the data card; automatic for sensitive tasks."""

    push: str | None = None
    """Upload the folder to the Hub as OWNER/NAME (format hf)."""

    def __post_init__(self) -> None:
        if self.push and self.format != "hf":
            raise DataError("--push uploads a Hugging Face folder; use --format hf")
