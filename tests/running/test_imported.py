"""Records from elsewhere: checked against the profile, and stored whole or not at all. All files here are made up."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml

from acm.checkpoints import identity
from acm.errors import UserError
from acm.evaluation.prompts import CODE_EXAMPLES, CODE_SYSTEM, FEW_SHOT_STOPS, PROMPTS, render
from acm.profiles import load_profile
from acm.records import RECORD_COLUMNS
from acm.reporting import paper_comparison
from acm.reporting.results import Results
from acm.running.imported import import_records, printed_methods

LONG, CAP, N = "long-to-short", 40, 3
TASKS = ["abacus_easy", "abacus_medium"]
PAPERS = ["acm_gsm8k", "acm_aime24"]


@pytest.fixture
def profile(f32, tmp_path, monkeypatch):
    """A profile of two pico folders, two tasks and N items, whose run lies in the test's folder."""
    monkeypatch.setattr("acm.profiles.RUNS", tmp_path / "runs")
    experiment = {
        "base": str(f32[0]), "finetuned": [str(f32[1])], "reference": f32[1].name, "tasks": TASKS, "frontier": [0.5],
        "calibration": {"texts": "texts.jsonl"}, "methods": {"TA": {"merge_method": "task_arithmetic", "parameters": {"weight": 0.7}}},
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump({"items": N, "max_tokens": CAP, "dtype": "float32", "experiments": {LONG: experiment}})
    )
    return load_profile(str(path))


@pytest.fixture
def sampled(profile, tmp_path):
    """The same with two sampled responses to each item, evaluated task by task."""
    path = tmp_path / "mine.yaml"
    content = yaml.safe_load(path.read_text()) | {"jobs": "task"}
    content["experiments"][LONG] |= {"temperature": 0.6, "top_p": 0.95, "repeats": 2}
    path.write_text(yaml.safe_dump(content))
    return load_profile(str(path))


@pytest.fixture
def named(profile, tmp_path):
    """The same profile under another name, with other tasks and further keys of its experiment."""

    def make(name, tasks, **keys):
        content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
        content["experiments"][LONG] |= {"tasks": tasks} | keys
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return load_profile(str(tmp_path / f"{name}.yaml"))

    return make


@pytest.fixture
def records(profile, f32):
    """Made-up records of a method, in the profile's setting; keywords change columns, ``setting`` its keys."""

    def make(method="TA", setting=None, **columns):
        facts = {"engine": "lm-eval/transformers", "dtype": "float32", "device": "cpu", "batch_size": 64, "max_tokens": CAP, "seed": 0,
                 "model": identity(f32[0]) if method == f32[0].name else "0123456789abcdef"} | (setting or {})  # fmt: skip
        rows = [{"task": task, "item": i, "repeat": 0, "correct": float(i == 0), "answer": str(i), "gold": f"{task} {i}",
                 "response": f"the answer is {i}.", "length": 5 + i, "truncated": False, "thinking_closed": None, "reflections": 0}
                for task in TASKS for i in range(N)]  # fmt: skip
        frame = pd.DataFrame(rows).assign(
            profile=profile.name, experiment=LONG, model=method, method=method, setting=json.dumps(facts)
        )
        return frame.assign(**columns)

    return make


@pytest.fixture
def stored(profile):
    return lambda: sorted(path.name for path in (profile.folder / LONG).rglob("*") if path.is_file())


@pytest.fixture
def write(tmp_path):
    def to(frame, name="there/TA.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frame.to_parquet(tmp_path / name, index=False)
        return tmp_path / name

    return to


def test_records_come_in_as_they_are_with_their_origin(profile, records, write):
    path = write(records())
    assert import_records(profile, LONG, [path]) == f"{LONG}: 1 imported (TA), 0 already here (none)."
    folder = profile.folder / LONG / "records"
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "TA.parquet"), pd.read_parquet(path))
    assert str(path) in json.loads((folder / "TA.imported.json").read_text())["imported_from"]
    assert not (folder / ".importing").exists()


def test_a_folder_brings_all_methods_and_the_results_read_them(profile, records, write, f32, tmp_path):
    for method in (f32[0].name, f32[1].name, "TA", "frontier-0.5"):
        setting = {"model": identity(f32[1])} if method == f32[1].name else None
        write(records(method, setting), f"there/{method}.parquet")
    assert "4 imported" in import_records(profile, LONG, [tmp_path / "there"])
    assert len(Results(profile, LONG).records) == 4 * N * len(TASKS)


def test_one_table_of_all_methods_as_a_report_has_it(profile, records, write, tmp_path):
    write(pd.concat([records("TA"), records("frontier-0.5")]), "there/records.parquet")
    write(pd.DataFrame({"value": [1.0]}), "there/mutual_information.parquet")
    assert "2 imported" in import_records(profile, LONG, [tmp_path / "there"])


def test_the_same_again_changes_nothing_and_others_are_refused(profile, records, write):
    import_records(profile, LONG, [write(records())])
    before = (profile.folder / LONG / "records" / "TA.parquet").stat().st_mtime_ns
    assert "0 imported (none), 1 already here (TA)" in import_records(profile, LONG, [write(records())])
    with pytest.raises(UserError, match="holds other records of this method; remove it first"):
        import_records(profile, LONG, [write(records(correct=1.0))])
    assert (profile.folder / LONG / "records" / "TA.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize("columns, words", [
    ({"profile": "other"}, "of profile other, not mine"),
    ({"experiment": "general"}, "of experiment general, not long-to-short"),
    ({"method": "TB"}, "unknown method of long-to-short 'TB'"),
    ({"task": "abacus_easy"}, "lack the task abacus_medium"),
    ({"task": ["abacus_easy"] * N + ["abacus_hard"] * N}, "unknown task of long-to-short 'abacus_hard'"),
    ({"item": 0}, "item 0 of abacus_easy (repeat 0) comes twice"),
    ({"item": [0, 1, 3, 0, 1, 2]}, "lack item 2 of abacus_easy (repeat 0); the profile asks for 3"),
    ({"length": CAP + 1}, f"length of item 0 of abacus_easy is 41, and the profile's cap is {CAP}"),
    ({"length": -1}, "length of item 0"),
    ({"length": float("nan")}, "length of item 0"),
    ({"correct": 2.0}, "correct of item 0"),
    ({"response": None}, "response of item 0"),
    ({"setting": "{"}, "their setting is not JSON"),
    ({"repeat": 1}, "hold the repeats 1 of abacus_easy, and the profile asks for 0; import just these"),
    ({"repeat": [0, 0, 1, 0, 0, 0]}, "hold the repeats 0, 1 of abacus_easy, and the profile asks for 0"),
    ({"setting": "[]"}, "their setting is not JSON"),
    ({"setting": [json.dumps({"max_tokens": CAP, "part": i // N}) for i in range(2 * N)]}, "were made with 2 settings"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_stored(profile, records, write, stored, columns, words):
    path = write(records().assign(**columns))
    with pytest.raises(UserError) as error:
        import_records(profile, LONG, [path])
    assert words in str(error.value) and stored() == []


@pytest.mark.parametrize("key, value", [
    ("max_tokens", 41), ("dtype", "bfloat16"), ("seed", 1), ("batch_size", 8), ("device", "cuda"), ("profile_hash", "0" * 16),
    ("temperature", 0.6), ("top_p", 0.9), ("backend", "vllm"), ("prompt", "chat-template"), ("model_args", {"quantization": "fp8"}),
])  # fmt: skip
def test_another_setting_is_refused(profile, records, write, stored, key, value):
    with pytest.raises(UserError, match=re.escape(f"made with {key} {value}")):
        import_records(profile, LONG, [write(records(setting={key: value}))])
    assert stored() == []


@pytest.fixture
def repeated(records):
    """Records of two repeats, each task and repeat in a setting of its own, as jobs by task make them; keywords change the setting."""

    def make(repeats=(0, 1), **setting):
        parts = []
        for repeat in repeats:
            own = {"temperature": 0.6, "top_p": 0.95, **({"repeat": repeat} if repeat else {})} | setting
            parts += [
                records(setting=own | {"tasks": {task: "0" * 16}}, repeat=repeat).query(f"task == '{task}'")
                for task in TASKS
            ]
        return pd.concat(parts, ignore_index=True)

    return make


def test_repeats_come_in_where_the_profile_asks_for_them(sampled, repeated, write):
    assert "1 imported (TA)" in import_records(sampled, LONG, [write(repeated())])
    found = pd.read_parquet(sampled.folder / LONG / "records" / "TA.parquet")
    assert len(found) == 2 * N * len(TASKS) and found["setting"].nunique() == 4
    assert "1 already here" in import_records(sampled, LONG, [write(repeated())])


@pytest.mark.parametrize("repeats, setting, words", [
    ((0,), {}, "hold the repeats 0 of abacus_easy, and the profile asks for 0, 1"),
    ((0, 1, 2), {}, "hold the repeats 0, 1, 2"),
    ((0, 2), {}, "hold the repeats 0, 2"),
    ((0, 1, 1), {}, "(repeat 1) comes twice"),
    ((0, 1), {"temperature": 0.7}, "made with temperature 0.7, and profile mine says 0.6"),
    ((0, 1), {"top_p": 1.0}, "made with top_p 1.0, and profile mine says 0.95"),
])  # fmt: skip
def test_other_repeats_or_another_temperature_are_refused(sampled, repeated, write, stored, repeats, setting, words):
    with pytest.raises(UserError) as error:
        import_records(sampled, LONG, [write(repeated(repeats, **setting))])
    assert words in str(error.value) and stored() == []


def test_greedy_records_of_a_sampled_profile_and_an_item_without_its_second_repeat_are_refused(
    sampled, records, repeated, write, stored
):
    greedy = pd.concat([records(repeat=repeat) for repeat in (0, 1)])
    with pytest.raises(UserError, match="made with temperature 0.0, and profile mine says 0.6"):
        import_records(sampled, LONG, [write(greedy)])
    with pytest.raises(UserError, match=r"lack item 2 of abacus_medium \(repeat 1\)"):
        import_records(sampled, LONG, [write(repeated().iloc[:-1])])
    assert stored() == []


def test_records_of_a_server_are_taken_for_either_backend(profile, records, write):
    setting = {"engine": "lm-eval/server", "backend": "server"}
    assert "1 imported" in import_records(profile, LONG, [write(records(setting=setting))])


def test_records_need_the_prompt_that_the_profile_gives_their_method(named, records, write):
    profile = named("mine", TASKS, prompts={"TA": "few-shot"})
    for setting, theirs in (({}, "qwen25-math-cot"), ({"prompt": "chat-template"}, "chat-template")):
        with pytest.raises(UserError, match=f"made with prompt {theirs}, and profile mine says few-shot"):
            import_records(profile, LONG, [write(records(setting=setting))])
    assert "1 imported" in import_records(profile, LONG, [write(records(setting={"prompt": "few-shot"}))])
    spelled_out = records(
        "frontier-0.5", setting={"prompt": "qwen25-math-cot"}
    )  # what the tasks ask where none is named
    assert "1 imported (frontier-0.5)" in import_records(profile, LONG, [write(spelled_out)])


def test_records_of_vllm_need_the_arguments_of_the_profiles_engine(profile, records, write, tmp_path):
    content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(content | {"backend": "vllm", "model_args": {"tensor_parallel_size": 2}})
    )
    profile, vllm = load_profile(str(tmp_path / "mine.yaml")), {"backend": "vllm"}
    for arguments in ({}, {"model_args": {"tensor_parallel_size": 2, "quantization": "fp8"}}):
        with pytest.raises(
            UserError, match=r"made with model_args \{.*, and profile mine says \{'tensor_parallel_size': 2\}"
        ):
            import_records(profile, LONG, [write(records(setting=vllm | arguments))])
    good = records(setting=vllm | {"model_args": {"tensor_parallel_size": 2}})
    assert "1 imported" in import_records(profile, LONG, [write(good)])


def test_records_of_a_server_may_hand_text_over_in_its_way_and_switch_its_defaults_off(profile, records, write, stored):
    server = {"engine": "lm-eval/server", "backend": "server"}
    for bad in ({"top_k": 5}, {"repetition_penalty": 1.1}, "none"):
        with pytest.raises(UserError, match="made with model_args"):
            import_records(profile, LONG, [write(records(setting=server | {"model_args": bad}))])
    assert stored() == []
    own = {"skip_special_tokens": False, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert "1 imported" in import_records(profile, LONG, [write(records(setting=server | {"model_args": own}))])


def test_methods_that_the_paper_prints_and_the_profile_does_not_run_stand_in_its_table(
    named, records, write, monkeypatch
):
    profile, labels = (
        named("qwen-14b", PAPERS),
        {"profile": "qwen-14b", "task": [task for task in PAPERS for _ in range(N)]},
    )
    monkeypatch.setattr("acm.reporting.paper_comparison.RUNS", profile.folder.parent)
    further = ("Sens-Merging", "ACM-Average", "AIM")  # the last stands in Table 7 alone
    for method in further:
        assert f"1 imported ({method})" in import_records(profile, LONG, [write(records(method).assign(**labels))])
    ours = paper_comparison.our_records("qwen-14b")
    assert set(ours["method"]) == set(further)
    ran = paper_comparison.table("4", ours).dropna(subset=["ours"])
    assert set(zip(ran["method"], ran["task"], strict=True)) == {
        (m, t) for m in further[:2] for t in ("gsm8k", "aime24")
    }
    with pytest.raises(UserError, match="reference answer"):
        import_records(profile, LONG, [write(records("TA").assign(**labels, gold="other"))])
    import_records(profile, LONG, [write(records("TA").assign(**labels))])
    assert (
        set(Results(profile, LONG).methods) & set(further) == set()
    )  # the pipeline's tables have its own methods alone


@pytest.mark.parametrize("name, method", [
    ("qwen-14b", "DPO"), ("mine", "AIM"), ("qwen-32b", "AIM"), ("llama-2-7b", "Sens-Merging"),
])  # fmt: skip
def test_methods_that_the_paper_does_not_print_for_the_profile_are_refused(named, records, write, stored, name, method):
    profile = named(name, TASKS)
    with pytest.raises(UserError, match=f"unknown method of long-to-short '{method}'"):
        import_records(profile, LONG, [write(records(method, profile=name))])
    assert stored() == []


def test_a_parent_is_no_further_method_under_the_papers_name_for_it():
    assert printed_methods(load_profile("qwen-7b"), LONG) == ["DPO", "AIM", "Sens-Merging"]
    assert printed_methods(load_profile("qwen-1.5b+cap4096"), LONG) == ["AIM", "Sens-Merging"]
    assert printed_methods(load_profile("qwen-14b"), LONG) == ["Sens-Merging", "ACM-Average", "AIM"]
    assert (
        printed_methods(load_profile("qwen-32b"), LONG) == printed_methods(load_profile("llama-2-7b"), "general") == []
    )
    assert printed_methods(load_profile("tiny"), LONG) == []


def test_a_parents_records_must_be_of_the_folder_that_is_here(profile, records, write, f32):
    with pytest.raises(UserError, match="another model"):
        import_records(profile, LONG, [write(records(f32[1].name))])


def test_a_manifest_of_another_profile_content_is_refused(profile, records, write, tmp_path):
    path = write(records())
    general = json.loads(profile.model_dump_json(exclude={"experiments", "title"}))
    own = json.loads(profile.experiment(LONG).model_dump_json())
    manifest = tmp_path / "there" / "manifest.json"
    manifest.write_text(json.dumps({"profile": general, "experiment": own | {"t": 0.5}, "models": {}}))
    with pytest.raises(UserError, match="another content of profile mine in t;"):
        import_records(profile, LONG, [path])
    manifest.write_text(json.dumps({"profile": {}, "profile_hash": "0" * 16}))
    with pytest.raises(UserError, match="another content"):
        import_records(profile, LONG, [path])
    manifest.write_text(json.dumps({"profile": general, "experiment": own, "models": {}}))
    assert "1 imported" in import_records(profile, LONG, [path])


def test_one_bad_method_stops_all(profile, records, write, stored, tmp_path):
    write(records("TA"), "there/a.parquet")
    write(records("frontier-0.5").iloc[1:], "there/b.parquet")
    with pytest.raises(UserError, match="frontier-0.5 lack item 0"):
        import_records(profile, LONG, [tmp_path / "there"])
    assert stored() == []


def test_a_failure_while_writing_leaves_nothing(profile, records, write, stored, tmp_path, monkeypatch):
    write(records("TA"), "there/a.parquet")
    write(records("frontier-0.5"), "there/b.parquet")
    whole = pd.DataFrame.to_parquet

    def full(frame, path, **options):
        if "frontier" in str(path):
            raise OSError(28, "No space left on device")
        whole(frame, path, **options)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space"):
        import_records(profile, LONG, [tmp_path / "there"])
    assert stored() == []


def test_other_questions_than_those_stored_are_refused(profile, records, write):
    import_records(profile, LONG, [write(records())])
    with pytest.raises(UserError, match="another reference answer for item 0 of abacus_easy"):
        import_records(profile, LONG, [write(records("frontier-0.5", gold="other"))])


@pytest.mark.parametrize("name, content, words", [
    ("absent.parquet", None, "does not exist"),
    ("notes.txt", "", "neither a records file (.parquet) nor a log of lm-eval"),
    ("bad.parquet", "no parquet", "is not a readable parquet file"),
    ("empty", "", "holds no records"),
])  # fmt: skip
def test_sources_that_are_none(profile, tmp_path, name, content, words):
    path = tmp_path / name
    path.mkdir() if name == "empty" else path.write_text(content) if content is not None else None
    with pytest.raises(UserError) as error:
        import_records(profile, LONG, [path])
    assert words in str(error.value)


def test_a_table_without_the_columns_of_records(profile, records, write):
    with pytest.raises(UserError, match="lacks the columns gold, length"):
        import_records(profile, LONG, [write(records().drop(columns=["gold", "length"]))])


@pytest.fixture
def log(tmp_path):
    """Writes lm-eval's log of a task as its tracker does: N items, keywords change the samples."""

    def make(task, name=None, lines=None, asked=None, **changes):
        samples = [{
            "doc_id": i, "doc": {"question": f"what is {i}+1?", "steps": 1}, "target": f"{task} {i}",
            "arguments": {"gen_args_0": {"arg_0": f"question: what is {i}+1? answer:",
                                         "arg_1": {"until": [], "do_sample": False, "max_gen_toks": CAP} | (asked or {})}},
            "resps": [["check: wait, the answer is 1." if i else "the answer is 1."]], "filtered_resps": ["1"], "filter": "last-answer",
            "metrics": ["exact_match"], "exact_match": float(i == 0), "doc_hash": "a", "prompt_hash": "b", "target_hash": "c",
        } | changes for i in range(N)]  # fmt: skip
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
    paths = [log(task, resps=[["1" * CAP]]) for task in TASKS]
    import_records(profile, LONG, paths, "TA", f32[1])
    found = pd.read_parquet(profile.folder / LONG / "records" / "TA.parquet")
    assert found["truncated"].all() and (found["length"] == CAP).all()


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
    ({"asked": {"do_sample": True, "temperature": 0.6}}, "generated at temperature 0.6, top_p 1.0, and the profile generates greedily"),
    ({"asked": {"do_sample": True}}, "generated at temperature 1.0"),
    ({"asked": {"do_sample": None, "temperature": 0.6}}, "generated at temperature 0.6"),
    ({"asked": {"do_sample": True, "temperature": "hot"}}, "generated at temperature hot"),
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
        asked = {"do_sample": True, "temperature": 0.6, "top_p": 0.95} | asked
        return [log(task, f"samples_{task}_2026-11-22T10-0{k}-00.123456.jsonl", asked=asked, resps=[[f"the answer is {k}."]])
                for k in (1, 0) for task in TASKS]  # fmt: skip

    return make


def test_logs_of_one_task_are_its_repeats_by_their_dates(sampled, sampled_logs, f32):
    assert "1 imported" in import_records(sampled, LONG, sampled_logs(), "TA", f32[1])
    found = pd.read_parquet(sampled.folder / LONG / "records" / "TA.parquet")
    assert len(found) == 2 * N * len(TASKS)
    assert (found["response"] == "the answer is " + found["repeat"].astype(str) + ".").all()
    assert json.loads(found["setting"].iloc[0])["temperature"] == 0.6


@pytest.mark.parametrize("asked, words", [
    ({"temperature": 0.7}, "generated at temperature 0.7, top_p 0.95, and the profile generates at temperature 0.6, top_p 0.95"),
    ({"top_p": 1.0}, "generated at temperature 0.6, top_p 1.0"),
    ({"do_sample": False}, "generated greedily, and the profile generates at temperature 0.6"),
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
    with pytest.raises(UserError, match="tokenizer folder .* does not exist"):
        import_records(profile, LONG, paths, "TA", tmp_path / "absent")
    with pytest.raises(UserError, match="unknown method of long-to-short 'TB'"):
        import_records(profile, LONG, paths, "TB", f32[1])


@pytest.mark.parametrize("arguments", ["pretrained=x,think_end_token=</think>", {"think_end_token": "</think>"}])
def test_logs_without_their_thinking_are_refused(profile, log, f32, stored, arguments):
    paths = [log(task) for task in TASKS]
    (paths[0].parent / "results_2026-11-22T10-00-00.123456.json").write_text(
        json.dumps({"config": {"model_args": arguments}})
    )
    with pytest.raises(UserError, match="think_end_token.*the thinking is lost"):
        import_records(profile, LONG, paths, "TA", f32[1])
    assert stored() == []


def test_a_log_named_without_a_date(profile, log, f32):
    paths = [log(task, f"samples_{task}.jsonl") for task in TASKS]
    assert "1 imported" in import_records(profile, LONG, paths, "TA", f32[1])


QUESTION = "What is $2+2$?"


@pytest.fixture
def prompted(log):
    """A log of a task of ours with the text that its samples were asked."""

    def make(task, text, until=()):
        generation = {"until": ["<|im_end|>", *until], "do_sample": False, "max_gen_toks": CAP}
        return log(task, doc={"question": QUESTION, "gold": "4"}, metrics=["correct"], correct=1.0,
                   arguments={"gen_args_0": {"arg_0": text, "arg_1": generation}})  # fmt: skip

    return make


def templated(prompt, text):
    return f"<|user|>{text}<|assistant|>" if prompt == "chat-template" else text


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("task, own", [("acm_gsm8k", ()), ("acm_humaneval_pro", (CODE_SYSTEM, CODE_EXAMPLES))])
def test_logs_must_have_asked_the_profiles_prompt(named, prompted, f32, stored, prompt, task, own):
    profile = named("mine", [task], prompts={} if prompt == "qwen25-math-cot" else {"TA": prompt})
    for other in {*PROMPTS} - {prompt}:
        path = prompted(task, templated(other, render(other, QUESTION, *own)), FEW_SHOT_STOPS)
        with pytest.raises(
            UserError,
            match=rf"line 1: asked '.*'…, which is not the prompt {prompt} of the profile; run lm-eval with --metadata",
        ):
            import_records(profile, LONG, [path], "TA", f32[1])
    path = prompted(
        task,
        render("chat-template", QUESTION, *own)
        if prompt == "chat-template"
        else "Answer. " + render(prompt, QUESTION, *own),
    )
    with pytest.raises(
        UserError, match=r"not the prompt|stop string"
    ):  # without the model's template, or with an instruction before it
        import_records(profile, LONG, [path], "TA", f32[1])
    assert stored() == []
    path = prompted(task, templated(prompt, render(prompt, QUESTION, *own)), FEW_SHOT_STOPS)
    assert "1 imported (TA)" in import_records(profile, LONG, [path], "TA", f32[1])


def test_few_shot_logs_without_the_stop_string_and_logs_without_a_question_are_refused(
    named, prompted, log, f32, stored
):
    profile = named("mine", ["acm_gsm8k"], prompts={"TA": "few-shot"})
    with pytest.raises(
        UserError, match=r"without the few-shot prompt's stop string.*--gen_kwargs 'until=\[\"\\n\\nQuestion:\"\]'"
    ):
        import_records(profile, LONG, [prompted("acm_gsm8k", render("few-shot", QUESTION))], "TA", f32[1])
    for doc in ({"gold": "4"}, {"question": 4}, []):
        with pytest.raises(UserError, match="line 1 has no question"):
            import_records(profile, LONG, [log("acm_gsm8k", doc=doc, asked={"until": FEW_SHOT_STOPS})], "TA", f32[1])
    assert stored() == []


def test_the_command_line(profile, records, write, tmp_path):
    from typer.testing import CliRunner

    from acm.__main__ import app

    done = CliRunner().invoke(app, ["import", str(tmp_path / "mine.yaml"), LONG, str(write(records()))])
    assert done.exit_code == 0 and "1 imported (TA)" in done.output
    shutil.rmtree(profile.folder)
    refused = CliRunner().invoke(app, ["import", str(tmp_path / "mine.yaml"), LONG, str(tmp_path / "absent")])
    assert isinstance(refused.exception, UserError) and not profile.folder.exists()
