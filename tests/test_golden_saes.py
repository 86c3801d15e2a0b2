"""SAEs that other projects' own code wrote and encoded, read and encoded by ours.

`scripts/write_golden_saes.py` makes the files; `computed_by.txt` beside each says with what.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from facsynth.sae.formats.layouts import read_sae

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.rglob("expected.npz"))


@pytest.mark.parametrize("folder", CASES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_codes_and_reconstructions_are_those_of_the_projects_own_code(folder):
    sae = read_sae(folder)
    with np.load(folder / "expected.npz") as expected:
        x, codes, output = (torch.from_numpy(expected[n]) for n in ("x", "codes", "output"))
    ours = sae.encode(x)
    assert (codes > 0).any()
    assert (codes == 0).any()
    assert sae.config.layer == 7
    assert (ours - codes).abs().max() <= 1e-5
    assert (sae.decode(ours) - output).abs().max() <= 1e-5


def test_every_project_has_golden_files():
    assert {path.relative_to(GOLDEN).parts[0] for path in CASES} == {
        "dictionary_learning",
        "saelens",
        "sparsify",
    }
