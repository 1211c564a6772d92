"""Logs of lm-evaluation-harness as records: what they must hold, and what is counted again. All files are made up."""

import hashlib
import json
import shutil

import pandas as pd
import pytest
from helpers_imported import CAP, LONG, TASKS, N, answered, items_of

from acm.errors import UserError
from acm.evaluation.prompts import CODE_EXAMPLES, CODE_SYSTEM, FEW_SHOT_STOPS, PROMPTS, render
from acm.records import RECORD_COLUMNS
from acm.running.imported import import_records


@pytest.fixture
def log(tmp_path):
    """Writes lm-eval's log of a task as its tracker does: N items, keywords change the samples."""

    def make(task, name=None, lines=None, asked=None, **changes):
        generation = {"until": [], "do_sample": False, "max_gen_toks": CAP} | (asked or {})
        samples = [{
            "doc_id": i, "doc": item, "target": item["gold"],
            "arguments": {"gen_args_0": {"arg_0": item["question"], "arg_1": generation}},
            "resps": [["check: wait, " * (i > 0) + answered(item, i)]],
            "filtered_resps": ["no idea" if i else item["gold"]],
            "filter": "last-answer", "metrics": ["exact_match"], "exact_match": float(i == 0), "doc_hash": "a",
            "prompt_hash": "b", "target_hash": "c",
        } | changes for i, item in enumerate(items_of(task))]  # fmt: skip
        path = tmp_path / "logs" / (name or f"samples_{task}_2026-11-22T10-00-00.123456.jsonl")
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines if lines is not None else map(json.dumps, samples)) + "\n")
        return path

    return make


def test_logs_of_lm_eval_become_records(profile, log, f32, tmp_path, tokenizer):
    for task in TASKS:
        log(task)
    assert "1 imported (TA)" in import_records(profile, LONG, [tmp_path / "logs"], "TA", f32[1])
    found = pd.read_parquet(profile.folder / LONG / "records" / "TA.parquet")
    assert set(RECORD_COLUMNS) <= set(found) and len(found) == N * len(TASKS)
    assert found["length"].tolist() == [
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in found["response"]
    ]
    assert found["correct"].tolist() == [1.0, 0.0, 0.0] * 2 and not found["truncated"].any()
    assert found["reflections"].tolist() == [0, 2, 2] * 2  # the paper's "wait" and these tasks' own "check:"
    assert json.loads(found["setting"].iloc[0])["engine"] == "lm-eval's log"


def test_a_log_counted_up_to_the_cap_is_truncated(profile, log, f32):
    paths = [log(task, resps=[["1" * CAP]], filtered_resps=["[invalid]"], exact_match=0.0) for task in TASKS]
    import_records(profile, LONG, paths, "TA", f32[1])
    found = pd.read_parquet(profile.folder / LONG / "records" / "TA.parquet")
    assert found["truncated"].all() and (found["length"] == CAP).all()


def test_records_that_came_from_logs_come_in_elsewhere(profile, log, f32, tmp_path):
    near = "1" * (CAP - 1) + "2"  # counted again it fills the cap
    paths = [log(task, resps=[[near]], filtered_resps=["[invalid]"], exact_match=0.0) for task in TASKS]
    import_records(profile, LONG, paths, "TA", f32[1])
    first, there = profile.folder / LONG / "records" / "TA.parquet", tmp_path / "there.parquet"
    first.rename(there)
    assert "1 imported" in import_records(profile, LONG, [there])
    pd.testing.assert_frame_equal(pd.read_parquet(first), pd.read_parquet(there))
    shorter = pd.read_parquet(there)
    shorter["setting"] = [json.dumps({**json.loads(text), "max_tokens": None}) for text in shorter["setting"]]
    shorter.to_parquet(there)
    with pytest.raises(UserError, match="made with max_tokens None, and profile mine says 40"):
        import_records(profile, LONG, [there])


@pytest.mark.parametrize("changes, words", [
    ({"task": "abacus_hard"}, "unknown task of long-to-short 'abacus_hard'"),
    ({"lines": ["{"]}, "line 1 is not JSON"),
    ({"lines": ["[]"]}, "line 1 lacks everything"),
    ({"lines": ["{}"]}, "line 1 lacks doc_id"),
    ({"lines": []}, "holds no sample"),
    ({"resps": [[["-1.5", "False"]]]}, "holds no generated text"),
    ({"resps": [["a", "b"]]}, "2 responses, of which the harness graded the first alone; set `repeats: 1`"),
    ({"resps": [["1" * 2 * CAP]]}, "more than the cap of 40"),
    ({"asked": {"max_gen_toks": 256}}, "a cap of 256 tokens, and the profile says 40"),
    ({"asked": {"do_sample": True, "temperature": 0.6}},
     "generated at temperature 0.6, and the profile generates greedily"),
    ({"asked": {"do_sample": True}}, "does not state its temperature for certain (do_sample True); say what"),
    ({"asked": {"do_sample": None}}, "does not state its temperature; say what it was by --temperature"),
    ({"asked": {"temperature": 0.6}}, "for certain (do_sample False, temperature 0.6)"),
    ({"asked": {"do_sample": None, "temperature": 0.6}}, "generated at temperature 0.6"),
    ({"asked": {"do_sample": True, "temperature": "hot"}}, "temperature is hot, which is no number"),
    ({"exact_match": "yes"}, "no number for its metric exact_match"),
    ({"arguments": {}}, "has no prompt"),
    ({"doc_id": 0}, "item 0 of abacus_easy (repeat 0) comes twice"),
    ({"name": "samples.jsonl"}, "neither a records file"),
])  # fmt: skip
def test_logs_that_do_not_fit_are_refused(profile, log, f32, stored, changes, words):
    paths = [log("abacus_medium"), log(changes.pop("task", "abacus_easy"), **changes)]
    with pytest.raises(UserError) as error:
        import_records(profile, LONG, paths, "TA", f32[1])
    assert words in str(error.value) and stored() == []


@pytest.fixture
def sampled_logs(log):
    """Two logs of each task, a minute apart, whose responses differ; keywords change what was asked."""

    def make(**asked):
        asked = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 0} | asked
        wrong = {"filtered_resps": ["no"], "exact_match": 0.0}
        return [
            log(
                task,
                f"samples_{task}_2026-11-22T10-0{k}-00.123456.jsonl",
                asked=asked,
                resps=[[f"{k} the answer is no."]],
                **wrong,
            )
            for k in (1, 0)
            for task in TASKS
        ]

    return make


def test_logs_of_one_task_are_its_repeats_by_their_dates(sampled, sampled_logs, f32):
    assert "1 imported" in import_records(sampled, LONG, sampled_logs(), "TA", f32[1])
    found = pd.read_parquet(sampled.folder / LONG / "records" / "TA.parquet")
    assert len(found) == 2 * N * len(TASKS)
    assert (found["response"] == found["repeat"].astype(str) + " the answer is no.").all()
    assert json.loads(found["setting"].iloc[0])["temperature"] == 0.6


@pytest.mark.parametrize("asked, words", [
    ({"temperature": 0.7},
     "generated at temperature 0.7, and the profile generates at temperature 0.6"),
    ({"top_p": 1.0}, "generated with top_p 1.0, and the profile says 0.95"),
    ({"top_k": 50}, "generated with top_k 50, and the profile uses none"),
    ({"top_k": None}, "does not state its top k (transformers' own is 50; 0 is off); say what it was by --top-k"),
    ({"top_p": None}, "does not state its top p; say what it was by --top-p"),
    ({"do_sample": False, "temperature": None}, "generated greedily, and the profile generates at temperature 0.6"),
    ({"temperature": 0.0}, "generated greedily"),
])  # fmt: skip
def test_logs_of_another_temperature_are_refused(sampled, sampled_logs, f32, stored, asked, words):
    with pytest.raises(UserError) as error:
        import_records(sampled, LONG, sampled_logs(**asked), "TA", f32[1])
    assert words in str(error.value) and stored() == []


def test_a_copied_log_is_no_repeat(sampled, sampled_logs, f32, stored):
    paths = sampled_logs()
    shutil.copy(paths[0], paths[2])
    with pytest.raises(UserError, match="copies of one, so they are no repeats"):
        import_records(sampled, LONG, paths, "TA", f32[1])
    with pytest.raises(UserError, match="hold the repeats 0 of abacus_easy, and the profile asks for 0, 1"):
        import_records(sampled, LONG, paths[:2], "TA", f32[1])
    assert stored() == []


def test_logs_need_a_method_and_a_tokenizer(profile, log, f32, tmp_path):
    paths = [log(task) for task in TASKS]
    for method, tokenizer in ((None, f32[1]), ("TA", None)):
        with pytest.raises(UserError, match="--method NAME and --tokenizer"):
            import_records(profile, LONG, paths, method, tokenizer)
    with pytest.raises(UserError, match=r"tokenizer folder .* does not exist"):
        import_records(profile, LONG, paths, "TA", tmp_path / "absent")
    with pytest.raises(UserError, match="unknown method of long-to-short 'TB'"):
        import_records(profile, LONG, paths, "TB", f32[1])


@pytest.mark.parametrize("arguments", ["pretrained=x,think_end_token=</think>", {"think_end_token": "</think>"}])
def test_logs_without_their_thinking_are_refused(profile, log, f32, stored, arguments):
    paths = [log(task) for task in TASKS]
    results = paths[0].parent / "results_2026-11-22T10-00-00.123456.json"
    results.write_text(json.dumps({"config": {"model_args": arguments}}))
    with pytest.raises(UserError, match=r"think_end_token.*the thinking is lost"):
        import_records(profile, LONG, paths, "TA", f32[1])
    assert stored() == []


def test_a_log_named_without_a_date(profile, log, f32):
    paths = [log(task, f"samples_{task}.jsonl") for task in TASKS]
    assert "1 imported" in import_records(profile, LONG, paths, "TA", f32[1])


QUESTION, STOPS = "What is $2+2$?", {"few-shot": FEW_SHOT_STOPS}


@pytest.fixture
def prompted(log):
    """A log of a task of ours with the text that its samples were asked."""

    def make(task, text, until=()):
        generation = {"until": ["<|im_end|>", *until], "do_sample": False, "max_gen_toks": CAP}
        return log(task, doc={"question": QUESTION, "gold": "4"}, target="4",
                   metrics=["correct", "correct_string"], correct=1.0, correct_string=0.0,
                   resps=[["the answer is 4."]], filtered_resps=["the answer is 4."],
                   arguments={"gen_args_0": {"arg_0": text, "arg_1": generation}})  # fmt: skip

    return make


def templated(prompt, text):
    return f"<|user|>{text}<|assistant|>" if prompt == "chat-template" else text


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("task, own", [("acm_gsm8k", ()), ("acm_humaneval_pro", (CODE_SYSTEM, CODE_EXAMPLES))])
def test_logs_must_have_asked_the_profiles_prompt(named, prompted, f32, stored, prompt, task, own):
    profile = named("mine", [task], prompts={} if prompt == "qwen25-math-cot" else {"TA": prompt})
    for other in {*PROMPTS} - {prompt}:
        path = prompted(task, templated(other, render(other, QUESTION, *own)))
        words = rf"line 1: asked '.*'…, which is not the prompt {prompt} of the profile; run lm-eval with --metadata"
        with pytest.raises(UserError, match=words):
            import_records(profile, LONG, [path], "TA", f32[1])
    # Without the model's template, or with an instruction before the prompt.
    bare = render(prompt, QUESTION, *own)
    path = prompted(task, bare if prompt == "chat-template" else "Answer. " + bare)
    with pytest.raises(UserError, match=r"not the prompt|stop string"):
        import_records(profile, LONG, [path], "TA", f32[1])
    assert stored() == []
    path = prompted(task, templated(prompt, render(prompt, QUESTION, *own)), STOPS.get(prompt, ()))
    assert "1 imported (TA)" in import_records(profile, LONG, [path], "TA", f32[1])


def test_few_shot_logs_without_the_stop_string_and_logs_without_a_question_are_refused(
    named, prompted, log, f32, stored
):
    profile = named("mine", ["acm_gsm8k"], prompts={"TA": "few-shot"})
    words = r"without the few-shot prompt's stop string.*--gen_kwargs 'until=\[\"\\n\\nQuestion:\"\]'"
    with pytest.raises(UserError, match=words):
        import_records(profile, LONG, [prompted("acm_gsm8k", render("few-shot", QUESTION))], "TA", f32[1])
    for doc in ({"gold": "4"}, {"question": 4}, []):
        with pytest.raises(UserError, match=r"line 1 has no question|line 1: doc is \[\], not an object"):
            import_records(profile, LONG, [log("acm_gsm8k", doc=doc, asked={"until": FEW_SHOT_STOPS})], "TA", f32[1])
    assert stored() == []


def test_files_as_people_copy_them(profile, log, f32, tmp_path, stored):
    paths = [log(task) for task in TASKS]
    packed = paths[0].with_name(f"{paths[0].name}.gz")
    packed.write_bytes(b"\x1f\x8b")
    for source in (packed, packed.parent):
        with pytest.raises(UserError, match=r"\.jsonl\.gz is packed; unpack it first"):
            import_records(profile, LONG, [source], "TA", f32[1])
    packed.unlink()
    whole = paths[0].read_bytes()
    for raw, words in [
        (whole[:-40], r"line 3 is not JSON .*, and the file ends within the line"),
        (whole.replace(b'"doc_id": 1', b'"doc_id": 1, "doc_id": 1'), "line 2 is not JSON .*'doc_id' comes twice"),
        (whole.replace(b"the answer", b"\xff answer", 1), "line 1 is not UTF-8"),
        (whole.replace(b"the answer", b"\\udc00", 1), "line 1 is not JSON .it holds half of a surrogate pair"),
        (b"\n\n", "holds no sample"),
        (whole * 2, r"item 0 of abacus_easy \(repeat 0\) comes twice"),
        (whole.split(b"\n", 1)[1], "lack item 0 of abacus_easy"),
    ]:
        paths[0].write_bytes(raw)
        with pytest.raises(UserError, match=words) as error:
            import_records(profile, LONG, paths, "TA", f32[1])
        assert stored() == [] and "\n" not in str(error.value)
    paths[0].write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n\r\n"))  # as Windows programs save it
    assert "1 imported" in import_records(profile, LONG, paths, "TA", f32[1])


def test_two_logs_of_a_task_are_the_users_choice(profile, log, f32, stored):
    paths = [log(task) for task in TASKS]
    again = log(TASKS[0], f"samples_{TASKS[0]}_2026-11-23T10-00-00.123456.jsonl", resps=[["another"]])
    with pytest.raises(UserError, match=r"abacus_easy has 2 logs \(.*22T10.*, .*23T10.*\), and the profile asks"):
        import_records(profile, LONG, [*paths, again], "TA", f32[1])
    assert stored() == []


def test_repeats_that_say_the_same_are_copies(sampled, sampled_logs, f32, stored):
    paths = sampled_logs()
    first, second = (paths[k].read_text() for k in (0, 2))
    paths[0].write_text(second.replace('"doc_hash": "a"', '"doc_hash": "z"'))  # other bytes, the same responses
    assert first != paths[0].read_text()
    with pytest.raises(UserError, match="hold the same responses, so they are copies of one and no repeats"):
        import_records(sampled, LONG, paths, "TA", f32[1])
    assert stored() == []


def test_hashes_are_of_what_the_line_holds(profile, log, f32, stored):
    item = items_of(TASKS[0])[0]
    right = {"prompt_hash": sha(item["question"]), "target_hash": sha(item["gold"])}
    lines = log(TASKS[0]).read_text().splitlines()
    for wrong in ({"prompt_hash": sha("else")}, {"target_hash": sha("0")}, {}):
        lines[0] = json.dumps(json.loads(lines[0]) | right | wrong)
        paths = [log(TASKS[0], lines=lines), log(TASKS[1])]
        if wrong:
            with pytest.raises(UserError, match=f"line 1: {next(iter(wrong))} is of another text than"):
                import_records(profile, LONG, paths, "TA", f32[1])
            assert stored() == []
    assert "1 imported" in import_records(profile, LONG, paths, "TA", f32[1])


def sha(text):
    """As lm-evaluation-harness hashes a text."""
    return hashlib.sha256(text.encode()).hexdigest()
