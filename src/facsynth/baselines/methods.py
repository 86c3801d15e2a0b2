"""The baselines by name."""

from collections.abc import Callable, Mapping

from facsynth.baselines.alpaca import write_alpaca
from facsynth.baselines.cot_self_instruct import write_cot_self_instruct
from facsynth.baselines.evol_instruct import write_evol_instruct
from facsynth.baselines.job import Job
from facsynth.baselines.magpie import write_magpie
from facsynth.baselines.prismatic import write_prismatic
from facsynth.baselines.sao import write_sao
from facsynth.baselines.settings import Baseline
from facsynth.baselines.synalign import write_synalign
from facsynth.baselines.undirected import write_anchor_text, write_undirected

__all__ = ["CALLS_PER_SAMPLE", "METHODS"]

METHODS: Mapping[Baseline, Callable[[Job], None]] = {
    "alpaca": write_alpaca,
    "evol-instruct": write_evol_instruct,
    "magpie": write_magpie,
    "cot-self-instruct": write_cot_self_instruct,
    "sao": write_sao,
    "prismatic": write_prismatic,
    "synalign": write_synalign,
    "undirected": write_undirected,
    "anchor-text": write_anchor_text,
}
"""Writes until the job has what it wants, or is over."""

CALLS_PER_SAMPLE: Mapping[Baseline, int] = {
    "alpaca": 1,  # five texts a call, each with the tokens of one
    "evol-instruct": 2,
    "magpie": 1,
    "cot-self-instruct": 1,
    "sao": 2,
    "prismatic": 2,
    "synalign": 2,
    "undirected": 1,
    "anchor-text": 1,
}
"""Requests for one text, for estimates."""
