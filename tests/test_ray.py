"""Extraction on a real Ray cluster of two nodes on this machine."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from facsynth.errors import DataError
from facsynth.models.lm import load_language_model
from facsynth.models.settings import ModelSettings
from facsynth.records import Sample
from facsynth.sae.files import load_sae
from facsynth.scale.ray import _check_reachable
from facsynth.scale.settings import ScaleSettings
from facsynth.scale.where import Extractor, extract_where, hold_cluster
from facsynth.table.extract import extract_table
from facsynth.table.settings import ExtractSettings
from test_rounds import World
from tiny_pair import load_pair, obedient, save_pair

SAMPLES = [Sample(f"s{i}", text=f"we saw {'the cat and ' * (1 + i % 9)}a dog") for i in range(60)]
SETTINGS = ExtractSettings(part_samples=2)


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    model, sae = map(str, save_pair(tmp_path))
    lm, saes = load_language_model(model), {tmp_path / "t": (load_sae(sae), "sae")}
    with pytest.raises(DataError, match=r"facsynth\[ray\]"):
        extract_where(SAMPLES[:2], lm, saes, ScaleSettings(ray="local"), ModelSettings(model))


@pytest.mark.parametrize("how", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_a_cluster_that_is_gone_is_said_at_once(how, tmp_path, monkeypatch):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(DataError, match="no Ray cluster at .*127.0.0.1:1: .*refused"):
        _check_reachable(how)


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
    second = nodes.add_node(num_cpus=2)
    nodes.wait_for_nodes()
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes, second
    ray.shutdown()
    nodes.shutdown()


def files_of(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def workers_of(node) -> list[int]:
    """Processes of the actors of a node: children of its raylet."""
    [raylet] = node.all_processes["raylet"]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == raylet.process.pid and b"Worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue
    return found


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray uses settings that it calls deprecated
def test_a_killed_worker_and_a_lost_node_leave_each_sample_once(cluster, tmp_path):
    nodes, second = cluster
    model, sae = map(str, save_pair(tmp_path))
    lm, one = load_language_model(model), load_sae(sae)
    extract_table(SAMPLES, lm, one, tmp_path / "plain", settings=SETTINGS, sae_name="sae")
    failed: list[BaseException] = []

    def run() -> None:
        try:
            extract_where(
                SAMPLES,
                lm,
                {tmp_path / "ray": (one, "sae")},
                ScaleSettings(ray="auto", ray_workers=3),
                ModelSettings(model),
                settings=SETTINGS,
            )
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    counts = tmp_path / "ray" / "counts"
    wait_for(lambda: failed or len(list(counts.glob("*.json"))) >= 2)
    killed = workers_of(nodes.head_node)
    if killed:
        os.kill(killed[0], signal.SIGKILL)
    nodes.remove_node(second)
    n_at_loss = len(list(counts.glob("*.json")))
    thread.join(300)
    assert not failed, failed
    assert not thread.is_alive()
    assert killed
    assert n_at_loss < 30
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray uses settings that it calls deprecated
def test_texts_that_are_scored_on_ray_give_the_same_samples(tmp_path):
    pytest.importorskip("ray")
    model, _ = save_pair(tmp_path)
    world = World(tmp_path, pair=load_pair(tmp_path))
    where = ScaleSettings(ray="local", ray_workers=2)
    plain = world.run("plain", obedient)
    with hold_cluster(where):
        extract = Extractor(where, ModelSettings(str(model), dtype="float32"))
        on_ray = world.run("ray", obedient, extract=extract)
    written = [(one.folder / "synthetic.jsonl").read_bytes() for one in (plain, on_ray)]
    assert plain.kept
    assert written[0] == written[1]
    plan = json.loads((tmp_path / "ray" / "round-00" / "step-1" / "plan.json").read_text())
    assert plan["part_samples"] == 128  # where texts go to other processes
