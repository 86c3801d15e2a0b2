"""The check of a GPU machine, run here with a tiny model on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_steps_of_the_gpu_check_run_with_a_tiny_model():
    command = [sys.executable, ROOT / "scripts" / "check_gpu.py", "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert "| active features equal to float32 on the CPU | 1.0000 |" in done.stdout
    assert "extraction's share of the forward pass" in done.stdout
