"""The baselines by name; `settings.py` has the names alone, for help.

To add one, write one file beside this one, and list it here and its name there.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

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

__all__ = ["METHODS", "Method"]


class Method(NamedTuple):
    """How a baseline writes."""

    write: Callable[[Job], None]
    """Writes until the job has what it wants, or is over."""

    calls_per_sample: int
    """Requests for one text, for estimates."""


METHODS: Mapping[Baseline, Method] = {
    "alpaca": Method(write_alpaca, 1),  # five texts a call, each with the tokens of one
    "evol-instruct": Method(write_evol_instruct, 2),
    "magpie": Method(write_magpie, 1),
    "cot-self-instruct": Method(write_cot_self_instruct, 1),
    "sao": Method(write_sao, 2),
    "prismatic": Method(write_prismatic, 2),
    "synalign": Method(write_synalign, 2),
    "undirected": Method(write_undirected, 1),
    "anchor-text": Method(write_anchor_text, 1),
}
