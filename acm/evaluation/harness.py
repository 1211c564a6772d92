"""The public function of evaluation: asks a model every item of some tasks, by lm-evaluation-harness.

lm-evaluation-harness finds the tasks, asks the model and grades the answers. Our backends add what it does not keep:
token counts, raw text, and whether the token cap cut a response. One call generates one response to each item.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from acm.checkpoints import TOKENIZERS_SHOWN, has_tokenizer, model_folder
from acm.errors import UserError, check_distinct, shown, unknown
from acm.evaluation.determinism import algorithms, prepare
from acm.evaluation.own_weights import check_weights_are_read
from acm.evaluation.prompts import CHAT_TEMPLATE, FEW_SHOT, FEW_SHOT_STOPS, PROMPTS
from acm.evaluation.samples import records_of
from acm.evaluation.settings import MAX_TOKENS, USUAL, Engine, Sampling, Server, check_count, chosen_engine, stated
from acm.evaluation.task_files import check_grader, check_prompt, tasks_folder
from acm.identity import identity
from acm.kept import check_writable
from acm.reading import read_json
from acm.records import versions
from acm.sources import source_hash

if not find_spec("lm_eval"):  # only the core of this package is installed
    raise UserError('evaluation needs lm-evaluation-harness; install it with pip install "acm-companion[evaluate]".')
from lm_eval import evaluator, simple_evaluate
from lm_eval.tasks import TaskManager

from acm.evaluation.backends import Recording, RecordingLM
from acm.evaluation.loaded import Loaded, frame_of

evaluator.get_git_commit_hash = str  # git prints "fatal" outside a repository, and no record holds the hash
evaluator.add_env_info = lambda _: None  # asks pip for every package, which takes a second, and no record holds it
DECISIVE = ("torch", "transformers", "tokenizers", "lm-eval")  # packages whose version decides a response


def evaluate(
    model: str | Path | Loaded, tasks: list[str], *, items: int | None = None, max_tokens: int = MAX_TOKENS,
    prompt: str | None = None, sampling: Sampling = Sampling(), engine: Engine | Server | None = None,
    keep: Path | None = None, labels: Mapping[str, str] | None = None, **fields: Any,
) -> pd.DataFrame:  # fmt: skip
    """Ask a model the items of some tasks. Returns the records: one row for each response, one response to each item.

    model: its folder, or a :class:`Loaded` one. For a server, the folder gives the tokenizer and the hash.
    tasks: names of ours or of lm-evaluation-harness (docs/benchmarks.md).
    items: how many of each task, from its start; None: all.
    max_tokens: token cap of a response.
    prompt: a name of ``acm.evaluation.prompts``; None: the usual prompt of each task.
    sampling: how tokens are chosen; greedy unless it says otherwise.
    engine: an :class:`Engine`, which runs the model in this process, or a :class:`Server`.
    keep: folder for finished batches, from which an interrupted call continues.
    labels: columns to set, such as profile and method.
    fields: of an Engine or a Server, in place of ``engine``: batch_size=8, or backend="server", url="http://…".

    The columns are those of ``acm.records.RECORD_COLUMNS`` and more. correct is 0 or 1. length is in tokens, with
    thinking and without the end token. truncated: the cap cut the response. setting: JSON on how it came about.
    Raises UserError for a missing model or task, a task that generates no text or asks for repeats, a prompt that a
    task or model does not take or that leaves no room for a response, an engine that is not here, and a server that
    does not answer as it should.

    >>> import acm
    >>> records = acm.evaluate("abacus/checkpoints/abacus-fast", ["abacus_easy"], items=2, max_tokens=24)
    >>> records[["task", "item", "gold", "answer", "length", "truncated"]]
              task  item gold     answer  length  truncated
    0  abacus_easy     0    9          9      15      False
    1  abacus_easy     1   74  [invalid]      24       True
    """
    folder = model.folder if isinstance(model, Loaded) else model_folder(model)
    check_count("max_tokens", max_tokens)
    if items is not None:
        check_count("items", items)
    check_tasks(tasks)
    if engine and fields:
        raise UserError(f"{next(iter(fields))}: is given beside engine; put it into the engine, or leave engine out.")
    engine = engine or chosen_engine(**fields)
    check_prompt(prompt, tasks)
    check_grader(tasks)
    engine.check_here()
    prepare(engine)
    if keep:
        check_writable(Path(keep))
    manager = task_manager(tasks, prompt)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if not isinstance(model, Loaded):
        lm = load(folder, engine, sampling, max_tokens, prompt)
        model = Loaded(lm, folder, engine, max_tokens, identity(folder))
    lm = model.asked(engine, max_tokens, sampling)
    if prompt == CHAT_TEMPLATE:
        check_template(folder, lm)
    setting = setting_of(model.identity, engine, sampling, max_tokens, prompt) | lm.facts
    if keep:
        lm.keep = Path(keep) / hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:16]
        lm.key = setting | {"source": source_hash("evaluation"), "versions": versions(DECISIVE)}
    generation = generation_of(engine, sampling, max_tokens, prompt)
    with algorithms(engine):
        results = generate(lm, manager, tasks, items, generation, prompt == CHAT_TEMPLATE, sampling.seed)
    known = {"profile": "", "experiment": "", "model": model.name, "method": model.name} | dict(labels or {})
    return table(results, tasks, lm, known, setting)


def task_manager(tasks: list[str], prompt: str | None = None) -> TaskManager:
    """The tasks as lm-evaluation-harness finds them: ours alone if they hold all (quick), else with its own.

    prompt: for tasks that take one. Raises UserError for a task that neither has, a group of tasks, and a task that
    generates no text.
    """
    chosen = {"prompt": prompt} if prompt else None
    for defaults in (False, True):
        manager = TaskManager(include_path=str(tasks_folder()), include_defaults=defaults, metadata=chosen)
        absent = [task for task in tasks if task not in manager.all_subtasks]
        if not absent:
            check_generates(manager, tasks)
            return manager
    if absent[0] in manager.all_tasks:
        raise UserError(
            f"'{absent[0]}' is a group of tasks; list its tasks one by one (`acm tasks {absent[0]}` shows them)."
        )
    raise unknown("task", absent[0], manager.all_subtasks, "`acm tasks TEXT` lists those with TEXT in their name")


def check_tasks(tasks: list[str]) -> None:
    """UserError for what is no list of names, and for a name that comes twice: its items would count twice."""
    if isinstance(tasks, str) or not tasks:
        raise UserError(f"tasks: is {tasks!r}; give a list of names, such as ['abacus_easy'].")
    check_distinct(tasks, "tasks")


def find_tasks(text: str) -> list[str]:
    """The tasks that generate text, ours and those of lm-evaluation-harness, with ``text`` in their name."""
    manager = TaskManager(include_path=str(tasks_folder()))
    return [name for name in manager.all_subtasks if text.lower() in name.lower() and generates(manager, name)]


def generates(manager: TaskManager, task: str) -> bool:
    """Whether a task generates text; the others score choices."""
    kind: str = (manager.task_index[task].cfg or {}).get("output_type", "generate_until")
    return kind == "generate_until"


def check_generates(manager: TaskManager, tasks: list[str]) -> None:
    """UserError for a task that scores choices."""
    if mute := [task for task in tasks if not generates(manager, task)]:
        raise UserError(
            f"task '{mute[0]}' generates no text, so it has no length; run it with lm-eval itself (docs/benchmarks.md)."
        )


def stay_loaded(folder: Path, engine: Engine, max_tokens: int, known: str = "") -> Loaded:
    """A model that is loaded once, for many calls of :func:`evaluate` with this engine and at most this cap.

    known: its identity; empty: it has none before it takes the weights of a model. UserError as of evaluate.
    """
    prepare(engine)
    lm = load(folder, engine, Sampling(), max_tokens, None)
    return Loaded(lm, folder, engine, max_tokens, known, frame=frame_of(folder))


def load(folder: Path, engine: Engine | Server, sampling: Sampling, max_tokens: int, prompt: str | None) -> Recording:
    """The model behind an engine. UserError where the prompt needs a chat template and the model has none."""
    if not has_tokenizer(folder):
        raise UserError(f"{folder} has no tokenizer ({TOKENIZERS_SHOWN}); copy the tokenizer files into it.")
    try:
        lm = loaded(folder, engine, max_tokens, prompt == CHAT_TEMPLATE, seed=sampling.seed, repeat=sampling.repeat)
    except UserError:
        raise
    except Exception as error:  # whatever transformers makes of what the folder holds
        for path in sorted(folder.glob("*.json")):
            read_json(path)
        raise UserError(f"{folder} cannot be loaded: {shown(error)}") from error
    if prompt == CHAT_TEMPLATE:
        check_template(folder, lm)
    return lm


def check_template(folder: Path, lm: Recording) -> None:
    """UserError where the model has no chat template, or one that makes no text of a question."""
    others = "choose another prompt: " + ", ".join(name for name in PROMPTS if name != CHAT_TEMPLATE)
    if not getattr(lm.tokenizer, "chat_template", None):
        raise UserError(f"{folder} has no chat template; {others}.")
    try:
        lm.tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program
        raise UserError(f"the chat template of {folder} fails ({shown(error)}); mend it, or {others}.") from None


def loaded(folder: Path, engine: Engine | Server, max_tokens: int, chat: bool, **states: int) -> Recording:
    """The backend of an engine, its model loaded. chat: ask a server for chat completions. states: seed, repeat."""
    if isinstance(engine, Server):
        from acm.evaluation.backends_server import connect

        return connect(folder, engine, chat, **states)
    check_weights_are_read(folder, engine.backend)
    settings: dict[str, Any] = {
        "dtype": engine.dtype,
        "device": engine.device,
        "batch_size": engine.batch_size,
        **states,
    }
    if engine.backend == "transformers":
        return RecordingLM(pretrained=str(folder), **settings)
    from acm.evaluation.backends_vllm import RecordingVLLM

    return RecordingVLLM(folder, max_gen_toks=max_tokens, **engine.model_args, **settings)


def setting_of(
    model: str, engine: Engine | Server, sampling: Sampling, max_tokens: int, prompt: str | None
) -> dict[str, Any]:
    """The setting of the records, as far as it is known before generation. Values that equal USUAL are left out.

    model: its identity.
    """
    said = stated(engine, sampling, max_tokens, prompt)
    always = {key: value for key, value in said.items() if key not in USUAL}
    chosen = {key: value for key, value in said.items() if key in USUAL and value != USUAL[key]}
    return {"engine": f"lm-eval/{engine.backend}", **always, "model": model, **chosen, **gpu_of(engine)}


def gpu_of(engine: Engine | Server) -> dict[str, str]:
    """The name of the GPU that an engine here runs on."""
    if isinstance(engine, Server) or engine.device == "cpu":
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name(engine.device)} if torch.cuda.is_available() else {}


def generation_of(engine: Engine | Server, sampling: Sampling, max_tokens: int, prompt: str | None) -> dict[str, Any]:
    """The generation settings that lm-evaluation-harness hands to the backend with every request."""
    generation: dict[str, Any] = {"max_gen_toks": max_tokens}
    if prompt == FEW_SHOT:
        generation["until"] = FEW_SHOT_STOPS
    if sampling.temperature:
        generation |= {"do_sample": True, "temperature": float(sampling.temperature), "top_p": float(sampling.top_p)}
        if engine.backend == "transformers":
            generation["top_k"] = 0  # off; transformers' own is 50
    return generation


def generate(
    lm: Recording, manager: TaskManager, tasks: list[str], items: int | None, generation: dict[str, Any],
    template: bool, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Generate and grade all responses. template: put the model's chat template around each prompt."""
    found: dict[str, Any] = simple_evaluate(
        lm, tasks=tasks, limit=items, task_manager=manager, gen_kwargs=generation, bootstrap_iters=0,
        apply_chat_template=template,
        random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
    )  # fmt: skip
    return found


def table(
    results: dict[str, Any], tasks: list[str], lm: Recording, known: dict[str, str], setting: dict[str, Any]
) -> pd.DataFrame:
    """The records of all tasks, each with what is known of it and the setting that it was made with."""
    samples = {task: results["samples"][task] for task in tasks}
    records = [found for task in tasks for found in records_of(task, samples[task], lm.responses, lm.repeat)]
    data = {
        task: hashlib.sha256("".join(sample["doc_hash"] for sample in found).encode()).hexdigest()[:16]
        for task, found in samples.items()
    }
    setting = setting | {"tasks": data, "source": source_hash("evaluation"), "versions": versions()}
    return pd.DataFrame(records).assign(**known, setting=json.dumps(setting))
