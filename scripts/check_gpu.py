"""Checks and measures extraction on a machine with a GPU, in under eight minutes.

    make check-gpu                              all of it, on the GPU
    python scripts/check_gpu.py --tiny          the same steps with a tiny model, anywhere

Weights are random: a model of the shape of Llama 3.1 8B and an SAE of 65,536 features run as fast
as trained ones. The output fits docs/benchmarks/extraction.md.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from facsynth.models.lm import LanguageModel  # noqa: E402
from facsynth.models.residual import batch_by_length, read_residuals  # noqa: E402
from facsynth.models.settings import ModelSettings  # noqa: E402
from facsynth.models.tokens import tokenize_samples  # noqa: E402
from facsynth.records import Sample  # noqa: E402
from facsynth.scale.settings import ScaleSettings  # noqa: E402
from facsynth.table.extract import extract_features  # noqa: E402
from facsynth.table.reading import pick_batch_tokens  # noqa: E402
from facsynth.table.settings import ExtractSettings  # noqa: E402
from tiny import make_tokenizer, random_sae  # type: ignore[import-not-found]  # noqa: E402

WORDS = ("the", "cat", "sat", "on", "mat", "and", "saw", "a", "red", "ball")
FULL = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
TINY = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
SETTINGS = ExtractSettings(max_length=512)


def make_texts(n: int) -> list[Sample]:
    """Texts of 20 to 300 words."""
    rng = np.random.default_rng(0)
    return [
        Sample(f"s{i}", text=" ".join(rng.choice(WORDS, int(rng.integers(20, 300)))))
        for i in range(n)
    ]


def make_lm(shape: dict[str, int], device: str, dtype: torch.dtype) -> LanguageModel:
    """A Llama with random weights."""
    heads = shape["hidden_size"] // (128 if shape is FULL else 64)
    config = LlamaConfig(
        vocab_size=512,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        max_position_embeddings=1024,
        **shape,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(dtype).eval()
    return LanguageModel(model, make_tokenizer(), "random", "random")


def seconds(work: Callable[[], object], device: str) -> float:
    """Time on the clock of some work, the device's included."""
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def check_tests() -> str:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    return (done.stdout.strip().splitlines() or ["nothing"])[-1]


def check_equality(device: str) -> str:
    """Share of active features of a small model that are those of float32 on the CPU."""
    texts, sae = make_texts(20), random_sae("topk", d_in=128, d_sae=2048)
    found = []
    for where, dtype in (("cpu", torch.float32), (device, torch.float32)):
        rows = extract_features(texts, make_same(where, dtype), sae.to("cpu"), settings=SETTINGS)
        owner = np.repeat(np.arange(len(texts)), np.diff(rows.row_starts))
        found.append(set(zip(owner.tolist(), rows.feature_ids.tolist(), strict=True)))
    return f"{len(found[0] & found[1]) / max(1, len(found[0] | found[1])):.4f}"


def make_same(device: str, dtype: torch.dtype) -> LanguageModel:
    """The tiny model with weights that do not depend on the device."""
    made = make_lm(TINY, "cpu", dtype)
    return LanguageModel(made.model.to(device), made.tokenizer, made.name, made.content_hash)


def measure(
    lm: LanguageModel, texts: list[Sample], d_sae: int, device: str
) -> list[tuple[str, str]]:
    """Tokens a second of the forward pass alone, of extraction, and of one text a pass."""
    layer = lm.n_layers * 3 // 5
    sae = random_sae("topk", d_in=lm.d_model, d_sae=d_sae, layer=layer).to(lm.device)
    read = tokenize_samples(texts, lm.tokenizer, score="all", max_length=SETTINGS.max_length)
    lengths = [len(one.input_ids) for one in read]
    n_tokens = sum(lengths)
    batches = batch_by_length(lengths, batch_tokens=pick_batch_tokens(lm))

    def forward() -> None:
        for batch in batches:
            read_residuals(lm, [read[i].input_ids for i in batch], [layer])

    def extract() -> None:
        extract_features(texts, lm, sae, settings=SETTINGS)

    def singly() -> None:
        for one in read[: max(1, len(read) // 20)]:
            read_residuals(lm, [one.input_ids], [layer])

    extract_features(texts[:8], lm, sae, settings=SETTINGS)  # kernels are chosen
    rates = {
        "forward pass alone": n_tokens / seconds(forward, device),
        "extraction": n_tokens / seconds(extract, device),
        "one text a pass, forward only": sum(lengths[: max(1, len(read) // 20)])
        / seconds(singly, device),
    }
    share = rates["extraction"] / rates["forward pass alone"]
    times = rates["extraction"] / rates["one text a pass, forward only"]
    rows = [(name, f"{rate:,.0f} tokens/s") for name, rate in rates.items()]
    rows.append(("extraction's share of the forward pass (goal 90 %)", f"{share:.0%}"))
    rows.append(("extraction against one text a pass (goal 5 x)", f"{times:.1f} x"))
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e9
        rows.append(("GPU memory at most", f"{peak:.1f} GB"))
    return rows


def measure_vllm(lm: LanguageModel, texts: list[Sample], d_sae: int) -> str:
    """Tokens a second with vLLM as the engine, loading left out."""
    from facsynth.scale.where import extract_where

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lm.model.save_pretrained(folder / "model")
        lm.tokenizer.save_pretrained(folder / "model")
        sae = random_sae("topk", d_in=lm.d_model, d_sae=d_sae, layer=lm.n_layers * 3 // 5)
        model = ModelSettings(str(folder / "model"), dtype=lm.dtype)  # type: ignore[arg-type]
        where = ScaleSettings(engine="vllm")
        took = []
        for n in (8, len(texts)):
            saes: Any = {folder / f"t{n}": (sae, "sae")}
            start = time.perf_counter()
            extract_where(texts[:n], lm, saes, where, model, settings=SETTINGS)
            took.append(time.perf_counter() - start)
        tokens = sum(
            len(one.input_ids)
            for one in tokenize_samples(texts[8:], lm.tokenizer, score="all", max_length=512)
        )
    return f"{tokens / max(1e-9, took[1] - took[0]):,.0f} tokens/s"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on the CPU")
    given = parser.parse_args()
    device = "cpu" if given.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("Error: there is no CUDA GPU here; --tiny runs the same steps without one")
    rows = [] if given.tiny else [("tests marked gpu", check_tests())]
    rows.append(("active features equal to float32 on the CPU", check_equality(device)))
    dtype = torch.float32 if given.tiny else torch.bfloat16
    lm = make_lm(TINY if given.tiny else FULL, device, dtype)
    texts, d_sae = (make_texts(12), 512) if given.tiny else (make_texts(2000), 65_536)
    rows += measure(lm, texts, d_sae, device)
    if find_spec("vllm") and not given.tiny:
        rows.append(("extraction with vLLM", measure_vllm(lm, texts, d_sae)))
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU, tiny model"
    print(f"| {name} | |\n|---|---:|")
    for what, value in rows:
        print(f"| {what} | {value} |")


if __name__ == "__main__":
    main()
