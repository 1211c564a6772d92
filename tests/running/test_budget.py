"""The plan of a profile: sizes from shapes, jobs as the runner has them, refusals; no network, no torch."""

import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import yaml

from acm.architectures import HEAD, tensor_shapes
from acm.errors import UserError
from acm.evaluation.task_files import count_items
from acm.evaluation.vllm_arguments import VllmArguments
from acm.paths import PROFILES, ROOT
from acm.profiles import load_profile
from acm.running.budget import MARGIN, NOTEBOOK_MEMORY, START, call_sizes, cost, downloads, jobs, request
from acm.running.budget_text import describe
from acm.running.machine import Machine
from acm.searching.samplers import EVEN
from acm.shapes import SHAPES, merged_positions, shape_of

PAPER = ["qwen-1.5b", "qwen-7b", "qwen-14b", "qwen-32b", "llama-2-7b"]
TODAY = {"qwen3-4b": 80, "qwen3-8b-r1": 80, "qwen-32b-fuse": 141, "smollm2": 48, "smollm3": 80}  # GB of a card
LONG = "long-to-short"


@pytest.mark.parametrize("model, parameters", [  # as the models' own indexes count them
    ("Qwen/Qwen2.5-Math-1.5B", 1_543_714_304),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
    ("Qwen/Qwen2.5-Math-7B", 7_615_616_512),
    ("Qwen/Qwen2.5-14B", 14_770_033_664),
    ("Qwen/Qwen2.5-32B", 32_763_876_352),
    ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
    ("codellama/CodeLlama-7b-hf", 6_738_546_688),
    ("Qwen/Qwen3-4B-Instruct-2507", 4_022_468_096),
    ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", 8_190_735_360),
    ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
    ("HuggingFaceTB/SmolLM2-360M", 361_821_120),
    ("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384),
    ("HuggingFaceTB/SmolLM3-3B", 3_075_098_624),
])  # fmt: skip
def test_parameters_follow_from_the_shape(model, parameters):
    assert SHAPES[model].parameters == parameters


@pytest.mark.parametrize("model, fields", [
    ("Qwen/Qwen3-4B-Base", {"model_type": "qwen3", "head_dim": 128}),
    ("HuggingFaceTB/SmolLM3-3B-Base", {"model_type": "smollm3"}),
])  # fmt: skip
def test_a_config_and_the_table_give_one_shape_and_transformers_names_as_many_numbers(model, fields, tmp_path):
    known = SHAPES[model]
    config = fields | {
        "num_hidden_layers": known.layers, "hidden_size": known.hidden, "intermediate_size": known.intermediate,
        "num_attention_heads": known.heads, "num_key_value_heads": known.kv_heads, "vocab_size": known.vocabulary,
        "tie_word_embeddings": known.tied, "torch_dtype": "bfloat16", "rope_theta": known.rope_theta,
        "max_position_embeddings": known.positions,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert shape_of(model, tmp_path) == replace(known, head=128)
    tensors = tensor_shapes(config)
    tensors.pop(HEAD)  # tied
    assert known.parameters == sum(math.prod(shape) for shape in tensors.values())


def test_keys_and_values_of_a_token():
    assert SHAPES["Qwen/Qwen3-4B-Base"].cache("bfloat16") == 2 * 36 * 8 * 128 * 2  # heads are wider than hidden / heads
    assert SHAPES["Qwen/Qwen2.5-Math-7B"].cache("bfloat16") == 2 * 28 * 4 * 128 * 2
    assert SHAPES["meta-llama/Llama-2-7b-hf"].cache("float32") == 2 * 32 * 4096 * 4


def test_a_folders_own_config_decides(f32, tensors):
    assert shape_of(str(f32[0]), f32[0]).parameters == sum(t.numel() for t in tensors(f32[0]).values())


@pytest.mark.parametrize("name", PAPER)
def test_every_paper_profile_has_a_plan(name):
    text = describe(load_profile(name), Machine())
    words = ("downloads", "disk", "calibrate", "merge", "evaluate", "GPU-hours", "jobs", "assumed", "--tokens")
    assert all(word in text for word in words)


@pytest.mark.parametrize("name", TODAY)
def test_every_profile_of_today_has_a_plan_and_fits_its_card(name):
    profile = load_profile(name)
    text = describe(profile, Machine(gpu_memory=TODAY[name]))
    wanted = {model for e in profile.experiments.values() for model in (e.base, *e.finetuned)}
    assert set(downloads(profile)) == wanted and all(model in text for model in wanted)
    for experiment, e in profile.experiments.items():
        models, repeats = len(e.models), e.repeats
        assert experiment in text and jobs(profile, experiment)["evaluate"] == models * len(e.tasks) * repeats
        sizes = {"aime25": 30, "aime26": 30, "hmmt_feb25": 30, "gpqa_diamond": 198, "ifeval": 541, "gsm8k": 1319}
        assert call_sizes(profile, e) == [sizes[task.removeprefix("acm_")] for task in e.tasks for _ in range(repeats)]


def test_a_merge_from_a_short_base_has_its_positions():
    profile = load_profile("qwen3-4b")
    assert profile.cap("task-vectors", "TA") == 28672
    higher = profile.experiments["task-vectors"].model_copy(update={"max_tokens": 32768})
    changed = profile.model_copy(update={"experiments": profile.experiments | {"task-vectors": higher}})
    with pytest.raises(UserError, match="leaves no room for a prompt: Qwen3-4B-Base has 32768 positions"):
        describe(changed, Machine())


def test_downloads_are_the_weights_once():
    models = ("Qwen/Qwen2.5-Math-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B")
    assert downloads(load_profile("qwen-7b")) == {model: pytest.approx(15.23, abs=0.01) for model in models}


def test_more_tokens_or_less_bandwidth_take_longer_and_the_cap_bounds_it():
    profile = load_profile("qwen-7b")
    plain = cost(profile, LONG, Machine())
    assert cost(profile, LONG, Machine(tokens=3000)).evaluate_hours > plain.evaluate_hours
    assert cost(profile, LONG, Machine(bandwidth=400)).evaluate_hours > plain.evaluate_hours
    assert cost(profile, LONG, Machine(tokens=99999)).evaluate_hours == pytest.approx(plain.capped_hours)
    assert cost(load_profile("qwen-7b+cap4096"), LONG, Machine()).gpu < plain.gpu


def test_what_cannot_fit_is_refused_with_the_batch_that_does():
    profile = load_profile("qwen-7b")
    with pytest.raises(UserError, match=r"GPU memory.*more than the 24 there are: lower batch_size to 10") as error:
        describe(profile, Machine(gpu_memory=24))
    small = profile.model_copy(update={"batch_size": 10})
    assert describe(small, Machine(gpu_memory=24)) and "15.2" in str(error.value)
    with pytest.raises(UserError, match="batch_size to 10"):
        describe(profile.model_copy(update={"batch_size": 11}), Machine(gpu_memory=24))
    with pytest.raises(UserError, match="no batch fits: take a GPU with more memory"):
        describe(load_profile("qwen-32b"), Machine(gpu_memory=48))
    with pytest.raises(UserError, match="GB of disk, more than the 20 there are"):
        describe(profile, Machine(disk=20))


def test_the_32b_profile_fits_a_card_of_80_gb():
    assert describe(load_profile("qwen-32b"), Machine(gpu_memory=80))


@pytest.mark.parametrize("name, words", [
    ("qwen-7b+base-config",
     "max_tokens 10240 of profile qwen-7b+base-config leaves no room for a prompt: Average has 4096 positions"),
    ("qwen-1.5b+base-config+cap4096", "leaves no room for a prompt: Average has 4096 positions"),
    ("llama-2-7b+cap4096", "leaves no room for a prompt: Llama-2-7b-hf has 4096 positions"),
    ("qwen-7b+head-dropped", "tie_word_embeddings true is for models that disagree"),
])  # fmt: skip
def test_what_check_would_refuse_of_the_models_the_plan_refuses(name, words):
    with pytest.raises(UserError) as error:
        describe(load_profile(name), Machine())
    assert words in str(error.value)


@pytest.mark.parametrize("name", [
    "qwen-1.5b+base-config+cap2048", "qwen-7b+base-config+cap2048", "qwen-14b+base-config",
    "qwen-1.5b+head-dropped", "qwen-7b+head-kept",
])  # fmt: skip
def test_what_check_would_take_the_plan_takes(name):
    assert describe(load_profile(name), Machine())


def test_a_merge_has_the_most_positions_where_position_codes_agree_else_the_bases():
    models = ("Qwen/Qwen2.5-Math-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "codellama/CodeLlama-7b-hf")
    base, long, other = (SHAPES[model] for model in models)
    assert merged_positions([base, long], paper=False) == 131072 and merged_positions([base, long], paper=True) == 4096
    assert merged_positions([SHAPES["meta-llama/Llama-2-7b-hf"], other], paper=False) == 4096
    assert merged_positions([base, replace(long, positions=None)], paper=False) is None
    stretched = SHAPES["deepseek-ai/DeepSeek-R1-0528-Qwen3-8B"]  # YaRN, which its base has not
    assert merged_positions([SHAPES["Qwen/Qwen3-8B"], stretched], paper=False) == 40960


def test_a_pickled_model_is_marked():
    assert "TIGER-Lab/MAmmoTH-7B, pickled: convert it first" in describe(load_profile("llama-2-7b"), Machine())


def test_smol_has_a_plan_before_its_models_exist(tmp_path, monkeypatch):
    monkeypatch.setattr("acm.profiles.ROOT", tmp_path)
    profile = load_profile("smol")
    assert "evaluate" in describe(profile, Machine())
    assert profile.experiment("long-to-short").shape.parameters == 134_515_008  # SmolLM2-135M


def test_several_cores_beside_a_gpu_keep_all_merged_models_at_once():
    profile = load_profile("qwen-7b")
    assert Machine(cores=1).merged_at_once(profile) == 1 and Machine(cores=2).merged_at_once(profile) == 21
    assert Machine(cores=2).merged_at_once(load_profile("smol")) == 2


def test_a_share_of_the_models_keeps_its_merged_models_until_its_end_unless_they_are_in_memory():
    profile = load_profile("tiny")
    assert Machine(cores=9).merged_at_once(profile) == 0 and "0.0 GB of merged models" in describe(profile, Machine())
    two = {"device": "cuda", "backend": "vllm", "model_args": VllmArguments(tensor_parallel_size=2)}
    assert Machine(cores=9).merged_at_once(profile.model_copy(update=two)) == 1
    one = two | {"model_args": VllmArguments(tensor_parallel_size=1)}
    assert Machine(cores=9).merged_at_once(profile.model_copy(update=one)) == 0
    profile = profile.model_copy(update={"merges": "folder"})
    assert Machine(cores=1).merged_at_once(profile) == 8 and Machine(cores=9).merged_at_once(profile) == 34


def test_an_unknown_model_or_task_is_refused(tmp_path):
    content = yaml.safe_load((ROOT / "profiles" / "qwen-7b.yaml").read_text())
    path = tmp_path / "mine.yaml"
    for key, value, words in (
        ("base", "Qwen/Qwen2.5-Math-7C", "Did you mean 'Qwen/Qwen2.5-Math-7B'"),
        ("tasks", ["other"], "set `items`"),
    ):
        changed = yaml.safe_load(yaml.safe_dump(content))
        changed["experiments"][LONG] |= {key: value, "caps": {}, "prompts": {}}
        path.write_text(yaml.safe_dump(changed))
        with pytest.raises(UserError) as error:
            describe(load_profile(str(path)), Machine())
        assert words in str(error.value)


def test_a_share_asks_for_the_time_of_all_its_models_and_the_memory_of_one():
    alone, eight = (request(load_profile("tiny"), LONG, "share", models=models) for models in (1, 8))
    assert eight["mem_mb"] == alone["mem_mb"]
    on_gpu = load_profile("qwen-7b").model_copy(update={"jobs": "several"})  # an evaluation beside it takes 6 GB
    embedding = 152064 * 3584 * (2 + 4) / 1e9
    expected = 1000 * MARGIN * (6 + 0.5 + embedding + NOTEBOOK_MEMORY)
    assert on_gpu.in_memory and request(on_gpu, LONG, "share")["mem_mb"] == math.ceil(expected)
    folders = on_gpu.model_copy(update={"merges": "folder"})
    assert request(folders, LONG, "share")["mem_mb"] == math.ceil(1000 * MARGIN * (6 + NOTEBOOK_MEMORY))
    assert eight["runtime"] - START == pytest.approx(8 * (alone["runtime"] - START), abs=8)
    text = describe(load_profile("tiny"), Machine())
    assert "jobs       14: calibrate → coefficients → merge and evaluate → tables, figures → publish" in text
    assert re.search(r"merge +3 ×.*\n +evaluate +3 ×.*\n +others +3 ×", text)


def test_the_number_of_items_of_every_profiles_tasks_is_known():
    for name in (path.stem for path in PROFILES.glob("*.yaml")):
        for experiment in load_profile(name).experiments.values():
            assert all(count_items(task) for task in experiment.tasks)


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like the repository, without its runs."""
    for name in ("acm", "abacus", "notebooks", "profiles", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("name", ["tiny", "tiny+sampled", "qwen-1.5b+head-dropped", "llama-2-7b+sampled"])
def test_jobs_are_those_of_the_runner(name, clone):
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--config", f"profile={name}"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    lines = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    pairs = [words for words in lines if len(words) == 2 and words[0].isidentifier() and words[1].isdecimal()]
    counted = Counter()
    for rule, number in dict(pairs).items():
        counted[re.sub(r"_\d+$", "", rule)] += int(number)  # each share of the models is a rule of its own
    profile = load_profile(name)
    planned = [jobs(profile, e) for e in profile.experiments]
    assert counted, done.stderr[-2000:]
    assert set(planned[0]) | {"publish", "all", "total"} == set(counted)
    for rule in planned[0]:
        assert counted[rule] == sum(p[rule] for p in planned)
    merging = [line for line in done.stdout.splitlines() if "input: notebooks/3-merge.ipynb, notebooks/4" in line]
    assert len(merging) == counted["share"]
    assert all(f"acm/running/{module}.py" in line for line in merging for module in ("resident", "merges"))
    asked = [line for line in done.stdout.splitlines() if "resources:" in line]
    assert sum("mem_mb=" in line and "runtime=" in line for line in asked) == counted["total"] - 1  # `all` does nothing
    models = counted["evaluate"] + counted["share"] + counted["calibrate"] if profile.device == "cuda" else 0
    assert sum("gpu=1, gpu_manufacturer=nvidia, scale=0" in line for line in asked) == models


def test_a_search_is_counted():
    """180 items in one batch of 250, at most to the cap of 320: as long as one capped batch of the evaluation."""
    profile = load_profile("tiny")
    line = next(line for line in describe(profile, Machine()).splitlines() if line.startswith("  abacus "))
    hours = (EVEN + 10 + 2400) * cost(profile, "long-to-short", Machine()).batch_hours
    assert "2431 candidates ×  180 items" in line and line.endswith(f"{hours:.1f} hours")
    assert "searches" not in describe(load_profile("qwen-1.5b"), Machine())
