"""Speed of feature extraction: facsynth and other tools, on the same texts, model and SAE.

`make bench-extraction` runs it and writes a page of docs/benchmarks: extraction_amx.md on CPUs with
bfloat16 tile multiplication, extraction.md on CPUs with bfloat16 vector multiplication, and
extraction_float32.md on all others. Each contender is a process that loads once and runs on
request. The contenders take turns, and the page reports medians.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from busy import measure_busy
from contenders.worker import Job
from contest import Contender, Runs, started, take_turns
from environments import Environment
from extraction_profile import profile
from extraction_report import Outcome, report
from mixes import write_mixes
from starting import measure_starts

_PAGES = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
_SAELENS = Environment("saelens", ("sae-lens==6.54.12",))
_INTERP_EMBED = Environment("interp-embed", ("interp-embed==0.1.0", "sae-lens==6.54.12"))

_FAST, _SLOW = {"short": 512, "long": 16}, {"short": 32, "long": 4}
ON_CPU = (
    Contender("facsynth", "facsynth_table", _FAST),
    Contender("facsynth, mixed", "facsynth_table", _FAST, dtype="mixed"),
    Contender("plain Transformers", "plain_transformers", _SLOW),
    Contender("SAELens", "saelens_bridge", _SLOW, _SAELENS),
    Contender("interp-embed", "interp_embed_dataset", _SLOW, _INTERP_EMBED),
    Contender("authors' procedure", "authors", _SLOW),
)
_MANY, _FEW = {"short": 512, "long": 32}, {"short": 512, "long": 32}
ON_GPU = (
    Contender("facsynth", "facsynth_table", _MANY),
    Contender("facsynth, mixed", "facsynth_table", _MANY, dtype="mixed"),
    Contender("facsynth, float32", "facsynth_table", _MANY, dtype="float32"),
    Contender("plain Transformers", "plain_transformers", _FEW),
    Contender("authors' procedure", "authors", _FEW),
)
"""The other contenders have no CUDA environment here."""

PRODUCT = Contender("matrix products alone", "matrix_product", {"short": 0, "long": 0})


def reference(contenders: Sequence[Contender]) -> Contender:
    """Plain Transformers in float32, on as many texts as the slow contenders process."""
    n_texts = contenders[-1].n_texts
    return Contender(
        "float32 reference", "plain_transformers", n_texts, dtype="float32", is_reference=True
    )


def main() -> None:
    options = parse(sys.argv[1:])
    with tempfile.TemporaryDirectory() as scratch:
        dtype = chosen_dtype(options)
        contenders = chosen_contenders(options, dtype)
        job = make_job(options, dtype, contenders, Path(scratch))
        if options.profile:
            print(profile(job, quick=options.quick))
            return
        if options.busy:
            print(measure_busy(contenders[0], job, options.runs))
            return
        starts = measure_starts(job, 1 if options.quick else 5) if options.device == "cpu" else None
        outcome = measure(options, contenders, job, Path(scratch))
        text = report(outcome, starts=starts, profile=profile(job, quick=options.quick))
    print(text)
    if options.write:
        _PAGES.mkdir(parents=True, exist_ok=True)
        (_PAGES / page_name(job)).write_text(text)


def page_name(job: Job) -> str:
    """Each multiplication unit and precision has its own page, so no page overwrites another."""
    if job.device == "cuda":
        return "extraction_gpu.md"
    import torch

    if job.dtype != "bfloat16":
        return f"extraction_{job.dtype}.md"
    has_tiles = torch.cpu.get_capabilities().get("amx_bf16", False)
    return "extraction_amx.md" if has_tiles else "extraction.md"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="measured runs of each contender [5]")
    parser.add_argument("--limit", type=int, default=900, help="seconds for all runs [900]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", default="auto", help="dtype of the model; the SAE is float32")
    parser.add_argument("--only", default="", help="comma-separated contender names")
    parser.add_argument("--quick", action="store_true", help="few texts, one run")
    parser.add_argument("--profile", action="store_true", help="only profile facsynth")
    parser.add_argument("--busy", action="store_true", help="only facsynth: alone, two at once")
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args(arguments)
    if options.quick and options.write:
        parser.error("--quick results are not written; remove --quick or --write")
    if options.quick:
        options.runs = 1
    return options


def chosen_dtype(options: argparse.Namespace) -> str:
    """Precision of the contenders that do not set their own."""
    from facsynth.models.lm import pick_device, pick_precision

    picked = pick_precision(pick_device(options.device), options.dtype)
    return "bfloat16" if picked == "mixed" else picked  # other tools have no mixed mode


def chosen_contenders(options: argparse.Namespace, dtype: str) -> list[Contender]:
    """All contenders of the device, or those in --only; other dtypes only if bfloat16 is chosen."""
    wanted = options.only.split(",") if options.only else None
    every = ON_CPU if options.device == "cpu" else ON_GPU
    return [
        c for c in every if (c.name in wanted if wanted else not c.dtype or dtype == "bfloat16")
    ]


def make_job(
    options: argparse.Namespace, dtype: str, contenders: Sequence[Contender], scratch: Path
) -> Job:
    from facsynth.models.default_model import default_model_folder, default_sae_folder
    from facsynth.models.source import load_tokenizer
    from facsynth.sae.files import load_sae

    model = str(default_model_folder())
    most = {mix: max(c.n_texts[mix] for c in contenders) for mix in ("short", "long")}
    return Job(
        model=model,
        sae=str(default_sae_folder()),
        layer=load_sae().config.layer,
        dtype=dtype,
        threads=options.threads,
        texts=write_mixes(
            load_tokenizer(model), scratch, n_short=most["short"], n_long=most["long"]
        ),
        device=options.device,
    )


def measure(
    options: argparse.Namespace, contenders: Sequence[Contender], job: Job, scratch: Path
) -> Outcome:
    exact = reference(contenders)
    share = 128 if options.quick else 1
    runs = [
        Runs(c, mix, max(4, c.n_texts[mix] // share), scratch / f"{number}-{mix}.npz")
        for mix in job.texts
        for number, c in enumerate([*contenders, exact])
    ]
    runs += [Runs(PRODUCT, mix, 0, scratch / f"none-{mix}.npz") for mix in job.texts]
    with started([*contenders, exact, PRODUCT], job) as found:
        take_turns(found, runs, options.runs, limit_s=options.limit)
        return Outcome(
            job=job,
            runs=[r for r in runs if r.contender.name not in found.reasons],
            reasons=found.reasons,
            versions={name: process.versions for name, process in found.processes.items()},
            loaded={name: process.loaded_bytes for name, process in found.processes.items()},
        )


if __name__ == "__main__":
    main()
