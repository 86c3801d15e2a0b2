"""What the stages of a run share: recipe, folder, and models that are loaded when needed."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from facsynth.chat.budget import Spending, limited_chat
from facsynth.chat.endpoint import open_endpoint
from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatModel
from facsynth.chat.settings import Generator
from facsynth.data.stored import read_json
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.progress import Progress
from facsynth.recipe import Recipe
from facsynth.records import Sample
from facsynth.sae.files import load_sae
from facsynth.sae.module import SparseAutoencoder

__all__ = ["Run", "load_generator"]


class Run:
    """A recipe in its folder; models are loaded when a stage first needs them."""

    def __init__(self, recipe: Recipe, folder: Path, progress: Progress) -> None:
        """Nothing is read or loaded yet."""
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.samples: dict[str, list[Sample]] = {}
        """Samples that were read and not extracted yet, by table."""

    @cached_property
    def lm(self) -> LanguageModel:
        """The model that reads the features."""
        return load_language_model(self.recipe.model, dtype=self.recipe.dtype)

    @cached_property
    def sae(self) -> SparseAutoencoder:
        """Its SAE."""
        return load_sae(self.recipe.sae)

    @cached_property
    def spending(self) -> Spending:
        """What the generator has spent."""
        policy = self.recipe.generator.policy
        return Spending(policy, self.folder / "synthesize" / "replies.sqlite")

    @cached_property
    def chat(self) -> ChatModel:
        """The generator."""
        return load_generator(self.recipe.generator, lambda: self.lm, self.spending)

    @cached_property
    def judge(self) -> ChatModel:
        """Who explains features and judges them."""
        wanted = self.recipe.judge
        if wanted is None:
            return self.chat
        spending = Spending(wanted.policy, self.folder / "explain" / "replies.sqlite")
        return load_generator(wanted, lambda: self.lm, spending)

    def has(self, name: str) -> bool:
        """Whether the folder has a file."""
        return (self.folder / name).is_file()

    def read(self, name: str) -> Any:
        """What a JSON file of the folder holds."""
        return read_json(self.folder / name)


def load_generator(
    wanted: Generator, reader: Callable[[], LanguageModel], spending: Spending
) -> ChatModel:
    """The generator, with a cache of its replies.

    Args:
        wanted: An endpoint's model, or a local one; without either it is the reader.
        reader: Loads the model that reads the features; called only if that model writes.
        spending: Counts the calls, and names the file of the replies.
    """
    if wanted.chat_model:
        return limited_chat(open_endpoint(wanted), spending)
    writer = load_language_model(wanted.model) if wanted.model else reader()
    local = LocalChat(
        writer.model,
        writer.tokenizer,
        name=f"{writer.name}@{writer.content_hash[:12]}",
        batch_size=wanted.batch_size,
    )
    return limited_chat(local, spending)
