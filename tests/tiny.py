"""Tiny tokenizers, language models and SAEs, made in memory; cached ones must not be changed."""

from functools import lru_cache

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from facsynth.models.lm import LanguageModel
from facsynth.models.tokens import TokenizedSample
from facsynth.records import Message, Sample
from facsynth.sae.module import SaeConfig, SparseAutoencoder

SYSTEM = "You are a helpful assistant"
"""What the template says when a conversation has no system message."""

_TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_DEFAULT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
)
_REFUSE = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"

TEMPLATES = {
    "chatml": _DEFAULT + _TURNS,
    "trim": _DEFAULT + _TURNS.replace("m.content", "m.content | trim"),
    "no default": _TURNS,
    "refuses system": _REFUSE + _TURNS,
    "drops tool": _TURNS.replace("in messages", "in messages if m.role != 'tool'"),
    "upper case": _TURNS.replace("m.content", "m.content | upper"),
    "depends on content": _TURNS.replace("m.role }}", "m.role }} {{ m.content | length }}"),
    "none": None,
}

_QWEN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
_EACH = "{% for m in messages %}"
_GEMMA = (
    "<s>" + _EACH + "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
)

FAMILY_TEMPLATES = {
    "llama": "<s>" + _EACH + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}",
    "mistral": "<s>" + _EACH + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    "qwen2": _DEFAULT + _EACH + _QWEN + "{% endfor %}",
    "qwen3": _EACH + "{% if m.role == 'assistant' and loop.last %}<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n{{ m.content }}<|im_end|>\n{% else %}"
    + _QWEN
    + "{% endif %}{% endfor %}",
    "gemma2": _GEMMA,
    "gemma3_text": "{% set first = messages[0].role == 'system' %}" + _GEMMA,
}
"""The form of each family's chat template, without what it says about tools and dates."""

_WORDS = "you are a helpful assistant user system the cat sat on the mat and saw a red ball\n\n  ok"

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
D_MODEL = 16
N_LAYERS = 3


def make_tokenizer(template="chatml", *, bos="<s>"):
    """Byte-level BPE with a few merges, so that any text can be tokenised."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_WORDS, SYSTEM], trainer)
    names = {"bos_token": bos} if bos else {}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", **names)
    fast.chat_template = TEMPLATES[template]
    return fast


@lru_cache
def cached_tokenizer(template="chatml", *, bos="<s>"):
    return make_tokenizer(template, bos=bos)


def make_model(family="llama", *, seed=0, n_layers=N_LAYERS):
    """Random weights, large enough that every layer and every position matters."""
    config = AutoConfig.for_model(
        family,
        vocab_size=304,
        hidden_size=D_MODEL,
        intermediate_size=24,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        sliding_window=6 if family in ("mistral", "gemma2", "gemma3_text") else None,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@lru_cache
def tiny_lm(family="llama", template="chatml"):
    return LanguageModel(
        make_model(family), cached_tokenizer(template), name=f"tiny {family}", content_hash=family
    )


def random_sae(gate="topk", *, d_in=D_MODEL, d_sae=48, layer=1, seed=0, **config):
    """Random weights; `topk` keeps 4, `jumprelu` has a threshold for each feature."""
    k = 4 if gate == "topk" else None
    sae = SparseAutoencoder(SaeConfig(d_in, d_sae, gate, layer, **{"k": k, **config}))
    rng = torch.Generator().manual_seed(seed)
    for parameter in sae.parameters():
        scale = 0.5 if parameter.ndim == 1 else d_in**-0.5
        parameter.data = torch.randn(parameter.shape, generator=rng) * scale
    if gate == "jumprelu":
        sae.threshold.data.abs_()
    return sae.eval()


def coordinate_sae(*, d_in=D_MODEL, layer=1):
    """Feature `i` is coordinate `i` where positive, feature `d_in + i` where negative."""
    sae = SparseAutoencoder(SaeConfig(d_in, 2 * d_in, "standard", layer))
    both = torch.cat([torch.eye(d_in), -torch.eye(d_in)])
    sae.W_enc.data, sae.W_dec.data = both.T.contiguous(), both
    return sae.eval()


def chat(sample_id, *contents, roles=("user", "assistant")):
    """A conversation in which the roles take turns."""
    turns = [Message(roles[i % len(roles)], text) for i, text in enumerate(contents)]
    return Sample(sample_id, messages=tuple(turns))


def tokenized(ids, scored=None, sample_id="t"):
    """Token ids without text, all of them scored unless `scored` says otherwise."""
    flags = np.ones(len(ids), dtype=bool) if scored is None else np.array(scored, dtype=bool)
    offsets = np.zeros((len(ids), 2), dtype=np.int32)
    return TokenizedSample(sample_id, np.array(ids, dtype=np.int32), flags, offsets, "", 0)


def hooked(lm, ids, layer):
    """Output of a decoder layer for one sequence, from a forward pass of the whole model."""
    kept = []
    handle = lm.model.model.layers[layer].register_forward_hook(
        lambda _module, _inputs, output: kept.append(output)
    )
    with torch.inference_mode():
        lm.model(input_ids=torch.tensor(np.array(ids))[None].long())
    handle.remove()
    output = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    return output[0]
