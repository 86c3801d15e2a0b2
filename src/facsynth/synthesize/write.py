"""What a synthesis run leaves on disk."""

from pathlib import Path

from facsynth import __version__
from facsynth.data.write import sample_row, write_json, write_jsonl
from facsynth.records import FeatureActivations
from facsynth.synthesize.outcome import KeptSample, Synthesis
from facsynth.synthesize.prompts import PROMPT_VERSION
from facsynth.table.table import FeatureTable, Manifest
from facsynth.table.write import samples_hash, write_manifest, write_part

__all__ = ["sample_rows", "write_synthesis"]


def write_synthesis(
    synthesis: Synthesis, folder: Path, seed_table: FeatureTable, seed_rows: FeatureActivations
) -> FeatureTable:
    """Write the data set, its feature table and a summary; the summary last.

    Args:
        synthesis: The finished run.
        folder: Where `synthetic.jsonl`, `table/` and `summary.json` go.
        seed_table: Feature table of the seed, whose source the new table shares.
        seed_rows: Its activations, for the activations before.
    """
    write_jsonl(sample_rows(synthesis, seed_rows), folder / "synthetic.jsonl")
    samples = [kept.sample for kept in synthesis.kept]
    table = folder / "table"
    write_part(table, 0, synthesis.activations, samples)
    written = write_manifest(
        table,
        Manifest(
            source=seed_table.manifest.source,
            samples_hash=samples_hash(samples),
            n_samples=len(samples),
            n_tokens=int(synthesis.activations.n_tokens.sum()),
            n_entries=len(synthesis.activations.values),
            n_truncated=0,
            n_parts=1,
            facsynth_version=__version__,
        ),
    )
    write_json(
        {
            "n_missing": len(synthesis.missing_before),
            "n_filled": len({f for k in synthesis.kept for f in k.new_features}),
            "fac": synthesis.fac,
            "rounds": list(synthesis.rounds),
            "outcomes": dict(synthesis.outcomes),
            "generator": synthesis.generator,
            "stopped": synthesis.stopped,
            "n_unanswered": synthesis.n_unanswered,
            "sensitive": synthesis.is_sensitive,
            "missing_before": list(synthesis.missing_before),
        },
        folder / "summary.json",
    )
    return written


def sample_rows(synthesis: Synthesis, seed_rows: FeatureActivations) -> list[dict[str, object]]:
    """Rows in TRL's format, with provenance in one column that can be dropped."""
    before = _largest(seed_rows)
    return [
        {
            **sample_row(kept.sample),
            **({} if kept.is_contrast else kept.candidate.fields),
            "provenance": _provenance(kept, before, synthesis.generator),
        }
        for kept in synthesis.kept
    ]


def _provenance(kept: KeptSample, before: dict[int, float], generator: str) -> dict[str, object]:
    candidate = kept.candidate
    return {
        "target_feature": candidate.target,
        **({"also_aimed_at": list(candidate.also)} if candidate.also else {}),
        "new_features": list(kept.new_features),
        "credited": [
            {"feature_id": f, "before": before.get(f, 0.0), "activation": value}
            for f, value in sorted(kept.credited.items())
        ],
        **({"contrast_to": candidate.sample.sample_id} if kept.is_contrast else {}),
        "step": candidate.step,
        "round": candidate.round + 1,
        "generator": generator,
        "prompt_version": PROMPT_VERSION,
        "seed": candidate.seed,
        "synthetic": True,
    }


def _largest(rows: FeatureActivations) -> dict[int, float]:
    """Largest activation of every feature over all samples."""
    largest: dict[int, float] = {}
    for feature, value in zip(rows.feature_ids.tolist(), rows.values.tolist(), strict=True):
        largest[feature] = max(value, largest.get(feature, 0.0))
    return largest
