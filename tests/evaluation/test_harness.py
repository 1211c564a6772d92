"""Evaluation: lengths from token ids, truncation, resuming with whole batches, grading."""

import json
import shutil

import pandas as pd
import pytest
import torch
from helpers_evaluation import FAST, stand_in
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from abacus import BENCHMARKS
from acm import Engine, evaluate
from acm.errors import UserError
from acm.evaluation import task_files
from acm.evaluation.backends import RecordingLM
from acm.evaluation.grading import summary
from acm.evaluation.harness import find_tasks, task_manager
from acm.evaluation.prompts import FEW_SHOT_STOPS, render
from acm.evaluation.reflections import REFLECTION
from acm.records import RECORD_COLUMNS

TASKS = ["abacus_easy", "abacus_hard"]
SETTING = {"items": 6, "max_tokens": 60, "engine": Engine(batch_size=4)}


@pytest.fixture(scope="module")
def records():
    return evaluate(FAST, TASKS, **SETTING)


@pytest.fixture(scope="module")
def lm():
    return RecordingLM(pretrained=str(FAST), dtype="float32", device="cpu", batch_size=4)


def test_a_task_that_scores_choices_is_refused_before_any_work():
    assert task_manager(["gsm8k_cot_zeroshot", "acm_gsm8k"])
    words = "'hellaswag' generates no text, so it has no length; run it with lm-eval itself"
    with pytest.raises(UserError, match=words):
        task_manager(["gsm8k_cot_zeroshot", "hellaswag"])


def test_records_have_the_promised_columns(records):
    assert set(RECORD_COLUMNS) - {"profile", "experiment"} <= set(records)
    assert list(records["task"].value_counts()[TASKS]) == [6, 6]
    assert json.loads(records["setting"][0])["batch_size"] == 4


def test_the_fields_of_an_engine_may_be_given_alone(records):
    assert evaluate(FAST, TASKS, items=6, max_tokens=60, batch_size=4).equals(records)


def test_response_and_length_are_those_of_plain_generation(records):
    tokenizer = AutoTokenizer.from_pretrained(FAST)
    model = AutoModelForCausalLM.from_pretrained(FAST, dtype=torch.float32)
    for _, row in records.iterrows():
        ids = tokenizer(row["question"], return_tensors="pt")["input_ids"]
        out = model.generate(ids, max_new_tokens=60, do_sample=False)[0, ids.shape[1] :].tolist()
        ended = tokenizer.eos_token_id in out
        kept = out[: out.index(tokenizer.eos_token_id)] if ended else out
        assert (row["length"], row["response"], row["truncated"]) == (len(kept), tokenizer.decode(kept), not ended)


def test_reflections_count_the_papers_words_and_the_tasks_own(records):
    for _, row in records.iterrows():
        assert row["reflections"] == len(REFLECTION.findall(row["response"])) + row["response"].count("check:")


def test_correct_means_the_last_answer_equals_the_gold(records):
    golds = [json.loads(line)["gold"] for line in (BENCHMARKS / "abacus_easy.jsonl").read_text().splitlines()[:6]]
    easy = records[records["task"] == "abacus_easy"]
    said = [r.rsplit("the answer is ", 1)[-1].rstrip(".") for r in easy["response"]]
    assert list(easy["gold"]) == golds
    assert list(easy["correct"] == 1) == [a == g for a, g in zip(said, golds, strict=True)]


def test_a_cap_truncates_and_is_recorded():
    records = evaluate(FAST, ["abacus_hard"], items=3, max_tokens=5)
    assert records["truncated"].all() and (records["length"] == 5).all() and not records["correct"].any()


def test_a_models_own_generation_settings_do_not_change_the_run(records, tmp_path):
    shutil.copytree(FAST, tmp_path / FAST.name)
    path = tmp_path / FAST.name / "generation_config.json"
    advice = {"max_new_tokens": 3, "min_new_tokens": 2, "repetition_penalty": 5.0, "do_sample": True,
              "temperature": 9.0, "no_repeat_ngram_size": 2}  # fmt: skip
    path.write_text(json.dumps(json.loads(path.read_text()) | advice))
    found = evaluate(tmp_path / FAST.name, ["abacus_easy"], **SETTING)
    expected = records[records["task"] == "abacus_easy"].reset_index(drop=True)
    columns = ["response", "length", "truncated", "correct"]
    pd.testing.assert_frame_equal(found[columns], expected[columns])
    capped = evaluate(tmp_path / FAST.name, ["abacus_easy"], items=6, max_tokens=4)
    assert capped["truncated"].all() and (capped["length"] == 4).all()


def test_a_prompt_that_does_not_fit_beside_a_response_is_refused(lm):
    with pytest.raises(UserError, match=r"task 'abacus_hard': 2 of 2 prompts do not fit.*at most (\d+)") as found:
        evaluate(FAST, ["abacus_hard"], items=2, max_tokens=lm.max_length)
    fits = int(str(found.value).rpartition(" ")[2].rstrip("."))
    assert fits < lm.max_length - 20
    with pytest.raises(UserError, match=r"1 of 2|2 of 2"):
        evaluate(FAST, ["abacus_hard"], items=2, max_tokens=fits + 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(UserError, match="torch finds no such GPU"):
        evaluate(FAST, ["abacus_easy"], items=1, engine=Engine(device="cuda"))


def test_length_stops_at_the_end_token_or_the_completed_stop_string(lm):
    tokenizer = lm.tokenizer
    text = tokenizer(" 17+4=21. we are done.")["input_ids"]
    end = tokenizer.eos_token_id
    whole = {"response": " 17+4=21. we are done.", "length": len(text), "truncated": False}
    assert lm.counted([*text, end, end], []) == whole
    stopped = lm.counted(text, ["1. we"])
    assert stopped["response"] == " 17+4=21. we" and not stopped["truncated"]
    assert stopped["length"] == len(tokenizer(" 17+4=21. we")["input_ids"])
    assert lm.counted(text, [])["truncated"]


def test_a_stop_string_that_is_a_special_token_ends_the_count(lm):
    ids = lm.tokenizer(" 17+4=21. we<|pad|> are")["input_ids"]
    row = lm.counted(ids, ["<|pad|>"])
    assert row["length"] == ids.index(lm.tokenizer.pad_token_id) + 1 and row["response"] == " 17+4=21. we"


def test_a_resumed_run_keeps_whole_batches_and_gives_the_same_records(records, tmp_path, monkeypatch):
    calls = []
    generate = RecordingLM.generate_batch

    def dies_in_the_second_batch(self, requests):
        calls.append(len(requests))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, requests)

    monkeypatch.setattr(RecordingLM, "generate_batch", dies_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        evaluate(FAST, TASKS, keep=tmp_path, **SETTING)
    resumed = evaluate(FAST, TASKS, keep=tmp_path, **SETTING)
    assert calls == [4, 4, 4, 4]  # one kept, one lost, and the two that were left
    assert resumed.equals(records)


def test_batches_of_another_setting_are_not_reused(tmp_path):
    evaluate(FAST, ["abacus_easy"], items=2, max_tokens=4, keep=tmp_path)
    longer = evaluate(FAST, ["abacus_easy"], items=2, max_tokens=9, keep=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 and longer["length"].max() > 4


@pytest.mark.parametrize(
    ("text", "count"), [("Wait, wait.", 2), ("let me just check", 1), ("Let me verify: recap", 2), ("check: yes", 0)]
)
def test_reflection_keywords_are_the_papers(text, count):
    assert len(REFLECTION.findall(text)) == count


def test_an_unknown_task_is_named_before_any_model_is_loaded(monkeypatch):
    monkeypatch.setattr(RecordingLM, "__init__", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=r"unknown task 'abacus_eazy'\. Did you mean 'abacus_easy'"):
        evaluate(FAST, ["abacus_eazy"])


@pytest.mark.parametrize(("tasks", "settings", "message"), [
    (["abacus_easy", "abacus_hard", "abacus_easy"], {}, "'abacus_easy' names two tasks"),
    ([], {}, r"tasks: is \[\]; give a list of names"), ("abacus_easy", {}, "tasks: is 'abacus_easy'; give a list"),
    (["abacus_easy"], {"items": 0}, "items: is 0"), (["abacus_easy"], {"items": -3}, "items: is -3"),
    (["abacus_easy"], {"items": 0.5}, "items: is 0.5; give a whole number"),
    (["abacus_easy"], {"items": True}, "items: is True"), (["abacus_easy"], {"max_tokens": 9.5}, "max_tokens: is 9.5"),
    (["abacus_easy"], {"batch_size": "8"}, "batch_size: is '8'"),
])  # fmt: skip
def test_what_would_count_items_otherwise_than_was_meant_is_refused(tasks, settings, message):
    with pytest.raises(UserError, match=message):
        evaluate(FAST, tasks, **settings)


MISSPELT = ["abacus_eazy", "gsm8kk", "nothing like it", "x" * 5000, "\x1b[31m", ""]


@pytest.mark.parametrize("task", MISSPELT)
def test_a_misspelt_task_is_a_short_sentence(task):
    with pytest.raises(UserError, match=r"unknown task .* more .`acm tasks TEXT` lists") as found:
        task_manager([task])
    assert len(str(found.value)) < 2000 and "\x1b" not in str(found.value) and "\n" not in str(found.value)


def test_tasks_are_found_by_a_part_of_their_name():
    from acm.__main__ import app

    found = find_tasks("GSM8K_cot")
    assert {"gsm8k_cot", "gsm8k_cot_zeroshot"} <= set(found) and all("gsm8k_cot" in name.lower() for name in found)
    assert find_tasks("hellaswag_es") == [] and find_tasks("abacus_ea") == ["abacus_easy", "abacus_easy_fresh"]
    run = CliRunner().invoke
    assert "abacus_easy\n" in run(app, ["tasks"]).stdout and "gsm8k_cot\n" not in run(app, ["tasks"]).stdout
    assert run(app, ["tasks", "abacus_ea"]).stdout == "abacus_easy\nabacus_easy_fresh\n"
    with pytest.raises(UserError, match="no task that generates text has 'zzzz' in its name"):
        run(app, ["tasks", "zzzz"], catch_exceptions=False)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        evaluate(tmp_path / "nothing", TASKS)


ITEMS = [("What is 1+1?", "2"), ("What is 3-1?", "[1,2)"), ("What is 2?", "\\frac{1}{2}")]


@pytest.fixture
def aime(tmp_path, monkeypatch):
    """Three items in the place of AIME24, and a model that says what it is told."""
    stand_in(monkeypatch, tmp_path, "aime24", [{"problem": question, "answer": gold} for question, gold in ITEMS])
    said = {}

    def generate(self, requests):
        said.update(contexts=[r.args[0] for r in requests], settings=[r.args[1] for r in requests])
        last = [r.args[0].rsplit("What", 1)[1] for r in requests]
        texts = [next(text for question, text in said["texts"].items() if question in asked) for asked in last]
        return [{"response": text, "length": 5, "truncated": False} for text in texts]

    monkeypatch.setattr(RecordingLM, "generate_batch", generate)
    return said


def answers(aime, *texts, **settings):
    aime["texts"] = {" is 1+1?": texts[0], " is 3-1?": texts[1], " is 2?": texts[2]}
    return evaluate(FAST, ["acm_aime24"], max_tokens=50, **settings)


def test_a_mathematics_task_records_both_grades_the_answer_and_the_raw_text(aime):
    records = answers(aime, "so \\boxed{2}", "so \\boxed{[1, 2)}", "<think>\\boxed{0.5}</think> so \\boxed{0.5}")
    assert list(records["correct"]) == [1, 1, 1] and list(records["correct_string"]) == [1, 1, 0]
    assert list(records["answer"]) == ["2", "[1, 2)", "0.5"] and list(records["gold"]) == [gold for _, gold in ITEMS]
    assert records["response"][2].startswith("<think>") and list(records["thinking_closed"]) == [None, None, True]
    assert set(records["answer_from"]) == {"box"} and set(RECORD_COLUMNS) <= set(records)
    assert records["question"][0] == render("qwen25-math-cot", "What is 1+1?")
    assert aime["settings"][0]["until"] == ["<|im_end|>"]


def test_a_missing_math_verify_is_named_before_anything_is_generated(aime, monkeypatch):
    monkeypatch.setattr(task_files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'acm_aime24' is graded by math-verify; .* pip install 'lm-eval\[math\]'"):
        answers(aime, "\\boxed{2}", "", "")
    assert "contexts" not in aime
    task_files.check_grader(TASKS)


def test_thinking_that_never_closes_is_wrong_and_counted(aime):
    records = answers(aime, "<think> \\boxed{2}", "I see", "\\boxed{1/2")
    assert not records["correct"].any() and list(records["thinking_closed"]) == [False, None, None]
    row = summary(records).iloc[0]
    assert row["still_thinking"] == pytest.approx(1 / 3) and row["no_answer"] == 1


def test_a_template_that_opens_thinking_is_known(aime, monkeypatch):
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}<think>"
    monkeypatch.setattr(
        RecordingLM, "apply_chat_template", lambda self, chat, **_: shown(self.tokenizer, template, chat)
    )
    monkeypatch.setattr(RecordingLM, "chat_template", lambda *_: template)
    init = RecordingLM.__init__

    def with_template(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.tokenizer.chat_template = template

    monkeypatch.setattr(RecordingLM, "__init__", with_template)
    records = answers(aime, "hm \\boxed{2}", "hm </think> \\boxed{[1,2)}", "hm", prompt="chat-template")
    assert list(records["correct"]) == [0, 1, 0] and list(records["thinking_closed"]) == [False, True, False]
    assert records["question"][0] == f"user: {render('chat-template', 'What is 1+1?')}\n<think>"
    assert json.loads(records["setting"][0])["prompt"] == "chat-template"


def shown(tokenizer, template, chat):
    return tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False)


def test_few_shot_has_its_examples_and_stops_at_the_next_question(aime, monkeypatch):
    words = r"3 of 3 prompts do not fit .* Choose a shorter prompt, or a model with more positions"
    with pytest.raises(UserError, match=words):
        answers(aime, "no", "no", "no", prompt="few-shot")
    monkeypatch.setattr(RecordingLM, "positions", 4096)
    records = answers(aime, "\\boxed{2}\n\nQuestion: \\boxed{3}", "no", "no", prompt="few-shot")
    assert records["correct"][0] == 1 and records["question"][0] == render("few-shot", "What is 1+1?")
    assert aime["settings"][0]["until"] == FEW_SHOT_STOPS


def test_prompts_that_do_not_fit_are_refused(aime):
    with pytest.raises(UserError, match=r"unknown prompt 'few shot'\. Did you mean 'few-shot'"):
        evaluate(FAST, ["acm_aime24"], prompt="few shot")
    with pytest.raises(UserError, match="task 'abacus_easy' has its own prompt"):
        evaluate(FAST, ["acm_aime24", "abacus_easy"], prompt="few-shot")
    with pytest.raises(UserError, match="has no chat template; choose another prompt: qwen25-math-cot, few-shot"):
        evaluate(FAST, ["acm_aime24"], prompt="chat-template")


def test_data_that_is_missing_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("ACM_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"aime24\.jsonl does not exist .* Remedy"):
        evaluate(FAST, ["acm_aime24"])


def test_tasks_without_a_second_grade_have_no_new_columns(records):
    assert not {"correct_string", "answer_from"} & set(records)
