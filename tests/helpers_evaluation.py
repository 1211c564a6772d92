"""What the tests of the evaluation share: requests, what a backend makes of them, and models with a chat template."""

import json
import shutil
import time
from dataclasses import replace

import torch
from lm_eval.api.instance import Instance

from abacus import BENCHMARKS, CHECKPOINTS
from acm import Server
from acm.evaluation import benchmarks
from acm.evaluation.backends_server import connect

FAST, SLOW = CHECKPOINTS / "abacus-fast", CHECKPOINTS / "abacus-slow"
QUESTIONS = [json.loads(line)["question"] for line in (BENCHMARKS / "abacus_easy.jsonl").read_text().splitlines()[:5]]
SAMPLED = {"do_sample": True, "temperature": 1.3, "top_p": 0.95, "top_k": 0}
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
SAME = ["task", "item", "repeat", "response", "length", "truncated", "correct", "question"]


def instances(questions=QUESTIONS, cap=20, **settings):
    """One request for each question; the item is the question's place in QUESTIONS."""
    arguments = {"until": [], "max_gen_toks": cap} | settings
    return [
        Instance("generate_until", {}, (question, dict(arguments)), 0, ("task", QUESTIONS.index(question), 1))
        for question in questions
    ]


def responses(lm, asked, **state):
    """The responses by item, of the model in this state; whatever the random state was before."""
    torch.manual_seed(time.time_ns() % 1000)
    lm.responses = {}
    for name, value in ({"keep": None, "repeat": 0, "size": 2} | state).items():
        setattr(lm, name, value)
    lm.generate_until(asked, disable_tqdm=True)
    return {item: response for (_, item, _), response in sorted(lm.responses.items())}


def chat_folder(folder, template, model=FAST):
    """A copy of a model with this chat template."""
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def stand_in(monkeypatch, folder, name, rows):
    """Rows in the place of a mathematics benchmark, in a folder that ACM_DATA names."""
    (folder / "benchmarks").mkdir(exist_ok=True)
    (folder / "benchmarks" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    known = benchmarks.BENCHMARKS[name]
    changed = replace(known, items=len(rows), sha256=benchmarks.digest([known.item(row) for row in rows]))
    monkeypatch.setenv(benchmarks.FOLDER, str(folder))
    monkeypatch.setitem(benchmarks.BENCHMARKS, name, changed)


def said(text, tokens, finish="stop", **more):
    return 200, {"choices": [{"text": text, "finish_reason": finish, **more}], "usage": {"completion_tokens": tokens}}


def connected(server, chat=False, folder=FAST, **settings):
    return connect(folder, Server(server.url, batch_size=3, **settings), chat)


def message(content, tokens, finish="stop", **more):
    return 200, {
        "choices": [{"message": {"content": content, **more}, "finish_reason": finish}],
        "usage": {"completion_tokens": tokens},
    }
