"""What servers do wrong: hiccups that pass, answers that cannot be true, and connections that never end."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate

import pytest
from helpers_evaluation import FAST, QUESTIONS, TEMPLATE, chat_folder, connected, instances, message, responses, said
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acm import Server
from acm.errors import UserError
from acm.evaluation import server_requests
from acm.evaluation.server_answers import LOST, read_answer

FINE = said(" 4 2", 3)


def first(server, *answers):
    """The server says these once each, and then what is fine."""
    left = list(answers)
    server.answer = lambda *_: left.pop(0) if left else FINE


# --- what passes


@pytest.mark.parametrize(
    "hiccups",
    [
        [(500, b"oops")],
        [(503, {})] * 4,
        [(429, b"")],
        [(408, b"")],
        [None, None],
        [None, (502, b"<html>")],
        [(200, b'{"choices": [', {"Content-Length": "99"})],
    ],
    ids=["500", "503 four times", "429", "408", "breaks off twice", "both", "breaks off in its answer"],
)
def test_a_hiccup_is_tried_again(server, at_once, hiccups):
    lm = connected(server)
    first(server, *hiccups)
    found = responses(lm, instances(QUESTIONS[:2]))
    assert [row["response"] for row in found.values()] == [" 4 2"] * 2 and len(server.asked) == 2 + len(hiccups)


@pytest.mark.parametrize(("status", "tries"), [(500, 5), (429, 5), (400, 1), (401, 1), (404, 1), (422, 1)])
def test_what_does_not_pass_ends_in_a_sentence(server, at_once, status, tries):
    lm = connected(server)
    server.answer = lambda *_: (status, b"no")
    with pytest.raises(UserError, match=f"says HTTP {status}, 'no'"):
        responses(lm, instances(QUESTIONS[:1]))
    assert len(server.asked) == tries


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_server_says_how_long_to_wait(server, at_once, form):
    lm = connected(server)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    first(server, (429, b"", {"Retry-After": {"seconds": "1", "date": date}[form]}))
    start = time.monotonic()
    responses(lm, instances(QUESTIONS[:1]))
    assert 0.5 < time.monotonic() - start < 20


@pytest.mark.parametrize("wait", ["1000000000", "9" * 400, formatdate(4e9, usegmt=True)])
def test_a_wait_without_end_is_refused(server, at_once, wait):
    lm = connected(server, timeout=5)
    server.answer = lambda *_: (429, b"later", {"Retry-After": wait})
    with pytest.raises(UserError, match=r"says HTTP 429, 'later', and asks to wait"):
        responses(lm, instances(QUESTIONS[:1]))
    assert len(server.asked) == 1


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_any_retry_after_is_a_time(text):
    assert server_requests.seconds_asked(text) >= 0


def test_each_finished_response_is_kept(server, tmp_path):
    """The server fails for good at the fourth of five requests; then a rerun asks for two alone."""
    lm = connected(server)
    answers = [FINE, FINE, FINE, (400, b"full")]
    first(server, *answers)
    with pytest.raises(UserError, match=r"HTTP 400, 'full'.* 3 of this batch's 5 responses are kept"):
        responses(lm, instances(), keep=tmp_path, size=5)
    server.asked.clear()
    found = responses(lm, instances(), keep=tmp_path, size=5)
    assert len(server.asked) == 2 and len(found) == 5
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".json"]
    assert not list((tmp_path / "responses").iterdir())
    server.asked.clear()
    assert responses(lm, instances(), keep=tmp_path, size=5) == found and not server.asked


@pytest.mark.parametrize("damage", [lambda t: t[:-9], lambda t: t.replace("4 2", "4 3"), lambda t: ""])
def test_a_damaged_response_is_asked_for_again(server, tmp_path, damage):
    lm = connected(server)
    first(server, FINE, (400, b"full"))
    with pytest.raises(UserError, match="1 of this batch's 2 responses"):
        responses(lm, instances(QUESTIONS[:2]), keep=tmp_path)
    (kept,) = (tmp_path / "responses").iterdir()
    kept.write_text(damage(kept.read_text()))
    server.asked.clear()
    found = responses(lm, instances(QUESTIONS[:2]), keep=tmp_path)
    assert len(server.asked) == 2 and {row["response"] for row in found.values()} == {" 4 2"}


# --- what never ends


@contextmanager
def raw(speak):
    """Address of a server that says to every connection what ``speak(connection)`` does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    connection = listening.accept()[0]
                except OSError:
                    return
                threading.Thread(target=quietly, args=(speak, connection), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def quietly(speak, connection):
    try:
        connection.recv(65536)
        speak(connection)
    except OSError:
        pass


def drip(head):
    def speak(connection):
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return speak


@pytest.mark.parametrize(
    "speak",
    [
        lambda connection: time.sleep(60),
        drip(b""),
        drip(b"HTTP/1.1 200 OK\r\nX-Long: "),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["silence", "no HTTP", "dripping head", "dripping body", "dripping chunks"],
)
def test_a_stuck_connection_ends(server, at_once, speak):
    lm = connected(server, timeout=1)
    with raw(speak) as url:
        lm.base_url = url
        start = time.monotonic()
        with pytest.raises(UserError, match=r"gave no|does not answer as HTTP"):
            responses(lm, instances(QUESTIONS[:1]))
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("answer", [None, (503, b""), (429, b"", {"Retry-After": "500"})])
def test_the_deadline_ends_all_waiting(server, answer):
    lm = connected(server, deadline=1.5)
    server.answer = lambda *_: answer
    start = time.monotonic()
    with pytest.raises(UserError, match=r"the deadline of 1\.5 s is over; .*--deadline"):
        responses(lm, instances(QUESTIONS[:1]))
    assert time.monotonic() - start < 10


def test_an_interrupt_ends_requests_under_way(server):
    """A process of its own is interrupted while the server is silent."""
    asked = threading.Event()

    def silent(path, body):
        asked.set()
        time.sleep(30)

    server.answer = silent
    code = f"import acm; acm.evaluate({str(FAST)!r}, ['abacus_easy'], items=2, backend='server', url={server.url!r})"
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    with subprocess.Popen([sys.executable, "-c", start + code], stderr=subprocess.PIPE, text=True) as process:
        assert asked.wait(120)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
        assert time.monotonic() - began < 10


def test_it_runs_where_a_loop_runs_already(server):
    """As in Jupyter."""
    server.answer = lambda *_: FINE

    async def cell():
        return responses(connected(server), instances(QUESTIONS[:1]))

    assert len(asyncio.run(cell())) == 1


def test_a_time_that_does_not_pass_is_refused():
    for name in ("timeout", "deadline"):
        for value in (0, -1, float("nan"), float("inf")):
            with pytest.raises(UserError, match=f"{name}: is .*seconds above 0"):
                Server("http://localhost", **{name: value})


# --- what cannot be true


@pytest.mark.parametrize("tokens", [0, 1, 3, 20, 30])
def test_fewer_tokens_than_the_text_has_are_refused(server, tokens):
    lm = connected(server)
    server.answer = lambda *_: said(" 4" * 40, tokens)
    with pytest.raises(
        UserError, match=rf"counts {tokens} tokens .* for a text that has \d+ by the folder's tokenizer"
    ):
        responses(lm, instances(QUESTIONS[:1], cap=200))


@pytest.mark.parametrize(("text", "tokens"), [(" 4 2", 40), ("", 30), (" 4" * 40, 160)])
def test_many_more_tokens_than_the_text_has_are_refused(server, text, tokens):
    lm = connected(server)
    server.answer = lambda *_: said(text, tokens)
    with pytest.raises(UserError, match=f"counts {tokens} tokens .* hides thinking or special tokens"):
        responses(lm, instances(QUESTIONS[:1], cap=200))
    server.answer = lambda *_: said(text, 200, "length")  # all that the cap allows: special tokens may do that
    (row,) = responses(lm, instances(QUESTIONS[:1], cap=200)).values()
    assert row == {"response": text, "length": 200, "truncated": True}


def test_hidden_thinking_that_the_server_counts_apart_is_length(server):
    status, content = said(" 4 2", 150)
    content["usage"]["completion_tokens_details"] = {"reasoning_tokens": 146}
    lm = connected(server)
    server.answer = lambda *_: (status, content)
    (row,) = responses(lm, instances(QUESTIONS[:1], cap=200)).values()
    assert row["length"] >= 149


@example(numbers=[303, 261])  # " fi" and "ns", of which the tokenizer makes " ", "f", "ins": it is not the shortest
@settings(derandomize=True)
@given(numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_no_sequence_of_tokens_has_too_few_for_its_text(hf, numbers):
    """Whatever a model generates: its text, broken bytes left out, has hardly more tokens by the tokenizer."""
    ids = [number % len(hf.tokenizer) for number in numbers]
    text = hf.tokenizer.decode(ids, skip_special_tokens=True).replace(LOST, "")
    known = len(hf.tokenizer(text, add_special_tokens=False)["input_ids"])
    assert len(ids) >= 0.9 * known - 1


@given(numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_no_sequence_of_bytes_has_too_many_tokens_for_its_text(hf, numbers):
    """A model that writes broken bytes, each a token, is not refused."""
    size = len(hf.tokenizer)
    ids = [n % size for n in numbers if LOST in hf.tokenizer.decode([n % size])]
    text = hf.tokenizer.decode(ids)
    known = len(hf.tokenizer(text.replace(LOST, ""), add_special_tokens=False)["input_ids"])
    assert len(ids) <= 1.5 * known + 3 * text.count(LOST)


def test_a_cut_below_the_cap_is_refused(server):
    lm = connected(server)
    server.answer = lambda *_: said(" 4 2", 3, "length")
    with pytest.raises(UserError, match=r"cut a response at 3 tokens, below the cap of 20: it has a limit of its own"):
        responses(lm, instances(QUESTIONS[:1]))


def modelled(name):
    status, content = FINE
    return lambda *_: (status, content | {"model": name})


def test_another_model_is_refused_and_the_listed_root_is_not(server):
    server.models = [{"id": "short", "root": "/models/long"}, {"id": "other", "root": "/models/other"}]
    lm = connected(server, served="short")
    for name in ("other", "/models/other", "short-2", "SHORT"):
        server.answer = modelled(name)
        with pytest.raises(UserError, match=rf"asked for model 'short', answers with '{name}'; .*--served"):
            responses(lm, instances(QUESTIONS[:1]))
    for name in ("short", "/models/long", None, ""):
        server.answer = modelled(name)
        assert len(responses(lm, instances(QUESTIONS[:1]))) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_the_key_stays(server, status, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
    lm = connected(server)
    with raw(lambda connection: pytest.fail("asked")) as elsewhere:
        for target in (elsewhere, "/v1/other", "http://[", ""):
            server.answer = lambda *_, target=target: (status, b"", {"Location": target})
            with pytest.raises(UserError, match=r"sends on to .*give it as --url") as error:
                responses(lm, instances(QUESTIONS[:1]))
            assert "sk-secret" not in str(error.value)
    assert server.headers[-1]["Authorization"] == "Bearer sk-secret" and len(server.asked) == 4


def test_a_key_that_is_none_is_refused_without_showing_it(server, monkeypatch):
    for key in ("sk-é", "sk-\x1b[2J", "a\nb"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(UserError, match="OPENAI_API_KEY: holds a character") as error:
            connected(server)
        assert key not in str(error.value)


CHOICE = {"text": "a", "finish_reason": "stop"}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "text",
        {"choices": None},
        {"choices": [CHOICE, CHOICE], "usage": {"completion_tokens": 2}},
        {"choices": [CHOICE | {"text": None}], "usage": {"completion_tokens": 2}},
        {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}},
        {"choices": [CHOICE | {"finish_reason": None}], "usage": {"completion_tokens": 2}},
        {"choices": [CHOICE], "usage": {"completion_tokens": "2"}},
        {"choices": [CHOICE], "usage": {"completion_tokens": True}},
        {"choices": [CHOICE], "usage": {"completion_tokens": 2.5}},
        {"choices": [CHOICE], "usage": [2]},
        {"error": {"message": "overloaded"}},
        {"error": {"message": "overloaded"}, "choices": []},
        b"",
        b'{"choices": [{"text": "a',
        b'{"choices": [{"text": "\xff"}]}',
        b'{"choices": [{"text": "\\ud800", "finish_reason": "stop"}]}',
        b"[" * 100_000,
        b"<!DOCTYPE html><h1>Welcome</h1>",
    ],
)
def test_an_answer_of_another_form_is_one_sentence(server, answer):
    lm = connected(server)
    server.answer = lambda *_: (200, answer)
    with pytest.raises(UserError, match="http://127") as error:
        responses(lm, instances(QUESTIONS[:1]))
    assert len(str(error.value)) < 700 and "pydantic" not in str(error.value)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_any_bytes_are_an_answer_or_a_sentence(body):
    try:
        read_answer(body if isinstance(body, bytes) else body.encode(), "http://somewhere")
    except UserError as error:
        assert "http://somewhere" in str(error)


def test_a_chat_answer_without_a_message_is_refused(server, tmp_path):
    lm = connected(server, chat=True, folder=chat_folder(tmp_path / "chat", TEMPLATE))
    context = lm.apply_chat_template([{"role": "user", "content": QUESTIONS[0]}])
    asked = instances(QUESTIONS[:1])
    asked[0].arguments = (context, asked[0].args[1])
    for answer, words in ((FINE, "answers without a message"), (message("4" * 40, 2), "counts 2 tokens")):
        server.answer = lambda *_, answer=answer: answer
        with pytest.raises(UserError, match=words):
            responses(lm, asked)


def test_an_answer_without_end_or_packed_is_refused(server, monkeypatch):
    lm = connected(server)
    server.answer = lambda *_: (200, b" " * (3 << 20))
    with pytest.raises(UserError, match="answers with more than 1,069,056 bytes"):
        responses(lm, instances(QUESTIONS[:1]))
    server.answer = lambda *_: (200, b"\x1f\x8b", {"Content-Encoding": "gzip"})
    with pytest.raises(UserError, match="packs its answers"):
        responses(lm, instances(QUESTIONS[:1]))
    assert {headers["Accept-Encoding"] for headers in server.headers} == {"identity"}


# --- what only a batch shows


@pytest.mark.parametrize(("surplus", "message"), [
    ([20, 20, 20], "and alike in most responses"), ([30, 1, 25], "and alike in most responses"),
    ([17, 12, 12], "and alike in most responses"), ([1, 1, 20], None), ([8, 8, 0], None), ([0, 0, 0], None),
])  # fmt: skip
def test_tokens_that_most_texts_lack_are_refused(server, tmp_path, surplus, message):
    """As of a server that counts a short prompt: each response alone might hide as many special tokens."""
    lm = connected(server)
    text = " 4 2" * 10
    tokens = dict(zip(QUESTIONS[:3], (lm.count(text) + more for more in surplus), strict=True))
    server.answer = lambda _, body: said(text, tokens[body["prompt"]])
    asked = instances(QUESTIONS[:3], cap=900)
    if message is None:
        assert len(responses(lm, asked, keep=tmp_path, size=3)) == 3
        return
    with pytest.raises(UserError, match=message):
        responses(lm, asked, keep=tmp_path, size=3)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # the mended server is asked anew
    server.answer = lambda *_: said(text, lm.count(text) + 1)
    assert len(responses(lm, asked, keep=tmp_path, size=3)) == 3


def test_thinking_that_is_hidden_and_stated_is_no_surplus(server):
    lm = connected(server)
    details = {"completion_tokens": lm.count(" 4 2") + 61, "completion_tokens_details": {"reasoning_tokens": 60}}
    choices = [{"text": " 4 2", "finish_reason": "stop"}]
    server.answer = lambda *_: (200, {"choices": choices, "usage": details})
    found = responses(lm, instances(QUESTIONS[:3], cap=90), size=3)
    assert {row["length"] for row in found.values()} == {lm.count(" 4 2") + 60}


def test_a_server_that_repeats_the_prompt_is_refused(server):
    lm = connected(server)
    server.answer = lambda _, body: said(body["prompt"] + " 4", lm.count(body["prompt"] + " 4") + 1)
    with pytest.raises(UserError, match=r"repeats the prompt before its responses; .*echo"):
        responses(lm, instances(QUESTIONS[:3], cap=90), size=3)
