"""The package as users import it: light, typed, with examples that run."""

import ast
import os
import subprocess
import sys

import pytest

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def waiting_after(statement: str, **chosen: str) -> list[str]:
    """The variables that say how OpenMP's threads wait, after a statement in a new process."""
    env = {name: value for name, value in os.environ.items() if name not in WAITING}
    code = f"import os\n{statement}\nprint([os.environ.get(n, '') for n in {WAITING}])"
    run = subprocess.run(
        [sys.executable, "-c", code], env=env | chosen, capture_output=True, text=True, check=True
    )
    return list(ast.literal_eval(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("statement", ["import facsynth", "import facsynth.cli"])
def test_threads_that_wait_sleep(statement):
    assert waiting_after(statement) == ["PASSIVE", "0"]


@pytest.mark.parametrize(
    "chosen", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "1000"}], ids=["policy", "count"]
)
def test_a_chosen_way_of_waiting_stays(chosen):
    assert waiting_after("import facsynth", **chosen) == [chosen.get(n, "") for n in WAITING]
