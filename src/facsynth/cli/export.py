"""`fac export`."""

from pathlib import Path

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import data_options, json_option, output_option
from facsynth.cli.sections import SectionedCommand
from facsynth.data.settings import ExportSettings, ReadSettings
from facsynth.show import visible_text


@click.command(cls=SectionedCommand)
@click.argument("source")
@output_option("Folder of the exported files.")
@settings_options(ExportSettings, "settings")
@data_options
@json_option
def export(
    source: str, output: Path, settings: ExportSettings, reading: ReadSettings, as_json: bool
) -> None:
    """Write samples in the form that a training tool reads.

    SOURCE is a run folder, the output folder of `fac synthesize`, or any data set that
    `fac extract` reads; for embedding-atlas it is a run folder or a feature table. Samples that
    the form cannot hold, such as unanswered questions, are left out and counted.
    """
    from facsynth.cli.show import print_json
    from facsynth.data.cards import data_card, read_run
    from facsynth.data.export import export_samples
    from facsynth.data.read import REJECTED_FILE

    if settings.format == "embedding-atlas":
        _write_atlas(source, output, as_json=as_json)
        return
    clean = settings.clean
    rows, facts, report = read_run(
        source,
        reading,
        name=settings.name,
        clean=clean,
        sensitive=settings.sensitive,
        rejected=output / REJECTED_FILE,
    )
    for sentence in report.sentences():
        click.echo(visible_text(sentence), err=True)
    card = data_card(facts)
    done = export_samples(rows, output, settings.format, name=facts.name, card=card, clean=clean)
    url = _push(output, settings.push) if settings.push else None
    if as_json:
        print_json({**done.row(), "url": url, "read": report.row()})
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
        print_json({"data": str(done.data), "n_samples": done.n_rows, **done.threshold.row()})
        return
    if done.threshold.rule:
        click.echo(done.threshold.sentence, err=True)
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
