import socket

import psutil
import pytest
import torch

from facsynth.models import doctor, hardware
from facsynth.models.hardware import free_memory

CPU = torch.device("cpu")

V1 = {
    "memory/memory.limit_in_bytes": "9000",
    "memory/memory.usage_in_bytes": "5000",
    "memory/memory.stat": "cache 2000\ntotal_inactive_file 1500\n",
}
V2 = {
    "memory.max": "9000\n",
    "memory.current": "5000\n",
    "memory.stat": "anon 3000\ninactive_file 1500\n",
}


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_CONTROL_GROUPS", tmp_path)
    (tmp_path / "memory").mkdir()
    return tmp_path


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize("files", [V1, V2], ids=["version 1", "version 2"])
def test_a_container_has_what_its_limit_leaves_beside_caches(groups, files):
    write(groups, files)
    assert free_memory(CPU) == 9000 - 5000 + 1500


@pytest.mark.parametrize("files", [{}, V2 | {"memory.max": "max\n"}], ids=["none", "no limit"])
def test_without_a_limit_the_whole_machines_memory_counts(groups, files):
    write(groups, files)
    assert free_memory(CPU) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_a_limit_above_the_machines_memory_does_not_count(groups):
    write(groups, V1 | {"memory/memory.limit_in_bytes": str(2**63)})
    assert free_memory(CPU) < psutil.virtual_memory().total


def test_a_container_over_its_limit_has_nothing_left(groups):
    write(groups, V2 | {"memory.current": "20000"})
    assert free_memory(CPU) == 0


@pytest.fixture
def check(tmp_path, monkeypatch):
    monkeypatch.setenv("FACSYNTH_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "_product_rate", lambda device, dtype: 1e12)
    return doctor.check_machine


def test_a_machine_that_can_work_is_ready(check, monkeypatch):
    monkeypatch.setattr(doctor, "free_memory", lambda device: 5_000_000_000)
    found = check()
    assert found.verdict.startswith("Ready: ")
    # 2,000,000 tokens, 2 operations a parameter, half of the layers, at 70 % of 10^12 a second
    assert found.sizes[1].minutes == pytest.approx(2e6 * 0.5e9 / 0.7e12 / 60, abs=0.01)
    assert [size.fits for size in found.sizes[-2:]] == [False, False]


def test_what_is_in_the_way_is_named_with_what_mends_it(check, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "default_sae_folder", lambda: tmp_path / "gone")
    found = check()
    assert found.verdict.startswith("Not ready: 1 thing is")
    assert found.row()["problems"][0]["mend"] == "install facsynth again"


def test_a_server_that_listens_is_found(check, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(doctor, "_SERVERS", {"vLLM": server.getsockname()[1]})
        assert check().facts["local_servers"][0].startswith("vLLM (port ")
