"""Write small SAEs in the formats of other projects, with the outputs of those projects' own code.

This script writes `tests/golden`, which `tests/test_golden_saes.py` reads. It needs the other
projects, not facsynth, and has to run again only when one of them changes:

    python -m venv golden && golden/bin/pip install sae-lens==6.54.12 eai-sparsify==1.3.3 \
        dictionary-learning==0.1.0
    golden/bin/python scripts/write_golden_saes.py [saelens] [sparsify] [dictionary_learning]
"""

import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden"
D, M, K = 6, 20, 3
X = 2 * torch.randn(16, D, generator=torch.Generator().manual_seed(9))

Made = tuple[str, Any, Callable[[Path], Any]]
"""Name of the case, an SAE of the other project's class, and a function that saves it to a folder
and reads it back with that project's code."""


def main() -> None:
    """Write the cases of the given projects, by default of all."""
    projects = {
        "saelens": ("sae-lens", saelens),
        "sparsify": ("eai-sparsify", sparsify),
        "dictionary_learning": ("dictionary-learning", dictionary_learning),
    }
    for name in sys.argv[1:] or projects:
        distribution, make = projects[name]
        for case, sae, save in make():
            fill(sae)
            folder = FOLDER / name / case
            folder.mkdir(parents=True, exist_ok=True)
            write_expected(save(folder), folder, f"{distribution} {version(distribution)}")


def fill(sae: torch.nn.Module) -> None:
    """Fill with random weights, and thresholds above zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in sorted({**dict(sae.named_parameters()), **dict(buffers(sae))}.items()):
            drawn = torch.randn(tensor.shape, generator=generator)
            is_threshold = "threshold" in name
            tensor.copy_(drawn.abs() / 2 + 0.1 if is_threshold else drawn / 2)


def buffers(sae: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Learned buffers; counters and `k` are skipped."""
    for name, tensor in sae.named_buffers():
        if "threshold" in name and tensor.is_floating_point():
            yield name, tensor


def write_expected(sae: Any, folder: Path, by: str) -> None:
    """Write codes, reconstructions and the versions that computed them."""
    with torch.no_grad():
        codes = sae.encode(X)
        if not isinstance(codes, torch.Tensor):  # sparsify: values and ids of the k largest
            output = sae.decode(codes.top_acts, codes.top_indices)
            codes = torch.zeros(len(X), M).scatter_(1, codes.top_indices, codes.top_acts)
        else:
            output = sae.decode(codes)
    numbers = {"codes": codes.numpy().round(6), "output": output.numpy().round(6)}
    np.savez_compressed(folder / "expected.npz", x=X.numpy(), **numbers)
    (folder / "computed_by.txt").write_text(f"{by}, torch {torch.__version__}\n")


def saelens() -> Iterator[Made]:
    """Inference SAEs, and the output of its batch top-k trainers."""
    from sae_lens import saes
    from sae_lens.saes.sae import SAEMetadata

    usual = {"d_in": D, "d_sae": M, "dtype": "float32", "device": "cpu"}
    usual["metadata"] = SAEMetadata(hook_name="blocks.7.hook_resid_post", model_name="tiny")
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("standard", "StandardSAE", {}),
        ("standard-plain-input", "StandardSAE", {"apply_b_dec_to_input": False}),
        ("topk", "TopKSAE", {"k": K}),
        ("topk-rescaled", "TopKSAE", {"k": K, "rescale_acts_by_decoder_norm": True}),
        ("jumprelu", "JumpReLUSAE", {}),
        ("gated", "GatedSAE", {}),
    ]
    for case, kind, options in kinds:
        sae = getattr(saes, kind)(getattr(saes, f"{kind}Config")(**usual, **options))
        yield case, sae, read_back(sae.save_model)
    for case, kind, options in (
        ("batchtopk-inference", "BatchTopKTrainingSAE", {}),
        ("matryoshka-inference", "MatryoshkaBatchTopKTrainingSAE", {"matryoshka_widths": [8, M]}),
    ):
        sae = getattr(saes, kind)(getattr(saes, f"{kind}Config")(**usual, k=K, **options))
        yield case, sae, read_back(sae.save_inference_model)


def read_back(save: Callable[[Path], object]) -> Callable[[Path], Any]:
    """Save to a folder, then load from it with SAELens."""
    from sae_lens import SAE

    def both(folder: Path) -> Any:
        save(folder)
        return SAE.load_from_disk(folder, device="cpu")

    return both


def sparsify() -> Iterator[Made]:
    """Its TopK coder, with and without normalised decoder rows."""
    from sparsify import SparseCoder, SparseCoderConfig

    for case, normalised in (("topk", True), ("topk-free-decoder", False)):
        config = SparseCoderConfig(num_latents=M, k=K, normalize_decoder=normalised)
        sae = SparseCoder(D, config)

        def save(folder: Path, sae: Any = sae) -> Any:
            sae.save_to_disk(folder)
            return SparseCoder.load_from_disk(folder, device="cpu")

        yield f"{case}/layers.7", sae, save


def dictionary_learning() -> Iterator[Made]:
    """The dictionaries of its trainers, saved as its training loop does."""
    from dictionary_learning import dictionary
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    made = [
        ("AutoEncoder", dictionary.AutoEncoder(D, M)),
        ("AutoEncoderNew", dictionary.AutoEncoderNew(D, M)),
        ("GatedAutoEncoder", dictionary.GatedAutoEncoder(D, M)),
        ("JumpReluAutoEncoder", dictionary.JumpReluAutoEncoder(D, M)),
        ("AutoEncoderTopK", top_k.AutoEncoderTopK(D, M, K)),
        ("BatchTopKSAE", batch_top_k.BatchTopKSAE(D, M, K)),
        (
            "MatryoshkaBatchTopKSAE",
            matryoshka_batch_top_k.MatryoshkaBatchTopKSAE(D, M, K, [8, M - 8]),
        ),
    ]
    for kind, sae in made:

        def save(folder: Path, sae: Any = sae, kind: str = kind) -> Any:
            torch.save(sae.state_dict(), folder / "ae.pt")
            trainer = {"dict_class": kind, "layer": 7, "lm_name": "tiny/lm", "k": K}
            (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
            return type(sae).from_pretrained(folder / "ae.pt", device="cpu")

        yield kind, sae, save


if __name__ == "__main__":
    main()
