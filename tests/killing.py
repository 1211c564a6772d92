"""Kills commands at random moments (SIGKILL) and runs them again: what they make must be the same bytes.

Not part of the suite: it takes most of an hour. From the repository's root, in its environment:

    python tests/killing.py                       20 kills of each
    python tests/killing.py --kills 5 merge       of one alone: calibrate, merge, evaluate, question, run

A round begins with nothing and is killed up to four times; then the command runs to its end, and its files are compared
with those of an undisturbed one. Executed notebooks and logs, which hold times, are left out.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IN_A_ROW = 4  # kills before a round is allowed to end
PARTS = ("acm", "abacus", "notebooks", "reports/paper-numbers", "Snakefile", "README.md")
MODELS = ROOT / "abacus" / "checkpoints"
ACM = [sys.executable, "-m", "acm"]
MAKE_MODELS = """
import sys, torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
for seed, name in enumerate(("base", "tuned")):
    torch.manual_seed(seed)
    config = Qwen2Config(vocab_size=2048, hidden_size=1024, intermediate_size=4096, num_hidden_layers=6,
                         num_attention_heads=8, num_key_value_heads=2)
    folder = f"{sys.argv[1]}/{name}"
    Qwen2ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(sys.argv[2]).save_pretrained(folder)
"""
RECIPE = """
merge_method: della
base_model: base
models: [{model: tuned, parameters: {weight: 0.6, density: 0.5, epsilon: 0.1}}]
"""


def copy_of_the_repository(folder):
    """What a run of the pipeline needs, with the small profile of the tests."""
    for part in PARTS:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, target)
    (folder / "profiles").mkdir()
    shutil.copy(ROOT / "tests" / "data" / "pico.yaml", folder / "profiles")


def prepare_calibrate(folder):
    texts = ROOT / "abacus" / "benchmarks" / "calibration_problems.jsonl"
    command = [*ACM, "calibrate", str(MODELS / "abacus-fast"), str(MODELS / "abacus-slow"), "--texts", str(texts)]
    return [*command, "--out", "out", "--clusters", "4", "--per-cluster", "3", "--statistic", "fisher"], ["out"]


def prepare_merge(folder):
    subprocess.run([sys.executable, "-c", MAKE_MODELS, str(folder), str(MODELS / "abacus-fast")], check=True)
    (folder / "recipe.yml").write_text(RECIPE)
    return [*ACM, "merge", "recipe.yml", "out"], ["out"]


def prepare_evaluate(folder):
    command = [*ACM, "evaluate", str(MODELS / "abacus-slow"), "--task", "abacus_easy", "--task", "abacus_hard"]
    return [*command, "--items", "60", "--batch-size", "12", "--max-tokens", "96", "--out", "out/r.parquet"], ["out"]


def prepare_run(folder):
    copy_of_the_repository(folder)
    return [*ACM, "reproduce", "--profile", "pico", "--cores", "2"], ["runs/pico/results"]


def prepare_question(folder):
    copy_of_the_repository(folder)
    subprocess.run([*ACM, "reproduce", "--profile", "pico", "--cores", "2"], cwd=folder, env=environment(folder),
                   check=True, capture_output=True)  # fmt: skip
    given = ("profile=pico", "texts=12", "sizes=[1, 4]", "fields=[question]", "caps=[8]", "dtypes=[bfloat16]")
    command = [*ACM, "notebook", "notebooks/questions/3-stability.ipynb", "runs/pico/notebooks/3-stability.ipynb"]
    return [*command, *(part for item in given for part in ("-p", item))], ["runs/pico/questions"]


STAGES = {
    "calibrate": prepare_calibrate, "merge": prepare_merge, "evaluate": prepare_evaluate, "question": prepare_question,
    "run": prepare_run,
}  # fmt: skip


def environment(folder):
    """The copy's own code, where there is one; one thread, and what kernels compile kept beside."""
    own = folder if (folder / "acm").is_dir() else ROOT
    return os.environ | {"PYTHONPATH": str(own), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def start(command, folder):
    """The command in a process group of its own, its output in a file."""
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log,
                                start_new_session=True)  # fmt: skip


def finish(command, folder):
    """Run the command to its end. Its seconds.

    A kill of the first process leaves the others at work, and the command refuses to begin beside them: they get five
    minutes to end.
    """
    for _ in range(60):
        begun = time.monotonic()
        if start(command, folder).wait() == 0:
            return time.monotonic() - begun
        time.sleep(5)
    tail = (folder / "output.log").read_text(errors="replace")[-2000:]
    sys.exit(f"{' '.join(command)} fails in {folder}:\n{tail}")


def found(folder, results):
    """Digest of every file of the results, by name."""
    files = (path for result in results for path in sorted((folder / result).rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files if path.suffix not in (".ipynb", ".log")
    }  # fmt: skip


def kill(process, whole_group):
    """SIGKILL to the group, or to the first process alone, so that its children go on without it."""
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


def try_stage(name, kills, rng, place):
    """Whether all rounds of a stage gave the bytes of the undisturbed one."""
    fresh = place / name / "fresh"
    fresh.mkdir(parents=True)
    command, results = STAGES[name](fresh)
    calm = place / name / "calm"
    shutil.copytree(fresh, calm)
    seconds = finish(command, calm)
    wanted, done, rounds, unlike = found(calm, results), 0, 0, []
    while done < kills:
        folder = place / name / f"round-{rounds}"
        shutil.copytree(fresh, folder)
        for _ in range(min(IN_A_ROW, kills - done)):
            process = start(command, folder)
            try:
                process.wait(rng.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                kill(process, whole_group=rng.random() < 0.75)
                done += 1
        if (folder / results[0]).exists() and name == "merge":
            shutil.rmtree(folder / results[0])  # a merge that had ended before it could be killed
        finish(command, folder)
        made = found(folder, results)
        unlike += [f"round {rounds}: {file}" for file in {**wanted, **made} if wanted.get(file) != made.get(file)]
        rounds += 1
        shutil.rmtree(folder)
    print(f"{name}: {done} kills in {rounds} rounds of {seconds:.0f} s, {len(wanted)} files, {len(unlike)} differ.",
          *unlike[:20], sep="\n  ", flush=True)  # fmt: skip
    return not unlike


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=[*STAGES], metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--kills", type=int, default=20, help="of each stage (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        same = [
            try_stage(name, given.kills, random.Random(f"{given.seed}/{name}"), Path(place)) for name in given.stages
        ]
    sys.exit(not all(same))


if __name__ == "__main__":
    main()
