"""Files of the Hugging Face Hub: what a repository holds, only what is needed of it, clear errors.

`HF_HUB_OFFLINE`, `HF_HOME` and `HF_TOKEN` are respected by `huggingface_hub` itself. Without a
network, what an earlier run left in its cache is used.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facsynth.errors import ModelError

__all__ = ["HubReference", "hub_files", "hub_folder", "one_line", "parse_hub"]

_REFERENCE = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?P<inside>(?:/[\w.,=+ -]+)*)/?"
    r"(?:@(?P<revision>[\w./-]+))?"
)


@dataclass(frozen=True)
class HubReference:
    """A repository of the Hub, or a folder or file in it."""

    repo: str
    """`owner/name`."""

    inside: str = ""
    """Folder or file in the repository; empty for all of it."""

    revision: str | None = None
    """Branch, tag or commit; None for the default branch."""

    def __str__(self) -> str:
        inside = f"/{self.inside}" if self.inside else ""
        return f"{self.repo}{inside}" + (f"@{self.revision}" if self.revision else "")


def parse_hub(text: str) -> HubReference | None:
    """Parse `owner/name[/sub/folder][@revision]`; None for anything else."""
    found = _REFERENCE.fullmatch(text)
    if found is None or ".." in text:
        return None
    return HubReference(found["repo"], found["inside"].strip("/"), found["revision"])


def hub_files(reference: HubReference, what: str) -> list[str]:
    """Paths of all files of the repository, sorted; without a network those in the cache.

    Raises:
        ModelError: The repository is unknown, gated, or can neither be reached nor is cached.
    """
    from huggingface_hub import constants, list_repo_files, snapshot_download

    with _said(reference, what):
        if not constants.HF_HUB_OFFLINE:
            return sorted(list_repo_files(reference.repo, revision=reference.revision))
        cached = snapshot_download(
            reference.repo, revision=reference.revision, local_files_only=True, allow_patterns=[]
        )
    folder = Path(cached)
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def hub_folder(reference: HubReference, files: Sequence[str], what: str) -> Path:
    """Local folder of the repository with the named files, downloaded where they are not cached.

    Raises:
        ModelError: As for `hub_files`.
    """
    from huggingface_hub import snapshot_download

    with _said(reference, what):
        escaped = [re.sub(r"([\[?*])", r"[\1]", file) for file in files]
        found = snapshot_download(
            reference.repo, revision=reference.revision, allow_patterns=escaped
        )
    missing = [file for file in files if not (Path(found) / file).is_file()]
    if missing:
        raise ModelError(
            f"of the {what} {str(reference)!r} only a part is in the cache of the Hub: "
            f"{missing[0]} is missing; fetch it once with a network and without HF_HUB_OFFLINE"
        )
    return Path(found)


@contextmanager
def _said(reference: HubReference, what: str) -> Iterator[None]:
    """Errors of the Hub as one line that says what to do."""
    from huggingface_hub import constants, errors

    subject = f"the {what} {str(reference)!r}"
    try:
        yield
    except errors.HFValidationError as error:
        raise ModelError(
            f"{subject} is not a valid name of a Hub repository: {one_line(error)}"
        ) from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{subject} is gated; accept its terms at https://huggingface.co/{reference.repo} and "
            "log in with `hf auth login` or HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{subject} is not a local path, and the Hub has no repository {reference.repo} that "
            "you can read; check the name, or log in with `hf auth login` if it is private"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"the Hub repository {reference.repo} has no revision {reference.revision!r}; check "
            "what follows the @"
        ) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        if constants.HF_HUB_OFFLINE:
            reason = "and HF_HUB_OFFLINE is set; unset it to fetch it, or pass a local path"
        else:
            reason = (
                f"and the Hub did not answer ({one_line(error)}); check the network, or pass a "
                "local path"
            )
        raise ModelError(
            f"{subject} is not a local path, is not in the cache of the Hub, {reason}"
        ) from error


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, at most 240 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else text[:240] + "…"
