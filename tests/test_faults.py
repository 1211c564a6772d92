"""A merge survives interruption at any moment, full disks and rivals, and how it is run changes no byte."""

import contextlib
import errno
import fcntl
import io
import itertools
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tqdm import tqdm

import acm
from acm import progress
from acm.errors import UserError
from acm.merging import engine, primitives, workspace
from acm.merging.registry import METHODS
from acm.paths import ROOT

NORM, HEAD = "model.norm.weight", "lm_head.weight"
DARE = {"weight": 0.7, "density": 0.6}
MOMENTS = 24  # for each merge
KILLED = {  # name: (method, models, parameters, further keys)
    "task_arithmetic": ("task_arithmetic", 3, {"weight": 0.4, "normalize": True}, {}),
    "ties": ("ties", 2, {"weight": 1.0, "density": 0.3}, {}),
    "ties, global": ("ties", 2, {"weight": 1.0, "density": 0.3}, {"scope": "global"}),
    "dare_ties": ("dare_ties", 3, DARE, {}),
    "twin": ("twin", 1, {"weight": 0.5, "rank": 0.1}, {}),
}


def recipe(method, base, *models, parameters=None, **extra):
    return {"merge_method": method, "base_model": str(base), "models": [{"model": str(m)} for m in models],
            "parameters": {"weight": 0.5} if parameters is None else parameters, **extra}  # fmt: skip


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


pytestmark = pytest.mark.usefixtures("alarm")


@pytest.fixture(scope="module")
def large(make_model, tmp_path_factory):
    """A base and three fine-tuned models of 3 MB in bfloat16, several shards each."""
    folder = tmp_path_factory.mktemp("large")
    same = {"hidden": 256, "dtype": torch.bfloat16, "shard": "1MB"}
    base = make_model(folder / "base", **same)
    return base, *(make_model(folder / f"m{seed}", seed, base, **same) for seed in (1, 2, 3))


@pytest.fixture
def kept(caplog):
    """How many finished tensors the last merge found, None if it began anew."""
    caplog.set_level(logging.INFO, "acm.merging.engine")

    def count():
        found = [record.args[0] for record in caplog.records if record.msg.startswith("continuing")]
        caplog.clear()
        return found[-1] if found else None

    return count


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


@pytest.mark.parametrize("name", KILLED)
def test_a_merge_killed_at_any_moment_ends_in_the_same_bytes(large, tmp_path, monkeypatch, kept, name):
    monkeypatch.setattr(engine, "STRETCH", 1 << 10)
    monkeypatch.setattr(engine, "CHUNK", 1 << 10)
    monkeypatch.setattr(tqdm, "monitor_interval", 0)
    monkeypatch.setattr(
        tqdm, "_lock", threading.RLock(), raising=False
    )  # its own is shared with forks: one that dies with it stops all
    method, models, parameters, extra = KILLED[name]
    content = recipe(method, *large[: 1 + models], parameters=parameters, **extra)
    whole = contents(acm.merge(content, tmp_path / "whole", threads=2))
    assert len([file for file in whole if file.endswith(".safetensors")]) > 2
    shutil.rmtree(tmp_path / "whole")
    spans = []
    for _ in range(2):
        began = time.perf_counter()
        shutil.rmtree(acm.merge(content, tmp_path / "whole", threads=2))
        spans.append(time.perf_counter() - began)
    draw, out = random.Random(name), tmp_path / "out"
    kept()
    codes, resumed = [], []

    def telling():
        """A third of the moments were kills of a running merge, and one of the merges that followed found half the work done."""
        return codes.count(-signal.SIGKILL) > MOMENTS / 3 and any(0 < count < 27 for count in resumed)

    while len(codes) < MOMENTS or not telling():
        assert len(codes) < 10 * MOMENTS, (codes, resumed)
        for _ in range(draw.randint(1, 4)):
            how = draw.choice([signal.SIGKILL] * 4 + [signal.SIGINT])
            codes.append(merge_in_child(content, out, draw.uniform(0, min(spans)), how))
            assert codes[-1] in (0, 3, -signal.SIGKILL)
            if out.exists():
                break
            assert names(tmp_path) in ([], [".out.part"])
        if not out.exists():
            acm.merge(content, out, threads=2)
            resumed.append(kept() or 0)
        assert contents(out) == whole and names(tmp_path) == ["out"]
        shutil.rmtree(out)


def interrupt(*_):
    raise KeyboardInterrupt


def stop_before_publishing(content, out, **settings):
    """Leaves the folder of a merge with all tensors done."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "write_companions", interrupt)
        acm.merge(content, out, **settings)
    return out.with_name(f".{out.name}.part")


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def journal(change):
    def damage(part):
        (part / "journal.jsonl").write_bytes(change((part / "journal.jsonl").read_bytes()))

    return damage


@pytest.mark.parametrize("damage, lost", [
    pytest.param(lambda part: None, 0, id="none"),
    pytest.param(lambda part: flip(part / "model.safetensors"), 1, id="changed tensor"),
    pytest.param(lambda part: os.truncate(file := part / "model.safetensors", file.stat().st_size - 5000), "some", id="cut shard"),
    pytest.param(lambda part: (part / "model.safetensors").unlink(), "all", id="missing shard"),
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
    tensors = len(load_file(tmp_path / "whole/model.safetensors"))
    damage(stop_before_publishing(content, tmp_path / "out"))
    kept()
    assert contents(acm.merge(content, tmp_path / "out")) == whole
    found = kept() or 0
    assert (
        {"all": found == 0, "some": 0 < found < tensors, "any": True}[lost]
        if isinstance(lost, str)
        else found == tensors - lost
    )
    assert names(tmp_path) == ["out", "whole"]


def rewrite(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor * 2 for name, tensor in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )


def swap_tokens(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    (a, i), (b, j) = list(vocabulary.items())[-2:]
    vocabulary |= {a: j, b: i}
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize("change", [
    pytest.param({"seed": 1}, id="seed"),
    pytest.param({"parameters": {"weight": 0.7, "density": 0.5}}, id="parameters"),
    pytest.param({"merge_method": "dare_ties"}, id="method"),
    pytest.param(lambda left: os.utime(left / "model.safetensors", (1, 1)), id="touched input"),
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
    content = recipe("task_arithmetic", f32[0], poisoned)
    stop_before_publishing(content, tmp_path / "out", allow_nan=True)
    with pytest.raises(UserError, match="NaN"):
        acm.merge(content, tmp_path / "out")


def test_two_merges_refuse_each_other(f32, tmp_path, monkeypatch):
    content, out, busy, go = recipe("task_arithmetic", *f32), tmp_path / "out", threading.Event(), threading.Event()
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
    pytest.param(lambda part: part.rename(part.with_name("out")), id="published"),
    pytest.param(shutil.rmtree, id="discarded"),
    pytest.param(lambda part: part.with_name("out").mkdir(), id="published before"),
])  # fmt: skip
def test_a_rival_that_ends_while_the_lock_is_taken(f32, tmp_path, monkeypatch, end):
    def flock(handle, operation):
        monkeypatch.undo()
        end(tmp_path / ".out.part")
        return original(handle, operation)

    original = fcntl.flock
    monkeypatch.setattr(workspace.fcntl, "flock", flock)
    with contextlib.suppress(UserError):
        acm.merge(recipe("task_arithmetic", *f32), tmp_path / "out")
    assert names(tmp_path) in ([], ["out"])


def test_a_work_folder_is_removed_under_its_lock(f32, poisoned, tmp_path, monkeypatch):
    def rmtree(part, **_):
        handle = os.open(part, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(workspace.shutil, "rmtree", rmtree)
    with pytest.raises(UserError, match="NaN"):
        acm.merge(recipe("task_arithmetic", f32[0], poisoned), tmp_path / "out")


def failing(function, after, number):
    calls = itertools.count()

    def call(*given, **named):
        if next(calls) >= after:
            raise OSError(number, os.strerror(number))
        return function(*given, **named)

    return call


@pytest.mark.parametrize("where, name, after", [
    (os, "posix_fallocate", 0), (os, "posix_fallocate", 2), (os, "pwrite", 0), (os, "pwrite", 3), (os, "pwrite", 12), (os, "pwrite", 25),
    (os, "write", 0), (os, "write", 5), (os, "fsync", 1), (Path, "write_text", 0), (Path, "write_text", 2), (shutil, "copyfile", 1),
])  # fmt: skip
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do_and_the_merge_continues(
    make_model, f32, tmp_path, kept, where, name, after, number
):
    base = make_model(tmp_path / "base", shard="20KB")
    content = recipe("ties", base, f32[1], parameters=DARE)
    whole = contents(acm.merge(content, tmp_path / "whole"))
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(UserError, match=r"no space left while writing .*out.*it continues"),
    ):
        patch.setattr(where, name, failing(getattr(where, name), after, number))
        acm.merge(content, tmp_path / "out", threads=1)
    assert names(tmp_path) == [".out.part", "base", "whole"]
    assert contents(acm.merge(content, tmp_path / "out")) == whole and names(tmp_path) == ["base", "out", "whole"]
    assert name != "pwrite" or after < 12 or kept()


def test_a_disk_that_is_still_full_loses_no_finished_tensor(f32, tmp_path, monkeypatch, kept):
    content = recipe("task_arithmetic", *f32)
    stop_before_publishing(content, tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(UserError, match="it continues"):
        patch.setattr(Path, "write_bytes", failing(Path.write_bytes, 0, errno.ENOSPC))
        acm.merge(content, tmp_path / "out")
    kept()
    acm.merge(content, tmp_path / "out")
    assert kept() == 27


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


def test_a_disk_that_is_really_full(large, tmp_path, monkeypatch, disk):
    content = recipe("task_arithmetic", *large[:2])
    whole = contents(acm.merge(content, tmp_path / "whole"))
    folder = disk("size=2m")
    with pytest.raises(UserError, match="no space left for the result at"):
        acm.merge(content, folder / "out")
    assert names(folder) == []
    with monkeypatch.context() as patch, pytest.raises(UserError, match="no space left while writing"):
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
        acm.merge(content, folder / "out")
    assert names(folder) == [".out.part"]
    disk("size=16m")
    assert contents(acm.merge(content, folder / "out")) == whole and names(folder) == ["out"]


def test_a_merge_continues_on_a_disk_with_room_for_one(large, tmp_path, disk):
    folder, content = disk("size=5m"), recipe("task_arithmetic", *large[:2])
    stop_before_publishing(content, folder / "out")
    acm.merge(content, folder / "out")
    assert names(folder) == ["out"]


def test_a_disk_that_is_read_only(f32, disk):
    folder = disk("size=2m")
    disk("ro")
    for out in (folder / "out", folder / "new/out"):
        with pytest.raises(UserError, match=f"cannot write beside {out} .*name an output folder where you may write"):
            acm.merge(recipe("task_arithmetic", *f32), out)
    assert names(folder) == []


def test_an_output_where_nothing_can_be_written(f32, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    content = recipe("task_arithmetic", *f32)
    for out, why in (
        ("file/out", "cannot write beside"),
        ("file/new/out", "cannot write beside"),
        ("x" * 250, "cannot be made"),
    ):
        with pytest.raises(UserError, match=why):
            acm.merge(content, tmp_path / out)
    monkeypatch.setattr(Path, "mkdir", failing(Path.mkdir, 0, errno.EACCES))
    with pytest.raises(UserError, match=r"cannot write beside .*Permission denied"):
        acm.merge(content, tmp_path / "out")
    assert contents(tmp_path) == {"file": b"mine"} and names(tmp_path) == ["file"]


PARAMETERS = {"weight": 0.6, "t": 0.4, "density": 0.6, "rank": 0.3, "mu": 0.1, "epsilon": 0.2, "gamma": 0.1}
PLAIN = [name for name, method in METHODS.items() if not {"statistics", "sensitivity"} & method.parameters.keys()]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def layouts(request, make_model, tmp_path_factory):
    """The same models in one file and in several."""

    def trio(folder, shard):
        same = {"dtype": getattr(torch, request.param), "shard": shard}
        base = make_model(folder / "base", 0, **same)
        return base, *(make_model(folder / name, seed, base, **same) for seed, name in ((1, "left"), (2, "right")))

    folder = tmp_path_factory.mktemp(request.param)
    return trio(folder / "one", "5GB"), trio(folder / "many", "20KB")


@pytest.mark.parametrize("method", PLAIN)
def test_how_a_merge_is_run_changes_no_byte(layouts, tensors, tmp_path, monkeypatch, method):
    one, many = layouts
    monkeypatch.setattr(primitives, "BLOCK", 32)
    parameters = {key: PARAMETERS[key] for key in METHODS[method].parameters if key in PARAMETERS}
    several = METHODS[method].models[1] != 1
    count = itertools.count()

    def stored(folder):
        return {name: tensor.view(torch.uint8).numpy().tobytes() for name, tensor in tensors(folder).items()}

    def merged(folders=one, flipped=False, **settings):
        content = recipe(method, *folders[: 2 + several], parameters=parameters, seed=5)
        own = content["models"][-1]
        own["parameters"] = {"weight": 0.9} if "weight" in parameters else {}
        content["models"] = content["models"][:: -1 if flipped else 1]
        return stored(acm.merge(content, tmp_path / str(next(count)), **settings))

    first = merged(threads=2)
    assert len(first) == 27 and all(first != stored(folder) for folder in one)
    assert all(merged(threads=threads) == first for threads in (1, 5))
    assert merged(kernels=False) == first
    assert merged(flipped=True) == first
    assert merged(folders=many) == first
    for chunk, stretch in ((3, 5), (7, 2)):
        monkeypatch.setattr(engine, "CHUNK", chunk * 32)
        monkeypatch.setattr(engine, "STRETCH", stretch * 32)
        assert merged() == first
        assert merged(folders=many, kernels=False, threads=3) == first


@pytest.fixture
def poisoned(f32, tmp_path):
    """The left model with three values that are not finite."""
    left = shutil.copytree(f32[1], tmp_path / "poisoned/left")
    tensors = load_file(left / "model.safetensors")
    tensors[HEAD].view(-1)[[3, 70, 71]] = torch.tensor([float("nan"), float("inf"), float("-inf")])
    save_file(tensors, left / "model.safetensors", metadata={"format": "pt"})
    return left


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(
    "method", ["linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "slerp", "della", "twin"]
)
def test_nan_stops_a_merge(f32, poisoned, tmp_path, method, kernels):
    parameters = {key: PARAMETERS[key] for key in METHODS[method].parameters if key in PARAMETERS}
    before = names(tmp_path)
    with pytest.raises(
        UserError, match=f"{poisoned / 'model.safetensors'}: tensor {HEAD} holds 3 values that are NaN .*--allow-nan"
    ):
        acm.merge(recipe(method, f32[0], poisoned, parameters=parameters), tmp_path / "out", kernels=kernels)
    assert names(tmp_path) == before


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "dare_linear", "dare_ties"])
def test_allowed_nan_leaves_the_rest_right(f32, poisoned, tmp_path, tensors, method, kernels):
    clean = tensors(
        acm.merge(recipe(method, *f32[:2], parameters=DARE if "dare" in method else None), tmp_path / "clean")
    )
    content = recipe(method, f32[0], poisoned, parameters=DARE if "dare" in method else None)
    found = tensors(acm.merge(content, tmp_path / "out", kernels=kernels, allow_nan=True))
    finite = torch.isfinite(found[HEAD].view(-1))
    assert set(torch.where(~finite)[0].tolist()) <= {3, 70, 71} and (
        method.startswith("dare") or not finite[[3, 70, 71]].any()
    )
    assert torch.equal(found.pop(HEAD).view(-1)[finite], clean.pop(HEAD).view(-1)[finite])
    assert all(torch.equal(found[name], tensor) for name, tensor in clean.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_allowed_nan_has_the_same_bytes_without_kernels(f32, poisoned, tmp_path, dtype):
    content = recipe("task_arithmetic", f32[0], poisoned, out_dtype=dtype)
    outs = [
        acm.merge(content, tmp_path / f"out-{kernels}", kernels=kernels, allow_nan=True) for kernels in (True, False)
    ]
    assert contents(outs[0]) == contents(outs[1])


def python(*arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_command_line_merges_once(f32, tmp_path):
    (tmp_path / "r.yml").write_text(yaml.safe_dump(recipe("task_arithmetic", *f32)))
    whole = contents(acm.merge(tmp_path / "r.yml", tmp_path / "whole"))
    process = python("-m", "acm", "merge", "r.yml", "out", cwd=tmp_path)
    stdout, stderr = process.communicate()
    assert process.returncode == 0 and stdout == "merged model: out\n" and "Traceback" not in stderr
    process = python("-m", "acm", "merge", "r.yml", "out", cwd=tmp_path)
    assert (
        process.communicate() == ("", "error: output folder out exists; remove it or name another.\n")
        and process.returncode == 1
    )
    assert contents(tmp_path / "out") == whole


def test_command_line_checks_and_plans_without_torch_and_writes_nothing(f32, tmp_path):
    (tmp_path / "r.yml").write_text(yaml.safe_dump(recipe("task_arithmetic", f32[0], *f32)))
    script = "import sys; sys.argv[0] = 'acm'; from acm.__main__ import app; app(standalone_mode=False); assert 'torch' not in sys.modules"
    for arguments, word in (
        (["check", "r.yml"], "ready: 27 tensors by Task Arithmetic."),
        (["merge", "r.yml", "out", "--dry-run"], NORM),
    ):
        process = python("-c", script, *arguments, cwd=tmp_path)
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
        assert stdout.startswith("note: ") and "GB are free" in stdout and word in stdout
    assert names(tmp_path) == ["r.yml"]


def test_command_line_is_interrupted_without_a_traceback(large, tmp_path):
    content = recipe("lore", *large, parameters={"mu": 0.01, "iterations": 300})  # long enough to be interrupted
    (tmp_path / "r.yml").write_text(yaml.safe_dump(content))
    process = python("-m", "acm", "merge", "r.yml", "out", cwd=tmp_path)
    while not list(tmp_path.glob(".out.part/journal.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode not in (0, -signal.SIGINT) and "Traceback" not in stderr
    assert "interrupted; the same merge continues when it is run again" in stderr and names(tmp_path) == [
        ".out.part",
        "r.yml",
    ]


@pytest.mark.parametrize("every", [0.1, None])
def test_progress_without_a_terminal_is_plain_lines(monkeypatch, every):
    monkeypatch.setattr(sys, "stderr", stderr := io.StringIO())
    monkeypatch.setattr(progress, "SECONDS", every or progress.SECONDS)
    with progress.Progress(1000, 250, "merging (ties)") as bar:
        for _ in range(15):
            time.sleep(0.1)
            bar.update(50)
    lines = stderr.getvalue().splitlines()
    assert lines and all(line.startswith("merging (ties): ") and "%|" in line and "B/s" in line for line in lines)
    assert "\r" not in stderr.getvalue() and stderr.getvalue().endswith("\n") and "100%" in lines[-1]


def test_progress_of_short_work_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr := io.StringIO())
    with progress.Progress(1000, 0, "merging") as bar:
        bar.update(1000)
    assert not stderr.getvalue()
