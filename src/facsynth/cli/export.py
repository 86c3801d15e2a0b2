"""`fac export`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import data_options, json_option, output_option
from facsynth.cli.sections import SectionedCommand
from facsynth.data.settings import ReadSettings
from facsynth.show import visible_text

_FORMS = (
    "hf",
    "sft",
    "prompt-completion",
    "preference",
    "classification",
    "choice",
    "llamafactory",
    "openai",
    "axolotl",
    "embedding-atlas",
)


@click.command(cls=SectionedCommand)
@click.argument("source")
@output_option("Folder of the exported files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMS),
    default="hf",
    show_default=True,
    help="hf: folder with a data card; choice: A/B items; llamafactory; openai; axolotl; "
    "embedding-atlas: a map of a run or a feature table; others: TRL's.",
)
@click.option("--name", help="Name of the data set; that of the run by default.")
@click.option("--clean", is_flag=True, help="Leave out provenance and sample ids.")
@click.option(
    "--sensitive", is_flag=True, help="Warn on top of the data card; automatic for sensitive tasks."
)
@click.option("--push", metavar="OWNER/NAME", help="Upload the folder to the Hub (format hf).")
@data_options
@json_option
def export(
    source: str,
    output: Path,
    form: Any,
    name: str | None,
    clean: bool,
    sensitive: bool,
    push: str | None,
    reading: ReadSettings,
    as_json: bool,
) -> None:
    """Write samples in the form that a training tool, or embedding-atlas, reads.

    SOURCE is a run folder, the output folder of `fac synthesize`, or any data set that
    `fac extract` reads; for embedding-atlas it is a run folder or a feature table. Samples that
    the form cannot hold, such as unanswered questions, are left out and counted.
    """
    from facsynth.cli.show import print_json
    from facsynth.data.cards import data_card, read_run
    from facsynth.data.export import export_samples
    from facsynth.data.read import REJECTED_FILE

    if push and form != "hf":
        raise click.UsageError("--push uploads a Hugging Face folder; use --format hf")
    if form == "embedding-atlas":
        _write_atlas(source, output, as_json=as_json)
        return
    rejected = output / REJECTED_FILE
    rows, facts, report = read_run(
        source, reading, name=name, clean=clean, sensitive=sensitive, rejected=rejected
    )
    for sentence in report.sentences():
        click.echo(visible_text(sentence), err=True)
    card = data_card(facts)
    done = export_samples(rows, output, form, name=facts.name, card=card, clean=clean)
    url = _push(output, push) if push else None
    if as_json:
        print_json(
            {
                "data": str(done.data),
                "n_samples": done.n_rows,
                "left_out": dict(done.left_out),
                "parts_left_out": dict(done.parts_left_out),
                "url": url,
                "read": report.row(),
            }
        )
        return
    click.echo(f"{done.n_rows:,} samples: {done.data}")
    for reason, n in done.left_out.items():
        click.echo(visible_text(f"Left out: {n:,} {reason}"), err=True)
    for part, n in done.parts_left_out.items():
        click.echo(f"Left out: {part} of {n:,} samples", err=True)
    if url:
        click.echo(url)


def _write_atlas(source: str, output: Path, *, as_json: bool) -> None:
    """Write the map and say how to open it."""
    from facsynth.cli.show import print_json
    from facsynth.report.atlas import export_atlas

    done = export_atlas(source, output)
    if as_json:
        print_json({"data": str(done.data), "n_samples": done.n_rows})
        return
    click.echo(f"{done.n_rows:,} samples: {done.data}")
    click.echo(f"Next: {done.command}")


def _push(folder: Path, repo: str) -> str:
    """Upload the folder as a private data set; the address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from facsynth.errors import DataError

    api = HfApi()
    try:
        url = api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder)
    except (HfHubHTTPError, HFValidationError) as error:
        raise DataError(
            f"{repo} could not be uploaded: {' '.join(str(error).split())[:200]}; check the name "
            "and log in with `hf auth login`"
        ) from error
    return str(url)
