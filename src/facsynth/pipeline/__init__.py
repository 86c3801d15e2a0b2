"""Runs a recipe stage by stage in one folder; run again, it does only what is not done."""

from facsynth.pipeline.run import RunResult, run_recipe
from facsynth.pipeline.stand_in import run_stand_in
from facsynth.pipeline.state import load_generator

__all__ = ["RunResult", "load_generator", "run_recipe", "run_stand_in"]
