"""The vLLM backend, on a stand-in for its package: the contract with the class of lm-evaluation-harness."""

import json
import os
import shutil
import sys
from pathlib import Path

import helpers_vllm
import pytest
import torch
from helpers import recipe
from helpers_evaluation import FAST, QUESTIONS, SAME, SLOW, instances, responses

import acm
from acm import Engine, evaluate
from acm.architectures import EMBEDDING, HEAD
from acm.errors import UserError
from acm.evaluation.harness import stay_loaded
from acm.evaluation.vllm_weights import apart
from acm.merging.tensors import planned
from acm.merging.unwritten import Unwritten

VLLM = '''
"""What lm-eval's class uses of vLLM, with transformers behind it.

Output ids hold the end token. Text and ids end with a stop string.
"""
import hashlib, json
from types import SimpleNamespace
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from helpers_vllm import FACTS, bound

facts = json.loads(FACTS.read_text())
STACKS = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
STACKS |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}

class SamplingParams:
    def __init__(self, max_tokens, stop, temperature=1.0, top_p=1.0, seed=None, skip_special_tokens=True,
                 spaces_between_special_tokens=True):
        self.__dict__.update(locals())

def TokensPrompt(prompt_token_ids):
    return prompt_token_ids

class LLM:
    made = []
    def __init__(self, model, **arguments):
        self.arguments, self.model = arguments, AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=arguments["max_model_len"] or 512))
        self.llm_engine.engine_core = SimpleNamespace(shutdown=lambda: self.note("InprocClient.shutdown"))
        self.calls = []
        LLM.made.append(self)

    def note(self, name, *arguments, **named):
        """The arguments of a call, which the real function takes too."""
        found = bound(facts, name, self, *arguments, **named)
        self.calls.append((name, {key: value for key, value in found.items() if key != "self"}))
        return found

    def collective_rpc(self, *arguments, **named):
        found = self.note("LLM.collective_rpc", *arguments, **named)
        kwargs = found["kwargs"] or {}
        if found["method"] == "compute_weight_checksums":
            return [self.sums()]
        assert found["method"] == "reload_weights"
        bound(facts, "Worker.reload_weights", self, *found["args"], **kwargs)
        taken = self.note("GPUModelRunner.reload_weights", *found["args"], **kwargs)
        with torch.no_grad():
            held = dict(self.model.named_parameters())
            for name, value in taken["weights_iterator"]:
                held[name].copy_(value)
        return [None]

    def sums(self):
        """Of each tensor as vLLM holds it: some are stacked by rows."""
        held = {}
        for name, value in self.model.named_parameters():
            for part, stack in STACKS.items():
                name = name.replace(f".{part}.", f".{stack}.")
            held.setdefault(name, []).append(value.detach())
        return {"dp0:pp0:pcp0:tp0:" + name: hashlib.sha256(torch.cat(parts).numpy().tobytes()).hexdigest()
                for name, parts in held.items()}

    def sleep(self, *arguments, **named):
        self.note("LLM.sleep", *arguments, **named)

    def wake_up(self, *arguments, **named):
        self.note("LLM.wake_up", *arguments, **named)
        return True

    def reset_prefix_cache(self, *arguments, **named):
        self.note("LLM.reset_prefix_cache", *arguments, **named)
        return True

    def generate(self, prompts, sampling_params, use_tqdm, lora_request):
        self.parameters = sampling_params
        return [SimpleNamespace(outputs=[self.one(ids, p)]) for ids, p in zip(prompts, sampling_params, strict=True)]

    def one(self, prompt, p):
        torch.manual_seed(p.seed)
        chosen = dict(do_sample=bool(p.temperature))
        chosen |= dict(temperature=p.temperature, top_p=p.top_p, top_k=0) if p.temperature else {}
        cap = min(p.max_tokens, self.llm_engine.model_config.max_model_len - len(prompt))
        out = self.model.generate(torch.tensor([prompt]), max_new_tokens=cap, **chosen)[0, len(prompt):].tolist()
        for n, token in enumerate(out, 1):
            if token == self.tokenizer.eos_token_id or any(stop in self.tokenizer.decode(out[:n]) for stop in p.stop):
                return SimpleNamespace(token_ids=tuple(out[:n]), finish_reason="stop", text="")
        return SimpleNamespace(token_ids=tuple(out), finish_reason="length", text="")
'''


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    """A package vllm in place of the real one."""
    place = tmp_path_factory.mktemp("site")
    files = {
        "vllm/__init__.py": VLLM,
        "vllm/lora/__init__.py": "",
        "vllm/distributed/__init__.py": "",
        "vllm/distributed/parallel_state.py": "ended = []\ndef cleanup_dist_env_and_memory(): ended.append(1)",
        "vllm/lora/request.py": "class LoRARequest: pass",
        "vllm/renderers/__init__.py": "",
        "vllm/renderers/hf.py": "def resolve_chat_template(tokenizer, **_): return tokenizer.chat_template",
        "vllm/tokenizers.py": "from transformers import AutoTokenizer\ndef get_tokenizer(name, tokenizer_mode, "
        "trust_remote_code, revision): return AutoTokenizer.from_pretrained(name)",
        "vllm-0.11.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 0.11.0\n",
    }  # fmt: skip
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    sys.path.insert(0, str(place))
    try:
        import vllm

        assert Path(vllm.__file__).is_relative_to(place)
        yield vllm
    finally:
        sys.path.remove(str(place))
        own = ("lm_eval.models.vllm_causallms", "acm.evaluation.backends_vllm")
        for name in [n for n in sys.modules if n.split(".")[0] == "vllm" or n in own]:
            del sys.modules[name]


def test_vllm_gives_the_records_of_the_default_backend(vllm, local):
    engine = Engine("vllm", device="cuda", batch_size=4, model_args={"tensor_parallel_size": 2})
    found = evaluate(FAST, ["abacus_easy"], items=7, max_tokens=22, engine=engine)
    assert found[SAME].equals(local[SAME])
    setting = json.loads(found["setting"][0])
    assert [key for key in setting if key != "gpu"] == [
        "engine", "dtype", "device", "batch_size", "max_tokens", "seed", "model", "backend", "model_args", "vllm",
        "weights", "tasks", "source", "versions",
    ]  # fmt: skip
    assert (setting["engine"], setting["vllm"], setting["backend"]) == ("lm-eval/vllm", "0.11.0", "vllm")
    arguments, parameters = vllm.LLM.made[-1].arguments, vllm.LLM.made[-1].parameters
    assert arguments["tensor_parallel_size"] == 2 and arguments["dtype"] == "float32"
    assert arguments["load_format"] == "safetensors" and not arguments["trust_remote_code"]
    for p in parameters:
        assert (p.temperature, p.max_tokens, p.stop, p.skip_special_tokens) == (0, 22, ["<|end|>"], False)


def test_vllm_counts_stop_strings_cuts_and_samples_as_the_default_backend_does(vllm, hf):
    from acm.evaluation.backends_vllm import RecordingVLLM

    lm = RecordingVLLM(FAST, batch_size=2, max_gen_toks=20, max_model_len=64)
    greedy = responses(hf, instances())
    stop = greedy[0]["response"][4:8]
    assert responses(lm, instances(until=[stop])) == responses(hf, instances(until=[stop])) != greedy
    first = responses(lm, instances(temperature=1.3, do_sample=True))
    assert responses(lm, instances(QUESTIONS[::-1], temperature=1.3, do_sample=True)) == first
    assert responses(lm, instances(temperature=1.3, do_sample=True), repeat=1) != first


def test_vllm_keeps_room_for_the_cap_and_a_prompt_not_for_all_positions(vllm, tmp_path):
    from acm.evaluation.backends_vllm import RecordingVLLM

    folder = tmp_path / "long"
    shutil.copytree(FAST, folder)
    config = json.loads((folder / "config.json").read_text())
    for positions, given, room in ((131072, None, 22 + 2048), (1024, None, 1024), (131072, 4096, 4096)):
        (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": positions}))
        RecordingVLLM(folder, max_gen_toks=22, max_model_len=given, batch_size=2)
        assert vllm.LLM.made[-1].arguments["max_model_len"] == room


def test_vllm_refuses_a_prompt_that_does_not_fit_before_it_generates(vllm):
    engine = Engine("vllm", device="cuda", batch_size=4, model_args={"max_model_len": 25})
    words = "task 'abacus_easy': 7 of 7 prompts do not fit beside a response of 22 tokens .* larger `max_model_len`"
    with pytest.raises(UserError, match=words):
        evaluate(FAST, ["abacus_easy"], items=7, max_tokens=22, engine=engine)
    assert not hasattr(vllm.LLM.made[-1], "parameters")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory\nlong story"), ValueError("no"), KeyError("x")])
def test_what_vllm_fails_at_is_one_sentence(vllm, monkeypatch, error):
    from acm.evaluation.backends_vllm import RecordingVLLM

    def fail(*_, **__):
        raise error

    lm = RecordingVLLM(FAST, batch_size=2, max_gen_toks=20, max_model_len=64)
    monkeypatch.setattr(vllm.LLM, "generate", fail)
    with pytest.raises(UserError, match=f"vLLM stopped while it generated.*{type(error).__name__}") as found:
        responses(lm, instances())
    assert "long story" not in str(found.value)
    monkeypatch.setattr(vllm.LLM, "__init__", fail)
    with pytest.raises(UserError, match=f"vLLM cannot load .*abacus-fast .*{type(error).__name__}"):
        RecordingVLLM(FAST, batch_size=2, max_gen_toks=20, max_model_len=64)


def halfway(folder, weight=0.5):
    return Unwritten(planned(recipe("task_arithmetic", FAST, SLOW, parameters={"weight": weight})), folder / "halfway")


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_running_vllm_takes_a_merge_and_gives_the_records_of_its_folder(vllm, tmp_path, monkeypatch, sleeps):
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    engine = Engine("vllm", device="cuda", batch_size=4, model_args={"enable_sleep_mode": True} if sleeps else {})
    asked = {"tasks": ["abacus_easy"], "items": 5, "max_tokens": 20, "engine": engine}
    folder = acm.merge(recipe("task_arithmetic", FAST, SLOW, parameters={"weight": 0.5}), tmp_path / "halfway")
    expected = evaluate(folder, **asked)
    held = stay_loaded(FAST, engine, 20, "known")
    source = halfway(tmp_path / "a")
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and not held.misfit(source)
    before = held.lm.facts["weights"]
    held.take(source)
    assert evaluate(held, **asked).equals(expected) and held.lm.facts["weights"] != before
    calls = [
        (name, given) for name, given in vllm.LLM.made[-1].calls if given.get("method") != "compute_weight_checksums"
    ]
    names = [name.rpartition(".")[2] for name, _ in calls]
    awake = ["sleep", "wake_up", "collective_rpc", "reload_weights", "wake_up", "reset_prefix_cache"]
    assert names == awake if sleeps else names == ["collective_rpc", "reload_weights", "reset_prefix_cache"]
    if sleeps:
        assert calls[0][1]["level"] == 2 and [calls[i][1]["tags"] for i in (1, 4)] == [["weights"], ["kv_cache"]]
    held.lm.close()
    assert vllm.LLM.made[-1].calls[-1][0] == "InprocClient.shutdown"
    from vllm.distributed.parallel_state import ended

    assert ended.pop()


def test_a_vllm_that_holds_other_numbers_than_it_was_handed_is_found_out(vllm, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "acm.evaluation")
    held = stay_loaded(FAST, Engine("vllm", device="cuda"), 20, "known")
    held.take(halfway(tmp_path / "a"))
    assert "halfway: 43 of 45 tensors of vLLM compared" in caplog.text  # not the embedding and head, of 218 rows
    real = vllm.LLM.sums

    def changed(self):
        with torch.no_grad():
            self.model.model.layers[3].self_attn.v_proj.bias[1] += 1e-3
        return real(self)

    monkeypatch.setattr(vllm.LLM, "sums", changed)
    with pytest.raises(
        UserError, match=r"other numbers than those of halfway in 1 tensors, such as .*3.*qkv_proj.bias"
    ):
        held.take(halfway(tmp_path / "b"))

    def prefixed(self):
        return {name.replace(":model.", ":language_model."): found for name, found in real(self).items()}

    for told, words in ((prefixed, r"no sums of 43 tensors of halfway"), (lambda self: {}, "tells no sums of its")):
        monkeypatch.setattr(vllm.LLM, "sums", told)
        with pytest.raises(UserError, match=words + r".*set `jobs: model`"):
            held.take(halfway(tmp_path / words[:9]))
    monkeypatch.setattr(vllm.LLM, "sums", real)
    monkeypatch.setattr(vllm.LLM, "reset_prefix_cache", lambda self: False)
    with pytest.raises(UserError, match="did not empty its prefix cache for halfway"):
        held.take(halfway(tmp_path / "c"))


def test_a_head_where_the_loaded_model_ties_its_own_does_not_fit(vllm, variant, monkeypatch):
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    from acm.evaluation.backends_vllm import RecordingVLLM

    with_head = {EMBEDDING: (218, 128), HEAD: (218, 128)}
    tied = variant(FAST, "tied", {"tie_word_embeddings": True})
    for folder, fits in ((FAST, True), (tied, False)):
        lm = RecordingVLLM(folder, batch_size=2, max_gen_toks=20)
        assert bool(lm.misfit({EMBEDDING: (218, 128)})) is fits and bool(lm.misfit(with_head)) is not fits


def test_workers_in_processes_of_their_own_take_no_tensors(vllm, tmp_path, monkeypatch):
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    two = stay_loaded(FAST, Engine("vllm", device="cuda", model_args={"tensor_parallel_size": 2}), 20, "known")
    assert "processes of their own" in two.misfit(halfway(tmp_path / "a"))
    assert apart(two.engine) == two.misfit(halfway(tmp_path / "aa")) and not apart(Engine("vllm", device="cuda"))
    assert not apart(Engine())
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in os.environ
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    one = stay_loaded(FAST, Engine("vllm", device="cuda"), 20, "known")
    assert apart(one.engine) == one.misfit(halfway(tmp_path / "bb"))
    assert "processes of their own" in one.misfit(halfway(tmp_path / "b"))


def test_the_facts_refuse_what_vllm_does_not_take():
    facts = json.loads(helpers_vllm.FACTS.read_text())
    for name, given in (("LLM.sleep", {"depth": 2}), ("GPUModelRunner.reload_weights", {"weights": []})):
        with pytest.raises(TypeError):
            helpers_vllm.bound(facts, name, None, **given)
    assert facts["version"] == "0.33.0" and facts["variables"] == list(helpers_vllm.VARIABLES)


@pytest.mark.skipif(helpers_vllm.WHEEL not in os.environ, reason="needs an unpacked wheel of vLLM")
def test_the_facts_are_those_of_the_wheel():
    assert helpers_vllm.read(Path(os.environ[helpers_vllm.WHEEL])) == json.loads(helpers_vllm.FACTS.read_text())
