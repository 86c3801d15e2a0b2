"""Real conversations for the demo: PyPI's `chitchat-dataset` (MIT), 34 conversation prompts.

A sample is one exchange of a conversation: what one person says, as the user, and what the other
answers, as the assistant. Each conversation gives at most one sample; its prompt is the label.
"""

import json
import random
import zlib
from collections.abc import Collection
from typing import Any, Literal

from facsynth.data.wheels import WheelFile, read_wheel_file
from facsynth.errors import DataError
from facsynth.folders import atomic_path, cache_folder
from facsynth.records import Message, Sample

__all__ = ["chitchat_samples"]

_FILE = WheelFile(
    requirement="chitchat-dataset==0.9.0",
    member="chitchat_dataset/dataset.json",
    sha256="d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a",
)
_MIN_CHARACTERS, _MAX_CHARACTERS = 30, 400


def chitchat_samples(
    n_samples: int,
    *,
    prompts: Collection[str] = (),
    random_seed: int = 0,
    half: Literal["train", "test"] | None = None,
    first: bool = False,
) -> list[Sample]:
    """Draw exchanges from human conversations.

    Args:
        n_samples: How many.
        prompts: Only conversations held under these prompts; empty for all, also those that
            were held under none.
        random_seed: Starts the random generator of the draw.
        half: Only one half of the conversations, so that a test set shares none with the rest.
        first: The first fit exchange of each conversation, where people talk of its prompt, in
            place of a random one.

    Raises:
        DataError: A prompt does not exist, or there are fewer conversations than asked for.
    """
    conversations: dict[str, dict[str, Any]] = json.loads(_dataset())
    known = {str(c["prompt"]) for c in conversations.values() if c.get("prompt")}
    if unknown := set(prompts) - known:
        raise DataError(
            f"chitchat has no conversation prompt {min(unknown)!r}; it has, for example, "
            f"{min(known)!r}"
        )
    names = sorted(n for n, c in conversations.items() if not prompts or c.get("prompt") in prompts)
    if half:
        names = [n for n in names if zlib.crc32(n.encode()) % 2 == (half == "test")]
    rng = random.Random(random_seed)
    rng.shuffle(names)
    found = (_exchange(name, conversations[name], None if first else rng) for name in names)
    samples = [sample for sample in found if sample is not None][:n_samples]
    if len(samples) < n_samples:
        raise DataError(f"chitchat has {len(samples)} such exchanges, {n_samples} were asked for")
    return samples


def _dataset() -> bytes:
    path = cache_folder() / "data" / f"chitchat-{_FILE.sha256[:12]}.json"
    if not path.is_file():
        content = read_wheel_file(_FILE)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return path.read_bytes()


def _exchange(name: str, conversation: dict[str, Any], rng: random.Random | None) -> Sample | None:
    """One exchange whose first turn has a fair length: a random one, or else the first."""
    turns = [" ".join(m["text"].strip() for m in turn) for turn in conversation["messages"]]
    fit = [
        i
        for i, turn in enumerate(turns[:-1])
        if _MIN_CHARACTERS <= len(turn) <= _MAX_CHARACTERS and turns[i + 1].strip()
    ]
    if not fit:
        return None
    i = rng.choice(fit) if rng else fit[0]
    messages = (Message("user", turns[i]), Message("assistant", turns[i + 1]))
    return Sample(f"chitchat-{name}", messages, label=conversation.get("prompt"))
