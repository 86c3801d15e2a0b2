"""Extraction with several processes on this machine."""

import os
import signal
from pathlib import Path

import pytest
import torch

from facsynth.errors import DataError, ModelError
from facsynth.models.lm import load_language_model
from facsynth.models.settings import ModelSettings
from facsynth.progress import SILENT
from facsynth.records import Sample
from facsynth.sae.files import load_sae
from facsynth.scale import devices, worker
from facsynth.scale.devices import Device, find_devices, read_on_devices
from facsynth.scale.settings import ScaleSettings
from facsynth.table.extract import extract_named, extract_table
from facsynth.table.settings import ExtractSettings
from tiny_pair import save_pair

SAMPLES = [Sample(f"s{i}", text=f"we saw {'the cat and ' * (1 + i % 9)}a dog") for i in range(40)]
SETTINGS = ExtractSettings(part_samples=4)


def files_of(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def extract_on(these, lm, model, saes):
    read = read_on_devices(these, lm, model, SETTINGS)
    extract_named(SAMPLES, lm, saes, settings=SETTINGS, progress=SILENT, read=read)


def test_all_is_every_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [one.name for one in find_devices("all")] == ["cuda:0", "cuda:1"]


def test_all_without_a_gpu_is_groups_of_cores_that_share_none(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(18)))
    found = find_devices("all")
    assert [len(one.cores) for one in found] == [4, 5, 4, 5]
    assert sorted(core for one in found for core in one.cores) == list(range(18))


def test_a_number_is_so_many_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3})
    assert find_devices("2") == [Device("cpu", (0,)), Device("cpu", (3,))]


@pytest.mark.parametrize("wanted", ["0", "99999", "cpu,cpu", "cpu,"])
def test_devices_that_make_no_sense_are_refused(wanted):
    with pytest.raises(DataError, match="--devices"):
        find_devices(wanted)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ModelError, match="nothing:0"):
        find_devices("nothing:0")


@pytest.mark.parametrize(
    "given", [{"ray": "auto", "devices": "all"}, {"engine": "vllm", "devices": "2"}]
)
def test_two_ways_at_once_are_refused(given):
    with pytest.raises(DataError, match="do not go together"):
        ScaleSettings(**given)


def test_tensor_parallel_needs_vllm():
    with pytest.raises(DataError, match="--engine vllm"):
        ScaleSettings(tensor_parallel=2)


def test_a_model_without_weights_says_what_the_whole_one_says(tmp_path):
    model, _ = map(str, save_pair(tmp_path))
    shape, whole = load_language_model(model, weights=False), load_language_model(model)
    for name in ("name", "content_hash", "dtype", "d_model", "n_layers"):
        assert getattr(shape, name) == getattr(whole, name)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_make_the_table_of_one_byte_by_byte(tmp_path):
    model, sae = map(str, save_pair(tmp_path))
    lm, one = load_language_model(model), load_sae(sae)
    extract_table(SAMPLES, lm, one, tmp_path / "plain", settings=SETTINGS, sae_name="sae")
    shape = load_language_model(model, weights=False)
    two = [Device("cpu", tokenizes_beside=True), Device("cpu")]
    extract_on(two, shape, ModelSettings(model), {tmp_path / "two": (one, "sae")})
    assert files_of(tmp_path / "two") == files_of(tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_process_is_said_and_the_next_run_ends_with_the_same_table(tmp_path, monkeypatch):
    model, sae = map(str, save_pair(tmp_path))
    lm, one = load_language_model(model), load_sae(sae)
    extract_table(SAMPLES, lm, one, tmp_path / "plain", settings=SETTINGS, sae_name="sae")
    shared = [Device("cpu")], lm, ModelSettings(model), {tmp_path / "two": (one, "sae")}
    listen = devices._listen

    def kill(running, meter):
        for process in devices.get_context("spawn").active_children():
            os.kill(process.pid, signal.SIGKILL)
        listen(running, meter)

    with monkeypatch.context() as patch:
        patch.setattr(devices, "_listen", kill)
        with pytest.raises(DataError, match="the process of cpu was killed"):
            extract_on(*shared)
    extract_on(*shared)
    assert files_of(tmp_path / "two") == files_of(tmp_path / "plain")


def test_parts_that_wait_are_read_as_they_were_put_down(tmp_path):
    odd = [Sample("a", text="one\u2028two\x85three"), Sample("b", text="é")]
    model, sae = map(str, save_pair(tmp_path))
    lm, found = load_language_model(model, weights=False), []

    def run(places, job, meter):
        found.extend(worker.take_up(place, job).samples for place in places)
        raise KeyboardInterrupt

    saes = {tmp_path / "t": (load_sae(sae), "sae")}
    read = worker.read_elsewhere(lm, ModelSettings(model), SETTINGS, run)
    with pytest.raises(KeyboardInterrupt):
        extract_named(odd, lm, saes, settings=SETTINGS, progress=SILENT, read=read)
    assert [list(one) for one in found] == [odd]
