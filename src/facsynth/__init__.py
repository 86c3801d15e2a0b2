"""Feature Activation Coverage (FAC) of post-training data, and samples for what is missing.

The names below are loaded on first use, so that `import facsynth` stays light.
"""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {
    "FacsynthError": "facsynth.errors",
    "FeatureActivations": "facsynth.records",
    "Message": "facsynth.records",
    "ReadSettings": "facsynth.data.settings",
    "Sample": "facsynth.records",
    "CoverageSettings": "facsynth.coverage.settings",
    "EndpointChat": "facsynth.chat.endpoint",
    "ExtractSettings": "facsynth.table.settings",
    "Pool": "facsynth.select.pool",
    "SelectSettings": "facsynth.select.settings",
    "SynthesisRun": "facsynth.synthesize.run",
    "SynthesisSettings": "facsynth.synthesize.settings",
    "active_rows": "facsynth.table.active",
    "collect_evidence": "facsynth.understand.evidence",
    "common_samples": "facsynth.compare.transfer",
    "compare_features": "facsynth.compare.difference",
    "explain_by_llm": "facsynth.understand.explain",
    "explain_by_terms": "facsynth.understand.explain",
    "extract_features": "facsynth.table.extract",
    "extract_table": "facsynth.table.extract",
    "extract_tables": "facsynth.table.extract",
    "judge_by_labels": "facsynth.understand.relevance",
    "judge_by_llm": "facsynth.understand.relevance",
    "load_language_model": "facsynth.models.lm",
    "load_sae": "facsynth.sae.files",
    "measure_coverage": "facsynth.coverage.measure",
    "measure_overlap": "facsynth.compare.overlap",
    "measure_reference": "facsynth.coverage.reference",
    "measure_transfer": "facsynth.compare.transfer",
    "open_samples": "facsynth.data.read",
    "open_table": "facsynth.table.table",
    "read_samples": "facsynth.data.read",
    "run_recipe": "facsynth.pipeline",
    "select_samples": "facsynth.select.select",
}
"""Public name: the module that holds it."""

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'facsynth' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
