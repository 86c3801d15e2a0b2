"""Tests run without keys, with empty caches and without the Hub; `slow` ones keep the caches."""

import gc
import os
import re
import shutil
from functools import wraps
from pathlib import Path
from types import FunctionType

import jaxtyping
import pytest
from huggingface_hub import constants
from hypothesis import settings

gc.disable()  # until all is imported, which makes millions of objects that stay
collect_ignore_glob = ["soak/*"]  # programs, which are run and not collected


SOURCE = Path(__file__).parents[1] / "src"
MEMORY = "/dev/shm"  # a folder in memory, where files reach no disk and nothing waits for one


def pytest_configure(config):
    """One thread for tiny matrices, where more only wait; slow tests take what there is."""
    if not config.getoption("markexpr").startswith(("slow", "long")):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        if os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
    config.pluginmanager.register(OnlyWithExamples())


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


class OnlyWithExamples:
    """Imports no module of the package for its docstrings where these have no examples."""

    def pytest_ignore_collect(self, collection_path):
        is_package = collection_path.suffix == ".py" and SOURCE in collection_path.parents
        return True if is_package and ">>>" not in collection_path.read_text("utf-8") else None


def is_plain(hint):
    """Whether a hint names neither arrays, variables nor types that may not be loaded."""
    text = repr(hint).replace("'", "") if isinstance(hint, type) else repr(hint)
    text = re.sub(r"Literal\[[^]]*\]", "", text)
    return not any(word in text for word in ("jaxtyping", "'", "~"))


def checked_by_shape(jaxtyped):
    """Check by shape only functions of arrays; beartype alone checks the others, much quicker."""

    @wraps(jaxtyped)
    def decorator(*, typechecker):
        def check(fn):
            if "__dataclass_fields__" in getattr(fn, "__dict__", ()) and "__init__" in vars(fn):
                fn.__init__ = check(fn.__init__)
                return fn
            hints = getattr(fn, "__annotations__", {}).values()
            plain = isinstance(fn, FunctionType) and all(map(is_plain, hints))
            return typechecker(fn) if plain else jaxtyped(typechecker=typechecker)(fn)

        return check

    return decorator


jaxtyping.jaxtyped = checked_by_shape(jaxtyping.jaxtyped)


@pytest.fixture(autouse=True)
def clean_environment(request, monkeypatch, tmp_path_factory):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if any(request.node.get_closest_marker(mark) for mark in ("slow", "network")):
        return
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FACSYNTH_CACHE", str(folder / "facsynth"))
    monkeypatch.setenv("HF_HOME", str(folder / "huggingface"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # it read the environment at import
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "huggingface" / "hub"))


# A change is judged by the change: continuous integration draws the same examples every time,
# developers draw new ones. Shared machines are too uneven for deadlines.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("dev", deadline=None, max_examples=25)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
