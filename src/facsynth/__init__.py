"""Feature Activation Coverage (FAC) of post-training data, and samples for what is missing.

The names below are loaded on first use, so that `import facsynth` stays light.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names as in _EXPORTS, for type checkers and completion
    from facsynth.baselines.run import BaselineRun as BaselineRun
    from facsynth.baselines.settings import BaselineSettings as BaselineSettings
    from facsynth.chat.endpoint import EndpointChat as EndpointChat
    from facsynth.chat.local import LocalChat as LocalChat
    from facsynth.chat.scripted import ScriptedChat as ScriptedChat
    from facsynth.compare.difference import compare_features as compare_features
    from facsynth.compare.label_report import compare_labels as compare_labels
    from facsynth.compare.label_report import label_tables as label_tables
    from facsynth.compare.overlap import measure_overlap as measure_overlap
    from facsynth.compare.paired import paired_differences as paired_differences
    from facsynth.compare.settings import DiffSettings as DiffSettings
    from facsynth.compare.settings import DiversitySettings as DiversitySettings
    from facsynth.compare.settings import LabelSettings as LabelSettings
    from facsynth.compare.settings import OverlapSettings as OverlapSettings
    from facsynth.compare.settings import TransferSettings as TransferSettings
    from facsynth.compare.side_by_side import DataSet as DataSet
    from facsynth.compare.side_by_side import compare_diversity as compare_diversity
    from facsynth.compare.transfer import common_samples as common_samples
    from facsynth.compare.transfer import measure_transfer as measure_transfer
    from facsynth.coverage.measure import measure_coverage as measure_coverage
    from facsynth.coverage.profile import profile_sae as profile_sae
    from facsynth.coverage.profile import read_profile as read_profile
    from facsynth.coverage.profile import write_profile as write_profile
    from facsynth.coverage.reference import measure_reference as measure_reference
    from facsynth.coverage.settings import CoverageSettings as CoverageSettings
    from facsynth.data.cards import read_run as read_run
    from facsynth.data.export import export_samples as export_samples
    from facsynth.data.read import open_samples as open_samples
    from facsynth.data.read import read_samples as read_samples
    from facsynth.data.settings import ReadSettings as ReadSettings
    from facsynth.errors import FacsynthError as FacsynthError
    from facsynth.experiment.run import run_experiment as run_experiment
    from facsynth.experiment.settings import ExperimentRecipe as ExperimentRecipe
    from facsynth.experiment.settings import read_experiment as read_experiment
    from facsynth.models.doctor import check_machine as check_machine
    from facsynth.models.lm import load_language_model as load_language_model
    from facsynth.models.tokens import tokenize_samples as tokenize_samples
    from facsynth.pipeline import run_recipe as run_recipe
    from facsynth.records import FeatureActivations as FeatureActivations
    from facsynth.records import Message as Message
    from facsynth.records import Sample as Sample
    from facsynth.report.data import Report as Report
    from facsynth.report.page import write_report as write_report
    from facsynth.report.report import report_run as report_run
    from facsynth.report.report import report_tables as report_tables
    from facsynth.report.settings import ReportSettings as ReportSettings
    from facsynth.sae.describe import describe_sae as describe_sae
    from facsynth.sae.evaluate import evaluate_sae as evaluate_sae
    from facsynth.sae.files import load_sae as load_sae
    from facsynth.sae.files import save_sae as save_sae
    from facsynth.sae.formats.layouts import read_sae as read_sae
    from facsynth.sae.formats.options import ReadOptions as ReadOptions
    from facsynth.sae.random import random_directions as random_directions
    from facsynth.sae.train.settings import TrainSettings as TrainSettings
    from facsynth.sae.train.train import train_sae as train_sae
    from facsynth.scale.shards import extract_shard as extract_shard
    from facsynth.scale.shards import merge_shards as merge_shards
    from facsynth.select.filter import filter_samples as filter_samples
    from facsynth.select.pool import Pool as Pool
    from facsynth.select.select import select_samples as select_samples
    from facsynth.select.settings import FilterSettings as FilterSettings
    from facsynth.select.settings import SelectSettings as SelectSettings
    from facsynth.synthesize.run import SynthesisRun as SynthesisRun
    from facsynth.synthesize.settings import SynthesisSettings as SynthesisSettings
    from facsynth.table.active import active_rows as active_rows
    from facsynth.table.doctor import check_table as check_table
    from facsynth.table.extract import extract_features as extract_features
    from facsynth.table.extract import extract_table as extract_table
    from facsynth.table.extract import extract_tables as extract_tables
    from facsynth.table.settings import ExtractSettings as ExtractSettings
    from facsynth.table.settings import ShardSettings as ShardSettings
    from facsynth.table.table import open_table as open_table
    from facsynth.tasks.compare import compare_runs as compare_runs
    from facsynth.tasks.instruction.benchmarks import read_benchmark as read_benchmark
    from facsynth.tasks.instruction.evaluate import evaluate_instruction as evaluate_instruction
    from facsynth.tasks.instruction.evaluate import scorer_of as scorer_of
    from facsynth.tasks.instruction.settings import InstructionSettings as InstructionSettings
    from facsynth.tasks.instruction.train import train_instruction as train_instruction
    from facsynth.tasks.results import save_evaluation as save_evaluation
    from facsynth.tasks.reward.data import read_comparisons as read_comparisons
    from facsynth.tasks.reward.evaluate import evaluate_reward as evaluate_reward
    from facsynth.tasks.reward.settings import RewardSettings as RewardSettings
    from facsynth.tasks.reward.train import train_reward as train_reward
    from facsynth.tasks.settings import TuneSettings as TuneSettings
    from facsynth.tasks.steering.data import read_items as read_items
    from facsynth.tasks.steering.evaluate import evaluate_steering as evaluate_steering
    from facsynth.tasks.steering.settings import SteeringSettings as SteeringSettings
    from facsynth.tasks.steering.train import train_steering as train_steering
    from facsynth.tasks.toxicity.data import read_labelled as read_labelled
    from facsynth.tasks.toxicity.evaluate import evaluate_toxicity as evaluate_toxicity
    from facsynth.tasks.toxicity.settings import ToxicitySettings as ToxicitySettings
    from facsynth.tasks.toxicity.train import train_toxicity as train_toxicity
    from facsynth.understand.contrast import judge_table as judge_table
    from facsynth.understand.descriptions import Described as Described
    from facsynth.understand.evidence import collect_evidence as collect_evidence
    from facsynth.understand.explain import explain_by_llm as explain_by_llm
    from facsynth.understand.explain import explain_by_terms as explain_by_terms
    from facsynth.understand.findings import explain_coverage as explain_coverage
    from facsynth.understand.look import look_at as look_at
    from facsynth.understand.names import count_terms as count_terms
    from facsynth.understand.relevance import judge_by_llm as judge_by_llm
    from facsynth.understand.relevance import load_rubric as load_rubric
    from facsynth.understand.settings import RelevanceSettings as RelevanceSettings
    from facsynth.understand.spans import ReadTable as ReadTable

# OpenMP's threads spin while they wait for each other, so two processes on one machine slow each
# other down severalfold. The library reads this once, when torch loads it.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}

__version__ = "0.1.0"

_EXPORTS = {
    "BaselineRun": "facsynth.baselines.run",
    "BaselineSettings": "facsynth.baselines.settings",
    "CoverageSettings": "facsynth.coverage.settings",
    "DataSet": "facsynth.compare.side_by_side",
    "Described": "facsynth.understand.descriptions",
    "DiffSettings": "facsynth.compare.settings",
    "DiversitySettings": "facsynth.compare.settings",
    "EndpointChat": "facsynth.chat.endpoint",
    "ExperimentRecipe": "facsynth.experiment.settings",
    "ExtractSettings": "facsynth.table.settings",
    "FacsynthError": "facsynth.errors",
    "FeatureActivations": "facsynth.records",
    "FilterSettings": "facsynth.select.settings",
    "InstructionSettings": "facsynth.tasks.instruction.settings",
    "LabelSettings": "facsynth.compare.settings",
    "LocalChat": "facsynth.chat.local",
    "Message": "facsynth.records",
    "OverlapSettings": "facsynth.compare.settings",
    "Pool": "facsynth.select.pool",
    "ReadOptions": "facsynth.sae.formats.options",
    "ReadSettings": "facsynth.data.settings",
    "ReadTable": "facsynth.understand.spans",
    "RelevanceSettings": "facsynth.understand.settings",
    "Report": "facsynth.report.data",
    "ReportSettings": "facsynth.report.settings",
    "RewardSettings": "facsynth.tasks.reward.settings",
    "Sample": "facsynth.records",
    "ScriptedChat": "facsynth.chat.scripted",
    "SelectSettings": "facsynth.select.settings",
    "ShardSettings": "facsynth.table.settings",
    "SteeringSettings": "facsynth.tasks.steering.settings",
    "SynthesisRun": "facsynth.synthesize.run",
    "SynthesisSettings": "facsynth.synthesize.settings",
    "ToxicitySettings": "facsynth.tasks.toxicity.settings",
    "TrainSettings": "facsynth.sae.train.settings",
    "TransferSettings": "facsynth.compare.settings",
    "TuneSettings": "facsynth.tasks.settings",
    "active_rows": "facsynth.table.active",
    "check_machine": "facsynth.models.doctor",
    "check_table": "facsynth.table.doctor",
    "collect_evidence": "facsynth.understand.evidence",
    "common_samples": "facsynth.compare.transfer",
    "compare_diversity": "facsynth.compare.side_by_side",
    "compare_features": "facsynth.compare.difference",
    "compare_labels": "facsynth.compare.label_report",
    "compare_runs": "facsynth.tasks.compare",
    "count_terms": "facsynth.understand.names",
    "describe_sae": "facsynth.sae.describe",
    "evaluate_instruction": "facsynth.tasks.instruction.evaluate",
    "evaluate_reward": "facsynth.tasks.reward.evaluate",
    "evaluate_sae": "facsynth.sae.evaluate",
    "evaluate_steering": "facsynth.tasks.steering.evaluate",
    "evaluate_toxicity": "facsynth.tasks.toxicity.evaluate",
    "explain_by_llm": "facsynth.understand.explain",
    "explain_by_terms": "facsynth.understand.explain",
    "explain_coverage": "facsynth.understand.findings",
    "export_samples": "facsynth.data.export",
    "extract_features": "facsynth.table.extract",
    "extract_shard": "facsynth.scale.shards",
    "extract_table": "facsynth.table.extract",
    "extract_tables": "facsynth.table.extract",
    "filter_samples": "facsynth.select.filter",
    "judge_by_llm": "facsynth.understand.relevance",
    "judge_table": "facsynth.understand.contrast",
    "label_tables": "facsynth.compare.label_report",
    "load_language_model": "facsynth.models.lm",
    "load_rubric": "facsynth.understand.relevance",
    "load_sae": "facsynth.sae.files",
    "look_at": "facsynth.understand.look",
    "measure_coverage": "facsynth.coverage.measure",
    "measure_overlap": "facsynth.compare.overlap",
    "measure_reference": "facsynth.coverage.reference",
    "measure_transfer": "facsynth.compare.transfer",
    "merge_shards": "facsynth.scale.shards",
    "open_samples": "facsynth.data.read",
    "open_table": "facsynth.table.table",
    "paired_differences": "facsynth.compare.paired",
    "profile_sae": "facsynth.coverage.profile",
    "random_directions": "facsynth.sae.random",
    "read_benchmark": "facsynth.tasks.instruction.benchmarks",
    "read_comparisons": "facsynth.tasks.reward.data",
    "read_experiment": "facsynth.experiment.settings",
    "read_items": "facsynth.tasks.steering.data",
    "read_labelled": "facsynth.tasks.toxicity.data",
    "read_profile": "facsynth.coverage.profile",
    "read_run": "facsynth.data.cards",
    "read_sae": "facsynth.sae.formats.layouts",
    "read_samples": "facsynth.data.read",
    "report_run": "facsynth.report.report",
    "report_tables": "facsynth.report.report",
    "run_experiment": "facsynth.experiment.run",
    "run_recipe": "facsynth.pipeline",
    "save_evaluation": "facsynth.tasks.results",
    "save_sae": "facsynth.sae.files",
    "scorer_of": "facsynth.tasks.instruction.evaluate",
    "select_samples": "facsynth.select.select",
    "tokenize_samples": "facsynth.models.tokens",
    "train_instruction": "facsynth.tasks.instruction.train",
    "train_reward": "facsynth.tasks.reward.train",
    "train_sae": "facsynth.sae.train.train",
    "train_steering": "facsynth.tasks.steering.train",
    "train_toxicity": "facsynth.tasks.toxicity.train",
    "write_profile": "facsynth.coverage.profile",
    "write_report": "facsynth.report.page",
}
"""Public name: the module that holds it."""

__all__ = ["__version__", *_EXPORTS]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # or a misspelt name would pass for an object

    def __getattr__(name: str) -> object:
        if name not in _EXPORTS:
            raise AttributeError(f"module 'facsynth' has no attribute {name!r}")
        return getattr(import_module(_EXPORTS[name]), name)
