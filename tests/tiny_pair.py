"""A language model and an SAE made by hand: feature `i` fires on word `i`, by how much is known.

The residual stream of the model is the embedding of the present token and nothing else, because
its layers add nothing. Strong words activate their feature with 2, weak ones with 1.5.
"""

import random
import re
from functools import cache

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.records import Message, Sample
from facsynth.sae.files import load_sae, save_sae
from facsynth.sae.module import SaeConfig, SparseAutoencoder
from facsynth.table.extract import extract_table

PLANTED = ["cat", "dog", "fish", "bird", "sea", "sun", "tea", "snow"]
"""Word `i` is the strong word of feature `i`."""

WEAK = ["kitten", "puppy", "trout", "crow", "ocean", "star", "coffee", "ice"]
"""Word `i` is the weak word of feature `i`."""

FILLERS = [
    *("the", "a", "we", "they", "saw", "and", "then", "on", "near"),
    *("under", "with", "some", "old", "red", "small", "house", "road", "tree"),
    *("table", "morning", "evening", "never", "always", "liked", "found", "took", "gave"),
    *("her", "his", "my", "your", "very", "good", "bad", "so", "it"),
    *("was", "today", "again", "hello", "thanks"),
]

THE = len(PLANTED)
"""The feature of the word "the"."""

N_FEATURES = len(PLANTED) + 1
STRONG_VALUE, WEAK_VALUE = 2.0, 1.5

_SPECIAL = ["<pad>", "<|im_start|>", "<|im_end|>", "?"]
_ROLES = ["system", "user", "assistant"]
VOCABULARY = [*_SPECIAL, *_ROLES, *PLANTED, *WEAK, *FILLERS]
D_MODEL = 64
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def planted_tokenizer(template: str = TEMPLATE):
    """One token per word of the vocabulary; every other word is `?`."""
    numbers = {word: i for i, word in enumerate(VOCABULARY)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        chat_template=template,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )


def planted_model():
    config = LlamaConfig(
        vocab_size=D_MODEL,
        hidden_size=D_MODEL,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    model.model.embed_tokens.weight.data = STRONG_VALUE * torch.eye(D_MODEL)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    return model


def planted_sae(*, model_hash: str = "", layer: int = 0) -> SparseAutoencoder:
    config = SaeConfig(
        D_MODEL, N_FEATURES, "standard", layer, model_name="planted", model_hash=model_hash
    )
    sae = SparseAutoencoder(config)
    for word, feature, value in (
        *((word, i, STRONG_VALUE) for i, word in enumerate([*PLANTED, "the"])),
        *((word, i, WEAK_VALUE) for i, word in enumerate(WEAK)),
    ):
        sae.W_enc.data[VOCABULARY.index(word), feature] = value / STRONG_VALUE
    return sae.eval()


@cache
def planted_pair() -> tuple[LanguageModel, SparseAutoencoder]:
    """The pair in memory; it must not be changed."""
    lm = LanguageModel(planted_model(), planted_tokenizer(), "planted", "planted model")
    return lm, planted_sae()


def save_pair(folder):
    """Write the pair to `folder/model` and `folder/sae`, as a user has it."""
    planted_model().save_pretrained(folder / "model")
    planted_tokenizer().save_pretrained(folder / "model")
    save_sae(planted_sae(), folder / "sae")
    return folder / "model", folder / "sae"


def load_pair(folder):
    return load_language_model(str(folder / "model"), dtype="float32"), load_sae(folder / "sae")


def talk(sample_id, asked, answered=None):
    """A conversation of one question and perhaps an answer."""
    turns = [Message("user", asked)] + ([Message("assistant", answered)] if answered else [])
    return Sample(sample_id, messages=tuple(turns))


def planted_table(samples, folder, *, pair=None, **settings):
    lm, sae = pair or planted_pair()
    return extract_table(samples, lm, sae, folder, **settings)


def planted_in(text):
    """The first planted word of a text."""
    known = dict(zip([*PLANTED, *WEAK], [*PLANTED, *PLANTED], strict=True))
    return next((known[word] for word in re.findall(r"[a-z]+", text) if word in known), None)


def write_about(word, request, n_words=None):
    """A text about a word, another one for every seed; as long as what the request shows."""
    rng = random.Random(request.seed)
    n_words = n_words or shown_length(request)
    words = rng.sample([w for w in FILLERS if w != "the"], n_words - 1)
    return " ".join([*words[:4], word, *words[4:]])


def asked_for(request):
    """Everything that a request says to the generator or shows to it."""
    return "\n".join(message.content for message in request.messages if message.role != "system")


def is_for_answer(request):
    """Whether a request is for an assistant's answer, and not for what a person says."""
    first = request.messages[0]
    return first.role != "system" or first.content.startswith("Answer in about")


def shown_length(request):
    """Words of the text that the generator is to imitate."""
    if told := re.search(r"in about (\d+) words", asked_for(request)):
        return int(told[1])
    quoted = re.findall(r"<text>(.*?)</text>", asked_for(request))
    answers = [m.content for m in request.messages if m.role == "assistant"]
    return len((answers or quoted or [request.messages[-1].content])[-1].split())


def obedient(request):
    """A script: writes about the planted word that it is shown; answers in four words."""
    word = planted_in(asked_for(request))
    if is_for_answer(request):
        return f"it was {word or 'so'} again"
    return write_about(word or "hello", request)


def wordy(request):
    """Obedient, with answers as long as the question."""
    word = planted_in(asked_for(request)) or "hello"
    return write_about(word, request) if is_for_answer(request) else obedient(request)
