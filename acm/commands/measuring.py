"""The commands that measure models: calibrate, coefficients and evaluate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from acm.calibration import defaults
from acm.calibration.registry import COEFFICIENT_CONTROLS, SHIFTS, STATISTICS
from acm.calibration.rules import LAYER_CONTROLS, RULES, rule_table
from acm.commands.app import app, literal, names_options, say
from acm.errors import UserError, check_distinct
from acm.evaluation.prompts import PROMPTS
from acm.evaluation.settings import MAX_TOKENS, Engine, Sampling, Server, chosen_engine
from acm.files import alone, not_a_file

TEXTS, ESTIMATES, RUNNING, RESPONSES, SERVER, LABELS, READ, NULLS = (
    partial(typer.Option, rich_help_panel=title)
    for title in ("Texts", "Estimates and coefficients", "Running", "Responses", "Servers and vLLM", "Labels",
                  "What the rule reads", "Mean and controls")
)  # fmt: skip
SEEDS = {"min": 0, "max": 2**32 - 1}
MODELS = "abacus/checkpoints"


@app.command(
    epilog=f"Example: acm calibrate {MODELS}/abacus-fast {MODELS}/abacus-slow "
    "--texts abacus/benchmarks/calibration_problems.jsonl --out runs/my-calibration"
)
@names_options
def calibrate(
    base: Annotated[Path, typer.Argument(help="folder of the base model")],
    finetuned: Annotated[list[Path], typer.Argument(help="folders of models that were fine-tuned from it")],
    texts: Annotated[
        str,
        TEXTS(help="JSONL or text file of texts, or a hub dataset such as simplescaling/s1K, also s1K@COMMIT"),
    ],
    out: Annotated[Path, typer.Option(help="folder for the MI table, coefficients.json and statistics")] = Path(),
    field: Annotated[str, TEXTS(help="field of the JSONL file; several joined by +")] = defaults.FIELD,
    clusters: Annotated[int, TEXTS(min=1, help="K-means clusters of the texts")] = defaults.CLUSTERS,
    per_cluster: Annotated[int, TEXTS(min=1, help="texts drawn from each")] = defaults.PER_CLUSTER,
    text_seed: Annotated[int, TEXTS(**SEEDS, help="seed of the choice of texts")] = defaults.TEXT_SEED,
    encoder: Annotated[str | None, TEXTS(help="sentence-transformers model for the clusters (default: TF-IDF)")] = None,
    max_tokens: Annotated[int | None, TEXTS(min=1, help="cut texts there (default: whole)")] = None,
    estimator: Annotated[
        list[str],
        ESTIMATES(help="repeatable; the first gives the coefficients"),
    ] = [defaults.ESTIMATOR],  # noqa: B006 (nobody changes it)
    control: Annotated[
        list[str],
        ESTIMATES(help="repeatable; `none` is the real pair"),
    ] = [*COEFFICIENT_CONTROLS],  # noqa: B006
    statistic: Annotated[list[str] | None, ESTIMATES(help=f"repeatable: {', '.join(STATISTICS)}")] = None,
    t: Annotated[float, ESTIMATES(help="temperature of Eq. 2")] = defaults.T,
    shift: Annotated[str, ESTIMATES(help=", ".join(SHIFTS))] = defaults.SHIFT,
    seed: Annotated[int, ESTIMATES(**SEEDS, help="seed of the controls")] = defaults.SEED,
    dtype: Annotated[str, RUNNING(help="of the computation: float32 or bfloat16")] = defaults.DTYPE,
    device: Annotated[str, RUNNING(help="cpu, cuda or auto; several GPUs share the models")] = defaults.DEVICE,
    threads: Annotated[int, RUNNING(min=1, help="for the estimates")] = defaults.THREADS,
) -> None:
    """Mutual information of BASE and each FINETUNED model, and the layer coefficients that follow from it.

    Models are run layer by layer, so any size fits; interrupted, the same command continues with the next layer.
    """
    from acm.adapters import name_of
    from acm.calibration.coefficients import check_mapping, write_coefficients
    from acm.calibration.texts import read_texts, select_texts
    from acm.calibration.walk import calibrate as run
    from acm.records import provenance, write_parquet

    check_mapping(t, shift)
    names = [name_of(path) for path in finetuned]
    check_distinct(names, "fine-tuned models by their folder name")
    if "none" not in control:
        raise UserError("the coefficients come from the control `none`; name it too.")
    chosen = select_texts(read_texts(texts, field), clusters, per_cluster, text_seed, encoder)
    if len(chosen) < clusters * per_cluster:
        say(f"note: {texts} has {len(chosen)} texts, fewer than the {clusters * per_cluster} asked for.", err=True)
    with alone(out, "another calibration"):
        table = run(
            base,
            dict(zip(names, finetuned, strict=True)),
            chosen,
            controls=control,
            estimators=estimator,
            seed=seed,
            dtype=dtype,
            device=device,
            threads=threads,
            max_tokens=max_tokens,
            keep=out / "calibration",
            statistics=out / "statistics" if statistic else None,
            kinds=statistic or (),
        )
        write_parquet(table, out / "mutual_information.parquet")
        facts = provenance("calibration", texts=texts, field=field, n=len(chosen), dtype=dtype)
        write_coefficients(out / "coefficients.json", table, facts, t, shift, estimator=estimator[0])
    say(f"coefficients: {out / 'coefficients.json'}")


@app.command(
    epilog=f"Example: acm coefficients --rule lines --base {MODELS}/abacus-fast --finetuned {MODELS}/abacus-slow "
    "--set a=0.3 --out runs/lines.json"
)
def coefficients(
    rule: Annotated[str, typer.Option(help=", ".join(RULES))] = "acm",
    given: Annotated[list[str] | None, typer.Option("--set", help="parameter=value of the rule, repeatable")] = None,
    table: Annotated[Path | None, READ(help="mutual_information.parquet of a calibration")] = None,
    base: Annotated[Path | None, READ(help="folder of the base model")] = None,
    finetuned: Annotated[list[Path] | None, READ(help="folder of a model fine-tuned from it, repeatable")] = None,
    sensitivity: Annotated[Path | None, READ(help="sensitivity.json of a calibration")] = None,
    found: Annotated[
        Path | None, READ("--coefficients", help="coefficients of another pair, for the rule moved")
    ] = None,
    mean: Annotated[float | None, NULLS(help="scale λ to this mean over the layers")] = None,
    control: Annotated[
        str, NULLS(help=f"none, {', '.join(LAYER_CONTROLS)}; with --table also a control of the table")
    ] = "none",
    seed: Annotated[int, NULLS(**SEEDS, help="of the control permuted")] = 0,
    out: Annotated[Path, typer.Option(help="file for the coefficients")] = Path("coefficients.json"),
    rules: Annotated[bool, typer.Option("--rules", help="list all rules, and stop")] = False,
) -> None:
    """One merging coefficient for each layer, by ACM's rule or by a rival's."""
    if rules:
        say(rule_table())
        return
    pairs = [pair.partition("=")[::2] for pair in given or []]
    if bad := [name for name, value in pairs if not (name and value)]:
        raise UserError(f"--set {bad[0]}: write parameter=value, such as a=0.3.")
    check_distinct([name for name, _ in pairs], "values of --set")
    from acm.calibration.layer_rules import rule_coefficients, write_rule
    from acm.records import provenance

    content = rule_coefficients(
        rule, {name: literal(name, value) for name, value in pairs}, table=table, base=base,
        finetuned=finetuned or (), sensitivity=sensitivity, found=found, mean=mean, control=control, seed=seed,
    )  # fmt: skip
    files = {"table": table, "base": base, "sensitivity": sensitivity, "coefficients": found}
    named: dict[str, object] = {name: str(path) for name, path in files.items() if path}
    named |= {"finetuned": list(map(str, finetuned))} if finetuned else {}
    write_rule(out, content, provenance("calibration", **named))
    say(f"coefficients: {out}")


@app.command(
    epilog=f"Example: acm evaluate {MODELS}/abacus-fast --task abacus_easy --max-tokens 400 --out runs/fast.parquet"
)
@names_options
def evaluate(
    model: Annotated[Path, typer.Argument(help="folder of the model")],
    task: Annotated[list[str], typer.Option(help="ours or lm-eval's, repeatable")],
    out: Annotated[Path, typer.Option(help="parquet file for the records")] = Path("records.parquet"),
    items: Annotated[int | None, typer.Option(help="items of each task (default: all)")] = None,
    batch_size: Annotated[int, RUNNING(help="items generated together")] = Engine.batch_size,
    max_tokens: Annotated[int, RESPONSES(help="token cap of a response")] = MAX_TOKENS,
    dtype: Annotated[str, RUNNING(help="float32, bfloat16 or float16")] = Engine.dtype,
    device: Annotated[str, RUNNING(help="cpu, cuda or cuda:1")] = Engine.device,
    seed: Annotated[int, RESPONSES(**SEEDS, help="of the draws")] = Sampling.seed,
    prompt: Annotated[str | None, RESPONSES(help=f"of tasks that take one: {', '.join(PROMPTS)}")] = None,
    repeat: Annotated[int, RESPONSES(help="number of this repeat, from 0")] = Sampling.repeat,
    temperature: Annotated[float, RESPONSES(help="0 is greedy; above, responses are drawn")] = Sampling.temperature,
    top_p: Annotated[float, RESPONSES(help="draw from the likeliest tokens of this probability")] = Sampling.top_p,
    backend: Annotated[str, RUNNING(help="transformers, vllm or server")] = Engine.backend,
    url: Annotated[str | None, SERVER(help="of a server, such as http://localhost:8000/v1")] = None,
    served: Annotated[str | None, SERVER(help="the model's name there (default: the listed)")] = Server.served,
    concurrency: Annotated[int, SERVER(help="requests at a time to a server")] = Server.concurrency,
    timeout: Annotated[float, SERVER(help="seconds to wait for one response of a server")] = Server.timeout,
    deadline: Annotated[float | None, SERVER(help="seconds for all of a server's responses")] = Server.deadline,
    reload: Annotated[
        bool, SERVER("--reload", help="a vLLM or SGLang server loads MODEL first, from the same path there")
    ] = Server.reload,
    deterministic: Annotated[
        bool, RUNNING("--deterministic", help="what transformers or vllm offers against chance")
    ] = Engine.deterministic,
    model_args: Annotated[str, SERVER(help="of vllm or a server's requests: '{top_k: -1}'")] = "{}",
    profile: Annotated[str | None, LABELS(help="label, by which `acm import` takes the records")] = None,
    experiment: Annotated[str | None, LABELS(help="label of the records")] = None,
    method: Annotated[str | None, LABELS(help="label of the records (default: the folder's name)")] = None,
) -> None:
    """Evaluate a model folder on tasks; one record for each response, with its length in tokens."""
    if not isinstance(arguments := literal("model_args", model_args), dict):
        raise UserError(f"model_args: '{model_args}' is no mapping; write it like {{tensor_parallel_size: 2}}.")
    if not out.name or not_a_file(out) or out.suffix == ".batches":
        raise UserError(f"--out: '{out}' is no file for a table; name one, such as records.parquet.")
    engine = chosen_engine(backend, url=url, served=served, concurrency=concurrency, timeout=timeout,
                           deadline=deadline, reload=reload, batch_size=batch_size,
                           deterministic=deterministic, dtype=dtype, device=device,
                           model_args=arguments)  # fmt: skip
    sampling = Sampling(temperature, top_p, repeat, seed)
    labels = {"profile": profile, "experiment": experiment, "method": method}
    from acm.evaluation.harness import evaluate as run
    from acm.records import write_records

    given = {name: value for name, value in labels.items() if value}
    with alone(keep := out.with_suffix(".batches"), "another evaluation"):
        records = run(model, task, items=items, max_tokens=max_tokens, prompt=prompt, sampling=sampling, engine=engine,
                      keep=keep, labels=given)  # fmt: skip
        write_records(records, out)
    say(records.groupby("task")[["correct", "length", "truncated"]].mean().to_string())
