"""Where an SAE comes from: local paths, the Hub (its real cache layout), sae-lens' registry."""

import sys
from types import ModuleType, SimpleNamespace

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors

from facsynth.errors import ModelError
from facsynth.models.hub import HubReference, parse_hub
from facsynth.sae.files import load_sae, save_sae
from facsynth.sae.sources import find_sae, saes_among
from hub_cache import cache_repository
from tiny import random_sae


def layers(*numbers):
    def write(folder):
        for number in numbers:
            save_sae(random_sae(layer=number), folder / f"layer_{number}")

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", HubReference("owner/name")),
        ("owner/name/sub/folder", HubReference("owner/name", "sub/folder")),
        ("owner/name@v1", HubReference("owner/name", "", "v1")),
        ("owner/name/sub@refs/pr/3", HubReference("owner/name", "sub", "refs/pr/3")),
        ("EleutherAI/sae-8x/layers.7", HubReference("EleutherAI/sae-8x", "layers.7")),
        ("name", None),
        ("/owner/name", None),
        ("./owner/name", None),
        ("owner/../name", None),
        ("owner/name/", HubReference("owner/name")),
    ],
)
def test_a_reference_to_the_hub(text, expected):
    assert parse_hub(text) == expected


def test_a_local_path_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_sae(random_sae(), tmp_path / "owner" / "name")
    assert load_sae("owner/name").config.layer == 1


def test_default_names_the_embedded_sae_unless_a_folder_has_that_name(tmp_path, monkeypatch):
    assert load_sae("default").content_hash == load_sae().content_hash
    monkeypatch.chdir(tmp_path)
    save_sae(random_sae(layer=3), "default")
    assert load_sae("default").config.layer == 3


def test_the_only_sae_of_a_repository_is_found():
    cache_repository("owner/name", lambda folder: save_sae(random_sae(layer=2), folder))
    assert load_sae("owner/name").config.layer == 2


def test_a_folder_of_a_repository():
    cache_repository("owner/name", layers(3, 5))
    assert load_sae("owner/name/layer_5").config.layer == 5


def test_a_file_of_a_repository_keeps_its_name(tmp_path):
    def write(folder):
        torch.save({}, folder / "layer3.sae.pt")
        torch.save({}, folder / "layer4.sae.pt")

    snapshot = cache_repository("owner/name", write)
    assert find_sae("owner/name/layer4.sae.pt") == snapshot / "layer4.sae.pt"


def test_a_revision_is_read():
    cache_repository("owner/name", layers(3))
    cache_repository("owner/name", layers(4), revision="v2", commit="f" * 40)
    assert load_sae("owner/name").config.layer == 3
    assert load_sae("owner/name@v2").config.layer == 4
    assert load_sae("owner/name@" + "f" * 40).config.layer == 4


def test_many_saes_are_listed_ten_and_a_count():
    cache_repository("owner/name", layers(*range(12)))
    with pytest.raises(ModelError, match=r"holds 12 SAEs; name one as owner/name/…: .*12 in all"):
        find_sae("owner/name")


def test_an_unknown_folder_lists_what_is_there():
    cache_repository("owner/name", layers(3, 5))
    with pytest.raises(ModelError, match=r"has nothing at 'layer_4'; it holds layer_3, layer_5"):
        find_sae("owner/name/layer_4")


def test_a_repository_without_an_sae():
    cache_repository("owner/name", lambda folder: (folder / "README.md").write_text("hi"))
    with pytest.raises(ModelError, match="no SAE of a known layout: README.md"):
        find_sae("owner/name")


def test_offline_without_a_cache_says_so():
    with pytest.raises(ModelError, match="'owner/name' is not a local path.*HF_HUB_OFFLINE is set"):
        find_sae("owner/name")


def test_what_is_no_reference_at_all():
    with pytest.raises(ModelError, match="'no such sae' does not exist; expected a folder"):
        find_sae("no such sae")


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        (errors.GatedRepoError, 403, "is gated; accept its terms at https://huggingface.co/o/n"),
        (errors.RepositoryNotFoundError, 404, "has no repository o/n that you can read"),
        (errors.RevisionNotFoundError, 404, "has no revision 'v9'"),
        (errors.HfHubHTTPError, 500, "the Hub did not answer"),
    ],
)
def test_an_answer_of_the_hub_is_one_clear_line(monkeypatch, kind, status, message):
    request = httpx2.Request("GET", "https://huggingface.co/api/models/o/n")
    answer = kind("a\nb", response=httpx2.Response(status, request=request))
    fail_with(monkeypatch, answer)
    with pytest.raises(ModelError, match=message) as caught:
        find_sae("o/n@v9")
    assert "\n" not in str(caught.value)


def test_no_network_is_one_clear_line(monkeypatch):
    fail_with(monkeypatch, httpx2.ConnectError("Name or service not known"))
    with pytest.raises(ModelError, match="did not answer .*service not known.*check the network"):
        find_sae("o/n")


def fail_with(monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", fail)


def test_only_the_asked_sub_folder_is_fetched(monkeypatch):
    files = ["a/cfg.json", "a/sae_weights.safetensors", "b/cfg.json", "b/sae_weights.safetensors"]
    asked = []

    def download(repo, *, revision, allow_patterns):
        asked.extend(allow_patterns)
        return str(cache_repository("owner/name", layers()))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *a, **k: files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match="only a part is in the cache"):
        find_sae("owner/name/b")
    assert sorted(asked) == ["b/cfg.json", "b/sae_weights.safetensors"]


def test_saes_are_found_by_their_layouts():
    files = [
        *("layers.3/cfg.json", "layers.3/sae.safetensors", "config.json"),
        *("x/ae.pt", "x/config.json", "x/eval.json"),
        *("y/params.npz", "layer7.sae.pt", "README.md"),
        *("z/hyperparams.json", "z/checkpoints/final.safetensors"),
    ]
    assert saes_among(files) == ["layer7.sae.pt", "layers.3", "x", "y", "z"]


# saelens:RELEASE/ID


class FakeSae:
    """What `SAE.from_pretrained` returns: settings, tensors."""

    def __init__(self, sae):
        self._sae = sae
        self.cfg = SimpleNamespace(
            to_dict=lambda: {
                "architecture": "standard",
                "d_in": sae.config.d_in,
                "d_sae": sae.config.d_sae,
                "apply_b_dec_to_input": False,
                "normalize_activations": "none",
                "metadata": {"hook_name": "blocks.7.hook_resid_post", "model_name": "tiny"},
            }
        )

    def state_dict(self):
        return self._sae.state_dict()


@pytest.fixture
def registry(monkeypatch):
    sae = random_sae("standard", apply_b_dec_to_input=False)
    top, loading = ModuleType("sae_lens"), ModuleType("sae_lens.loading")
    directory = ModuleType("sae_lens.loading.pretrained_saes_directory")
    calls = []

    def from_pretrained(release, sae_id, device):
        calls.append((release, sae_id, device))
        return FakeSae(sae)

    top.SAE = SimpleNamespace(from_pretrained=from_pretrained)
    release = SimpleNamespace(saes_map={"blocks.7/a": "blocks.7/a", "b": "b"})
    directory.get_pretrained_saes_directory = lambda: {"tiny-res": release}
    for module in (top, loading, directory):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(sae=sae, calls=calls)


def test_an_sae_of_the_registry_is_read_once(registry):
    x = torch.randn(5, registry.sae.config.d_in)
    for _ in range(2):
        loaded = load_sae("saelens:tiny-res/blocks.7/a")
        assert torch.equal(loaded.encode(x), registry.sae.encode(x))
    assert loaded.config.layer == 7
    assert loaded.config.metadata["source_name"] == "tiny-res/blocks.7/a"
    assert registry.calls == [("tiny-res", "blocks.7/a", "cpu")]


def test_an_unknown_release_and_an_unknown_id_list_the_known(registry):
    with pytest.raises(ModelError, match="has no release 'tiny-mlp'; it has tiny-res"):
        find_sae("saelens:tiny-mlp/b")
    with pytest.raises(ModelError, match="has no SAE 'c'; it has blocks.7/a, b"):
        find_sae("saelens:tiny-res/c")


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(ModelError, match=r"pip install 'facsynth\[saelens\]'"):
        find_sae("saelens:tiny-res/b")


def test_a_reference_without_an_id_is_refused():
    with pytest.raises(ModelError, match="not of the form saelens:RELEASE/ID"):
        find_sae("saelens:tiny-res")
