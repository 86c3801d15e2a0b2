"""Several processes that train together take the steps that one process would take."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from facsynth.errors import MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.sae.files import load_sae, save_sae
from facsynth.sae.train.ranks import ALONE, Ranks, open_ranks
from facsynth.sae.train.settings import DeadFeatures, TrainSettings
from facsynth.sae.train.train import train_sae
from tiny import cached_tokenizer, make_model, tokenized

SMALL = TrainSettings(
    n_features=32,
    k=3,
    epochs=2,
    batch_tokens=64,
    group_tokens=200,
    dead=DeadFeatures(dead_after=100),
    random_seed=1,
)

WORKER = """
import sys
from facsynth.sae.train.ranks import open_ranks
from facsynth.sae.files import save_sae
from facsynth.sae.train.train import train_sae
from test_ranks import SMALL, own_lm, some_texts
with open_ranks() as ranks:
    sae = train_sae(own_lm(), some_texts(), layer=1, settings=SMALL, ranks=ranks)
    assert ranks.count == 2
    if ranks.number == 0:
        save_sae(sae, sys.argv[1])
"""


class _ThreadRank:
    """One of several threads that meet at a barrier instead of over a network."""

    def __init__(self, number, count, barrier, board):
        self.number, self.count, self.barrier, self.board = number, count, barrier, board

    def total(self, tensor):
        return sum(self._shown(tensor.clone()))

    def joined(self, tensor):
        return torch.cat(self._shown(tensor.clone()))

    def _shown(self, tensor):
        self.board[self.number] = tensor
        self.barrier.wait(60)
        tensors = [self.board[i] for i in range(self.count)]
        self.barrier.wait(60)
        return tensors


def own_lm():
    """A model of its own for each thread, since reading it hangs hooks on it."""
    return LanguageModel(make_model(), cached_tokenizer(), name="tiny", content_hash="llama")


def some_texts(n_texts=40):
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 25, n_texts)
    return [tokenized(rng.integers(3, 300, n), rng.random(n) < 0.9) for n in lengths]


def train_in_threads(count, models, **run):
    barrier, board = threading.Barrier(count), {}
    with ThreadPoolExecutor(count) as pool:
        ranks = [_ThreadRank(i, count, barrier, board) for i in range(count)]
        jobs = [
            pool.submit(train_sae, lm, ranks=rank, **run)
            for lm, rank in zip(models, ranks, strict=True)
        ]
        return [job.result() for job in jobs]


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_three_ranks_end_with_the_weights_of_one(architecture):
    options = replace(SMALL, architecture=architecture)
    run = {"texts": some_texts(), "layer": 1, "settings": options}
    alone = train_sae(own_lm(), **run)
    together = train_in_threads(3, [own_lm() for _ in range(3)], **run)
    for name, tensor in alone.state_dict().items():
        for sae in together:
            torch.testing.assert_close(sae.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_ranks_that_find_different_checkpoints_are_refused(tmp_path):
    run = {"texts": some_texts(), "layer": 1, "settings": SMALL}
    train_sae(own_lm(), **run, checkpoints=tmp_path / "0")
    barrier, board, models = threading.Barrier(2), {}, [own_lm(), own_lm()]

    def start(i):
        rank = _ThreadRank(i, 2, barrier, board)
        with pytest.raises(MismatchError, match="all of them must see the same folder"):
            train_sae(models[i], **run, ranks=rank, checkpoints=tmp_path / str(i))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(start, range(2)))


def test_without_torchrun_there_is_one_rank(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with open_ranks() as ranks:
        assert ranks is ALONE
    assert isinstance(ALONE, Ranks)


@pytest.mark.slow
def test_two_processes_of_torchrun_end_with_the_weights_of_one(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
    ]
    done = subprocess.run(
        [*launch, str(worker), str(tmp_path / "sae")],
        env={**os.environ, "PYTHONPATH": ":".join([p for p in sys.path if p])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    alone = train_sae(own_lm(), some_texts(), layer=1, settings=SMALL)
    save_sae(alone, tmp_path / "alone")
    together, expected = load_sae(tmp_path / "sae"), load_sae(tmp_path / "alone")
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
