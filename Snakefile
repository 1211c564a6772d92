# The one runner: profile → calibrate → coefficients → merge → evaluate → tables → figures → report.
# Each rule runs one notebook through papermill; `make reproduce PROFILE=…` calls this file.

import json
import os
import re
import sys
from functools import cache
from pathlib import Path

from abacus.families import FRESH
from acm.checkpoints import identity
from acm.running.budget import request
from acm.profiles import load_profile
from acm.records import coefficients_name, combine, read_records, write_records

PROFILE_NAME = config.get("profile", "tiny")
PROFILE = load_profile(PROFILE_NAME)
EXPERIMENTS = PROFILE.experiments
PAIR = next((name for name, e in EXPERIMENTS.items() if len(e.finetuned) == 1), None)  # merges one model: of it the questions are asked
RUN = f"runs/{PROFILE.name}"
COEFFICIENTS = ["coefficients.json", coefficients_name("shuffled"), coefficients_name("gaussian")]
PYTHON = sys.executable

# numerical libraries keep to the threads of their job, so that parallel jobs do not fight for the cores
THREADS = "export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false; "
NOTEBOOK = (
    THREADS + "{PYTHON:q} -m acm notebook {input[0]:q} {output.notebook:q} -p profile={PROFILE_NAME:q}"
    " -p experiment={wildcards.experiment:q}"
)
METHOD = NOTEBOOK + " -p method={wildcards.method:q}"
LOG = " > {log:q} 2>&1 || {{ tail -n 8 {log:q} >&2; exit 1; }}"
# one process evaluates a model, or one of its tasks in one repeat
BY_TASK = PROFILE.jobs == "task"
PART = "/{part}" if BY_TASK else ""


def model_threads(wildcards):
    """Of jobs that run a model: one at a time on an accelerator, else one for each core; on a cluster a few cores beside the GPU."""
    return 1 if PROFILE.device == "cpu" else 4 if workflow.non_local_exec else workflow.cores


# for slurm `gpu` is enough; kubernetes needs the maker too, and `scale: 0` so that the GPU is a limit
ACCELERATOR = {} if PROFILE.device == "cpu" else {"gpu": 1, "gpu_manufacturer": "nvidia", "scale": 0}


def ask(rule, **more):
    """What a job asks a cluster for; a run on one machine does not look at it."""
    of_job = cache(lambda experiment, part: request(PROFILE, experiment, rule, part))

    def of(key):
        return lambda wildcards: of_job(wildcards.get("experiment", PAIR or next(iter(EXPERIMENTS))), wildcards.get("part", ""))[key]

    return {"mem_mb": of("mem_mb"), "runtime": of("runtime"), **more}


def manifest(experiment):
    """Settings and model hashes of an experiment, rewritten only if they changed: what its rules depend on."""
    path = Path(RUN) / experiment / "manifest.json"
    setting = EXPERIMENTS[experiment]
    models = {str(p): identity(p) for p in setting.parents.values() if p.is_dir()}
    general = PROFILE.model_dump(exclude={"experiments", "title"})
    text = json.dumps({"profile": general, "experiment": setting.model_dump(), "models": models}, indent=1)
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


for name in EXPERIMENTS:
    manifest(name)
MANIFEST = RUN + "/{experiment}/manifest.json"
CORE = ["acm/profiles.py", "acm/records.py", "acm/checkpoints.py", "acm/hub.py"]
CALIBRATION = [f"acm/{m}.py" for m in ("calibration", "controls", "importance", "information", "journal", "layerwise", "preflight", "texts")]
TASK_FILES = [*Path("acm").glob("backends*.py"), *Path("acm").glob("code_*.py"), *Path("acm/tasks").glob("*.*"), *Path("abacus/benchmarks").glob("abacus_*")]
EVALUATION = [*(f"acm/{m}.py" for m in ("evaluation", "benchmarks", "prompts", "grading", "verifier")), *sorted(map(str, TASK_FILES))]
RESULTS = ["acm/reporting/results.py", "acm/reporting/statistics.py"]
MERGING = sorted(map(str, Path("acm/merging").glob("*.py")))


def parts_of(wildcards):
    """The records that are gathered into those of a method."""
    return [f"{RUN}/{wildcards.experiment}/parts/{wildcards.method}/{part}.parquet" for part in EXPERIMENTS[wildcards.experiment].parts]


def all_records(experiment):
    names = [*EXPERIMENTS[experiment].parents, *EXPERIMENTS[experiment].method_names]
    return [f"{RUN}/{experiment}/records/{name}.parquet" for name in names]


def model_of(wildcards):
    parents = EXPERIMENTS[wildcards.experiment].parents
    return [] if wildcards.method in parents else f"{RUN}/{wildcards.experiment}/models/{wildcards.method}"


# Imported records (`python -m acm import`) are taken as they are: no rule makes them.
IMPORTED = [path.relative_to(RUN).with_suffix("").with_suffix(".parquet") for path in Path(RUN).glob("*/records/*.imported.json")]
UNTAKEN = "".join(f"(?!{re.escape(str(path))}$)" for path in IMPORTED) + "(?:" + "|".join(map(re.escape, EXPERIMENTS)) + ")"

# Of the questions, the fifth needs the fresh families (`make families`).
FAMILIES = [f"runs/abacus/{name}/abacus-slow/model.safetensors" for name in FRESH]
QUESTIONS = ["1-estimate", "2-coefficients", "3-stability", "4-layers"] + ["5-rule"] * all(map(os.path.isfile, FAMILIES))


def question_needs(wildcards):
    """What a question reads beside the pipeline's results."""
    pool = [f"{RUN}/questions/3-stability.json"]
    return {"2-coefficients": pool, "5-rule": FAMILIES}.get(wildcards.question, [])


wildcard_constraints:
    question="|".join(QUESTIONS),
    experiment="|".join(map(re.escape, EXPERIMENTS)),
    method="[^/]+",
    part="[^/]+",


rule all:
    input:
        f"{RUN}/published.txt",


rule calibrate:
    input:
        "notebooks/1-calibrate.ipynb", MANIFEST, CORE, CALIBRATION,
        lambda wildcards: [p for p in [EXPERIMENTS[wildcards.experiment].calibration.source] if Path(p).is_absolute()],
    output:
        table=RUN + "/{experiment}/mutual_information.parquet",
        notebook=RUN + "/notebooks/{experiment}/1-calibrate.ipynb",
    log:
        RUN + "/logs/{experiment}/1-calibrate.log",
    threads: model_threads
    resources: **ask("calibrate", **ACCELERATOR)
    shell:
        NOTEBOOK + LOG


rule coefficients:
    input:
        "notebooks/2-coefficients.ipynb", MANIFEST, CORE, "acm/calibration/coefficients.py", rules.calibrate.output.table,
    output:
        [RUN + "/{experiment}/" + name for name in COEFFICIENTS],
        notebook=RUN + "/notebooks/{experiment}/2-coefficients.ipynb",
    log:
        RUN + "/logs/{experiment}/2-coefficients.log",
    resources: **ask("coefficients")
    shell:
        NOTEBOOK + LOG


rule merge:
    input:
        "notebooks/3-merge.ipynb", MANIFEST, CORE, MERGING, [RUN + "/{experiment}/" + name for name in COEFFICIENTS],
    output:
        model=temp(directory(RUN + "/{experiment}/models/{method}")),
        notebook=RUN + "/notebooks/{experiment}/3-merge/{method}.ipynb",
    log:
        RUN + "/logs/{experiment}/3-merge/{method}.log",
    resources: **ask("merge")
    shell:
        METHOD + LOG


rule evaluate:
    wildcard_constraints:
        experiment=UNTAKEN,
    input:
        "notebooks/4-evaluate.ipynb", MANIFEST, CORE, EVALUATION, model_of,
    output:
        records=RUN + "/{experiment}/" + ("parts" if BY_TASK else "records") + "/{method}" + PART + ".parquet",
        notebook=RUN + "/notebooks/{experiment}/4-evaluate/{method}" + PART + ".ipynb",
    log:
        RUN + "/logs/{experiment}/4-evaluate/{method}" + PART + ".log",
    threads: model_threads
    priority: int(BY_TASK)  # all parts of a model before the next merge, so that few merged models lie about
    resources: **ask("evaluate", **ACCELERATOR)
    shell:
        METHOD + (" -p part={wildcards.part:q}" if BY_TASK else "") + LOG


if BY_TASK:

    rule gather:
        wildcard_constraints:
            experiment=UNTAKEN,
        input:
            parts_of,
        output:
            RUN + "/{experiment}/records/{method}.parquet",
        resources: **ask("gather")
        run:
            records = [read_records([part]) for part in input]
            write_records(combine(records, EXPERIMENTS[wildcards.experiment].tasks), Path(output[0]))


rule tables:
    input:
        "notebooks/5-tables.ipynb", MANIFEST, CORE, RESULTS, "acm/reporting/tables.py",
        lambda wildcards: all_records(wildcards.experiment),
    output:
        tables=directory(RUN + "/{experiment}/tables"),
        notebook=RUN + "/notebooks/{experiment}/5-tables.ipynb",
    log:
        RUN + "/logs/{experiment}/5-tables.log",
    resources: **ask("tables")
    shell:
        NOTEBOOK + LOG


rule figures:
    input:
        "notebooks/6-figures.ipynb", MANIFEST, CORE, RESULTS, "acm/reporting/figures.py", "acm/reporting/plotting.py", "acm/calibration/coefficients.py",
        rules.coefficients.output[0], rules.calibrate.output.table,
        lambda wildcards: all_records(wildcards.experiment),
    output:
        figures=directory(RUN + "/{experiment}/figures"),
        notebook=RUN + "/notebooks/{experiment}/6-figures.ipynb",
    log:
        RUN + "/logs/{experiment}/6-figures.log",
    resources: **ask("figures")
    shell:
        NOTEBOOK + LOG


rule publish:
    input:
        "acm/reporting/publish.py", "acm/reporting/report.py", "acm/reporting/report.md.jinja", RESULTS, "acm/reporting/tables.py",
        expand(RUN + "/{experiment}/{kind}", experiment=EXPERIMENTS, kind=["tables", "figures"]),
    output:
        f"{RUN}/published.txt",
    resources: **ask("publish")
    shell:
        THREADS + "{PYTHON:q} -m acm publish --profile {PROFILE_NAME:q} > {output:q}"


rule question:
    input:
        "notebooks/questions/{question}.ipynb", CORE, CALIBRATION, EVALUATION, MERGING, RESULTS, sorted(map(str, Path("acm/questions").glob("*.py"))),
        RUN + f"/{PAIR}/manifest.json", RUN + f"/{PAIR}/coefficients.json", all_records(PAIR) if PAIR else [], question_needs,
    output:
        notebook=RUN + "/notebooks/questions/{question}.ipynb",
        verdict=RUN + "/questions/{question}.json",
    log:
        RUN + "/logs/questions/{question}.log",
    threads: model_threads
    resources: **ask("question", **ACCELERATOR)
    shell:
        THREADS + "{PYTHON:q} -m acm notebook {input[0]:q} {output.notebook:q} -p profile={PROFILE_NAME:q} -p experiment={PAIR:q}" + LOG
        + " && cp {RUN:q}/questions/$(echo {wildcards.question} | cut -d- -f2)/verdict.json {output.verdict:q}"


rule questions:
    input:
        f"{RUN}/published.txt", expand(RUN + "/questions/{question}.json", question=QUESTIONS),
    output:
        f"{RUN}/questions.txt",
    resources: **ask("publish")
    shell:
        THREADS + "{PYTHON:q} -m acm publish --profile {PROFILE_NAME:q} > {output:q}"
