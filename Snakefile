# The one runner: profile → calibrate → coefficients → merge → evaluate → tables → figures → report.
# Each rule runs one notebook through papermill; `make reproduce PROFILE=…` calls this file.

import json
import os
import re
import sys
from functools import cache
from pathlib import Path

from abacus.families import FRESH
from acm.calibration.registry import COEFFICIENT_SETS
from acm.evaluation.task_files import is_ours
from acm.files import write_text
from acm.identity import identity
from acm.paths import ROOT
from acm.profiles import load_profile
from acm.questions.search_points import home_of, was_run
from acm.records import coefficients_name, combine, read_records, write_records
from acm.running.budget import request
from acm.sources import TRUNK, files_of

PROFILE_NAME = config.get("profile", "tiny")
PROFILE = load_profile(PROFILE_NAME)
EXPERIMENTS = PROFILE.experiments
# The experiment that merges one model: the questions are asked of it.
PAIR = next((name for name, e in EXPERIMENTS.items() if len(e.finetuned) == 1), None)
RUN = f"runs/{PROFILE.name}"
COEFFICIENTS = [coefficients_name(control) for control in COEFFICIENT_SETS]
PYTHON = sys.executable

# Every job is one notebook. `--threads` keeps numerical libraries to the threads of their job, so that parallel jobs do
# not fight for the cores. `--log` holds what the job prints. Both are options of the command: every shell will do.
RUN_NOTEBOOK = (
    "{PYTHON:q} -m acm notebook {input[0]:q} {output.notebook:q} --threads {threads} --log {log:q}"
    " -p profile={PROFILE_NAME:q}"
)
NOTEBOOK = RUN_NOTEBOOK + " -p experiment={wildcards.experiment:q}"
SEARCHING = RUN_NOTEBOOK.replace("{output.notebook", "{params.notebook").replace("--threads {threads}", "--threads 1")
SEARCHING += " -p search={wildcards.search:q}"
METHOD = NOTEBOOK + " -p method={wildcards.method:q}"
# one process merges and evaluates a share of the models, or evaluates one model, or one of its tasks in one repeat
SEVERAL, BY_TASK = PROFILE.jobs == "several", PROFILE.jobs == "task"
PART = "/{part}" if BY_TASK else ""


def model_threads(wildcards):
    """Threads of a job that runs a model. On the CPU one job runs on each core; on one machine with an accelerator one job at
    a time; on a cluster a job has a few cores beside its GPU.
    """
    return 1 if PROFILE.device == "cpu" else 4 if workflow.non_local_exec else workflow.cores


# for slurm `gpu` is enough; kubernetes needs the maker too, and `scale: 0` so that the GPU is a limit
ACCELERATOR = {} if PROFILE.device == "cpu" else {"gpu": 1, "gpu_manufacturer": "nvidia", "scale": 0}


def ask(rule, **more):
    """What a job asks a cluster for; a run on one machine does not look at it."""
    of_job = cache(lambda experiment, part: request(PROFILE, experiment, rule, part))

    def of(key):
        usual = PAIR or next(iter(EXPERIMENTS))
        return lambda wildcards: of_job(wildcards.get("experiment", usual), wildcards.get("part", ""))[key]

    return {"mem_mb": of("mem_mb"), "runtime": of("runtime"), **more}


def manifest(experiment):
    """Settings and model hashes of an experiment, rewritten only if they changed: what its rules depend on."""
    path = Path(RUN) / experiment / "manifest.json"
    setting = EXPERIMENTS[experiment]
    models = {str(p): identity(p) for p in setting.parents.values() if p.is_dir()}
    general = PROFILE.model_dump(exclude={"experiments", "title"})
    text = json.dumps({"profile": general, "experiment": setting.model_dump(), "models": models}, indent=1)
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


for name in EXPERIMENTS:
    manifest(name)
MANIFEST = RUN + "/{experiment}/manifest.json"


def code(*rooms):
    """The code of a rule's own step, and of profiles, which decide what the step is given.

    What else lies further down reaches the rule through the files that it reads.
    """
    return [str(path.relative_to(ROOT)) for room in (TRUNK, "profiles", *rooms) for path in files_of(room)]


BENCHMARKS = sorted(str(path) for name in ("abacus", "smol") for path in Path(name, "benchmarks").glob(f"{name}_*"))


def parts_of(wildcards):
    """The records that are gathered into those of a method."""
    folder = f"{RUN}/{wildcards.experiment}/parts/{wildcards.method}"
    return [f"{folder}/{part}.parquet" for part in EXPERIMENTS[wildcards.experiment].parts]


def all_records(experiment):
    return [f"{RUN}/{experiment}/records/{name}.parquet" for name in EXPERIMENTS[experiment].models]


def merged_of(experiment, models):
    return [name for name in models if name not in EXPERIMENTS[experiment].parents]


def notebooks_of(experiment, share):
    """Stage and model of each notebook of a share."""
    return [f"3-merge/{name}" for name in merged_of(experiment, share)] + [f"4-evaluate/{name}" for name in share]


def model_of(wildcards):
    parents = EXPERIMENTS[wildcards.experiment].parents
    return [] if wildcards.method in parents else f"{RUN}/{wildcards.experiment}/models/{wildcards.method}"


# Imported records (`python -m acm import`) are taken as they are: no rule makes them.
ORIGINS = [path.relative_to(RUN) for path in Path(RUN).glob("*/records/*.imported.json")]
IMPORTED = [path.with_suffix("").with_suffix(".parquet") for path in ORIGINS]
TAKEN = "".join(f"(?!{re.escape(str(path))}$)" for path in IMPORTED)
UNTAKEN = TAKEN + "(?:" + "|".join(map(re.escape, EXPERIMENTS)) + ")"

# What each job does where one merges and evaluates several models: experiment and models.
SHARES = [
    (name, models)
    for name, e in EXPERIMENTS.items()
    for share in PROFILE.shares(name)
    if (models := [model for model in share if Path(name, "records", f"{model}.parquet") not in IMPORTED])
]

# The questions by name: their notebook. The fifth and seventh need the fresh families (`make families`).
FAMILIES = [f"runs/abacus/{name}/abacus-slow/model.safetensors" for name in FRESH]
QUESTIONS = {path.stem.split("-", 1)[1]: path.stem for path in sorted(Path("notebooks/questions").glob("*.ipynb"))}
if not all(map(os.path.isfile, FAMILIES)):
    del QUESTIONS["rule"], QUESTIONS["scores"]
# The last reads the searches (`make search`): your own, else the committed ones. `make questions` makes none.
if not PROFILE.searches or not all(was_run(PROFILE.name, name) for name in PROFILE.searches):
    del QUESTIONS["search"]
ASKED = {name: {} for name in QUESTIONS} if PROFILE.questions is None else PROFILE.questions
QUESTIONS = {name: stem for name, stem in QUESTIONS.items() if name in ASKED}


def question_needs(wildcards):
    """What a question reads beside the pipeline's results."""
    fresh = "abacus/problems.py"  # generates the fresh items of question 2
    needs = {"coefficients": [f"{RUN}/questions/stability/verdict.json", fresh], "rule": FAMILIES}
    trials = f"{RUN}/questions/rivals/verdict.json"
    skilled = [str(path) for name in FRESH for path in Path("runs/abacus", name).glob("abacus-*/model.safetensors")]
    if "search" in QUESTIONS:
        needs["search"] = [str(home_of(PROFILE.name, name) / "front.csv") for name in PROFILE.searches]
    needs["scores"] = [*FAMILIES, *skilled, *([trials] if "rivals" in QUESTIONS else [])]
    if "coefficients" in QUESTIONS and PAIR and all(is_ours(f"{task}_fresh") for task in EXPERIMENTS[PAIR].tasks):
        needs["rivals"] = [f"{RUN}/questions/coefficients/verdict.json"]  # written after fresh.parquet beside it
    if "rule" in QUESTIONS:
        needs["rivals"] = [*needs.get("rivals", []), f"{RUN}/questions/rule/verdict.json"]
    return needs.get(wildcards.question, [])


wildcard_constraints:
    search="|".join(map(re.escape, PROFILE.searches)),
    question="|".join(QUESTIONS),
    experiment="|".join(map(re.escape, EXPERIMENTS)),
    method="[^/]+",
    part="[^/]+",


rule all:
    input:
        f"{RUN}/summary.txt",


rule calibrate:
    input:
        "notebooks/1-calibrate.ipynb", MANIFEST, code("calibration"),
        lambda wildcards: [p for p in [EXPERIMENTS[wildcards.experiment].calibration.source] if Path(p).is_absolute()],
    output:
        table=RUN + "/{experiment}/mutual_information.parquet",
        notebook=RUN + "/notebooks/{experiment}/1-calibrate.ipynb",
    log:
        RUN + "/logs/{experiment}/1-calibrate.log",
    threads: model_threads
    resources: **ask("calibrate", **ACCELERATOR)
    shell:
        NOTEBOOK


rule coefficients:
    input:
        "notebooks/2-coefficients.ipynb", MANIFEST, code("calibration"), rules.calibrate.output.table,
    output:
        [RUN + "/{experiment}/" + name for name in COEFFICIENTS],
        notebook=RUN + "/notebooks/{experiment}/2-coefficients.ipynb",
    log:
        RUN + "/logs/{experiment}/2-coefficients.log",
    resources: **ask("coefficients")
    shell:
        NOTEBOOK


if SEVERAL:
    for number, (experiment, share) in enumerate(SHARES, 1):

        rule:
            name:
                f"share_{number}"
            input:
                "notebooks/3-merge.ipynb", "notebooks/4-evaluate.ipynb", f"{RUN}/{experiment}/manifest.json",
                code("merging", "evaluation"), "acm/running/merges.py", "acm/running/resident.py", BENCHMARKS,
                [f"{RUN}/{experiment}/{name}" for name in COEFFICIENTS],
            output:
                [f"{RUN}/notebooks/{experiment}/{notebook}.ipynb" for notebook in notebooks_of(experiment, share)],
                models=[] if PROFILE.in_memory else
                    [temp(directory(f"{RUN}/{experiment}/models/{name}")) for name in merged_of(experiment, share)],
                records=[f"{RUN}/{experiment}/records/{name}.parquet" for name in share],
            log:
                [f"{RUN}/logs/{experiment}/{notebook}.log" for notebook in notebooks_of(experiment, share)],
            priority: PROFILE.cap(experiment)  # the longest first, so that no core waits at the end
            threads: model_threads
            resources: **request(PROFILE, experiment, "share", models=len(share)), **ACCELERATOR
            shell:
                "{PYTHON:q} -m acm several {PROFILE_NAME:q} {output.records:q} --threads {threads}"

else:

    rule merge:
        input:
            "notebooks/3-merge.ipynb", MANIFEST, code("merging"),
            [RUN + "/{experiment}/" + name for name in COEFFICIENTS],
        output:
            model=temp(directory(RUN + "/{experiment}/models/{method}")),
            notebook=RUN + "/notebooks/{experiment}/3-merge/{method}.ipynb",
        log:
            RUN + "/logs/{experiment}/3-merge/{method}.log",
        resources: **ask("merge")
        shell:
            METHOD


    rule evaluate:
        wildcard_constraints:
            experiment=UNTAKEN,
        input:
            "notebooks/4-evaluate.ipynb", MANIFEST, code("evaluation"), BENCHMARKS, model_of,
        output:
            records=RUN + "/{experiment}/" + ("parts" if BY_TASK else "records") + "/{method}" + PART + ".parquet",
            notebook=RUN + "/notebooks/{experiment}/4-evaluate/{method}" + PART + ".ipynb",
        log:
            RUN + "/logs/{experiment}/4-evaluate/{method}" + PART + ".log",
        threads: model_threads
        priority: int(BY_TASK)  # all parts of a model before the next merge, so that few merged models lie about
        resources: **ask("evaluate", **ACCELERATOR)
        shell:
            METHOD + (" -p part={wildcards.part:q}" if BY_TASK else "")


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
        "notebooks/5-tables.ipynb", MANIFEST, code("reporting"),
        lambda wildcards: all_records(wildcards.experiment),
    output:
        tables=directory(RUN + "/{experiment}/tables"),
        notebook=RUN + "/notebooks/{experiment}/5-tables.ipynb",
    log:
        RUN + "/logs/{experiment}/5-tables.log",
    resources: **ask("tables")
    shell:
        NOTEBOOK


rule figures:
    input:
        "notebooks/6-figures.ipynb", MANIFEST, code("reporting"),
        rules.coefficients.output[0], rules.calibrate.output.table,
        lambda wildcards: all_records(wildcards.experiment),
    output:
        figures=directory(RUN + "/{experiment}/figures"),
        notebook=RUN + "/notebooks/{experiment}/6-figures.ipynb",
    log:
        RUN + "/logs/{experiment}/6-figures.log",
    resources: **ask("figures")
    shell:
        NOTEBOOK


rule publish:
    input:
        code("reporting"),
        expand(RUN + "/{experiment}/{kind}", experiment=EXPERIMENTS, kind=["tables", "figures"]),
    output:
        f"{RUN}/summary.txt",
    resources: **ask("publish")
    shell:
        "{PYTHON:q} -m acm publish --profile {PROFILE_NAME:q} --summary {output:q}"


rule question:
    input:
        lambda wildcards: f"notebooks/questions/{QUESTIONS[wildcards.question]}.ipynb",
        code("questions", "searching", "calibration", "merging", "evaluation", "reporting"), BENCHMARKS,
        RUN + f"/{PAIR}/manifest.json", RUN + f"/{PAIR}/coefficients.json", all_records(PAIR) if PAIR else [],
        question_needs,
    output:
        RUN + "/questions/{question}/verdict.json",
    params:
        notebook=lambda wildcards: f"{RUN}/notebooks/questions/{QUESTIONS[wildcards.question]}.ipynb",
        own=lambda wildcards: [f"-p{key}={json.dumps(value)}" for key, value in ASKED[wildcards.question].items()],
    log:
        RUN + "/logs/questions/{question}.log",
    threads: model_threads
    resources: **ask("question", **ACCELERATOR)
    shell:
        RUN_NOTEBOOK.replace("{output.notebook", "{params.notebook") + " -p experiment={PAIR:q} {params.own:q}"


rule questions:
    input:
        f"{RUN}/summary.txt", expand(RUN + "/questions/{question}/verdict.json", question=QUESTIONS),
    output:
        f"{RUN}/questions.txt",
    resources: **ask("publish")
    shell:
        "{PYTHON:q} -m acm publish --profile {PROFILE_NAME:q} --summary {output:q}"


if "search" in config:  # else `make questions` would search anew what it only reads
    SEARCHED = [name for name, of in PROFILE.searches.items() if os.path.isdir(of.base or ".")]
    # on which the λ were found that are tried on the others
    SOURCE = "tiny/abacus" if PROFILE.name == "smol" else f"{PROFILE.name}/{SEARCHED[0]}"


    def searched_models(wildcards):
        """The weights of a search's own models, where they lie here."""
        block = PROFILE.searches[wildcards.search]
        folders = [Path(name) for name in (block.base, *(block.finetuned or [])) if name]
        return [str(path) for folder in folders for path in sorted(folder.glob("*.safetensors"))]


    def source_needs(wildcards):
        """What the trials of a search take from the search on which the λ were found."""
        if f"{PROFILE.name}/{wildcards.search}" == SOURCE:
            return []
        own = SOURCE.startswith(f"{PROFILE.name}/")
        return f"{RUN}/searches/{SEARCHED[0]}/trials.csv" if own else str(home_of(*SOURCE.split("/")) / "front.csv")


    rule search:
        input:
            "notebooks/search.ipynb", code("merging", "evaluation", "searching"), BENCHMARKS, searched_models,
        output:
            update(RUN + "/searches/{search}/front.csv"),  # stays until the notebook writes it anew
        params:
            notebook=RUN + "/notebooks/searches/{search}.ipynb",
            settings=lambda wildcards: PROFILE.searches[wildcards.search].model_dump_json(),
        log:
            RUN + "/logs/searches/{search}.log",
        threads: workflow.cores if PROFILE.device == "cpu" else 1
        resources: **ask("question", **ACCELERATOR)
        shell:
            SEARCHING + " -p jobs={threads}"


    rule trials:
        input:
            "notebooks/search-trials.ipynb", code("questions"), RUN + "/searches/{search}/front.csv", source_needs,
        output:
            RUN + "/searches/{search}/trials.csv",
        params:
            notebook=RUN + "/notebooks/searches/{search}-trials.ipynb",
        log:
            RUN + "/logs/searches/{search}-trials.log",
        threads: workflow.cores if PROFILE.device == "cpu" else 1
        resources: **ask("question", **ACCELERATOR)
        shell:
            SEARCHING + " -p jobs={threads} -p source={SOURCE:q}"


    rule searches:
        input:
            expand(RUN + "/searches/{search}/trials.csv", search=SEARCHED),
        output:
            f"{RUN}/searches.txt",
        resources: **ask("publish")
        run:
            from acm.questions.search import Judged, summary
            from acm.questions.search_points import coarser

            coarse = coarser(PROFILE, f"{PROFILE.name}/{SEARCHED[0]}")
            parts = ([name for name in SEARCHED if name not in coarse], coarse)
            table = summary(*([Judged(Path(RUN, "searches", name)) for name in part] for part in parts))
            write_text(output[0], table.round(3).to_string() + "\n")
