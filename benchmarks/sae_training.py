"""Speed of SAE training: facsynth vs. SAELens, on the same stored activations.

The activations of the default SmolLM2 on chitchat exchanges are extracted once, centred, scaled,
and kept in a temporary folder. Each trainer is a process that loads them, warms up on a discarded
trainer, and then takes its steps in turns with the others, always on the same batches. It saves an
SAE after each turn. The same code evaluates all SAEs on the same held-out activations.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from environments import CannotInstall, Environment
from sae_training_report import LAYER, Contender, Plan, Turn, render

from facsynth.sae.train.settings import TrainSettings

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks" / "sae_training.md"
SAELENS = Environment("saelens", ("sae-lens==6.54.12",))
QUICK = Plan(n_samples=60, n_features=512, k=8, batch_tokens=256, n_steps=12, n_turns=3)


class Failed(Exception):  # noqa: N818
    """Says in one line why a trainer stopped."""


def contenders() -> list[Contender]:
    """All trainers; the first is ours."""
    ours, theirs = TrainSettings().learning_rate, 1e-3
    return [
        Contender(f"facsynth, rate {ours:g}", "train_facsynth", {"learning_rate": ours}),
        Contender("facsynth, half the time", "train_facsynth", {"learning_rate": ours}, 1.75),
        Contender(f"facsynth, rate {theirs:g}", "train_facsynth", {"learning_rate": theirs}),
        Contender("facsynth, BatchTopK", "train_facsynth", {"architecture": "batchtopk"}),
        Contender(f"SAELens, rate {theirs:g}", "train_saelens", {"learning_rate": theirs}),
        Contender(f"SAELens, rate {ours:g}", "train_saelens", {"learning_rate": ours}),
    ]


def main() -> None:
    """Extract, train, evaluate and print the page; `--write` also saves it."""
    plan, writes = asked_plan()
    SAELENS.python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = replace(plan, activations=str(folder / "activations.safetensors"))
        print("extracting the activations", file=sys.stderr)
        n_tokens, n_heldout = store_activations(plan)
        entries = contenders()
        with ExitStack() as stack:
            processes = []
            for entry in entries:
                print(f"warming up {entry.name}", file=sys.stderr)
                processes.append(stack.enter_context(started(entry, plan, folder)))
            for number in range(plan.n_turns):
                pairs = list(zip(entries, processes, strict=True))
                for entry, process in pairs if number % 2 == 0 else reversed(pairs):
                    first, last = list(plan.of(entry).turns())[number]
                    target = folder / f"{entries.index(entry)}-{number}"
                    measured = ask(entry, process, first=first, last=last, folder=str(target))
                    entry.turns.append(Turn(last, **measured, **judge(target, plan)))
                    print(f"{entry.name}: {entry.turns[-1]}", file=sys.stderr)
    page = render(plan, entries, n_tokens=n_tokens, n_heldout=n_heldout)
    print(page)
    if writes:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page)


def asked_plan() -> tuple[Plan, bool]:
    """The plan given on the command line, and whether to write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, for a trial run")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--samples", type=int, help="number of exchanges")
    parser.add_argument("--features", type=int, help="width of the SAEs")
    parser.add_argument("--batch", type=int, help="tokens per step")
    parser.add_argument("--steps", type=int, help="optimiser steps per trainer")
    parser.add_argument("--turns", type=int, help="turns per trainer")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads per run")
    asked = parser.parse_args()
    plan = replace(QUICK if asked.quick else Plan(), n_threads=asked.threads)
    return replace(
        plan,
        n_samples=asked.samples or plan.n_samples,
        n_features=asked.features or plan.n_features,
        batch_tokens=asked.batch or plan.batch_tokens,
        n_steps=asked.steps or plan.n_steps,
        n_turns=asked.turns or plan.n_turns,
    ), asked.write


def store_activations(plan: Plan) -> tuple[int, int]:
    """Residual stream at the scored tokens, centred, with a median norm of √d_model, shuffled."""
    import torch
    from safetensors.torch import save_file

    from facsynth.data.chitchat import chitchat_samples
    from facsynth.models.lm import load_language_model
    from facsynth.models.residual import batch_by_length, read_residual
    from facsynth.models.tokens import tokenize_samples

    torch.set_num_threads(plan.n_threads)
    lm = load_language_model()
    texts = tokenize_samples(
        chitchat_samples(plan.n_samples), lm.tokenizer, score="all", max_length=512
    )
    parts: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for batch in batch_by_length([len(t.input_ids) for t in texts], batch_tokens=2048):
        output = read_residual(lm, [texts[i].input_ids for i in batch], LAYER)
        for row, index in enumerate(batch):
            scored = torch.from_numpy(texts[index].scored)
            parts[index] = output[row, : len(scored)][scored].float()
    n_train = round(0.9 * len(parts))
    train, heldout = torch.cat(parts[:n_train]), torch.cat(parts[n_train:])
    largest = 10 * train.norm(dim=1).median()
    train, heldout = (x[x.norm(dim=1) <= largest] for x in (train, heldout))
    mean = train.mean(0)
    scale = train.shape[1] ** 0.5 / (train - mean).norm(dim=1).median()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    rows = {"train": (train[order] - mean) * scale, "heldout": (heldout - mean) * scale}
    save_file({name: x.contiguous() for name, x in rows.items()}, plan.activations)
    return len(train), len(heldout)


@contextmanager
def started(entry: Contender, plan: Plan, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that has loaded the activations and warmed up."""
    python = SAELENS.python() if entry.worker == "train_saelens" else sys.executable
    job = {**asdict(plan.of(entry)), "options": entry.options, "layer": LAYER}
    with (folder / f"{entry.name}.log").open("w+") as log:
        process = subprocess.Popen(
            [str(python), "-m", f"contenders.{entry.worker}", json.dumps(job)],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(plan.n_threads), "WANDB_MODE": "disabled"},
        )
        try:
            entry.versions = answer(entry, process)
            yield process
        except Failed as error:
            log.seek(0)
            raise Failed(f"{error}:\n{log.read()[-2000:]}") from None
        finally:
            process.kill()
            process.wait()


def ask(entry: Contender, process: subprocess.Popen[str], **turn: Any) -> dict[str, Any]:
    """Let a trainer take a turn."""
    assert process.stdin
    try:
        print(json.dumps(turn), file=process.stdin, flush=True)
    except BrokenPipeError:
        raise Failed(f"{entry.name} has stopped") from None
    return answer(entry, process)


def answer(entry: Contender, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Read the next reply of a trainer."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise Failed(f"{entry.name} has stopped")
    said: dict[str, Any] = json.loads(line)
    return said


def judge(folder: Path, plan: Plan) -> dict[str, float]:
    """Explained variance, L0 and dead share on the held-out activations."""
    from safetensors.torch import load_file

    from facsynth.sae.formats.layouts import read_external_sae

    x = load_file(plan.activations)["heldout"]
    sae = read_external_sae(folder, layer=LAYER)
    z = sae.encode(x)
    error = (x - sae.decode(z)).square().sum() / (x - x.mean(0)).square().sum()
    return {
        "explained_variance": float(1 - error),
        "l0": float((z > 0).sum(1).float().mean()),
        "dead": float((~(z > 0).any(0)).float().mean()),
    }


if __name__ == "__main__":
    try:
        main()
    except CannotInstall as error:
        sys.exit(f"Error: SAELens could not be installed: {error}")
    except Failed as error:
        sys.exit(f"Error: {error}")
