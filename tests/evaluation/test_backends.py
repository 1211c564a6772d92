"""Backends: sampling and repeats with transformers; servers, real and made up; the contract with vLLM on a stand-in for its package."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import torch
from lm_eval.api.instance import Instance
from transformers.utils.import_utils import is_serve_available
from typer.testing import CliRunner

from abacus import BENCHMARKS, CHECKPOINTS
from acm import evaluate
from acm.errors import UserError
from acm.evaluation import benchmarks as mathematics
from acm.evaluation.backends import RecordingLM
from acm.evaluation.backends_server import connect
from acm.evaluation.prompts import render

torch.set_num_threads(1)
FAST, SLOW = CHECKPOINTS / "abacus-fast", CHECKPOINTS / "abacus-slow"
QUESTIONS = [json.loads(line)["question"] for line in (BENCHMARKS / "abacus_easy.jsonl").read_text().splitlines()[:5]]
SAMPLING = {"do_sample": True, "temperature": 1.3, "top_p": 0.95, "top_k": 0}
SAME = ["task", "item", "repeat", "response", "length", "truncated", "correct", "question"]


def instances(questions=QUESTIONS, cap=20, **settings):
    """One request for each question; the item is the question's place in QUESTIONS."""
    arguments = {"until": [], "max_gen_toks": cap} | settings
    return [
        Instance("generate_until", {}, (question, dict(arguments)), 0, ("task", QUESTIONS.index(question), 1))
        for question in questions
    ]


@pytest.fixture(scope="module")
def hf():
    return RecordingLM(pretrained=str(FAST), dtype="float32", device="cpu", batch_size=2)


def rows(lm, asked, **state):
    """The rows by item, of the model in this state; whatever the random state was before."""
    torch.manual_seed(time.time_ns() % 1000)
    lm.rows = {}
    for name, value in ({"keep": None, "repeat": 0, "size": 2} | state).items():
        setattr(lm, name, value)
    lm.generate_until(asked, disable_tqdm=True)
    return {item: row for (_, item, _), row in sorted(lm.rows.items())}


def test_sampled_responses_are_the_same_again_and_other_in_other_repeats_and_seeds(hf):
    first, again, second = (rows(hf, instances(**SAMPLING), repeat=repeat) for repeat in (0, 0, 1))
    assert first == again and first != second and set(hf.rows) == {("task", item, 1) for item in range(5)}
    assert rows(hf, instances(**SAMPLING), seed=7) != first
    hf.seed = 0


def test_greedy_repeats_are_allowed_and_do_not_depend_on_random_states(hf):
    assert rows(hf, instances(), repeat=3) == rows(hf, instances())


def test_an_interrupted_sampled_run_continues_with_the_same_bytes(hf, tmp_path, monkeypatch):
    whole = rows(hf, instances(**SAMPLING), keep=tmp_path / "whole")
    generate, calls = RecordingLM.generate_rows, []

    def dies_in_the_second_batch(self, batch):
        calls.append(len(batch))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, batch)

    monkeypatch.setattr(RecordingLM, "generate_rows", dies_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        rows(hf, instances(**SAMPLING), keep=tmp_path / "cut")
    assert rows(hf, instances(**SAMPLING), keep=tmp_path / "cut") == whole and calls == [2, 2, 2, 1]
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "cut")]
    assert files[0] == files[1] and len(files[0]) == 3


def test_an_item_alone_in_its_batch_is_sampled_alike_in_any_order(hf):
    forth, back = (rows(hf, instances(order, **SAMPLING), size=1) for order in (QUESTIONS, QUESTIONS[::-1]))
    assert forth == back


def test_low_temperature_is_greedy_in_the_limit_and_top_k_is_off(hf):
    assert rows(hf, instances(**SAMPLING | {"temperature": 1e-4})) == rows(hf, instances())
    seen = []
    hf._model_generate = lambda context, **kwargs: (
        seen.append(kwargs) or RecordingLM._model_generate(hf, context, **kwargs)
    )
    rows(hf, instances(**SAMPLING))
    del hf._model_generate
    assert seen[0]["top_k"] == 0 and seen[0]["top_p"] == 0.95 and seen[0]["do_sample"]


def test_an_item_asked_twice_is_refused(hf):
    with pytest.raises(UserError, match=r"task 'task' asks for 2 repeats.*`repeats: 1`.*each `repeat`"):
        rows(hf, [*instances(), *instances(QUESTIONS[:1])])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeat": -1}, "repeat: is -1"),
        ({"temperature": -0.1}, "temperature: is -0.1"),
        ({"temperature": float("nan")}, "temperature: is nan"),
        ({"temperature": 1, "top_p": 0}, "top_p: is 0"),
        ({"temperature": 1, "top_p": 1.1}, "top_p: is 1.1"),
        ({"top_p": 0.9}, "top_p: 0.9 has no effect at temperature 0"),
        ({"backend": "vlm"}, "unknown backend 'vlm'. Did you mean 'vllm'"),
        ({"backend": "server"}, "backend server: give its address"),
        ({"url": "http://localhost"}, "backend transformers: takes no url"),
        ({"concurrency": 2}, "backend transformers: takes no url, served or concurrency"),
        ({"backend": "server", "url": "http://localhost:1", "concurrency": 0}, "concurrency: is 0"),
        (
            {"model_args": {"trust_remote_code": True}},
            "unknown model argument of backend transformers 'trust_remote_code'",
        ),
        ({"backend": "server", "url": "localhost:8000"}, "url: must be like http://localhost:8000/v1"),
        ({"backend": "server", "url": "http://me:key@localhost:8000"}, "url: must be like .* OPENAI_API_KEY"),
        ({"backend": "server", "url": "http://localhost:99999"}, "url: must be like"),
    ],
)
def test_values_out_of_range_are_refused_before_any_model_is_loaded(settings, message, monkeypatch):
    monkeypatch.setattr(RecordingLM, "__init__", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=message):
        evaluate(FAST, ["abacus_easy"], **settings)


def test_vllm_that_is_not_installed_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("acm.evaluation.harness.find_spec", lambda name: None)
    with pytest.raises(UserError, match="package vllm is not installed"):
        evaluate(FAST, ["abacus_easy"], backend="vllm", device="cuda")


# --- a made-up server


@pytest.fixture
def server():
    """A server in a thread; ``answer(path, body)`` gives what it says: a status and an object, or bytes."""
    state = SimpleNamespace(asked=[], answer=None, models=[{"id": "abacus", "owned_by": "made-up"}])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.say(200, {"data": state.models} if self.path == "/v1/models" else {"version": "1.2"})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, body))
            self.say(*state.answer(self.path, body))

        def say(self, status, content):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{found.server_port}"
        yield state
        found.shutdown()


def said(text, tokens, finish="stop", **more):
    return 200, {"choices": [{"text": text, "finish_reason": finish, **more}], "usage": {"completion_tokens": tokens}}


def connected(server, chat=False, folder=FAST, served=None, concurrency=1, extra=None):
    return connect(folder, server.url, served, chat, concurrency=concurrency, extra=extra or {}, batch_size=3)


@pytest.fixture(scope="module")
def local():
    """Records of the default backend, some cut by the cap, some not."""
    records = evaluate(FAST, ["abacus_easy"], items=7, batch_size=4, max_tokens=22)
    assert 0 < records["truncated"].sum() < 7
    return records


@pytest.mark.parametrize("counted", [True, False], ids=["end token counted", "end token not counted"])
def test_a_server_gives_the_records_of_the_default_backend(server, local, counted):
    known = local.set_index("question")

    def answer(path, body):
        row = known.loc[body["prompt"]]
        end = counted and not row["truncated"]
        return said(row["response"], int(row["length"]) + end, "length" if row["truncated"] else "stop")

    server.answer = answer
    found = evaluate(
        FAST, ["abacus_easy"], items=7, batch_size=4, max_tokens=22, backend="server", url=server.url, concurrency=3
    )
    assert found[SAME].equals(local[SAME])
    setting = json.loads(found["setting"][0])
    assert (
        setting["engine"] == "lm-eval/server" and setting["concurrency"] == 3 and not {"dtype", "device"} & set(setting)
    )
    assert setting["server"] == {"endpoint": "completions", "served": "abacus", "owned_by": "made-up", "version": "1.2"}
    assert {path for path, _ in server.asked} == {"/v1/completions"} and len(server.asked) == 7
    assert all(
        body["temperature"] == 0 and body["max_tokens"] == 22 and body["model"] == "abacus" for _, body in server.asked
    )


def test_text_up_to_a_stop_string_has_the_string_and_its_tokens(server, hf):
    text, count = " 17+4=21. we", hf.tokenizer(" 17+4=21. we")["input_ids"]
    for kept in (
        said(text, len(count)),
        said(" 17+4=21", len(count), stop_reason=". we"),
        said(" 17+4=21", len(count), matched_stop=". we"),
    ):
        server.answer = lambda *_, kept=kept: kept
        (row,) = rows(connected(server), instances(QUESTIONS[:1], until=[". we"])).values()
        assert row == {"response": text, "length": len(count), "truncated": False}
        assert server.asked[-1][1]["stop"] == [". we", "<|end|>"]


def test_a_sampled_request_has_its_own_seed_whatever_the_order(server):
    server.answer = lambda path, body: said(f" {body['seed'] % 1000}", 5)
    asked = instances(temperature=0.6, top_p=0.95, do_sample=True)
    first = rows(connected(server), asked)
    assert rows(connected(server), asked[::-1]) == first and len({row["response"] for row in first.values()}) == 5
    assert rows(connected(server), asked, repeat=1) != first
    assert server.asked[0][1]["temperature"] == 0.6 and server.asked[0][1]["top_p"] == 0.95


def test_requests_run_at_a_time_and_answers_keep_their_order(server):
    together = threading.Barrier(3)

    def answer(path, body):
        together.wait(timeout=60)
        return said(f" {QUESTIONS.index(body['prompt'])}", 3)

    server.answer = answer
    found = rows(
        connected(server, concurrency=3, extra={"skip_special_tokens": False}), instances(QUESTIONS[:3]), size=3
    )
    assert [row["response"] for row in found.values()] == [" 0", " 1", " 2"]
    assert server.asked[0][1]["skip_special_tokens"] is False


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (404, {"message": "no such model"}),
            r"asked for model 'other', says HTTP 404, .*no such model.* It lists \['abacus'\]",
        ),
        ((500, b"out of \x1b[2Jmemory"), r"HTTP 500, 'out of \\x1b\[2Jmemory'"),
        ((200, b"<html>"), "an answer of http.* is not valid"),
        ((200, {"choices": []}), "choices: List should have at least 1 item"),
        ((200, {"choices": [{"text": "a", "finish_reason": "stop"}]}), r"answers without usage\.completion_tokens"),
        (said("a", None), r"answers without usage\.completion_tokens"),
        (said("a", -1), "completion_tokens: Input should be greater than or equal to 0"),
        (said("a", 99), "answers with 99 tokens, more than the cap of 20"),
        (said("a", 1, "content_filter"), "finish_reason: Input should be 'stop' or 'length'"),
        (said({"a": 1}, 1), "text: Input should be a valid string"),
    ],
)
def test_what_cannot_be_recorded_is_refused_and_nothing_kept(server, answer, message, tmp_path):
    server.answer = lambda *_: answer
    with pytest.raises(UserError, match=message):
        rows(connected(server, served="other"), instances(QUESTIONS[:1]), keep=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_server_out_of_reach_is_named(server):
    lm = connected(server)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(
            UserError, match=r"http://127.*/v1/models gave no answer \(ConnectionError\); start the server"
        ):
            connect(FAST, url, None, False, concurrency=1, extra={}, batch_size=1)
        lm.base_url = f"{url}/v1/completions"
        with pytest.raises(UserError, match=r"completions gave no answer \(ConnectionError\)"):
            rows(lm, instances(QUESTIONS[:1]))


def test_the_model_s_name_is_the_one_listed_or_else_the_folder_s(server):
    assert connected(server).model == "abacus" and connected(server, served="mine").model == "mine"
    server.models = [{"id": "a"}, {"id": "b"}]
    assert connected(server).model == "abacus-fast"
    server.models = "none"
    assert connected(server).facts == {"server": {"endpoint": "completions", "served": "abacus-fast", "version": "1.2"}}


TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def chat_folder(folder, template, model=FAST):
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def message(content, tokens, finish="stop", **more):
    return 200, {
        "choices": [{"message": {"content": content, **more}, "finish_reason": finish}],
        "usage": {"completion_tokens": tokens},
    }


def test_a_chat_server_gets_messages_and_the_records_the_template(server, tmp_path, monkeypatch):
    items = [{"problem": f"What is {n}+1?", "answer": str(n + 1)} for n in range(2)]
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/aime24.jsonl").write_text("\n".join(map(json.dumps, items)))
    known = mathematics.BENCHMARKS["aime24"]
    monkeypatch.setenv("ACM_DATA", str(tmp_path))
    changed = replace(known, items=2, sha256=mathematics.digest([known.item(row) for row in items]))
    monkeypatch.setitem(mathematics.BENCHMARKS, "aime24", changed)
    server.answer = lambda path, body: message("so \\boxed{1}", 9, reasoning_content="hm, wait")
    folder = chat_folder(tmp_path / "chat", TEMPLATE)
    found = evaluate(
        folder, ["acm_aime24"], max_tokens=30, prompt="chat-template", backend="server", url=server.url + "/v1/"
    )
    asked = [render("chat-template", row["problem"]) for row in items]
    assert [body["messages"] for _, body in server.asked] == [[{"role": "user", "content": text}] for text in asked]
    assert {path for path, _ in server.asked} == {"/v1/chat/completions"} and server.asked[0][1]["stop"] == [
        "<|im_end|>",
        "<|end|>",
    ]
    assert list(found["question"]) == [f"user: {text}\n" for text in asked]
    assert list(found["response"]) == ["<think>hm, wait</think>so \\boxed{1}"] * 2 and list(found["correct"]) == [1, 0]
    assert found["thinking_closed"].all() and list(found["reflections"]) == [1, 1]


def test_thinking_set_apart_is_put_back_closed_only_if_an_answer_follows(server, tmp_path):
    for start, opening in (("", "<think>"), ("<think>", "")):
        lm = connected(server, chat=True, folder=chat_folder(tmp_path / f"chat{len(start)}", TEMPLATE + start))
        context = lm.apply_chat_template([{"role": "user", "content": QUESTIONS[0]}])
        for answer, text in [
            (message("two", 8, reasoning="hm"), f"{opening}hm</think>two"),
            (message(None, 20, "length", reasoning="hm"), f"{opening}hm"),
            (message("two", 8), "two"),
        ]:
            server.answer = lambda *_, answer=answer: answer
            (row,) = rows(
                lm, [Instance("generate_until", {}, (context, {"until": [], "max_gen_toks": 20}), 0, ("task", 0, 1))]
            ).values()
            assert row["response"] == text and row["truncated"] == (
                answer[1]["choices"][0]["finish_reason"] == "length"
            )
    with pytest.raises(UserError, match="has 4 stop strings, and a chat server takes 3"):
        rows(
            lm,
            [Instance("generate_until", {}, (context, {"until": list("abcd"), "max_gen_toks": 20}), 0, ("task", 0, 1))],
        )


def test_the_command_line_reaches_a_server_and_labels_its_records(server, tmp_path):
    import pandas as pd

    from acm.__main__ import app

    server.answer = lambda path, body: said(" the answer is 3.", 7)
    options = ["--backend", "server", "--url", server.url, "--items", "2", "--max-tokens", "9", "--repeat", "2", "--temperature", "0.6",
               "--top-p", "0.9", "--model-args", "{top_k: 5}", "--profile", "p", "--experiment", "e", "--method", "m", "--seed", "4"]  # fmt: skip
    out = tmp_path / "records.parquet"
    result = CliRunner().invoke(
        app, ["evaluate", str(FAST), "--task", "abacus_easy", "--out", str(out), *options], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    records = pd.read_parquet(out)
    assert records[["profile", "experiment", "method", "model", "repeat"]].drop_duplicates().values.tolist() == [
        ["p", "e", "m", "abacus-fast", 2]
    ]
    setting = json.loads(records["setting"][0])
    expected = {
        "temperature": 0.6,
        "top_p": 0.9,
        "repeat": 2,
        "backend": "server",
        "seed": 4,
        "model_args": {"top_k": 5},
    }
    assert {key: setting[key] for key in expected} == expected and server.asked[0][1]["top_k"] == 5


# --- a real server


@pytest.fixture(scope="module")
def transformers_server(tmp_path_factory):
    """Address and model of `transformers serve`: abacus-slow on the CPU, with a chat template that adds nothing."""
    if not is_serve_available():
        pytest.skip("transformers serve needs the packages fastapi, uvicorn and openai")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("serve")
    model = chat_folder(folder / "model", "{% for m in messages %}{{ m['content'] }}{% endfor %}", SLOW)
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(model), "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu", "--dtype", "float32"]  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            for _ in range(600):
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    requests.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
                    break
                except requests.RequestException:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1", model
        finally:
            process.kill()


def test_transformers_serve_gives_the_records_of_the_default_backend(transformers_server):
    url, model = transformers_server
    settings = {"items": 6, "batch_size": 3, "max_tokens": 60}
    here = evaluate(model, ["abacus_easy"], **settings)
    there = evaluate(model, ["abacus_easy"], backend="server", url=url, served=str(model), concurrency=2, **settings)
    assert 0 < here["truncated"].sum() < 6 and here["correct"].any()
    assert there[SAME].equals(here[SAME])


def test_a_chat_with_transformers_serve_that_repeats_the_prompt_is_refused(transformers_server):
    url, model = transformers_server
    chat = connect(model, url, str(model), True, concurrency=1, extra={}, batch_size=2)
    assert chat.apply_chat_template([{"role": "user", "content": QUESTIONS[0]}]) == QUESTIONS[0]
    with pytest.raises(UserError, match="repeats the prompt before its response"):
        rows(chat, instances(QUESTIONS[:1]))


def test_transformers_serve_refuses_another_model_in_words(transformers_server):
    with pytest.raises(UserError, match=r"asked for model 'abacus-fast', says HTTP 400, .*pinned to"):
        evaluate(FAST, ["abacus_easy"], items=1, backend="server", url=transformers_server[0])


# --- vLLM, stood in for

VLLM = '''
"""What lm-eval's class uses of vLLM, with transformers behind it: output ids hold the end token, text and ids end with a stop string."""
from types import SimpleNamespace
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

class SamplingParams:
    def __init__(self, max_tokens, stop, temperature=1.0, top_p=1.0, seed=None, skip_special_tokens=True, spaces_between_special_tokens=True):
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
        chosen = dict(do_sample=True, temperature=p.temperature, top_p=p.top_p, top_k=0) if p.temperature else dict(do_sample=False)
        room = self.llm_engine.model_config.max_model_len - len(prompt)
        out = self.model.generate(torch.tensor([prompt]), max_new_tokens=min(p.max_tokens, room), **chosen)[0, len(prompt):].tolist()
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
        "vllm/__init__.py": VLLM, "vllm/lora/__init__.py": "", "vllm/lora/request.py": "class LoRARequest: pass",
        "vllm/renderers/__init__.py": "",
        "vllm/renderers/hf.py": "def resolve_chat_template(tokenizer, **_): return tokenizer.chat_template",
        "vllm/tokenizers.py": "from transformers import AutoTokenizer\n"
        "def get_tokenizer(name, tokenizer_mode, trust_remote_code, revision): return AutoTokenizer.from_pretrained(name)",
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
        for name in [
            n
            for n in sys.modules
            if n.split(".")[0] == "vllm" or n in ("lm_eval.models.vllm_causallms", "acm.evaluation.backends_vllm")
        ]:
            del sys.modules[name]


def test_vllm_gives_the_records_of_the_default_backend(vllm, local):
    found = evaluate(
        FAST, ["abacus_easy"], items=7, batch_size=4, max_tokens=22, backend="vllm", device="cuda", seed=0,
        model_args={"tensor_parallel_size": 2},
    )  # fmt: skip
    assert found[SAME].equals(local[SAME])
    setting = json.loads(found["setting"][0])
    assert (setting["engine"], setting["vllm"], setting["backend"]) == ("lm-eval/vllm", "0.11.0", "vllm")
    arguments, parameters = vllm.LLM.made[-1].arguments, vllm.LLM.made[-1].parameters
    assert (
        arguments["tensor_parallel_size"] == 2
        and arguments["dtype"] == "float32"
        and arguments["load_format"] == "safetensors"
    )
    assert not arguments["trust_remote_code"]
    assert all(
        p.temperature == 0 and p.max_tokens == 22 and p.stop == ["<|end|>"] and not p.skip_special_tokens
        for p in parameters
    )


def test_vllm_counts_stop_strings_cuts_and_samples_as_the_default_backend_does(vllm, hf):
    from acm.evaluation.backends_vllm import RecordingVLLM

    lm = RecordingVLLM(FAST, batch_size=2, max_gen_toks=20, max_model_len=64)
    greedy = rows(hf, instances())
    stop = greedy[0]["response"][4:8]
    assert rows(lm, instances(until=[stop])) == rows(hf, instances(until=[stop])) != greedy
    first = rows(lm, instances(temperature=1.3, do_sample=True))
    assert rows(lm, instances(QUESTIONS[::-1], temperature=1.3, do_sample=True)) == first
    assert rows(lm, instances(temperature=1.3, do_sample=True), repeat=1) != first


def test_vllm_needs_a_gpu(vllm):
    with pytest.raises(UserError, match="device: is cpu, and the backend vllm runs on a GPU"):
        evaluate(FAST, ["abacus_easy"], backend="vllm")


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
    settings = {"items": 7, "batch_size": 4, "max_tokens": 22, "backend": "vllm", "device": "cuda"}
    with pytest.raises(
        UserError,
        match=r"task 'abacus_easy': 7 of 7 prompts do not fit beside a response of 22 tokens .* larger `max_model_len`",
    ):
        evaluate(FAST, ["abacus_easy"], **settings, model_args={"max_model_len": 25})
    assert not hasattr(vllm.LLM.made[-1], "parameters")
