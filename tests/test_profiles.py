"""The paper's profiles, variants laid over profiles, and models of the hub."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from acm import hub
from acm.__main__ import app
from acm.errors import UserError
from acm.evaluation.prompts import PROMPTS
from acm.evaluation.settings import Engine, Sampling
from acm.paths import PROFILES, ROOT
from acm.profiles import SHARE, Profile, load_profile
from acm.profiles.questions import QUESTIONS
from acm.profiles.variants import VARIANTS
from acm.running.notebooks import check_parameters
from acm.running.preflight import check, fetch
from acm.shapes import SHAPES

PAPER = {"qwen-1.5b": "0.7", "qwen-7b": "0.7", "qwen-14b": "0.7", "qwen-32b": "0.7", "llama-2-7b": "-1.8"}
INSTRUCT, THINKING, FOUR_B = "Qwen3-4B-Instruct-2507", "Qwen3-4B-Thinking-2507", "Qwen3-4B-Base"
TODAY = {  # profile → experiment → its models, base first
    "qwen3-4b": {"interpolation": [INSTRUCT, THINKING], "task-vectors": [FOUR_B, INSTRUCT, THINKING]},
    "qwen3-8b-r1": {"interpolation": ["Qwen3-8B", "DeepSeek-R1-0528-Qwen3-8B"],
                    "task-vectors": ["Qwen3-8B-Base", "Qwen3-8B", "DeepSeek-R1-0528-Qwen3-8B"]},
    "qwen-32b-fuse": {"long-short": ["Qwen2.5-32B", "Qwen2.5-32B-Instruct", "DeepSeek-R1-Distill-Qwen-32B"]},
    "smollm2": {size.lower(): [f"SmolLM2-{size}", f"SmolLM2-{size}-Instruct"] for size in ("135M", "360M", "1.7B")},
    "smollm3": {"base-to-thinking": ["SmolLM3-3B-Base", "SmolLM3-3B"]},
}  # fmt: skip
LONG = "long-to-short"


@pytest.fixture(autouse=True)
def nothing_fetched(tmp_path, monkeypatch):
    """Where fetched models are linked is inside the root, and empty."""
    monkeypatch.setattr("acm.hub.RUNS", ROOT / "runs" / "absent")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_profiles_name_its_models_and_settings(name):
    profile = load_profile(name)
    (experiment,) = profile.experiments.values()
    assert profile.name == name and profile.dtype == "bfloat16" and profile.items is None
    assert experiment.t == float(PAPER[name]) and experiment.shift == "layer" and experiment.estimator == "plug-in"
    texts = experiment.calibration
    assert texts.texts == "simplescaling/s1K" and texts.clusters * texts.per_cluster == 100
    assert set(experiment.hub_models) == {experiment.base, *experiment.finetuned} and not experiment.revisions


@pytest.mark.parametrize("name, density, alpha", [
    ("qwen-1.5b", 0.2, 1.0), ("qwen-7b", 0.2, 1.0), ("qwen-14b", 0.8, 0.5), ("qwen-32b", 0.75, 0.55),
])  # fmt: skip
def test_the_papers_trim_fraction_is_one_minus_our_density(name, density, alpha):
    parameters = load_profile(name).experiment(LONG).methods["TIES"].parameters
    assert parameters["density"] == pytest.approx(density)
    assert parameters["weight"] * parameters.get("lambda", 1.0) == pytest.approx(alpha)


@pytest.mark.parametrize("name", TODAY)
def test_todays_profiles_name_their_models_tasks_and_prompts(name):
    profile = load_profile(name)
    assert {key: list(e.parents) for key, e in profile.experiments.items()} == TODAY[name]
    thinks, quick = name != "smollm2", load_profile(f"{name}+quick")
    for key, e in profile.experiments.items():
        assert set(e.hub_models) == {e.base, *e.finetuned} and Path(e.finetuned[-1]).name == e.reference
        assert ("acm_gsm8k" in e.tasks) is not thinks and "acm_ifeval" in e.tasks
        assert (e.temperature, e.top_p, e.repeats) == ((0.6, 0.95, 4) if thinks else (0, 1, 1))
        asked = {model: profile.evaluation(key, model)["prompt"] for model in e.models}
        base, *others = asked.values()
        assert set(others) == {"chat-template"}
        assert base == ("few-shot" if "Base" in e.base or e.base in ("Qwen/Qwen2.5-32B", *BASES) else "chat-template")
        assert quick.experiments[key].frontier == [0.3, 0.5]  # no key names a method that it lacks
        if thinks:
            longer = load_profile(f"{name}+competitions").experiments[key]
            assert longer.repeats == 16 and set(longer.tasks) == set(e.tasks) - {"acm_ifeval", "acm_gpqa_diamond"}


BASES = tuple(f"HuggingFaceTB/SmolLM2-{size}" for size in ("135M", "360M", "1.7B"))


def test_both_readings_of_two_siblings():
    between, added = load_profile("qwen3-4b").experiments.values()
    halfway, mean = between.recipe("frontier-0.5", Path()), added.recipe("frontier-0.5", Path())
    assert halfway.base_model.endswith(INSTRUCT) and [Path(m.model).name for m in halfway.models] == [THINKING]
    assert mean.base_model.endswith(FOUR_B) and [Path(m.model).name for m in mean.models] == [INSTRUCT, THINKING]
    assert halfway.tokenizer_source == mean.tokenizer_source == THINKING


def test_fuseo1s_recipe_is_sce_over_both_task_vectors():
    recipe = load_profile("qwen-32b-fuse").experiment("long-short").recipe("SCE", Path())
    assert (recipe.merge_method, recipe.parameters) == ("sce", {"select_topk": 1.0})
    assert Path(recipe.base_model).name == "Qwen2.5-32B" and len(recipe.models) == 2 and not recipe.tokenizer_source


def test_todays_merges_of_small_models_take_the_tokenizer_that_the_profile_names(f32, tmp_path, monkeypatch, write):
    """Two experiments like these on pico models: what is merged has the fine-tuned model's chat template."""
    from acm import merge

    base, finetuned = (shutil.copytree(folder, tmp_path / name) for folder, name in zip(f32, "ab", strict=False))
    (finetuned / "chat_template.jinja").write_text("{{ messages[0]['content'] }}<think>")
    own = {"base": str(base), "finetuned": [str(finetuned)], "reference": "b", "caps": {}, "prompts": {}}
    for source, template in (("b", True), ("base", False), (None, False)):
        experiment = load_profile(write(**own, tokenizer_source=source)).experiment(LONG)
        out = merge(experiment.recipe("frontier-0.5", Path()), tmp_path / f"out-{source}")
        assert (out / "chat_template.jinja").is_file() is template


def test_a_hub_model_keeps_its_name_and_recipes_name_its_folder():
    experiment = load_profile("qwen-7b").experiment(LONG)
    assert list(experiment.parents) == ["Qwen2.5-Math-7B", "DeepSeek-R1-Distill-Qwen-7B"]
    recipe = experiment.recipe("ACM-TA", Path("run"))
    assert recipe.base_model == "runs/absent/hub/Qwen/main/Qwen2.5-Math-7B"
    assert recipe.coefficients == "run/coefficients.json"


@pytest.fixture
def write(tmp_path):
    """A profile file like qwen-7b with changes to its experiment; returns its path."""

    def make(**changes):
        content = yaml.safe_load((PROFILES / "qwen-7b.yaml").read_text())
        content["experiments"][LONG] |= changes
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return make


def test_a_pinned_revision_is_part_of_the_folder_and_the_hash(write):
    plain = load_profile(write())
    pinned = load_profile(write(revisions={"Qwen/Qwen2.5-Math-7B": "a" * 40}))
    assert pinned.hash != plain.hash
    assert pinned.experiment(LONG).parents["Qwen2.5-Math-7B"].parts[-2:] == ("a" * 40, "Qwen2.5-Math-7B")
    assert pinned.experiment(LONG).hub_models["Qwen/Qwen2.5-Math-7B"] == "a" * 40


@pytest.mark.parametrize("change, words", [
    ({"revisions": {"Qwen/Qwen2.5-Math-7B": "main"}}, "revisions"),
    ({"revisions": {"Qwen/Qwen2.5-Math-7b": "a" * 40}}, "Did you mean 'Qwen/Qwen2.5-Math-7B'"),
    ({"caps": {"Qwen2.5-Math-7": 2048}}, "Did you mean 'Qwen2.5-Math-7B'"),
    ({"caps": {"TA": 0}}, "caps.TA"),
    ({"prompts": {"TA": "few-shots"}}, "prompts.TA: unknown prompt 'few-shots'. Did you mean 'few-shot'"),
    ({"compatibility": "papers"}, "compatibility"),
    ({"prompt": "chat"}, "prompt: unknown prompt 'chat'. Known: chat-template"),
    ({"tokenizer_source": "Qwen2.5-Math-7"}, "unknown source 'Qwen2.5-Math-7'. Did you mean 'Qwen2.5-Math-7B'"),
    ({"repeats": 0}, "repeats"),
    ({"repeat": 2}, "repeat"),
])  # fmt: skip
def test_bad_keys_of_an_experiment_are_refused(write, change, words):
    with pytest.raises(UserError) as error:
        load_profile(write(**change))
    assert words in str(error.value)


def test_prompts_are_those_of_the_evaluation(write):
    for prompt in PROMPTS:
        assert load_profile(write(prompts={"TA": prompt})).experiment(LONG).prompts == {"TA": prompt}


def test_a_models_own_cap_is_never_above_the_experiments(write):
    profile = load_profile(write(caps={"TA": 2000, "TIES": 99999}))
    assert [profile.cap(LONG, name) for name in ("TA", "TIES", "ACM-TA", "")] == [2000, 10240, 10240, 10240]


def test_without_new_keys_a_profile_shows_none_of_them():
    shown = load_profile("tiny").experiment(LONG).model_dump()
    new = {"revisions", "caps", "prompts", "compatibility", "tie_word_embeddings", "temperature", "top_p", "repeats"}
    new |= {"prompt", "tokenizer_source"}
    assert not new & set(shown)


@pytest.mark.parametrize("variant", sorted(path.stem for path in VARIANTS.glob("*.yaml")))
def test_every_variant_lies_over_every_experiment_and_changes_name_and_hash(variant):
    plain, changed = load_profile("tiny"), load_profile(f"tiny+{variant}")
    assert changed.name == f"tiny+{variant}" and changed.hash != plain.hash and changed.folder != plain.folder
    keys = set(yaml.safe_load((VARIANTS / f"{variant}.yaml").read_text())) - {"title"}
    for experiment in changed.experiments.values():
        assert keys and all(getattr(experiment, key) is not None for key in keys)


def test_variants_combine_and_reach_caps_recipes_and_title():
    profile = load_profile("qwen-1.5b+cap4096+head-dropped")
    assert profile.cap(LONG) == 4096 and profile.cap(LONG, "Qwen2.5-Math-1.5B") == 2048
    assert profile.experiment(LONG).recipe("TA", Path()).tie_word_embeddings is True
    assert profile.title.endswith("token cap 4096, head dropped")
    assert load_profile("tiny+head-kept").experiment(LONG).recipe("TA", Path()).tie_word_embeddings is False
    assert load_profile("tiny+base-config").experiment(LONG).recipe("TA", Path()).compatibility == "paper"
    assert load_profile("qwen-7b+base-config+cap2048").cap(LONG, "ACM-TA") == 2048


def test_the_sampled_variant_joins_others():
    profile = load_profile("qwen-7b+sampled+cap4096")
    assert profile.evaluation(LONG, "Qwen2.5-Math-7B", 3) == {
        "items": None, "max_tokens": 2048, "prompt": "few-shot", "sampling": Sampling(0.6, 0.95, repeat=3),
        "engine": Engine("transformers", "bfloat16", "cuda", batch_size=32),
    }  # fmt: skip
    assert profile.title.endswith("sampled, avg@5, token cap 4096") and profile.evaluation(LONG)["max_tokens"] == 4096


def test_a_profile_file_takes_variants_too(write):
    assert load_profile(f"{write()}+shift-none").experiment(LONG).shift == "none"
    assert load_profile(f"{write()}+shift-none").name == "mine+shift-none"


@pytest.mark.parametrize("name, words", [
    ("qwen-7b+cap4069", "unknown variant 'cap4069'. Did you mean 'cap4096'"),
    ("qwen-7b+", "unknown variant ''"),
    ("qwen-7+cap4096", "unknown profile 'qwen-7'. Did you mean 'qwen-7b'"),
    ("qwen-7b+cap4096+cap10240", "variants cap4096 and cap10240 both set max_tokens"),
    ("qwen-7b+cap4096+cap4096", "'cap4096' names two variants"),
    ("qwen-7b+../qwen-7b", "unknown"),
])  # fmt: skip
def test_bad_variants_are_refused(name, words):
    with pytest.raises(UserError) as error:
        load_profile(name)
    assert words in str(error.value)


@pytest.mark.parametrize("raised, words", [
    ("GatedRepoError", ["is gated", "accept its terms", "hf auth login"]),
    ("RepositoryNotFoundError", ["the hub shows no model", "check the name"]),
    ("RevisionNotFoundError", ["has no revision", "mend `revisions`"]),
    ("OfflineModeIsEnabled", ["HF_HUB_OFFLINE"]),
    ("ConnectError", ["cannot be reached (ConnectError)", "where there is network", "local folder"]),
])  # fmt: skip
def test_a_model_that_cannot_be_had_ends_in_one_sentence(monkeypatch, raised, words):
    import httpx
    from huggingface_hub import errors

    kind = getattr(errors, raised, None) or getattr(httpx, raised)
    error = kind.__new__(kind)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    for action, models in ((check, 1), (fetch, 2)):  # fetch asks for all of them first
        with pytest.raises(UserError) as found:
            action(load_profile("qwen-7b"))
        assert all(word in line for line in str(found.value).splitlines() for word in words)
        names = ["Qwen/Qwen2.5-Math-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"][:models]
        assert all(name in line for name, line in zip(names, str(found.value).splitlines(), strict=True))


def shown(**files):
    """A stand-in for the hub's answer on a model: owner's name → its files."""
    return lambda _self, model, **_: SimpleNamespace(
        siblings=[SimpleNamespace(rfilename=f) for f in files[model.partition("/")[0]]]
    )


def refuse_gated(_self, model):
    from huggingface_hub.errors import GatedRepoError

    if model.startswith("meta-llama/"):
        raise GatedRepoError.__new__(GatedRepoError)


def test_what_the_hub_refuses_of_any_model_is_said_before_the_first_download(monkeypatch):
    def download(*_, local_files_only=False, **__):
        if not local_files_only:
            pytest.fail("downloaded")
        raise OSError

    weights = ["config.json", "model-00001-of-00002.safetensors"]
    pickles = ["config.json", "pytorch_model-00001-of-00002.bin"]
    files = shown(**{"meta-llama": weights, "TIGER-Lab": pickles, "codellama": weights})
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", files)
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", refuse_gated)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(UserError) as found:
        fetch(load_profile("llama-2-7b"))
    gated, pickled = str(found.value).splitlines()
    assert "meta-llama/Llama-2-7b-hf is gated" in gated
    assert "TIGER-Lab/MAmmoTH-7B" in pickled and "pickles" in pickled and "Convert" in pickled


def test_what_no_variant_can_do_is_refused_before_the_hub_is_asked(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(UserError, match="Average has 4096 positions"):
        fetch(load_profile("qwen-7b+base-config"))


@pytest.fixture
def pair(f32, tmp_path, monkeypatch):
    """The profile qwen-7b on a hub of two pico models, and what is loaded beside them.

    The models have as many positions as the profile's own.
    """
    loaded, folders = [], {}
    for folder, owner, positions in ((f32[0], "Qwen", 4096), (f32[1], "deepseek-ai", 131072)):
        folders[owner] = Path(shutil.copytree(folder, tmp_path / owner))
        config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": positions}
        (folders[owner] / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("acm.hub.RUNS", tmp_path / "runs")
    monkeypatch.setattr("acm.profiles.ROOT", tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(folders[name.partition("/")[0]]))
    monkeypatch.setattr("acm.running.preflight.read_texts", lambda source, _field: loaded.append(source))
    monkeypatch.setattr("acm.running.preflight.load_items", loaded.append)
    return load_profile("qwen-7b"), loaded


def test_fetch_loads_texts_and_benchmarks_too(pair):
    profile, loaded = pair
    assert "calibration texts and benchmarks: here." in fetch(profile)
    assert loaded == ["simplescaling/s1K", *profile.experiment(LONG).tasks]


def test_with_everything_cached_fetch_asks_the_hub_for_nothing(pair, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    profile, _ = pair
    assert fetch(profile) == fetch(profile)


def test_data_that_cannot_be_had_ends_a_fetch_before_the_models(pair, monkeypatch):
    def refuse(_):
        raise UserError("no such benchmark")

    monkeypatch.setattr("acm.running.preflight.load_items", refuse)
    monkeypatch.setattr("acm.hub.fetch", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(UserError, match="no such benchmark"):
        fetch(pair[0])


@pytest.mark.parametrize("action", [check, fetch])
def test_the_smol_models_name_the_command_that_makes_them(monkeypatch, tmp_path, action):
    for place in ("acm.profiles.ROOT", "acm.running.preflight.ROOT"):
        monkeypatch.setattr(place, tmp_path)
    with pytest.raises(UserError, match="smol-fast does not exist; `make smol-models` makes it"):
        action(load_profile("smol"))


def test_a_model_on_the_hub_that_is_not_here_names_the_command(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", shown(Qwen=["model.safetensors"]))
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_: None)
    with pytest.raises(UserError, match="python -m acm fetch --profile qwen-7b"):
        check(load_profile("qwen-7b"))


def test_fetched_models_are_folders_of_their_own_name(f32, tmp_path, monkeypatch, write):
    monkeypatch.setattr("acm.hub.RUNS", tmp_path)
    here = {"Qwen/Qwen2.5-Math-7B": f32[0], "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": f32[1]}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(here[name]))
    for model in ("Qwen/Qwen2.5-Math-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"):
        assert hub.fetch(model, None).is_dir()
        assert hub.fetch(model, None).name == Path(model).name  # again: the link is replaced
    hub.require("Qwen/Qwen2.5-Math-7B", None, "mine")


def test_pickled_weights_are_refused_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(UserError, match=r"pickles.*Convert"):
        hub.fetch("TIGER-Lab/MAmmoTH-7B", None)


@pytest.fixture
def fetched(f32, tmp_path, monkeypatch):
    """Puts a pico model in the place of each hub model of a profile, with the positions and codes of the real one."""
    monkeypatch.setattr("acm.hub.RUNS", tmp_path / "runs")
    monkeypatch.setattr("acm.profiles.ROOT", tmp_path)
    monkeypatch.setattr("acm.running.preflight.ROOT", tmp_path)
    for name in ("read_texts", "load_items", "check_grader", "check_gpu"):
        monkeypatch.setattr(f"acm.running.preflight.{name}", lambda *_: None)

    def make(profile):
        for experiment in profile.experiments.values():
            for model, source in zip((experiment.base, *experiment.finetuned), f32, strict=False):
                folder = tmp_path / experiment.path(model)
                if not folder.exists():
                    shutil.copytree(source, folder)
                known, path = SHAPES[model], folder / "config.json"
                scaling = {"rope_scaling": {"rope_type": known.scaled, "factor": 4.0}} if known.scaled else {}
                codes = {"max_position_embeddings": known.positions, "rope_theta": known.rope_theta}
                path.write_text(json.dumps(json.loads(path.read_text()) | codes | {"rope_parameters": None} | scaling))

    return make


@pytest.mark.parametrize("name", TODAY)
def test_the_check_of_todays_profiles_passes_on_models_of_such_positions(name, fetched):
    profile = load_profile(name)
    fetched(profile)
    models = sum(len(e.models) for e in profile.experiments.values())
    assert check(profile) == f"profile {name}: {models} models to evaluate, all items per task."


@pytest.mark.parametrize("name, experiment, warned", [
    ("qwen3-4b", "interpolation", ()), ("qwen3-4b", "task-vectors", ("rope_theta",)),
    ("qwen3-8b-r1", "interpolation", ("rope_scaling",)), ("smollm3", "base-to-thinking", ()),
])  # fmt: skip
def test_position_codes_that_disagree_are_warned_of(name, experiment, warned, fetched, tmp_path):
    from acm.merging.plan import make_plan

    profile = load_profile(name)
    fetched(profile)
    plan = make_plan(profile.experiment(experiment).recipe("TA", Path()), tmp_path, tmp_path / "out")
    found = [f.text for f in plan.findings if f.level == "warning" and "Position codes" in f.text]
    assert [any(text.startswith(key) for text in found) for key in warned] == [True] * len(warned)
    assert bool(found) == bool(warned)


@pytest.mark.parametrize("name", TODAY)
def test_todays_models_that_are_not_here_are_named(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    with pytest.raises(UserError) as error:
        check(load_profile(name))
    (first, *_) = load_profile(name).experiments.values()
    assert first.base in str(error.value) and "\n" not in str(error.value)


def test_check_from_the_command_line_without_network_is_quick_and_one_line():
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "acm", "check", "--profile", "qwen-7b"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: model Qwen/Qwen2.5-Math-7B is not here")


def test_llama_asks_every_model_of_its_profile_few_shot():
    """None of them knows the tokens of ChatML; a name that is missing in `prompts` would be asked in it."""
    profile = load_profile("llama-2-7b")
    experiment = profile.experiment("general")
    for name in [*experiment.parents, *experiment.method_names]:
        assert profile.evaluation("general", name)["prompt"] == "few-shot", name


@pytest.fixture
def engine(tmp_path):
    """The profile qwen-7b with these keys at its top."""

    def make(**keys):
        content = yaml.safe_load((PROFILES / "qwen-7b.yaml").read_text()) | keys
        path = tmp_path / "engine.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_profile(str(path))

    return make


def test_arguments_of_vllm_reach_the_evaluation_and_the_hash(engine):
    arguments = {"tensor_parallel_size": 4, "max_model_len": 12288}
    plain, wide = engine(backend="vllm"), engine(backend="vllm", model_args=arguments)
    assert wide.evaluation(LONG, "TA")["engine"].model_args == arguments
    assert plain.evaluation(LONG)["engine"].model_args == {} and wide.hash != plain.hash
    assert engine(backend="vllm", model_args={}).hash == plain.hash and "model_args" not in plain.model_dump()


def test_the_hash_does_not_depend_on_the_order_of_arguments(engine):
    given = {"max_model_len": 12288, "tensor_parallel_size": 4}
    orders = (given, dict(reversed(given.items())))
    assert len({engine(backend="vllm", model_args=order).hash for order in orders}) == 1


@pytest.mark.parametrize("keys, words", [
    ({"model_args": {"max_model_len": 12288}},
     "max_model_len are of vLLM's engine, and backend is transformers; set `backend: vllm`"),
    ({"backend": "vllm", "model_args": {"max_model_len": 10240}},
     "leaves no room for a prompt beside max_tokens 10240"),
    ({"backend": "vllm", "device": "cpu"}, "device: is cpu, and the backend vllm runs on a GPU"),
    ({"backend": "vllm", "model_args": {"tensor_parallel": 2}}, "model_args.tensor_parallel: unknown key"),
    ({"backend": "vllm", "model_args": {"tensor_parallel_size": "two"}}, "model_args.tensor_parallel_size"),
    ({"backend": "vllm", "model_args": {"gpu_memory_utilization": 1.5}}, "model_args.gpu_memory_utilization"),
    ({"backend": "vllm", "model_args": 4}, "model_args"),
])  # fmt: skip
def test_bad_arguments_of_the_engine_are_refused(engine, keys, words):
    with pytest.raises(UserError) as error:
        engine(**keys)
    assert words in str(error.value)


def test_a_pinned_dataset_of_calibration_texts_is_part_of_its_source_and_the_hash(write):
    texts = {"texts": "simplescaling/s1K", "field": "question"}
    plain, pinned = (load_profile(write(calibration=texts | more)) for more in ({}, {"revision": "b" * 40}))
    assert pinned.experiment(LONG).calibration.source == "simplescaling/s1K@" + "b" * 40
    assert plain.experiment(LONG).calibration.source == "simplescaling/s1K" and plain.hash != pinned.hash
    assert "revision" not in plain.experiment(LONG).calibration.model_dump()


@pytest.mark.parametrize("calibration, words", [
    ({"texts": "simplescaling/s1K", "revision": "main"}, "calibration.revision"),
    ({"texts": "abacus/benchmarks/calibration_skills.jsonl", "revision": "b" * 40},
     "`revision` pins a dataset of the hub"),
])  # fmt: skip
def test_a_revision_that_pins_nothing_is_refused(write, calibration, words):
    with pytest.raises(UserError) as error:
        load_profile(write(calibration=calibration))
    assert words in str(error.value)


@pytest.mark.parametrize("keys, says", [
    ({"items": True}, "items: must be a number, not true"),
    ({"batch_size": True}, "batch_size: must be a number, not true"),
    ({"seed": False}, "seed: must be a number, not false"),
])  # fmt: skip
def test_yes_and_on_are_no_numbers(engine, keys, says):
    with pytest.raises(UserError, match=says):
        engine(**keys)


@pytest.mark.parametrize("changes, says", [
    ({"frontier": [0.5, True]}, "frontier: must be a number, not true"),
    ({"caps": {"TA": True}}, "caps: must be a number, not true"),
    ({"methods": {"ümlaut": {"merge_method": "linear"}}}, "methods.ümlaut: must be of letters .* not 'ümlaut'"),
    ({"methods": {"-x": {"merge_method": "linear"}}}, "the first a letter or digit, not '-x'"),
    ({"revisions": {"a/b": "main"}}, "must be the 40 hexadecimal digits of a commit, not 'main'"),
    ({"base": "models/<b>fast"}, "'<b>fast' needs another: link to it"),
    ({"finetuned": ["models/{slow}"]}, "'{slow}' needs another: link to it"),
    ({"base": "models/a\nb"}, r"'a\\nb' needs another: link to it"),
])  # fmt: skip
def test_names_that_cannot_name_files_are_refused_in_words(write, changes, says):
    with pytest.raises(UserError, match=says):
        load_profile(write(**changes))


@pytest.mark.parametrize("name", ["ü", "a b", "_x", "a++b"])
def test_a_file_whose_name_no_profile_can_have_is_refused_in_words(write, tmp_path, name):
    shutil.copy(write(), tmp_path / f"{name}.yaml")
    with pytest.raises(UserError, match=r"unknown profile|must be a file's name of letters"):
        load_profile(str(tmp_path / f"{name}.yaml"))


def test_shares_hold_each_model_once_in_order_and_are_even():
    profile = load_profile("tiny")
    for name, experiment in profile.experiments.items():
        shares = profile.shares(name)
        assert [model for share in shares for model in share] == experiment.models and len({*map(len, shares)}) < 3
        assert max(map(len, shares)) <= SHARE < len(experiment.models) / (len(shares) - 1)
    on_gpu = load_profile("qwen-7b")  # one job, and one engine where all models fit it
    assert all(on_gpu.shares(name) == [e.models] for name, e in on_gpu.experiments.items())


def test_several_models_in_a_job_change_no_hash_and_through_folders_are_for_the_cpu_alone(tmp_path):
    content = yaml.safe_load((PROFILES / "tiny.yaml").read_text())
    path, hashes = tmp_path / "mine.yaml", {}
    for jobs in ("several", "model", "task"):
        path.write_text(yaml.safe_dump(content | {"jobs": jobs}))
        hashes[jobs] = load_profile(str(path)).hash
    assert hashes["several"] == hashes["model"] != hashes["task"]
    path.write_text(yaml.safe_dump(content | {"device": "cuda"}))
    assert load_profile(str(path)).in_memory
    path.write_text(yaml.safe_dump(content | {"merges": "folder"}))
    assert load_profile(str(path)).hash == hashes["several"] and not load_profile(str(path)).in_memory
    path.write_text(yaml.safe_dump(content | {"merges": "folder", "device": "cuda"}))
    with pytest.raises(UserError, match=r"merges: folder with jobs: several .* device is cuda; say memory, or jobs: m"):
        load_profile(str(path))


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_notebooks_take_what_a_profile_asks_of_its_questions(path):
    notebooks = {book.stem.partition("-")[2]: book for book in (ROOT / "notebooks" / "questions").glob("*.ipynb")}
    assert {*QUESTIONS, "search"} == set(notebooks)  # the last is asked where a profile's searches were made
    for name, parameters in (load_profile(path.stem).questions or {}).items():
        check_parameters(notebooks[name], parameters)


def test_a_profile_can_name_its_questions_without_another_hash():
    content = yaml.safe_load((PROFILES / "tiny.yaml").read_text())
    whole = Profile.model_validate(content | {"name": "tiny"})
    asked = Profile.model_validate(content | {"name": "tiny", "questions": {"layers": {"group": 5}}})
    assert asked.questions == {"layers": {"group": 5}} and asked.hash == whole.hash and whole.questions is None
    both = {"rivals": {"rules": ["ACM"]}, "scores": {}}
    alone = Profile.model_validate(content | {"name": "tiny", "questions": both})
    assert alone.questions == both
    for bad, said in (({"layer": {}}, "layers"), ({"coefficients": {}}, "stability")):
        with pytest.raises(ValueError, match=said):
            Profile.model_validate(content | {"name": "tiny", "questions": bad})


def test_a_profile_that_asks_for_determinism_is_another_one():
    content = yaml.safe_load((PROFILES / "tiny.yaml").read_text())
    usual, on = (Profile.model_validate(content | {"name": "tiny", "deterministic": asked}) for asked in (False, True))
    assert (
        usual.hash == load_profile("tiny").hash != on.hash
        and on.engine.deterministic
        and not usual.engine.deterministic
    )


@pytest.mark.parametrize(("memory", "notes"), [(None, 1), (80.0, 0)])
def test_a_check_tells_that_the_profiles_gpu_is_not_here(monkeypatch, memory, notes):
    monkeypatch.setattr("acm.running.preflight.check", lambda _: "profile qwen-7b: fine.")
    monkeypatch.setattr("acm.running.preflight.gpu_memory", lambda _: memory)
    found = CliRunner().invoke(app, ["check", "--profile", "qwen-7b"])
    assert found.exit_code == 0 and found.output.count("device is cuda, and torch finds no GPU here") == notes
