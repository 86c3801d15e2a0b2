"""Tests run without keys, with empty caches and without the Hub; `slow` ones keep the caches."""

import gc
import os
import shutil
import signal
from functools import update_wrapper, wraps
from inspect import get_annotations, isgeneratorfunction
from itertools import count
from pathlib import Path
from types import FunctionType
from typing import ForwardRef, Literal, ParamSpec, TypeVar, get_args, get_origin

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
    # A shell's background jobs ignore Ctrl-C, which tests of interrupts send.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(OnlyWithExamples())


def pytest_collection_finish():
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # Python's 700 suits programs that are short of memory
    gc.enable()


ENDED = count(1)


def pytest_runtest_logfinish():
    """Keep what lasts out of collections: trainers ask for a whole one before and after."""
    if next(ENDED) % 100 == 0:
        gc.collect()
        gc.freeze()


class OnlyWithExamples:
    """Imports no module of the package for its docstrings where these have no examples."""

    def pytest_ignore_collect(self, collection_path):
        is_package = collection_path.suffix == ".py" and SOURCE in collection_path.parents
        return True if is_package and ">>>" not in collection_path.read_text("utf-8") else None


def parts(hint):
    """A type and all types inside it."""
    yield hint
    inside = hint if isinstance(hint, list) else get_args(hint)
    for part in () if get_origin(hint) is Literal else inside:
        yield from parts(part)


def is_unknown(hint):
    """Whether a type may not be loaded, or varies: beartype alone does not resolve it."""
    return isinstance(hint, str | ForwardRef | TypeVar | ParamSpec)


def is_array(hint):
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)


CHECKED = {}


def check_once(fn, typechecker):
    """A function that beartype checks, with the code that it wrote for this one's last closure."""
    last = CHECKED.get(fn.__code__)
    if last is None or last.__annotations__ != fn.__annotations__:
        CHECKED[fn.__code__] = last = typechecker(fn)
        return last
    if not hasattr(last, "__wrapped__"):  # it has no hints
        return fn
    checked = FunctionType(last.__code__, last.__globals__)
    checked.__kwdefaults__ = last.__kwdefaults__ | {"__beartype_func": fn}
    return update_wrapper(checked, fn)


def quick_check(fn, typechecker, jaxtyped):
    """A checked function, or None where only jaxtyping itself can check it.

    beartype alone checks functions without arrays. With arrays it checks in a context of
    jaxtyping, in which axes of one name agree. `jaxtyped` would bind all arguments and check
    them twice for the same claim, which is most of the time of small functions.
    """
    found = [part for hint in get_annotations(fn).values() for part in parts(hint)]
    if any(map(is_unknown, found)):
        return None
    checked = check_once(fn, typechecker)
    if not any(map(is_array, found)):
        return checked
    if isgeneratorfunction(fn):
        return None
    context = jaxtyped("context")

    @wraps(fn)
    def in_context(*args, **kwargs):
        with context:
            return checked(*args, **kwargs)

    return in_context


def checked_quickly(jaxtyped):
    """jaxtyping's decorator, but quick where that says the same."""

    @wraps(jaxtyped)
    def decorator(*, typechecker):
        def check(fn):
            if "__dataclass_fields__" in getattr(fn, "__dict__", ()) and "__init__" in vars(fn):
                fn.__init__ = check(fn.__init__)
                return fn
            quick = quick_check(fn, typechecker, jaxtyped) if isinstance(fn, FunctionType) else None
            return quick or jaxtyped(typechecker=typechecker)(fn)

        return check

    return decorator


jaxtyping.jaxtyped = checked_quickly(jaxtyping.jaxtyped)


@pytest.fixture(scope="session")
def caches(tmp_path_factory):
    """Folders, each used once; `mktemp` would look through all of them for the next number."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(i) for i in count())


@pytest.fixture(autouse=True)
def clean_environment(request, monkeypatch, caches):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if any(request.node.get_closest_marker(mark) for mark in ("slow", "network")):
        return
    folder = next(caches)
    folder.mkdir()
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
