"""Models and records that several tests of the evaluation use."""

import http.server
import json
import threading
from types import SimpleNamespace

import pytest
import torch
from helpers_evaluation import FAST
from tenacity import wait_none

from acm import Engine, evaluate
from acm.evaluation import server_requests
from acm.evaluation.backends import RecordingLM

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quick_index(indexed_once):
    """lm-eval's own tasks are indexed once."""


@pytest.fixture(scope="module")
def hf():
    """The usual backend with abacus-fast."""
    return RecordingLM(pretrained=str(FAST), dtype="float32", device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def local():
    """Records of the usual backend, some cut by the cap, some not."""
    records = evaluate(FAST, ["abacus_easy"], items=7, max_tokens=22, engine=Engine(batch_size=4))
    assert 0 < records["truncated"].sum() < 7
    return records


@pytest.fixture
def server():
    """A server in a thread. ``answer(path, body)`` gives status, object or bytes, and headers; None: it breaks off."""
    state = SimpleNamespace(asked=[], headers=[], answer=None, root=str(FAST))
    state.models = [{"id": "abacus", "owned_by": "made-up"}]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = {"/v1/models": {"data": state.models}, "/get_model_info": {"model_path": state.root}}
            self.say(200, found.get(self.path, {"version": "1.2"}))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, body))
            state.headers.append(dict(self.headers))
            found = state.answer(self.path, body)
            self.say(*found) if found else self.connection.shutdown(2)

        def say(self, status, content, headers=()):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | dict(headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{found.server_port}"
        yield state
        found.shutdown()


@pytest.fixture
def at_once(monkeypatch):
    """No pause between tries."""
    monkeypatch.setattr(server_requests, "BACKOFF", wait_none())
