"""Records from elsewhere: checked against the profile, and stored whole or not at all. All files here are made up."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml
from helpers_imported import CAP, LONG, TASKS, N, answered, items_of

from acm.errors import UserError
from acm.identity import identity
from acm.profiles import load_profile
from acm.reporting import paper_comparison
from acm.reporting.results import Results
from acm.running.imported import import_records, other_methods

PAPERS = ["acm_gsm8k", "acm_aime24"]


@pytest.fixture
def records(profile, f32, tokenizer):
    """Made-up records of a method, in the profile's setting; keywords change columns, ``setting`` its keys."""

    def make(method="TA", setting=None, tasks=TASKS, **columns):
        model = identity(f32[0]) if method == f32[0].name else "0123456789abcdef"
        facts = {"engine": "lm-eval/transformers", "dtype": "float32", "device": "cpu", "batch_size": 64,
                 "max_tokens": CAP, "seed": 0, "model": model} | (setting or {})  # fmt: skip
        rows = [{"task": task, "item": i, "repeat": 0, "correct": float(i == 0),
                 "answer": item["gold"] if i == 0 else "no idea", "gold": item["gold"], "response": answered(item, i),
                 "length": len(tokenizer(answered(item, i))["input_ids"]), "truncated": False,
                 "thinking_closed": None, "reflections": 0}
                for task in tasks for i, item in enumerate(items_of(task))]  # fmt: skip
        frame = pd.DataFrame(rows).assign(
            profile=profile.name, experiment=LONG, model=method, method=method, setting=json.dumps(facts)
        )
        return frame.assign(**columns)

    return make


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
        import_records(profile, LONG, [write(records(response="the answer is no.", answer="no", correct=0.0))])
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
    ("max_tokens", 41), ("dtype", "bfloat16"), ("seed", 1), ("batch_size", 8), ("device", "cuda"),
    ("profile_hash", "0" * 16), ("temperature", 0.6), ("top_p", 0.9), ("backend", "vllm"), ("prompt", "chat-template"),
    ("model_args", {"quantization": "fp8"}),
])  # fmt: skip
def test_another_setting_is_refused(profile, records, write, stored, key, value):
    with pytest.raises(UserError, match=re.escape(f"made with {key} {value}")):
        import_records(profile, LONG, [write(records(setting={key: value}))])
    assert stored() == []


@pytest.fixture
def repeated(records):
    """Records of two repeats, each task and repeat in a setting of its own, as jobs by task make them.

    Keywords change the setting.
    """

    def make(repeats=(0, 1), **setting):
        parts = []
        for repeat in repeats:
            own = {"temperature": 0.6, "top_p": 0.95, **({"repeat": repeat} if repeat else {})} | setting
            for task in TASKS:
                made = records(setting=own | {"tasks": {task: "0" * 16}}, repeat=repeat)
                parts.append(made.query(f"task == '{task}'"))
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
    with pytest.raises(UserError, match=r"made with temperature 0\.0, and profile mine says 0\.6"):
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
    spelled_out = records("frontier-0.5", setting={"prompt": "qwen25-math-cot"})  # the tasks' usual prompt
    assert "1 imported (frontier-0.5)" in import_records(profile, LONG, [write(spelled_out)])


def test_records_of_vllm_need_the_arguments_of_the_profiles_engine(profile, records, write, tmp_path):
    path, vllm = tmp_path / "mine.yaml", {"backend": "vllm", "device": "cuda"}
    content = yaml.safe_load(path.read_text()) | vllm | {"model_args": {"tensor_parallel_size": 2}}
    path.write_text(yaml.safe_dump(content))
    profile = load_profile(str(path))
    for arguments in ({}, {"model_args": {"tensor_parallel_size": 2, "quantization": "fp8"}}):
        words = r"made with model_args \{.*, and profile mine says \{'tensor_parallel_size': 2\}"
        with pytest.raises(UserError, match=words):
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
    profile = named("qwen-14b", PAPERS)
    labels = {"profile": "qwen-14b", "tasks": PAPERS}
    monkeypatch.setattr("acm.reporting.paper_comparison.RUNS", profile.folder.parent)
    further = ("Sens-Merging", "ACM-Average", "AIM")  # the last stands in Table 7 alone
    for method in further:
        assert f"1 imported ({method})" in import_records(profile, LONG, [write(records(method, **labels))])
    ours = paper_comparison.our_records("qwen-14b")
    assert set(ours["method"]) == set(further)
    ran = paper_comparison.table("4", ours).dropna(subset=["ours"])
    assert set(zip(ran["method"], ran["task"], strict=True)) == {
        (m, t) for m in further[:2] for t in ("gsm8k", "aime24")
    }
    with pytest.raises(UserError, match="reference answer"):
        import_records(profile, LONG, [write(records("TA", **labels, gold="other", correct=0.0))])
    import_records(profile, LONG, [write(records("TA", **labels))])
    # The pipeline's tables have its own methods alone.
    assert not set(Results(profile, LONG).methods) & set(further)


@pytest.mark.parametrize("name, method", [
    ("qwen-14b", "DPO"), ("mine", "AIM"), ("qwen-32b", "AIM"), ("llama-2-7b", "Sens-Merging"),
])  # fmt: skip
def test_methods_that_the_paper_does_not_print_for_the_profile_are_refused(named, records, write, stored, name, method):
    profile = named(name, TASKS)
    with pytest.raises(UserError, match=f"unknown method of long-to-short '{method}'"):
        import_records(profile, LONG, [write(records(method, profile=name))])
    assert stored() == []


def test_a_parent_is_no_further_method_under_the_papers_name_for_it():
    def further(name, experiment=LONG):
        return other_methods(load_profile(name), experiment)

    assert further("qwen-7b") == ["DPO", "AIM", "Sens-Merging"]
    assert further("qwen-1.5b+cap4096") == ["AIM", "Sens-Merging"]
    assert further("qwen-14b") == ["Sens-Merging", "ACM-Average", "AIM"]
    assert further("qwen-32b") == further("llama-2-7b", "general") == further("tiny") == []


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
    with pytest.raises(UserError, match=r"frontier-0\.5 lack item 0"):
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


def test_other_questions_than_those_stored_or_of_the_task_are_refused(profile, named, records, write):
    papers = named("mine", PAPERS)
    import_records(papers, LONG, [write(records(tasks=PAPERS))])
    with pytest.raises(UserError, match="another reference answer for item 0 of acm_aime24"):
        import_records(papers, LONG, [write(records("frontier-0.5", tasks=PAPERS, gold="other", correct=0.0))])


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


def test_the_command_line(profile, records, write, tmp_path):
    from typer.testing import CliRunner

    from acm.__main__ import app

    done = CliRunner().invoke(app, ["import", str(tmp_path / "mine.yaml"), LONG, str(write(records()))])
    assert done.exit_code == 0 and "1 imported (TA)" in done.output
    shutil.rmtree(profile.folder)
    refused = CliRunner().invoke(app, ["import", str(tmp_path / "mine.yaml"), LONG, str(tmp_path / "absent")])
    assert isinstance(refused.exception, UserError) and not profile.folder.exists()
