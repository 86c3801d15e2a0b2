"""Instruction following: supervised fine-tuning on the answers of conversations, by TRL.

The defaults are the paper's (arXiv 2602.10388): LoRA of rank 8, five epochs, learning rate 1e-4
with linear decay, 16 conversations a step, and the template `alpaca` for a model without one. The
paper trains with one random seed; here it is one model for each of three.
"""

from collections.abc import Sequence
from pathlib import Path

from facsynth.errors import DataError
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample
from facsynth.tasks.folder import TrainedTask, Training, check_enough
from facsynth.tasks.instruction.settings import InstructionSettings
from facsynth.tasks.settings import Loader

__all__ = ["train_instruction"]


def train_instruction(
    samples: Sequence[Sample],
    load: Loader,
    folder: Path,
    settings: InstructionSettings | None = None,
    *,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Train a model for each random seed to give the answers of the conversations.

    Args:
        samples: Conversations that end in an answer; of preference pairs, the chosen side.
        load: Loads the untrained model, after the input is checked.
        folder: Where to write; an unfinished training resumes.
        settings: How.
        progress: Where bars go.

    Raises:
        DataError: A conversation has no answer, or none within `max_length`.
        MismatchError: The folder holds other training.
    """
    settings = settings or InstructionSettings()
    check_enough(samples, "conversations")
    for sample in samples:
        if not any(message.role == "assistant" for message in sample.messages):
            raise DataError(
                f"sample {sample.sample_id!r} has no assistant message, so there is nothing to "
                "learn from it; leave it out, or give its answer"
            )
    training = Training("instruction", folder, settings, samples)
    training.check()
    from facsynth.tasks.instruction.models import fit_instructions  # loads torch: after the checks

    return fit_instructions(training, load, progress=progress)
