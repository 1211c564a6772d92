"""The server backend: a made-up server, and a real one."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import helpers_vllm
import pandas as pd
import pytest
import requests
from helpers_evaluation import (
    FAST,
    QUESTIONS,
    SAME,
    SLOW,
    TEMPLATE,
    chat_folder,
    connected,
    instances,
    message,
    responses,
    said,
    stand_in,
)  # fmt: skip
from lm_eval.api.instance import Instance
from transformers.utils.import_utils import is_serve_available
from typer.testing import CliRunner

from acm import Engine, Server, evaluate
from acm.__main__ import app
from acm.errors import UserError
from acm.evaluation.backends_server import connect
from acm.evaluation.prompts import render


@pytest.mark.parametrize("counted", [True, False], ids=["end token counted", "end token not counted"])
def test_a_server_gives_the_records_of_the_default_backend(server, local, counted):
    known = local.set_index("question")

    def answer(path, body):
        row = known.loc[body["prompt"]]
        end = counted and not row["truncated"]
        return said(row["response"], int(row["length"]) + end, "length" if row["truncated"] else "stop")

    server.answer = answer
    engine = Server(server.url, concurrency=3, batch_size=4)
    found = evaluate(FAST, ["abacus_easy"], items=7, max_tokens=22, engine=engine)
    assert found[SAME].equals(local[SAME])
    setting = json.loads(found["setting"][0])
    assert list(setting) == [
        "engine", "batch_size", "max_tokens", "seed", "model", "backend", "concurrency", "server", "tasks", "source",
        "versions",
    ]  # fmt: skip
    assert setting["engine"] == "lm-eval/server" and setting["concurrency"] == 3
    assert setting["server"] == {"endpoint": "completions", "served": "abacus", "owned_by": "made-up", "version": "1.2"}
    assert {path for path, _ in server.asked} == {"/v1/completions"} and len(server.asked) == 7
    assert all(
        body["temperature"] == 0 and body["max_tokens"] == 22 and body["model"] == "abacus" for _, body in server.asked
    )


LOADED = {
    "vllm": [
        ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(SLOW)}}),
        ("/reset_prefix_cache", {}), ("/weight_checker", {"action": "checksum"}),
    ],
    "sglang": [("/update_weights_from_disk", {"model_path": str(SLOW), "flush_cache": True})],
}  # fmt: skip
DONE = {
    "/collective_rpc": {"results": [None]}, "/reset_prefix_cache": {"success": True},
    "/weight_checker": {"checksums": {"dp0:pp0:pcp0:tp0:a": "12"}}, "/update_weights_from_disk": {"success": True},
}  # fmt: skip


@pytest.mark.parametrize("owner", LOADED)
def test_a_running_server_is_told_to_load_the_folder_and_the_records_say_so(server, owner):
    server.models = [{"id": "abacus", "owned_by": owner, "root": str(FAST)}]
    server.answer = lambda path, body: (200, DONE[path])
    facts = connected(server, folder=SLOW, reload=True).facts["server"]
    assert server.asked == LOADED[owner] and facts["loaded"] == SLOW.name
    posted = json.loads(helpers_vllm.FACTS.read_text())["posted"]
    assert owner == "sglang" or posted == [path for path, _ in server.asked]
    assert ("weights" in facts) == (owner == "vllm")
    if owner == "vllm":
        server.answer = lambda path, body: (
            200,
            DONE[path] if path != "/weight_checker" else {"checksums": {"a": "13"}},
        )
        assert connected(server, folder=SLOW, reload=True).facts["server"]["weights"] != facts["weights"]
        server.answer = lambda path, body: (200, DONE[path] if path != "/weight_checker" else {})
        assert "weights" not in connected(server, folder=SLOW, reload=True).facts["server"]


@pytest.mark.parametrize("owner", LOADED)
def test_a_folder_with_another_config_or_tokenizer_is_not_loaded_into_a_running_server(server, owner, variant):
    server.answer = lambda path, body: (200, DONE[path])
    for folder, odd in (
        (variant(FAST, "more", tokenizer=lambda content: content["added_tokens"].pop()), "tokenizer.json"),
        (variant(FAST, "base", {"rope_theta": 5.0}), "config.json"),
    ):
        server.root = str(folder)
        server.models = [{"id": "abacus", "owned_by": owner, "root": server.root}]
        with pytest.raises(UserError, match=rf"abacus-slow has another {odd} than {folder}"):
            connected(server, folder=SLOW, reload=True)
    for server.root in ("Qwen/Qwen2.5-7B", "/no/such/folder", "/" + "x" * 999, "/a\0b", None, 5):
        server.models = [{"id": "abacus", "owned_by": owner, "root": server.root}]
        with pytest.raises(UserError, match="names no model folder of this machine as its own"):
            connected(server, folder=SLOW, reload=True)
    assert not server.asked


@pytest.mark.parametrize(
    ("owner", "answer", "words"),
    [
        ("made-up", (200, {}), "calls itself 'made-up', and only vLLM and SGLang"),
        ("vllm", (404, {"detail": "Not Found"}), "collective_rpc does not exist; .* VLLM_SERVER_DEV_MODE=1"),
        ("vllm", (200, {"success": False, "message": "no"}), "does not load .*abacus-fast .'no'"),
        ("vllm", (400, {"success": False}), "collective_rpc says HTTP 400"),
        ("vllm", (200, {}), "does not load .*abacus-fast .'the cache is held'"),
        ("sglang", (400, {"success": False, "message": "no weights"}), "from_disk says HTTP 400, .*no weights"),
        ("sglang", (200, {"success": False, "message": "no weights"}), "does not load .*abacus-fast .'no weights'"),
        ("sglang", (200, {}), "does not load .*abacus-fast"),
        ("sglang", (401, b"key"), "says HTTP 401, 'key'"),
        ("sglang", (200, b"[1]"), "answers no JSON object"),
    ],
)
def test_a_server_that_does_not_load_weights_is_told_apart(server, at_once, owner, answer, words):
    server.models = [{"id": "abacus", "owned_by": owner, "root": str(SLOW)}]
    server.answer = lambda path, body: answer
    with pytest.raises(UserError, match=words):
        connected(server, reload=True)


def test_text_up_to_a_stop_string_has_the_string_and_its_tokens(server, hf):
    text, count = " 17+4=21. we", hf.tokenizer(" 17+4=21. we")["input_ids"]
    for kept in (
        said(text, len(count)),
        said(" 17+4=21", len(count), stop_reason=". we"),
        said(" 17+4=21", len(count), matched_stop=". we"),
    ):
        server.answer = lambda *_, kept=kept: kept
        (row,) = responses(connected(server), instances(QUESTIONS[:1], until=[". we"])).values()
        assert row == {"response": text, "length": len(count), "truncated": False}
        assert server.asked[-1][1]["stop"] == [". we", "<|end|>"]


def test_a_sampled_request_has_its_own_seed_whatever_the_order(server):
    server.answer = lambda path, body: said(f" {body['seed'] % 1000}", 5)
    asked = instances(temperature=0.6, top_p=0.95, do_sample=True)
    first = responses(connected(server), asked)
    assert responses(connected(server), asked[::-1]) == first and len({row["response"] for row in first.values()}) == 5
    assert responses(connected(server), asked, repeat=1) != first
    assert server.asked[0][1]["temperature"] == 0.6 and server.asked[0][1]["top_p"] == 0.95


def test_requests_run_at_a_time_and_answers_keep_their_order(server):
    together = threading.Barrier(3)

    def answer(path, body):
        together.wait(timeout=60)
        return said(f" {QUESTIONS.index(body['prompt'])}", 3)

    server.answer = answer
    found = responses(
        connected(server, concurrency=3, model_args={"skip_special_tokens": False}), instances(QUESTIONS[:3]), size=3
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
        ((200, {"choices": []}), "choices: must hold at least 1, not 0"),
        ((200, {"choices": [{"text": "a", "finish_reason": "stop"}]}), r"answers without usage\.completion_tokens"),
        (said("a", None), r"answers without usage\.completion_tokens"),
        (said("a", -1), "completion_tokens: must be at least 0"),
        (said("a", 99), "answers with 99 tokens, more than the cap of 20"),
        (said("a", 1, "content_filter"), "finish_reason: must be 'stop' or 'length'"),
        (said({"a": 1}, 1), "text: must be text"),
    ],
)
def test_what_cannot_be_recorded_is_refused_and_nothing_kept(server, answer, message, tmp_path, at_once):
    server.answer = lambda *_: answer
    with pytest.raises(UserError, match=message):
        responses(connected(server, served="other"), instances(QUESTIONS[:1]), keep=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_server_out_of_reach_is_named(server, at_once):
    lm = connected(server)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UserError, match=r"http://127.*/v1/models gave no answer; start the server"):
            connect(FAST, Server(url), False)
        lm.base_url = f"{url}/v1/completions"
        with pytest.raises(UserError, match=r"completions gave no answer at 5 tries"):
            responses(lm, instances(QUESTIONS[:1]))


def test_the_model_s_name_is_the_one_listed_or_else_the_folder_s(server):
    assert connected(server).model == "abacus" and connected(server, served="mine").model == "mine"
    server.models = [{"id": "a"}, {"id": "b"}]
    assert connected(server).model == "abacus-fast"
    server.models = "none"
    assert connected(server).facts == {"server": {"endpoint": "completions", "served": "abacus-fast", "version": "1.2"}}


def test_a_chat_server_gets_messages_and_the_records_the_template(server, tmp_path, monkeypatch):
    items = [{"problem": f"What is {n}+1?", "answer": str(n + 1)} for n in range(2)]
    stand_in(monkeypatch, tmp_path, "aime24", items)
    server.answer = lambda path, body: message("so \\boxed{1}", 17, reasoning_content="hm, wait")
    folder = chat_folder(tmp_path / "chat", TEMPLATE)
    engine = Server(server.url + "/v1/")
    found = evaluate(folder, ["acm_aime24"], max_tokens=30, prompt="chat-template", engine=engine)
    asked = [render("chat-template", row["problem"]) for row in items]
    assert [body["messages"] for _, body in server.asked] == [[{"role": "user", "content": text}] for text in asked]
    assert {path for path, _ in server.asked} == {"/v1/chat/completions"}
    assert server.asked[0][1]["stop"] == ["<|im_end|>", "<|end|>"]
    assert list(found["question"]) == [f"user: {text}\n" for text in asked]
    assert list(found["response"]) == ["<think>hm, wait</think>so \\boxed{1}"] * 2 and list(found["correct"]) == [1, 0]
    assert found["thinking_closed"].all() and list(found["reflections"]) == [1, 1]


def one(context, until=()):
    return Instance("generate_until", {}, (context, {"until": list(until), "max_gen_toks": 20}), 0, ("task", 0, 1))


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
            (row,) = responses(lm, [one(context)]).values()
            cut = answer[1]["choices"][0]["finish_reason"] == "length"
            assert row["response"] == text and row["truncated"] == cut
    with pytest.raises(UserError, match="has 4 stop strings, and a chat server takes 3"):
        responses(lm, [one(context, list("abcd"))])


def test_the_command_line_reaches_a_server_and_labels_its_records(server, tmp_path):
    server.answer = lambda path, body: said(" the answer is 3.", 7)
    out = tmp_path / "records.parquet"
    options = ["--task", "abacus_easy", "--out", str(out), "--backend", "server", "--url", server.url, "--items", "2",
               "--max-tokens", "9", "--repeat", "2", "--temperature", "0.6", "--top-p", "0.9", "--seed", "4",
               "--model-args", "{top_k: 5}", "--profile", "p", "--experiment", "e", "--method", "m"]  # fmt: skip
    result = CliRunner().invoke(app, ["evaluate", str(FAST), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    records = pd.read_parquet(out)
    labels = records[["profile", "experiment", "method", "model", "repeat"]].drop_duplicates()
    assert labels.values.tolist() == [["p", "e", "m", "abacus-fast", 2]]
    setting = json.loads(records["setting"][0])
    expected = {"temperature": 0.6, "top_p": 0.9, "repeat": 2, "backend": "server", "seed": 4,
                "model_args": {"top_k": 5}}  # fmt: skip
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
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(model),
               "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]  # fmt: skip
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
    settings = {"items": 6, "max_tokens": 60}
    here = evaluate(model, ["abacus_easy"], engine=Engine(batch_size=3), **settings)
    engine = Server(url, served=str(model), concurrency=2, batch_size=3)
    there = evaluate(model, ["abacus_easy"], engine=engine, **settings)
    assert 0 < here["truncated"].sum() < 6 and here["correct"].any()
    assert there[SAME].equals(here[SAME])


def test_a_chat_with_transformers_serve_that_repeats_the_prompt_is_refused(transformers_server):
    url, model = transformers_server
    chat = connect(model, Server(url, str(model)), True)
    assert chat.apply_chat_template([{"role": "user", "content": QUESTIONS[0]}]) == QUESTIONS[0]
    with pytest.raises(UserError, match="repeats the prompt before its response"):
        responses(chat, instances(QUESTIONS[:1]))


def test_transformers_serve_refuses_another_model_in_words(transformers_server):
    with pytest.raises(UserError, match=r"asked for model 'abacus-fast', says HTTP 400, .*pinned to"):
        evaluate(FAST, ["abacus_easy"], items=1, engine=Server(transformers_server[0]))
