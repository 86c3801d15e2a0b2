"""Write docs/python.md from docstrings: `python scripts/write_python_docs.py`."""

import inspect
from pathlib import Path

import facsynth

TARGET = Path(__file__).resolve().parents[1] / "docs" / "python.md"

HEAD = """# Python

Written by `python scripts/write_python_docs.py` from the docstrings; a test compares them.
[Python by example](python_examples.md) shows every name in use.

These names come from `facsynth` itself and are loaded on first use, so that `import facsynth`
stays light. `help(facsynth.NAME)` says more.
"""

_DATA = (
    *("FacsynthError", "FeatureActivations", "Message", "ReadSettings", "Sample"),
    *("open_samples", "read_samples"),
)
_PAIR = ("load_language_model", "load_sae")
_CHATS = ("EndpointChat", "LocalChat", "ScriptedChat")

COMMANDS = {
    "extract": (
        *_DATA,
        *_PAIR,
        *("ExtractSettings", "extract_features", "extract_table", "extract_tables", "open_table"),
    ),
    "merge": ("ShardSettings", "extract_shard", "merge_shards"),
    "look": ("look_at",),
    "coverage": (
        *("CoverageSettings", "explain_coverage", "measure_coverage", "measure_reference"),
        "read_profile",
    ),
    "explain": (
        *_CHATS,
        "ReadTable",
        "collect_evidence",
        "count_terms",
        "explain_by_llm",
        "explain_by_terms",
    ),
    "relevance": ("Described", "RelevanceSettings", "judge_by_llm", "judge_table", "load_rubric"),
    "synthesize": ("SynthesisRun", "SynthesisSettings"),
    "select": ("Pool", "SelectSettings", "active_rows", "select_samples"),
    "filter": ("FilterSettings", "filter_samples"),
    "diversity": ("DataSet", "DiversitySettings", "compare_diversity"),
    "labels": ("LabelSettings", "compare_labels", "label_tables"),
    "diff": ("DiffSettings", "compare_features"),
    "overlap": ("OverlapSettings", "measure_overlap"),
    "baseline": ("BaselineRun", "BaselineSettings"),
    "experiment": ("ExperimentRecipe", "read_experiment", "run_experiment"),
    "task": (
        *("TuneSettings", "compare_runs", "paired_differences", "save_evaluation", "scorer_of"),
        *("ToxicitySettings", "read_labelled", "train_toxicity", "evaluate_toxicity"),
        *("RewardSettings", "read_comparisons", "train_reward", "evaluate_reward"),
        *("SteeringSettings", "read_items", "train_steering", "evaluate_steering"),
        *("InstructionSettings", "read_benchmark", "train_instruction", "evaluate_instruction"),
    ),
    "transfer": ("TransferSettings", "common_samples", "measure_transfer"),
    "sae": (
        *("ReadOptions", "TrainSettings", "describe_sae", "evaluate_sae", "profile_sae"),
        *("random_directions", "read_sae", "save_sae", "tokenize_samples", "train_sae"),
        "write_profile",
    ),
    "export": ("export_samples", "read_run"),
    "report": ("Report", "ReportSettings", "report_run", "report_tables", "write_report"),
    "run": ("run_recipe",),
    "doctor": ("check_machine", "check_table"),
    "completion": (),
}
"""Public names by the command that does the same; a name stands at the first that needs it."""


def text() -> str:
    """The whole page: one table for each command, records and settings before functions."""
    return HEAD + "".join(_section(command, names) for command, names in COMMANDS.items() if names)


def _section(command: str, names: tuple[str, ...]) -> str:
    ordered = sorted(names, key=lambda name: (name.islower(), name))
    rows = "".join(f"| `{_call(name)}` | {_first_line(name)} |\n" for name in ordered)
    return f"\n## fac {command}\n\n| name | |\n|---|---|\n{rows}"


def _call(name: str) -> str:
    """A function with its positional arguments; another name as it is."""
    value = getattr(facsynth, name)
    if not inspect.isfunction(value):
        return name
    parameters = inspect.signature(value).parameters.values()
    return f"{name}({', '.join(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)})"


def _first_line(name: str) -> str:
    first = (inspect.getdoc(getattr(facsynth, name)) or "").split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
