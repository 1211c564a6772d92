"""The setting of a log: found under every name, from the results beside it or the user, and never assumed."""

import json

import pandas as pd
import pytest
from helpers_imported import CAP, LONG, TASKS, N, items_of

from acm.errors import UserError
from acm.running.imported import import_records
from acm.running.imported_given import Given

TASK, DATE = "gsm8k_cot_zeroshot", "2026-11-22T10-00-00.123456"  # a task of lm-eval's own, of unknown size
RESULTS = {
    "config": {"model": "hf", "model_args": {"pretrained": "x"}, "limit": None, "model_dtype": "torch.float32"},
    "n-samples": {TASK: {"original": N, "effective": N}}, "chat_template": None, "system_instruction": None,
}  # fmt: skip
GREEDY = {"until": ["Q:"], "do_sample": False, "max_gen_toks": CAP}


@pytest.fixture
def foreign(named, f32, tmp_path):
    """Imports a log of lm-eval's own task: its settings of generation, its results, changes of its lines."""
    profile = named("mine", [TASK])
    folder = tmp_path / "logs"
    folder.mkdir()

    def run(arguments=GREEDY, results=RESULTS, lines=None, given=Given(), tokenizer=f32[1], method="TA", **changes):
        samples = lines or [{
            "doc_id": i, "doc": {"question": f"{i}?"}, "target": f"{i}", "resps": [["the answer is 1."]],
            "arguments": {"gen_args_0": {"arg_0": f"Q: {i}?", "arg_1": arguments}}, "filtered_resps": ["1"],
            "filter": "none", "metrics": ["exact_match"], "exact_match": float(i == 1),
        } | changes for i in range(N)]  # fmt: skip
        log, beside = folder / f"samples_{TASK}_{DATE}.jsonl", folder / f"results_{DATE}.json"
        log.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
        beside.unlink(missing_ok=True)
        if results is not None:
            beside.write_text(json.dumps(results))
        import_records(profile, LONG, [folder], method, tokenizer, given)
        return pd.read_parquet(profile.folder / LONG / "records" / f"{method}.parquet")

    return run


def of(model, **model_args):
    """The results of a run by a model class of lm-eval."""
    return RESULTS | {"config": {"model": model, "model_args": {"pretrained": "x"} | model_args}}


def without(*names, **more):
    """The greedy settings without some."""
    return {name: value for name, value in GREEDY.items() if name not in names} | more


def test_a_log_with_its_results_needs_no_word(foreign):
    found = foreign()
    assert found["correct"].tolist() == [0, 1, 0] and not found["truncated"].any()
    setting = json.loads(found["setting"].iloc[0])
    assert setting["graded_by"] == {TASK: {"metric": "exact_match", "filter": "none"}}
    assert setting["results"]["model"] == "hf" and setting["given"] == {}


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("model", ["hf", "vllm"])
def test_a_cap_counts_under_each_name_that_the_class_reads(foreign, name, model):
    assert len(foreign(without("max_gen_toks", **{name: CAP}), of(model))) == N
    with pytest.raises(UserError, match=f"with a cap of 41 tokens, and the profile says {CAP}"):
        foreign(without("max_gen_toks", **{name: 41}), of(model))


@pytest.mark.parametrize("arguments, results, words", [
    (without("max_gen_toks"), of("hf"), "a cap of 256 tokens"),
    (without("max_gen_toks"), of("vllm"), "a cap of 256 tokens"),
    (without("max_gen_toks"), of("vllm", max_gen_toks=41), "a cap of 41 tokens"),
    (without("max_gen_toks"), of("local-completions", max_gen_toks="41"), "a cap of 41 tokens"),
    (without("max_gen_toks"), of("nemo_lm"), "does not state its max tokens .*; say what it was by --max-tokens"),
    (without("max_gen_toks"), None, "does not state its max tokens .*own cap is 256.*--max-tokens"),
    (without("max_gen_toks", max_new_tokens=CAP), None, "for certain: not every model class .* heeds max_new_tokens"),
    (without("max_gen_toks", max_new_tokens=CAP), of("local-completions"), "a cap of 256 tokens"),
    (without("max_gen_toks", max_completion_tokens=CAP), of("openai-chat-completions"), "a cap of 256 tokens"),
    (without("max_gen_toks", max_length=CAP), of("hf"), "max_length 40 caps prompt and response together"),
    (without(max_tokens=50), of("hf"), r"states several caps \(max_gen_toks 40, max_tokens 50\)"),
    (without(max_gen_toks="many"), of("hf"), "max_gen_toks is many, which is no number of tokens"),
    (without(max_gen_toks=40.5), of("hf"), "max_gen_toks is 40.5, which is no number of tokens"),
    (without(max_gen_toks=True), of("hf"), "max_gen_toks is True, which is no number of tokens"),
    (without("do_sample"), None, "does not state its temperature; say what it was by --temperature"),
    (without(temperature=0.7), of("local-completions"), "generated at temperature 0.7"),
    (without(do_sample=True), of("hf"), "does not state its temperature for certain"),
    (without(repetition_penalty=1.1), of("hf"), "generated with repetition_penalty 1.1, which the profile does not"),
    (without(num_beams=4), of("hf"), "generated with num_beams 4"),
    (without(brand_new=[1]), of("hf"), "generated with brand_new"),
    (GREEDY, None, r"does not state its prompt \(own: .*; say what it was by --prompt"),
    (GREEDY, RESULTS | {"chat_template": "{{x}}"}, r"the prompts had a chat template \(\{\{x\}\}\)"),
    (GREEDY, RESULTS | {"system_instruction": "Be brief."}, r"the prompts had a system instruction \(Be brief\.\)"),
    (GREEDY, of("hf", dtype="bfloat16"), "made with dtype bfloat16 .*, and the profile says float32"),
    (GREEDY, of("hf", think_end_token="</think>"), "the thinking is lost"),
    (GREEDY, RESULTS | {"n-samples": {TASK: {"original": 2}}}, "hold the unknown item 2"),
    (GREEDY, RESULTS | {"n-samples": {TASK: {"original": 3, "effective": 2}}}, "holds 3 samples, and .* counts 2"),
    (GREEDY, RESULTS | {"n-samples": {TASK: {"original": "3"}}}, "original is 3, not a number"),
    (GREEDY, RESULTS | {"n-samples": [1]}, "n-samples.* is .*, not an object"),
    (GREEDY, {"config": [1]}, r"config is \[1\], not an object"),
    (GREEDY, {"config": {"model_args": 3}}, "config.model_args is 3, not settings"),
    (GREEDY, [1], "must hold a JSON object"),
    (GREEDY, RESULTS | {
        "results": {TASK: {"exact_match,none": 0.9}},
        "configs": {TASK: {"metric_list": [{"metric": "exact_match", "aggregation": "mean"}]}},
    }, "the mean exact_match is 0.3333, and .* says 0.9"),
])  # fmt: skip
def test_what_is_not_the_profiles_or_not_stated_is_refused(foreign, stored, arguments, results, words):
    with pytest.raises(UserError, match=words) as error:
        foreign(arguments, results)
    assert stored() == [] and "\n" not in str(error.value)


@pytest.mark.parametrize("arguments, given", [
    (without("max_gen_toks"), {"max_tokens": CAP}),
    (without("max_gen_toks", max_new_tokens=CAP), {"max_tokens": CAP}),
    (without("do_sample"), {"temperature": 0.0}),
    (without(temperature=0.6), {"temperature": 0.0}),
    (GREEDY, {}),
])  # fmt: skip
def test_the_user_says_what_a_log_does_not_and_the_setting_notes_it(foreign, arguments, given):
    given = {"prompt": "own"} | given
    found = foreign(arguments, None, given=Given(**given))
    assert json.loads(found["setting"].iloc[0])["given"] == given


@pytest.mark.parametrize("arguments, given, words", [
    (GREEDY, {"max_tokens": 41}, "states max tokens 40, and --max-tokens says 41; leave --max-tokens out"),
    (GREEDY, {"temperature": 0.6}, r"states temperature 0\.0, and --temperature says 0\.6"),
    (without("max_gen_toks"), {"max_tokens": 41}, "a cap of 41 tokens, and the profile says 40"),
    (without("max_gen_toks", max_new_tokens=41), {"max_tokens": CAP}, "max_new_tokens 41, and --max-tokens says 40"),
    (without(temperature=0.6), {"temperature": 0.3}, "states do_sample False, temperature 0.6, and --temperature says"),
    (GREEDY, {"prompt": "few-shot"}, "--prompt says few-shot, and the profile asks gsm8k_cot_zeroshot by its own"),
    (GREEDY, {"prompt": "own", "items": {TASK: 2}}, "hold the unknown item 2"),
    (GREEDY, {"prompt": "own", "metrics": ("acc",)}, "has the metrics exact_match, none of which --metric names"),
    (GREEDY, {"prompt": "own", "filters": ("strict",)}, "has the filters none, none of which --filter names"),
])  # fmt: skip
def test_the_user_cannot_say_otherwise(foreign, stored, arguments, given, words):
    with pytest.raises(UserError, match=words):
        foreign(arguments, None, given=Given(**given))
    assert stored() == []


def test_as_many_items_as_the_profile_asks_for_need_no_word(foreign):
    assert len(foreign(results=RESULTS | {"n-samples": {}})) == N


def test_a_log_cut_short_by_a_limit_is_refused(foreign):
    results = RESULTS | {"n-samples": {TASK: {"original": 1319, "effective": 2}}}
    samples = [{
        "doc_id": i, "doc": {}, "target": "1", "resps": [["1"]], "filtered_resps": ["1"], "filter": "none",
        "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": GREEDY}}, "metrics": ["exact_match"], "exact_match": 1.0,
    } for i in range(2)]  # fmt: skip
    with pytest.raises(UserError, match=rf"lack item 2 of {TASK} \(repeat 0\); the profile asks for 3"):
        foreign(results=results, lines=samples)
    unknown = {name: value for name, value in RESULTS.items() if name != "n-samples"}
    with pytest.raises(UserError, match=f"hold 2 items of {TASK}, and nothing here says how many .* --items {TASK}=N"):
        foreign(results=unknown, lines=samples)
    assert len(foreign(results=unknown, lines=samples, given=Given(items={TASK: 2}))) == 2


def test_a_log_of_one_of_the_profiles_models_is_no_methods(foreign, f32, stored):
    for key in ("pretrained", "model"):
        with pytest.raises(UserError, match=r"is of the model left, and --method says TA; say --method left"):
            foreign(results=RESULTS | {"config": {"model": "hf", "model_args": {key: str(f32[1])}}})
    assert stored() == []
    assert (
        len(
            foreign(
                results=RESULTS | {"config": {"model": "hf", "model_args": {"pretrained": "x/left"}}}, method="left"
            )
        )
        == N
    )


def test_metrics_and_filters_are_the_users_choice(foreign, stored):
    kept = [{
        "doc_id": i, "doc": {}, "target": "1", "resps": [["1"]], "filtered_resps": [name], "filter": name,
        "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": GREEDY}}, "metrics": ["exact_match", "f1"],
        "exact_match": 1.0, "f1": 0.25 * (name == "strict-match"),
    } for name in ("strict-match", "flexible-extract") for i in range(N)]  # fmt: skip
    with pytest.raises(
        UserError, match=r"has the filters strict-match, flexible-extract; choose the one .* by --filter"
    ):
        foreign(lines=kept)
    with pytest.raises(UserError, match="has the metrics exact_match, f1; choose the one that counts by --metric"):
        foreign(lines=kept, given=Given(filters=("strict-match",)))
    with pytest.raises(UserError, match="choose the one that counts by --metric"):
        foreign(lines=kept, given=Given(filters=("strict-match",), metrics=("f1", "exact_match")))
    with pytest.raises(UserError, match="--metric gone: no log is graded by it; they have f1"):
        foreign(lines=kept, given=Given(filters=("strict-match",), metrics=("f1", "gone")))
    assert stored() == []
    found = foreign(lines=kept, given=Given(filters=("strict-match",), metrics=("f1",)))
    assert found["correct"].tolist() == [0.25] * N and found["answer"].tolist() == ["strict-match"] * N


def test_logs_of_two_models_are_no_method(profile, f32, tmp_path):
    for k, task in enumerate(TASKS):
        date = f"2026-11-22T10-0{k}-00.123456"
        rows = [{
            "doc_id": i, "doc": item, "target": item["gold"], "resps": [["no"]], "filtered_resps": ["[invalid]"],
            "arguments": {"gen_args_0": {"arg_0": item["question"], "arg_1": without("until")}},
            "filter": "last-answer", "metrics": ["exact_match"], "exact_match": 0.0,
        } for i, item in enumerate(items_of(task))]  # fmt: skip
        (tmp_path / f"samples_{task}_{date}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        results = {"config": {"model": "hf", "model_args": f"pretrained=model{k},dtype=float32"}}
        (tmp_path / f"results_{date}.json").write_text(json.dumps(results))
    logs = sorted(tmp_path.glob("samples_*"))
    with pytest.raises(UserError, match=r"state different model_args; import logs of one model at a time"):
        import_records(profile, LONG, logs, "TA", f32[1])
    (tmp_path / f"results_{date}.json").write_text(json.dumps(results).replace("model1", "model0"))
    assert "1 imported" in import_records(profile, LONG, logs, "TA", f32[1])


def test_the_models_own_settings_of_generation_are_no_secret(foreign, f32, tmp_path):
    (tmp_path / "own").mkdir()
    for path in f32[1].iterdir():
        if path.suffix == ".json":
            (tmp_path / "own" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "own" / "generation_config.json").write_text('{"repetition_penalty": 1.05, "temperature": 0.7}')
    words = "sets repetition_penalty 1.05, which lm-eval heeds .* --gen_kwargs repetition_penalty=1"
    for results in (of("hf"), of("local-completions")):
        with pytest.raises(UserError, match=words):
            foreign(results=results, tokenizer=tmp_path / "own")
    assert len(foreign(without(repetition_penalty=1.0), of("hf") | {"n-samples": {}}, tokenizer=tmp_path / "own")) == N
    assert len(foreign(without(repetition_penalty=1.0), of("vllm"), tokenizer=tmp_path / "own")) == N


def test_methods_are_graded_and_prompted_alike(foreign, stored):
    foreign(results=RESULTS | {"n-shot": {TASK: 0}})
    for shots, name, words in [
        (5, "none", f"prompted with examples 5 in {TASK}, and those 0; import logs of one rule"),
        (0, "strict", 'graded by {"metric": "exact_match", "filter": "strict"} in'),
    ]:
        with pytest.raises(UserError, match=f"records of frontier-0.5, compared with those of TA, were {words}"):
            foreign(results=RESULTS | {"n-shot": {TASK: shots}}, method="frontier-0.5", filter=name)
    assert "frontier-0.5.parquet" not in stored()


@pytest.mark.parametrize("given, words", [
    ({"max_tokens": 40}, "--max-tokens is for logs of lm-eval, and the sources hold none"),
    ({"metrics": ("acc",)}, "--metric is for logs"),
    ({"items": {"abacus_hard": 3}}, "--items: unknown task of the experiment 'abacus_hard'"),
])  # fmt: skip
def test_an_option_without_effect_is_refused(profile, tmp_path, given, words):
    pd.DataFrame({"item": [0]}).to_parquet(tmp_path / "TA.parquet")
    with pytest.raises(UserError, match=words):
        import_records(profile, LONG, [tmp_path / "TA.parquet"], given=Given(**given))
