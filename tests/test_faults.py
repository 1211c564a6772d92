"""A merge survives interruption at any moment, what an earlier one left, and rivals."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import threading
import time
import traceback

import pytest
from helpers import SINGLE, contents, halfway, names, recipe, stop_before_publishing
from safetensors.torch import load_file, save_file
from tqdm import tqdm

import acm
from acm.errors import UserError
from acm.merging import engine, fused, plain, workspace

DARE = {"weight": 0.7, "density": 0.6}
MOMENTS = 24  # for each merge
KILLED = {  # name: (method, models, parameters, further keys)
    "task_arithmetic": ("task_arithmetic", 3, {"weight": 0.4, "normalize": True}, {}),
    "ties": ("ties", 2, {"weight": 1.0, "density": 0.3}, {}),
    "ties, global": ("ties", 2, {"weight": 1.0, "density": 0.3}, {"scope": "global"}),
    "dare_ties": ("dare_ties", 3, DARE, {}),
    "twin": ("twin", 1, {"weight": 0.5, "rank": 0.1}, {}),
}
pytestmark = pytest.mark.usefixtures("alarm")


def merge_in_child(content, out, delay, how):
    """Merges in a fork that gets a signal after the delay; 0 done, 3 interrupted, 4 another error, −9 killed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    if not (child := os.fork()):
        code = 4
        try:
            try:
                signal.alarm(0)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
                acm.merge(content, out, threads=2)
                code = 0
            except KeyboardInterrupt:
                code = 3
            except BaseException:
                traceback.print_exc()
        finally:
            os._exit(code)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    time.sleep(delay)
    os.kill(child, how)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def seconds(content, out):
    """How long a merge takes."""
    began = time.perf_counter()
    acm.merge(content, out, threads=2)
    took = time.perf_counter() - began
    shutil.rmtree(out)
    return took


@pytest.mark.parametrize("name", KILLED)
def test_a_merge_killed_at_any_moment_ends_in_the_same_bytes(large, tmp_path, monkeypatch, kept, name):
    monkeypatch.setattr(fused, "CHUNK", 1 << 10)
    monkeypatch.setattr(plain, "CHUNK", 1 << 10)
    monkeypatch.setattr(tqdm, "monitor_interval", 0)
    # tqdm's own lock is shared with forks: a fork that dies while it holds the lock would stop all
    monkeypatch.setattr(tqdm, "_lock", threading.RLock(), raising=False)
    method, models, parameters, extra = KILLED[name]
    content = recipe(method, *large[: 1 + models], parameters=parameters, **extra)
    whole = contents(acm.merge(content, tmp_path / "whole", threads=2))
    assert len([file for file in whole if file.endswith(".safetensors")]) > 2
    shutil.rmtree(tmp_path / "whole")
    span = min(seconds(content, tmp_path / "whole") for _ in range(2))
    draw, out = random.Random(name), tmp_path / "out"
    kept()
    codes, resumed = [], []

    def telling():
        """A third of the moments were kills of a running merge, and a merge that followed found half the work done."""
        return codes.count(-signal.SIGKILL) > MOMENTS / 3 and any(0 < count < 27 for count in resumed)

    while len(codes) < MOMENTS or not telling():
        assert len(codes) < 10 * MOMENTS, (codes, resumed)
        for _ in range(draw.randint(1, 4)):
            how = draw.choice([signal.SIGKILL] * 4 + [signal.SIGINT])
            codes.append(merge_in_child(content, out, draw.uniform(0, span), how))
            assert codes[-1] in (0, 3, -signal.SIGKILL)
            if out.exists():
                break
            assert names(tmp_path) in ([], [".out.part"])
        if not out.exists():
            acm.merge(content, out, threads=2)
            resumed.append(kept() or 0)
        assert contents(out) == whole and names(tmp_path) == ["out"]
        shutil.rmtree(out)


def flip(path):
    """Changes the last bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def journal(change):
    """Changes the bytes of the journal."""

    def damage(work):
        (work / "journal.jsonl").write_bytes(change((work / "journal.jsonl").read_bytes()))

    return damage


@pytest.mark.parametrize("damage, lost", [
    pytest.param(lambda work: None, 0, id="none"),
    pytest.param(lambda work: flip(work / SINGLE), 1, id="changed tensor"),
    pytest.param(lambda work: os.truncate(file := work / SINGLE, file.stat().st_size - 5000), "some", id="cut shard"),
    pytest.param(lambda work: (work / SINGLE).unlink(), "all", id="missing shard"),
    pytest.param(lambda work: (work / ".config.json.1.part").write_text("{"), 0, id="half a config"),
    pytest.param(journal(lambda raw: raw[:-5]), 1, id="cut line"),
    pytest.param(journal(lambda raw: raw[:65]), "all", id="digest alone"),
    pytest.param(journal(lambda raw: raw[:30]), "all", id="cut digest"),
    pytest.param(journal(lambda raw: b""), "all", id="empty journal"),
    pytest.param(journal(lambda raw: os.urandom(500)), "all", id="random journal"),
    pytest.param(journal(lambda raw: raw + b'["nobody", "0123"]\n'), 0, id="unknown tensor"),
    pytest.param(journal(lambda raw: raw + b'["a", "12["b", "34"]\n'), "any", id="lines run together"),
    pytest.param(journal(lambda raw: raw + b"\xff\xfe\n"), "any", id="not utf-8"),
    pytest.param(journal(lambda raw: raw + b"\0" * 100 + b"\n"), "any", id="zeros"),
    pytest.param(journal(lambda raw: raw + b"5\n"), "any", id="number"),
    pytest.param(journal(lambda raw: raw + b'[["a"], "b"]\n'), "any", id="list as name"),
    pytest.param(journal(lambda raw: raw + b'["\\x", "0123456789abcdef"]\n'), "any", id="bad escape"),
    pytest.param(journal(lambda raw: raw + b'["\xff\t", "0123456789abcdef"]\n'), "any", id="bad letters"),
])  # fmt: skip
def test_what_an_interrupted_merge_left_is_checked(f32, tmp_path, kept, damage, lost):
    content = recipe("ties", *f32, parameters=DARE)
    whole = contents(acm.merge(content, tmp_path / "whole"))
    tensors = len(load_file(tmp_path / "whole" / SINGLE))
    damage(stop_before_publishing(content, tmp_path / "out"))
    kept()
    assert contents(acm.merge(content, tmp_path / "out")) == whole
    found = kept() or 0
    expected = {"all": {0}, "some": set(range(1, tensors)), "any": set(range(tensors + 1))}
    assert found in (expected[lost] if isinstance(lost, str) else {tensors - lost})
    assert names(tmp_path) == ["out", "whole"]


def rewrite(folder):
    """Other weights."""
    held = load_file(folder / SINGLE)
    save_file({name: tensor * 2 for name, tensor in held.items()}, folder / SINGLE, metadata={"format": "pt"})


def swap_tokens(folder):
    """Two tokens in each other's place."""
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    (a, i), (b, j) = list(vocabulary.items())[-2:]
    vocabulary |= {a: j, b: i}
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize("change", [
    pytest.param({"seed": 1}, id="seed"),
    pytest.param({"parameters": {"weight": 0.7, "density": 0.5}}, id="parameters"),
    pytest.param({"merge_method": "dare_ties"}, id="method"),
    pytest.param(lambda left: os.utime(left / SINGLE, (1, 1)), id="touched input"),
    pytest.param(rewrite, id="rewritten input"),
    pytest.param(swap_tokens, id="rewritten tokenizer"),
])  # fmt: skip
def test_leftovers_of_another_merge_are_not_used(f32, tmp_path, kept, change):
    left = shutil.copytree(f32[1], tmp_path / "left")
    content = recipe("dare_linear", f32[0], left, parameters=DARE, tokenizer_source="base")
    stop_before_publishing(content, tmp_path / "out")
    kept()
    if isinstance(change, dict):
        content |= change
    else:
        change(left)
    assert contents(acm.merge(content, tmp_path / "out")) == contents(acm.merge(content, tmp_path / "whole"))
    assert kept() is None


def test_a_merge_that_allowed_nan_is_not_continued_by_one_that_does_not(poisoned, f32, tmp_path):
    content = halfway(f32[0], poisoned)
    stop_before_publishing(content, tmp_path / "out", allow_nan=True)
    with pytest.raises(UserError, match="NaN"):
        acm.merge(content, tmp_path / "out")


def test_an_interrupt_within_a_wait_is_an_interrupt(f32, tmp_path, monkeypatch):
    """Python's own wait may turn an interrupt into a RuntimeError about its lock."""

    def wait(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("release unlocked lock")  # noqa: B904 (its context is what counts)

    monkeypatch.setattr(engine, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        acm.merge(halfway(*f32), tmp_path / "out")
    monkeypatch.undo()
    assert contents(acm.merge(halfway(*f32), tmp_path / "out"))


def test_two_merges_refuse_each_other(f32, tmp_path, monkeypatch):
    content, out, busy, go = halfway(*f32), tmp_path / "out", threading.Event(), threading.Event()
    whole = contents(acm.merge(content, tmp_path / "whole"))
    original = engine.write_companions
    monkeypatch.setattr(engine, "write_companions", lambda *given: (busy.set(), go.wait(30), original(*given)))
    first = threading.Thread(target=acm.merge, args=(content, out))
    first.start()
    assert busy.wait(30)
    for seed in (0, 1):
        with pytest.raises(UserError, match=f"another merge is writing {out} right now"):
            acm.merge(content | {"seed": seed}, out)
    go.set()
    first.join(30)
    assert contents(out) == whole and names(tmp_path) == ["out", "whole"]


@pytest.mark.parametrize("end", [
    pytest.param(lambda work: work.rename(work.with_name("out")), id="published"),
    pytest.param(shutil.rmtree, id="discarded"),
    pytest.param(lambda work: work.with_name("out").mkdir(), id="published before"),
])  # fmt: skip
def test_a_rival_that_ends_while_the_lock_is_taken(f32, tmp_path, monkeypatch, end):
    def flock(handle, operation):
        monkeypatch.undo()
        end(tmp_path / ".out.part")
        return original(handle, operation)

    original = fcntl.flock
    monkeypatch.setattr(workspace.fcntl, "flock", flock)
    with contextlib.suppress(UserError):
        acm.merge(halfway(*f32), tmp_path / "out")
    assert names(tmp_path) in ([], ["out"])


def test_a_work_folder_is_removed_under_its_lock(f32, poisoned, tmp_path, monkeypatch):
    def rmtree(work, **_):
        handle = os.open(work, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(workspace.shutil, "rmtree", rmtree)
    with pytest.raises(UserError, match="NaN"):
        acm.merge(halfway(f32[0], poisoned), tmp_path / "out")
