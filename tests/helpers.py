"""What tests of several rooms share: recipes, files of statistics, and comparisons of model folders."""

import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import acm
from abacus import CHECKPOINTS
from acm.merging import engine
from acm.merging.plan import make_plan
from acm.merging.recipe import load_recipe
from acm.merging.registry import METHODS
from acm.paths import ROOT

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
# Parameters by filter: for a weight, and the classic ones for SLERP's `t`, for models of five layers.
FILTERS = [
    {"filter": "self_attn", "value": [0.2, 0.9]},
    {"filter": "layers.1.", "value": 0.1},
    {"filter": "norm", "value": 0.4},
    {"filter": "lm_head", "value": 0.8},
    {"value": 0.6},
]
CLASSIC = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
    {"value": 0.5},
]
ROWS = json.loads((CHECKPOINTS / "abacus-base" / "config.json").read_text())["vocab_size"]
CLONED = ("acm", "abacus", "notebooks", "reports/paper-numbers", "Snakefile", "README.md")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def clone(folder, profile):
    """What the pipeline needs of the repository, copied into a folder, with one profile, a file."""
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for part in CLONED:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=ignore)
        else:
            shutil.copy(ROOT / part, target)
    (folder / "profiles").mkdir()
    shutil.copy(profile, folder / "profiles")
    return folder


def recipe(method, base, *models, parameters=None, **extra):
    """A recipe as a dict. extra: further keys."""
    listed = [{"model": str(model)} for model in models]
    content = {"merge_method": method, "base_model": str(base), "models": listed, "parameters": parameters or {}}
    return content | extra


def write(method, folders, models, parameters, base=True, **extra):
    """The text of a recipe, as mergekit reads it too. models: (number of the folder, its own parameters)."""
    listed = [{"model": str(folders[i]), "parameters": own} for i, own in models]
    content = {"merge_method": method, "models": listed, "parameters": parameters, "dtype": "float32"} | extra
    return yaml.safe_dump(content | ({"base_model": str(folders[0])} if base else {}))


def halfway(base, *models, method="task_arithmetic", weight=0.5, **extra):
    """A recipe whose one parameter is the weight. extra: keys in place of these, or beside them."""
    return recipe(method, base, *models, parameters={"weight": weight}) | extra


def middle(base, other):
    """What `halfway` makes of two tensors."""
    return base + 0.5 * (other - base)


def folders_of(method, folders):
    """Of a base and two models, as many as the method takes."""
    return folders[:2] if METHODS[method].single else folders


def example(method, folders, files=None, **extra):
    """The recipe of the method's own example in the registry. files: the folder of :func:`write_files`."""
    content = recipe(method, *folders_of(method, folders), parameters=dict(METHODS[method].example))
    return with_files(content, files) | extra


def without_coefficient(method):
    """The method's example without what ACM's λ replaces; `normalize` off, so that λ and weights divide by the same."""
    row = METHODS[method]
    own = {key: value for key, value in row.example.items() if not row.coefficient or key != row.coefficient.name}
    return own | ({row.normalizer.name: False} if row.normalizer else {})


def write_files(folder, tensors, base, *models):
    """Random statistics of each kind, and numbers by layer, as files for these models.

    Returns {kind: {model: content}}.
    """
    generator = torch.Generator().manual_seed(3)
    shapes = {name: tensor.shape for name, tensor in tensors(base).items()}
    matrices = {name: shape for name, shape in shapes.items() if ".layers." in name and len(shape) == 2}

    def gram(inputs):
        x = torch.randn(40, inputs, generator=generator)
        return x.T @ x

    def each(make, of):
        return {model.name: {name: make(shape) for name, shape in of.items()} for model in models}

    found = {
        "entries": each(lambda shape: torch.rand(shape, generator=generator), shapes),
        "gram": each(lambda shape: gram(shape[1]), matrices),
        "inputs": each(lambda shape: torch.rand(shape[1], generator=generator), matrices),
    }
    for content in found["entries"].values():
        content[HEAD][3:5] = 0.0  # no information, in any model
    found["base_statistics"] = each(lambda shape: torch.rand(shape, generator=generator), shapes)
    for kind, held in found.items():
        for model, content in held.items():
            save_file(content, folder / f"{kind}-{model}.safetensors")
    found["diagonal"] = {
        model: {name: gram.diagonal() for name, gram in content.items()} for model, content in found["gram"].items()
    }
    numbers = [{"0": 0.2, "1": 0.9}, {"0": 0.7, "1": 0.1}, {"0": 0.4, "1": 0.3}]
    found["layers"] = {model.name: own for model, own in zip((base, *models), numbers, strict=False)}
    for key in {parameter.name for row in METHODS.values() for parameter in row.takes if parameter.kind == "layers"}:
        (folder / f"{key}.json").write_text(json.dumps({key: found["layers"]}))
    return found


def with_files(content, files):
    """The recipe with the paths of the files that its method reads. files: the folder of :func:`write_files`."""
    row = METHODS[content["merge_method"]]
    for parameter in row.takes:
        if parameter.kind == "layers":
            content["parameters"] = content["parameters"] | {parameter.name: str(files / f"{parameter.name}.json")}
        elif parameter.kind == "statistics":
            kind = {"base_statistics": "base_statistics"}.get(
                parameter.name, row.statistics.replace("diagonal", "gram")
            )
            for entry in content["models"][: 1 if row.base_statistics else None]:
                path = files / f"{kind}-{Path(entry['model']).name}.safetensors"
                entry["parameters"] = entry.get("parameters", {}) | {parameter.name: str(path)}
    return content


def same(found, expected):
    """Same names, dtypes and bytes of tensors; −0 differs from +0."""
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8))
        for name, tensor in expected.items()
    )


def assert_equal(ours, theirs, base, everywhere=True):
    """Equal to 1e-6, in float32, and unlike the base (in every tensor, or somewhere), so that something was merged."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.float32
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6)
    changed = [(tensor - base[name].float()).abs().max() > 1e-5 for name, tensor in ours.items()]
    assert all(changed) if everywhere else any(changed)


def contents(folder):
    """Every file of a folder: relative path → bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def plan_of(*folders, **extra):
    """The plan of a merge halfway."""
    return make_plan(*load_recipe(halfway(*folders, **extra)))


def texts(plan, level):
    """The findings of a level."""
    return [finding.text for finding in plan.findings if finding.level == level]


def assert_found(plan, level, *words):
    """Exactly one finding of this level has all the words."""
    assert sum(all(str(word) in text for word in words) for text in texts(plan, level)) == 1, plan.findings


def assert_loads(folder):
    """The model, once transformers has found every tensor in its place, and no other."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model


def loaded(folder, caplog):
    """The model, once transformers has loaded it without any warning."""
    transformers.utils.logging.enable_propagation()
    caplog.clear()
    try:
        with caplog.at_level(logging.WARNING), warnings.catch_warnings():
            warnings.simplefilter("error")
            model = assert_loads(folder)
    finally:
        transformers.utils.logging.disable_propagation()
    assert not caplog.records
    return model


def start(*arguments, cwd):
    """The command line, or any Python, in a process of its own that imports this code and can be interrupted.

    A shell that runs the tests in the background ignores interrupts, and its children would too.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"}
    command, pipe = [sys.executable, *arguments], subprocess.PIPE
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=pipe, stderr=pipe, preexec_fn=heed)


def run(*arguments, cwd, seconds=60):
    """The same, to its end: exit status, standard output, standard error."""
    process = start(*arguments, cwd=cwd)
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


def assert_error(folder, command, word):
    """A command exits with 1 and one line that has the word, and leaves the folder as it was."""
    before = sorted(folder.rglob("*"))
    status, stdout, stderr = run("-m", "acm", *command.split(), cwd=folder)
    assert status == 1 and stderr.startswith("error: ") and stderr.count("error:") == 1
    assert "Traceback" not in stderr + stdout and word in stderr
    assert sorted(folder.rglob("*")) == before


def interrupt(*_):
    """Stands in for a function at which a merge is interrupted."""
    raise KeyboardInterrupt


def stop_before_publishing(content, out, **settings):
    """Leaves the folder of a merge with all tensors done, and returns it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "write_companions", interrupt)
        acm.merge(content, out, **settings)
    return out.with_name(f".{out.name}.part")


def blocked(*_):
    """A test that takes a minute fails."""
    pytest.fail("blocked for a minute")


def set_alarm():
    """Fail the test in a minute."""
    signal.signal(signal.SIGALRM, blocked)
    signal.alarm(60)
