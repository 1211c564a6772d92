"""The vLLM backend, on a stand-in for its package: the contract with the class of lm-evaluation-harness."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers_evaluation import FAST, QUESTIONS, SAME, instances, responses

from acm import Engine, evaluate
from acm.errors import UserError

VLLM = '''
"""What lm-eval's class uses of vLLM, with transformers behind it.

Output ids hold the end token. Text and ids end with a stop string.
"""
from types import SimpleNamespace
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

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
        LLM.made.append(self)

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
    assert list(setting) == [
        "engine", "dtype", "device", "batch_size", "max_tokens", "seed", "model", "backend", "model_args", "vllm",
        "tasks", "source", "versions",
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
