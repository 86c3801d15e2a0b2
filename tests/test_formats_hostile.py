"""SAE folders that lie: one clear error before memory is taken, for every layout."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from facsynth.data.stored import read_arrays
from facsynth.errors import DataError, ModelError
from facsynth.sae.formats.layouts import ReadOptions, read_sae, stored_files
from test_formats import WRITERS, M, V, X, llama_scope, saelens, sparsify


def change_tensors(path, change):
    """Apply `change` to the tensors of a stored SAE, whatever its kind of file."""
    if path.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in change(load_file(path)).items()}, path)
    elif path.suffix == ".npz":
        with np.load(path) as held:
            tensors = {name: torch.from_numpy(held[name]) for name in held.files}
        np.savez(path, **{name: t.numpy() for name, t in change(tensors).items()})
    else:
        content = torch.load(path, weights_only=True)
        tensors = change(content.get("weight", content))
        torch.save(content | {"weight": tensors} if "weight" in content else tensors, path)


def weights_of(source):
    return next(path for path in stored_files(source) if path.suffix != ".json")


def poisoned(value):
    def change(tensors):
        name = max(
            (n for n in tensors if torch.is_tensor(tensors[n])), key=lambda n: tensors[n].dim()
        )
        changed = tensors[name].clone(memory_format=torch.contiguous_format)
        changed.reshape(-1)[3] = value
        return {**tensors, name: changed}

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", WRITERS)
def test_weights_that_are_not_finite_are_refused(tmp_path, name, value):
    source = WRITERS[name](tmp_path)
    change_tensors(weights_of(source), poisoned(value))
    with pytest.raises(ModelError, match="is not finite everywhere"):
        read_sae(source, ReadOptions(layer=7))


PICKLES = ["paper", "dictionary_learning", "qwen_scope", "goodfire"]


@pytest.mark.parametrize("name", PICKLES)
def test_a_tensor_that_repeats_one_number_without_end_takes_no_memory(tmp_path, name):
    source = WRITERS[name](tmp_path)

    def widened(tensors):
        key = next(n for n in tensors if torch.is_tensor(tensors[n]) and tensors[n].dim() == 2)
        return {**tensors, key: torch.zeros(1).expand(10**6, 10**6)}

    change_tensors(weights_of(source), widened)
    with pytest.raises(ModelError, match="and the file holds fewer numbers"):
        read_sae(source, ReadOptions(layer=7))


@pytest.mark.parametrize("name", WRITERS)
def test_truncated_files_are_refused(tmp_path, name):
    source = WRITERS[name](tmp_path)
    path = weights_of(source)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError):
        read_sae(source, ReadOptions(layer=7))


def lying_npz(path, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("W_enc.npy", header.getvalue() + b"\0" * 64)


@pytest.mark.parametrize("shape", [(10**6, 10**6), (10**30,), (15,)])
def test_an_array_whose_header_lies_takes_no_memory(tmp_path, shape):
    lying_npz(tmp_path / "params.npz", shape)
    with pytest.raises(ModelError, match="and the file has room for 64"):
        read_sae(tmp_path, ReadOptions(layer=7))


def test_arrays_of_texts_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", words=np.array(["a", "b"]))
    with pytest.raises(DataError, match="words.npy holds str.*, not numbers"):
        read_arrays(tmp_path / "a.npz")


def test_an_array_that_unpacks_without_end_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(10**8, np.uint8))
    with pytest.raises(DataError, match="zeros.npy says 100,000,000 bytes"):
        read_arrays(tmp_path / "a.npz")


SETTINGS = {
    "a width of 10^12": ({"d_sae": 10**12}, "says d_sae=1000000000000"),
    "a width in words": ({"d_sae": str(M)}, "says d_sae=40"),
    "a negative width": ({"d_in": -12}, "says d_in=-12"),
    "a yes in words": ({"apply_b_dec_to_input": "false"}, "neither true nor false"),
    "metadata that are no table": ({"metadata": "none"}, "metadata is 'none', not a table"),
    "an architecture of lists": ({"architecture": ["standard"]}, "is not supported"),
    "a layer in a list": ({"hook_name": ["blocks.7.hook_resid_post"]}, "not the output of a dec"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_saelens_settings_that_lie_are_refused(tmp_path, name):
    changes, complaint = SETTINGS[name]
    path = saelens(tmp_path, "standard") / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=complaint):
        read_sae(tmp_path)


@pytest.mark.parametrize("k", ["5", 2.5, -1, 0, True, 10**12, [5], M + 1, float("nan")])
def test_a_k_that_is_no_count_is_refused(tmp_path, k):
    saelens(tmp_path, "topk", k=k)
    with pytest.raises(ModelError, match="k is .*, not a whole number|needs k between 1 and"):
        read_sae(tmp_path)


@pytest.mark.parametrize("scale", ["2", -2.0, 0, float("nan"), float("inf")])
def test_a_scale_that_is_no_factor_is_refused(tmp_path, scale):
    named = {"normalize_activations": "expected_average_only_in", "norm_scaling_factor": scale}
    saelens(tmp_path, "standard", **named)
    with pytest.raises(ModelError, match="not a number above 0|that no file names"):
        read_sae(tmp_path)


def test_sizes_of_other_layouts_are_compared_with_their_tensors(tmp_path):
    for folder, written in {
        "s": sparsify(tmp_path / "s" / "layers.7", d_in=13),
        "l": llama_scope(tmp_path / "l", V, d_model=13),
    }.items():
        with pytest.raises(ModelError, match=r"=13, and the encoder has shape \(12, 40\)"):
            read_sae(written), folder


@pytest.mark.parametrize("text", ["[" * 10**5, "", "7", "null", "\ud800"])
def test_settings_that_no_parser_likes_are_refused(tmp_path, text):
    saelens(tmp_path, "standard")
    (tmp_path / "cfg.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match=r"cfg.json (is not|holds a)"):
        read_sae(tmp_path)


def test_tensors_of_whole_numbers_are_refused(tmp_path):
    source = saelens(tmp_path, "standard")
    change_tensors(weights_of(source), lambda t: {**t, "b_enc": torch.ones(M, dtype=torch.int64)})
    with pytest.raises(ModelError, match=r"b_enc is torch.int64 .*, not plain numbers"):
        read_sae(tmp_path)


def test_a_card_in_no_encoding_is_read_past(tmp_path):
    from facsynth.sae.describe import describe_sae

    source = saelens(tmp_path, "standard")
    (tmp_path / "README.md").write_bytes(b"---\nlicense: mit\n---\n\xff\xfe")
    assert describe_sae(source).licence == "mit"
    assert read_sae(source).encode(X).isfinite().all()
