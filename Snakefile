# The one runner: profile → calibrate → coefficients → merge → evaluate → tables → figures → report.
# Each rule runs one notebook through papermill; `make reproduce PROFILE=…` calls this file.

import json
import sys
from pathlib import Path

from acm.checkpoints import identity
from acm.profiles import coefficients_name, load_profile

PROFILE_NAME = config.get("profile", "tiny")
PROFILE = load_profile(PROFILE_NAME)
EXPERIMENTS = PROFILE.experiments
RUN = f"runs/{PROFILE.name}"
COEFFICIENTS = ["coefficients.json", coefficients_name("shuffled"), coefficients_name("gaussian")]
NOTEBOOK = f"{sys.executable} -m acm notebook"

# numerical libraries keep to the threads of their job, so that parallel jobs do not fight for the cores
THREADS = "export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} OPENBLAS_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false; "


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
CORE = ["acm/profiles.py", "acm/records.py", "acm/checkpoints.py"]
MERGING = ["acm/merging/methods.py", "acm/merging/recipe.py", "acm/merging/engine.py"]


def all_records(experiment):
    names = [*EXPERIMENTS[experiment].parents, *EXPERIMENTS[experiment].method_names]
    return [f"{RUN}/{experiment}/records/{name}.parquet" for name in names]


def model_of(wildcards):
    parents = EXPERIMENTS[wildcards.experiment].parents
    return [] if wildcards.method in parents else f"{RUN}/{wildcards.experiment}/models/{wildcards.method}"


wildcard_constraints:
    experiment="|".join(EXPERIMENTS),
    method="[^/]+",


rule all:
    input:
        f"{RUN}/published.txt",


rule calibrate:
    input:
        "notebooks/1-calibrate.ipynb", MANIFEST, CORE, "acm/calibration.py", "acm/information.py",
    output:
        table=RUN + "/{experiment}/mutual_information.parquet",
        notebook=RUN + "/notebooks/{experiment}/1-calibrate.ipynb",
    log:
        RUN + "/logs/{experiment}/1-calibrate.log",
    shell:
        THREADS + NOTEBOOK + " {input[0]} {output.notebook} -p profile={PROFILE_NAME} -p experiment={wildcards.experiment} > {log} 2>&1"


rule coefficients:
    input:
        "notebooks/2-coefficients.ipynb", MANIFEST, CORE, "acm/coefficients.py", rules.calibrate.output.table,
    output:
        [RUN + "/{experiment}/" + name for name in COEFFICIENTS],
        notebook=RUN + "/notebooks/{experiment}/2-coefficients.ipynb",
    log:
        RUN + "/logs/{experiment}/2-coefficients.log",
    shell:
        THREADS + NOTEBOOK + " {input[0]} {output.notebook} -p profile={PROFILE_NAME} -p experiment={wildcards.experiment} > {log} 2>&1"


rule merge:
    input:
        "notebooks/3-merge.ipynb", MANIFEST, CORE, MERGING, [RUN + "/{experiment}/" + name for name in COEFFICIENTS],
    output:
        model=temp(directory(RUN + "/{experiment}/models/{method}")),
        notebook=RUN + "/notebooks/{experiment}/3-merge/{method}.ipynb",
    log:
        RUN + "/logs/{experiment}/3-merge/{method}.log",
    shell:
        THREADS + NOTEBOOK + " {input[0]} {output.notebook} -p profile={PROFILE_NAME} -p experiment={wildcards.experiment}"
        " -p method={wildcards.method} > {log} 2>&1"


rule evaluate:
    input:
        "notebooks/4-evaluate.ipynb", MANIFEST, CORE, "acm/evaluation.py", "acm/tasks", model_of,
    output:
        records=RUN + "/{experiment}/records/{method}.parquet",
        notebook=RUN + "/notebooks/{experiment}/4-evaluate/{method}.ipynb",
    log:
        RUN + "/logs/{experiment}/4-evaluate/{method}.log",
    shell:
        THREADS + NOTEBOOK + " {input[0]} {output.notebook} -p profile={PROFILE_NAME} -p experiment={wildcards.experiment}"
        " -p method={wildcards.method} > {log} 2>&1"


rule tables:
    input:
        "notebooks/5-tables.ipynb", MANIFEST, CORE, "acm/tables.py", "acm/statistics.py",
        lambda wildcards: all_records(wildcards.experiment),
    output:
        tables=directory(RUN + "/{experiment}/tables"),
        notebook=RUN + "/notebooks/{experiment}/5-tables.ipynb",
    log:
        RUN + "/logs/{experiment}/5-tables.log",
    shell:
        THREADS + NOTEBOOK + " {input[0]} {output.notebook} -p profile={PROFILE_NAME} -p experiment={wildcards.experiment} > {log} 2>&1"


rule figures:
    input:
        "notebooks/6-figures.ipynb", MANIFEST, CORE, "acm/figures.py", "acm/plotting.py", "acm/statistics.py",
        rules.coefficients.output[0], rules.calibrate.output.table,
        lambda wildcards: all_records(wildcards.experiment),
    output:
        figures=directory(RUN + "/{experiment}/figures"),
        notebook=RUN + "/notebooks/{experiment}/6-figures.ipynb",
    log:
        RUN + "/logs/{experiment}/6-figures.log",
    shell:
        THREADS + NOTEBOOK + " {input[0]} {output.notebook} -p profile={PROFILE_NAME} -p experiment={wildcards.experiment} > {log} 2>&1"


rule publish:
    input:
        "acm/publish.py", "acm/report.py", "acm/report.md.jinja",
        expand(RUN + "/{experiment}/{kind}", experiment=EXPERIMENTS, kind=["tables", "figures"]),
    output:
        f"{RUN}/published.txt",
    shell:
        THREADS + "{sys.executable} -m acm publish --profile {PROFILE_NAME} > {output}"
