"""What is exported goes through the trainers' own loaders.

TRL is installed with the tests. For the others: `pip install llamafactory axolotl` into an
environment of its own, and `python -m pytest tests/test_trainers.py -m slow` there.
"""

import json

import pytest

from facsynth.data.export import Row, export_samples
from facsynth.records import Message, Sample, ToolCall
from tiny import make_model, make_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TOOL = {
    "name": "get_weather",
    "description": "Weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = ToolCall("get_weather", '{"city": "Oslo"}', "abcdefgh1")
TOOLS = (json.dumps({"type": "function", "function": TOOL}),)
ASK = Message("user", "Is it raining in Oslo?")
YES, NO = Message("assistant", "Yes, take an umbrella."), Message("assistant", "No idea.")
CALLED = Sample(
    "c",
    (
        ASK,
        Message("assistant", "", reasoning="Ask the service.", tool_calls=(CALL,)),
        Message("tool", '{"rain":true}', tool_call_id="abcdefgh1", name="get_weather"),
        YES,
    ),
    tools=TOOLS,
)
PLAIN = Sample("p", (Message("system", "Be brief."), ASK, YES))
PAIR = Sample("q", (ASK, YES), rejected=(ASK, NO))
TRAINED = (
    "Ask the service.",
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}',
    YES.content,
)
"""Words of the assistant that a trainer must learn."""


def exported(samples, folder, form):
    export_samples([Row(sample) for sample in samples], folder, form)
    return folder


def saved_tokenizer(folder):
    """A tokenizer on disk, with Qwen3's template, which knows tools and reasoning."""
    from trl.chat_template_utils import qwen3_chat_template

    tokenizer = make_tokenizer()
    tokenizer.chat_template = qwen3_chat_template
    tokenizer.pad_token = "<|im_end|>"
    tokenizer.save_pretrained(folder)
    return tokenizer


def words_of(tokenizer, row, name="labels"):
    return tokenizer.decode([token for token in row[name] if token >= 0])


@pytest.mark.parametrize("form", ["sft", "prompt-completion", "preference"])
def test_trl_trains_on_it(tmp_path, form):
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    samples = [PAIR] if form == "preference" else [CALLED, PLAIN]
    data = exported(samples, tmp_path / "x", form) / "train.jsonl"
    rows = load_dataset("json", data_files=str(data), split="train", cache_dir=str(tmp_path / "c"))
    tokenizer = saved_tokenizer(tmp_path / "m")
    kinds = {"preference": (DPOConfig, DPOTrainer)}.get(form, (SFTConfig, SFTTrainer))
    config = kinds[0](
        output_dir=str(tmp_path / "o"), max_steps=1, report_to=[], use_cpu=True, bf16=False
    )
    model = make_model()
    more = {"ref_model": make_model()} if form == "preference" else {}
    shared = {"args": config, "train_dataset": rows, "processing_class": tokenizer}
    trainer = kinds[1](model=model, **shared, **more)
    assert trainer.train().global_step == 1


@pytest.mark.parametrize("stage", ["sft", "rm"])
def test_llamafactory_learns_what_the_assistant_says(tmp_path, monkeypatch, stage):
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    data = pytest.importorskip("llamafactory.data")
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import Seq2SeqTrainingArguments

    exported([CALLED, PLAIN] if stage == "sft" else [PAIR], tmp_path / "x", "llamafactory")
    tokenizer, model = saved_tokenizer(tmp_path / "m"), str(tmp_path / "m")
    options = DataArguments(template="qwen3", dataset="facsynth", dataset_dir=str(tmp_path / "x"))
    template = data.get_template_and_fix_tokenizer(tokenizer, options)
    arguments = Seq2SeqTrainingArguments(output_dir=str(tmp_path / "o"), report_to=[])
    shared = {"stage": stage, "tokenizer": tokenizer, "processor": None}
    rows = data.get_dataset(
        template, ModelArguments(model_name_or_path=model), options, arguments, **shared
    )["train_dataset"]
    if stage == "rm":
        assert YES.content in words_of(tokenizer, rows[0], "chosen_labels")
        assert NO.content in words_of(tokenizer, rows[0], "rejected_labels")
    else:
        assert len(rows) == 2
        assert all(text in words_of(tokenizer, rows[0]) for text in TRAINED)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_axolotl_learns_what_the_assistant_says(tmp_path, kind):
    strategies = pytest.importorskip("axolotl.prompt_strategies")
    import yaml
    from axolotl.prompt_strategies.dpo import load as load_pairs
    from axolotl.utils.dict import DictDefault
    from datasets import load_dataset

    folder = exported([CALLED] if kind == "sft" else [PAIR], tmp_path / "x", "axolotl")
    config = yaml.safe_load((folder / "axolotl.yaml").read_text())
    entry = DictDefault(config["datasets"][0])
    config |= {"chat_template": "tokenizer_default", "sequence_len": 512}
    file = str(folder / entry.path)
    row = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path / "c"))[0]
    tokenizer = saved_tokenizer(tmp_path / "m")
    if kind == "sft":
        strategy = strategies.load(entry.type, tokenizer, DictDefault(config), entry)
        made = words_of(tokenizer, strategy.tokenize_prompt(row))
        assert all(text in made for text in TRAINED)
    else:
        made = load_pairs(entry.type, DictDefault(config), dataset_idx=0)
        transform = made[0] if isinstance(made, tuple) else made
        pair = transform(row, tokenizer=tokenizer)
        assert pair["chosen"].startswith(YES.content)
        assert pair["rejected"].startswith(NO.content)
