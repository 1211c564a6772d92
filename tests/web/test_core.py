"""The code that merges and answers in a browser does what the engine, transformers and the evaluation do."""

import hashlib
import json
import string

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoTokenizer

from abacus import BENCHMARKS, CHECKPOINTS
from acm import merge
from acm.paths import REPORTS, WEB
from acm.profiles import load_profile
from acm.profiles.experiment import frontier_name

RESULTS = REPORTS / "tiny" / "long-to-short"
PARENTS = ["abacus-fast", "abacus-slow"]
LAYERS = ["embed", *map(str, range(6)), "norm", "lm_head"]
PAIR = {"base_model": str(CHECKPOINTS / "abacus-fast"), "models": [{"model": str(CHECKPOINTS / "abacus-slow")}]}


def setting_of(method: str) -> dict:
    """What merges a method of the profile in a browser."""
    coefficients = json.loads((RESULTS / "coefficients.json").read_text())["coefficients"]["abacus-slow"]
    one = {"TA": 0.7, "Average": 0.5, frontier_name(0.3): 0.3, "TIES": 1.0}
    assert load_profile("tiny").experiments["long-to-short"].methods["TIES"].parameters["density"] == 0.2
    name = "ties" if "TIES" in method else "task_arithmetic"
    return {
        "method": name,
        "density": 0.2,
        "coefficients": dict.fromkeys(LAYERS, one[method]) if method in one else coefficients,
    }


def items_of(method: str, each: tuple[int, int, int]) -> pd.DataFrame:
    """The records of so many items of each of the three tasks."""
    records = pd.read_parquet(RESULTS / "records.parquet")
    records = records[records["method"] == method]
    parts = [part.sort_values("item").head(n) for n, (_, part) in zip(each, records.groupby("task"), strict=True)]
    return pd.concat(parts)


def same(found: list[dict], records: pd.DataFrame) -> pd.DataFrame:
    """The answers found, which must be the recorded ones token for token."""
    answers = pd.DataFrame(found, index=records.index)
    assert (answers["text"] == records["response"]).sum() == len(records)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "abacus-fast")
    assert answers["tokens"].tolist() == [tokenizer(text)["input_ids"] for text in records["response"]]
    for column in ("length", "truncated", "answer"):
        assert answers[column].tolist() == records[column].tolist(), column
    return answers


@pytest.mark.parametrize("method", ["ACM-TA", "TA", "Average", "ACM-TIES", frontier_name(0.3)])
def test_every_response_of_a_merge_is_the_recorded_one(ask, method):
    records = items_of(method, (34, 33, 33))
    items = records[["task", "item", "question", "gold"]].to_dict("records")
    grades = same(ask("answers", setting=setting_of(method), items=items), records)
    assert len(grades) == 100 and grades["correct"].astype(float).tolist() == records["correct"].tolist()
    assert grades["item"].tolist() == records["item"].tolist()


@pytest.mark.parametrize("who", ["fast", "slow"])
def test_every_response_of_a_parent_is_the_recorded_one(ask, who):
    records = items_of(f"abacus-{who}", (10, 10, 10))
    same(ask("answers", who=who, items=records[["question"]].to_dict("records")), records)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "interpolation"])
def test_every_merged_number_is_the_engines(ask, tmp_path, method):
    generator = torch.Generator().manual_seed(len(method))
    values = (1.4 * torch.rand(len(LAYERS), generator=generator) - 0.2).tolist()
    coefficients = dict(zip(LAYERS, values, strict=True)) | {"0": 0.0, "3": 1.0}
    parameters = {"density": 0.37} if method == "ties" else {}
    recipe = PAIR | {"merge_method": method, "parameters": parameters, "coefficients": {"abacus-slow": coefficients}}
    folder = merge(recipe, tmp_path / "merged", device="cpu", threads=1, kernels=False)
    theirs = {
        name: hashlib.sha256(tensor.contiguous().view(torch.uint16).numpy().tobytes()).hexdigest()
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    assert ask("merge", setting={"method": method, "density": 0.37, "coefficients": coefficients}) == theirs


def test_attention_and_mlp_take_coefficients_of_their_own(ask, tmp_path):
    groups = {f"{i}.{part}": 0.1 * i + shift for i in range(6) for part, shift in (("attention", 0.2), ("mlp", 0.3))}
    coefficients = {"embed": 0.4, "norm": 0.9, "lm_head": 0.6, **groups}
    found = ask("merge", setting={"method": "task_arithmetic", "coefficients": coefficients})
    base, finetuned = (load_file(CHECKPOINTS / name / "model.safetensors") for name in PARENTS)
    for name, digest in found.items():
        part = "mlp" if "mlp" in name or "post_attention" in name else "attention"
        group = f"{name.split('.')[2]}.{part}" if "layers" in name else name.split(".")[-2].replace("_tokens", "")
        merged = base[name].float() + torch.tensor(coefficients[group]) * (finetuned[name].float() - base[name].float())
        raw = merged.bfloat16().contiguous().view(torch.uint16).numpy().tobytes()
        assert hashlib.sha256(raw).hexdigest() == digest, name


def test_texts_become_the_tokens_of_transformers_and_come_back(ask):
    texts = []
    whatever = st.text(max_size=40) | st.text(string.printable + "é½ ſ\u0085\u2028\ufeff😀<|end|>", max_size=60)

    @settings(max_examples=300, derandomize=True, database=None)
    @given(whatever)
    def collect(text):
        texts.append(text.encode("utf-8", "replace").decode())

    collect()
    lines = (BENCHMARKS / "abacus_hard.jsonl").read_text().splitlines()[:20]
    texts += ["don't DON'T they'LL x<|end|>y", "a  b\n\n c \r\n", *(json.loads(line)["question"] for line in lines)]
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "abacus-fast")
    ids = [tokenizer(text)["input_ids"] for text in texts]
    found = ask("encode", texts=texts)
    assert [text for text, mine, theirs in zip(texts, found, ids, strict=True) if mine != theirs] == []
    assert ask("decode", tokens=ids) == [tokenizer.decode(i, skip_special_tokens=True) for i in ids]


def test_words_that_the_models_never_met_are_named(ask):
    known = "question: anna has 3 apples. she buys 12 more. she sells half. how many apples are left? answer:"
    texts = [known, "question: anna has 3 elephants; X answer:", "question: tom has 1½ figs answer:"]
    assert ask("unknown", texts=texts) == [[], ["elephants", ";", "X"], ["½"]]


def test_the_tests_of_the_browsers_code_pass(node):
    assert "# fail 0" in node("--test", "--test-reporter=tap", *map(str, sorted((WEB / "test").glob("*.test.js"))))
