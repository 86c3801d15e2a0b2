"""Texts read by several processes for one that trains an SAE."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from facsynth.errors import DataError
from facsynth.models.lm import load_language_model
from facsynth.models.settings import ModelSettings
from facsynth.sae.train.data import read_scored
from facsynth.sae.train.train import train_sae
from facsynth.scale.devices import find_devices
from facsynth.scale.states import states_from
from test_train import SMALL, random_texts
from tiny import make_model, make_tokenizer, tiny_lm


@pytest.fixture
def model(tmp_path):
    make_model("llama").save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    return ModelSettings(str(tmp_path / "model"), dtype="float32")


def test_states_read_elsewhere_give_the_same_sae():
    """The next group is read ahead; here by a function, as processes take seconds to start."""
    lm, texts = tiny_lm(), random_texts()

    def read(batches):
        return [read_scored(lm, batch, 1) for batch in batches]

    for memory_gb in (0.0, 1.0):
        given = {"layer": 1, "settings": replace(SMALL, memory_gb=memory_gb)}
        here, there = train_sae(lm, texts, **given), train_sae(lm, texts, read=read, **given)
        for name, tensor in here.state_dict().items():
            assert torch.equal(tensor, there.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_that_read_give_the_sae_of_one(model):
    lm, texts = load_language_model(model.model, dtype="float32"), random_texts()
    alone = train_sae(lm, texts, layer=1, settings=SMALL)
    with states_from(find_devices("2"), model, lm, 1) as read:
        together = train_sae(lm, texts, layer=1, settings=SMALL, read=read)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, together.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_reading_process_that_is_killed_is_said(model):
    lm, texts = load_language_model(model.model, dtype="float32"), random_texts()
    with states_from(find_devices("1"), model, lm, 1) as read:
        list(read([texts[:2]]))
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(DataError, match="was killed .* go on from the checkpoint"):
            list(read([texts[:2]] * 50))
