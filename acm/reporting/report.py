"""Writes the report of a profile: what the paper claims, and what our runs show. Every number comes from the records.

``report.md.jinja`` is the text; this module supplies its numbers. Other pages also use the headline table and the list
of verdicts (:mod:`acm.reporting.pages`).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from acm import escaping, paper
from acm.calibration.registry import COEFFICIENT_CONTROLS
from acm.files import write_text
from acm.profiles import Profile
from acm.reporting import tables
from acm.reporting.answer import answer
from acm.reporting.dominance import dominance, in_words, pairs_of, wide_dominance
from acm.reporting.intervals import Interval, interval_text
from acm.reporting.outdated import outdated_experiment, outdated_question
from acm.reporting.results import Results
from acm.reporting.statistics import average, describe, length_change, share

TEMPLATE = Path(__file__).with_name("report.md.jinja")
LOW = 20  # percent; where no merge reaches this, the report says that it can conclude nothing about accuracy
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?![a-z])")
VERDICT_COLUMNS = ["points above the frontier", "points above the bar", "verdict"]


def write_report(profile: Profile, reports: Path, figures: Path) -> Path:
    """Write ``report.md`` into ``reports``, and return its path. reports, figures: folders of a profile's results."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "interval": interval_filter,
        "cell": tables.cell,
        "md": escaping.markdown,
        "code": escaping.code,
        "listed": listed,
    }
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        profile=profile,
        experiments={name: findings(Results(profile, name, reports), figures) for name in profile.experiments},
        claims=paper.load("published_averages").query("source == 'acm-v1' and size == '7b'").set_index("method"),
        LOW=LOW,
        questions=questions(reports, figures),
    )
    write_text(reports / "report.md", text)
    return reports / "report.md"


def interval_filter(interval: Interval, digits: int = 1, signed: bool = False) -> str:
    """:func:`interval_text` of a mapping, as a filter of the template."""
    return interval_text(**interval, digits=digits, signed=signed)


def findings(results: Results, figures: Path) -> dict[str, Any]:
    """Everything that the report says of one experiment."""
    sample, reference = results.sample, results.experiment.reference
    main = tables.long_table(results.records, sample, reference)
    verdicts = tables.verdicts_of(results)
    most = max(share(sample, m)["high"] for m in sample.methods if m not in results.experiment.parents)
    return {
        "results": results,
        "answer": answer(results, verdicts, conclusive=most >= LOW),
        "main": escaping.text_table(tables.wide_table(main)),
        "verdicts": escaping.text_table(tables.wide_verdicts(verdicts)) if results.pair else "",
        "caption": results.caption("Accuracy in percent and mean length in tokens."),
        "calibration": calibration_findings(results),
        "averages": {m: share(sample, m) for m in sample.methods},
        "lengths": {m: describe(average(sample, m, "length"), 1) for m in sample.methods},
        "changes": {m: describe(length_change(sample, m, reference)) for m in sample.methods},
        "acm": verdicts[verdicts["method"].str.startswith("ACM")].to_dict("records"),
        "dominance": dominance_text(results) if pairs_of(results) else "",
        "most": most,
        "truncated": results.records.groupby("method")["truncated"].mean().mul(100).to_dict(),
        "outdated": outdated_experiment(results.folder.parent, figures, results.name),
    }


def dominance_text(results: Results) -> str:
    """The paper's own comparison in words, and ACM beside other ways to the same end as a Markdown table."""
    table = dominance(results)
    return f"{in_words(table)}\n\n{escaping.text_table(wide_dominance(table))}"


def calibration_findings(results: Results) -> list[dict[str, Any]]:
    """For each fine-tuned model: what the null controls keep of its MI, and how far its λ lie from theirs.

    Keys, over the blocks alone: share, a control's mean MI in percent of the real pair's; correlation, of MI with the
    log of the number of tokens, mean over blocks. Over all layers: low, high and mean of λ; apart, mean distance to the
    λ of a control.
    """
    found = []
    for finetuned in results.information["finetuned"].unique():
        part = results.information[results.information["finetuned"] == finetuned]
        part = part[part["control"].isin(COEFFICIENT_CONTROLS)]  # the others may cut a text
        wide = part.pivot_table(index=["layer", "sample", "tokens"], columns="control", values="value").reset_index()
        blocks = wide[wide["layer"].str.isdigit()]
        real, *nulls = (np.array([*results.coefficients[c][finetuned].values()]) for c in COEFFICIENT_CONTROLS)
        found.append({
            "finetuned": finetuned,
            "correlation": {c: length_correlation(blocks, c) for c in ("none", "gaussian")},
            "share": {c: 100 * blocks[c].sum() / blocks["none"].sum() for c in COEFFICIENT_CONTROLS[1:]},
            "low": real.min(), "high": real.max(), "mean": real.mean(),
            "apart": {c: abs(real - null).mean() for c, null in zip(COEFFICIENT_CONTROLS[1:], nulls, strict=True)},
        })  # fmt: skip
    return found


def length_correlation(blocks: pd.DataFrame, control: str) -> float:
    """Correlation of MI with the log of the number of tokens over texts, mean over blocks."""
    by_block = blocks.groupby("layer")[[control, "tokens"]]
    return float(by_block.apply(lambda part: np.corrcoef(np.log(part["tokens"]), part[control])[0, 1]).mean())


def headline(results: Results, markdown: bool = False) -> str:
    """A short table of the parents, the plain merges, the ACM methods and their null controls, with its caption."""
    sample, experiment = results.sample, results.experiment
    methods = [*results.selected, *(m for m in experiment.methods if m.startswith(("Null", "Uniform")))]
    rows = {
        method: {
            "accuracy %": interval_text(**share(sample, method)),
            "length, tokens": interval_text(**describe(average(sample, method, "length"), 1), digits=0),
            "length change %": interval_text(**describe(length_change(sample, method, experiment.reference))),
        } for method in methods
    }  # fmt: skip
    merged = [m for m in methods if results.pair and m not in experiment.parents]
    verdicts = tables.wide_verdicts(tables.verdict_table(sample, merged, results.frontier)) if merged else None
    against = pd.DataFrame(columns=VERDICT_COLUMNS) if verdicts is None else verdicts[VERDICT_COLUMNS]
    frame = pd.DataFrame(rows).T.join(against).fillna("–").rename_axis("method")
    text = escaping.text_table(frame, "pipe" if markdown else "simple")
    caption = results.caption("Mean over tasks.")
    return f"{text}\n\n{(escaping.markdown if markdown else escaping.literal)(caption)}\n"


def short_table(results: Results) -> str:
    """The parents, Task Arithmetic and ACM on it, without intervals, for a page that leads to the whole table."""
    sample, methods = results.sample, [*results.experiment.parents, "TA", "ACM-TA"]
    verdicts = tables.verdicts_of(results).set_index("method")["verdict"]
    rows = {
        method: {
            "accuracy %": f"{share(sample, method)['value']:.1f}",
            "tokens": f"{describe(average(sample, method, 'length'), 1)['value']:.0f}",
            "against the bar": verdicts.get(method, "–"),
        } for method in methods
    }  # fmt: skip
    return f"{escaping.text_table(pd.DataFrame(rows).T.rename_axis('method'), 'pipe')}\n"


def questions(reports: Path, figures: Path) -> list[dict[str, Any]]:
    """The questions that were asked, in the order of their notebooks.

    Each has what its ``verdict.json`` holds, and besides: answer, its first sentence; details, the others; name,
    notebook, figures (file names), outdated (sentences).
    """
    found = []
    for path in sorted((reports / "questions").glob("*/verdict.json")):
        question = json.loads(path.read_text(encoding="utf-8"))
        answer = question.get("answer") or first_sentence(question["verdict"])
        question |= {
            "name": path.parent.name,
            "answer": answer,
            "details": question["verdict"].removeprefix(answer).strip(),
        }
        notebook = next((p.name for p in sorted(path.parent.glob("*.ipynb"))), "")
        drawn = [p.name for p in sorted((figures / "questions" / path.parent.name).glob("*.svg"))]
        found.append(question | {"notebook": notebook, "figures": drawn, "outdated": outdated_question(path)})
    return sorted(found, key=lambda question: question["notebook"])


def first_sentence(text: str) -> str:
    """The text up to its first full stop, question or exclamation mark that a space and no small Latin letter follow.

    >>> first_sentence("Of 5.91 nats 0.008 remain, i.e. little. λ is 0.5.")
    'Of 5.91 nats 0.008 remain, i.e. little.'
    """
    return SENTENCE_END.split(text.strip(), maxsplit=1)[0]


def listed(text: str, indent: str = "") -> str:
    """A Markdown list of a text's sentences; what a sentence counts up, three parts or more, is a list in it.

    >>> print(listed("λ is 0.5. Over families: one 2; two 3; three 4."))
    - λ is 0.5.
    - Over families:
      - one 2;
      - two 3;
      - three 4.
    """
    lines = []
    for sentence in SENTENCE_END.split(text.strip()):
        head, _, rest = sentence.partition(": ")
        parts = rest.replace("; ", ";\n").splitlines()
        lines += [f"- {head}:", *(f"  - {part}" for part in parts)] if len(parts) > 2 else [f"- {sentence}"]
    return "\n".join(indent + line for line in lines)


def verdict_list(reports: Path, figures: Path, page: Path) -> str:
    """All questions as a numbered list: the plain answer; its numbers fold. page: the folder where links start."""
    lines = []
    for number, question in enumerate(questions(reports, figures), 1):
        notebook = os.path.relpath(reports / "questions" / question["name"] / question["notebook"], page)
        link = f"([notebook]({Path(notebook).as_posix()}))"
        lines.append(f"{number}. **{question['question']}** {question['answer']} {link}\n")
        if question["details"]:
            folded = "   <details><summary>The numbers</summary>", listed(question["details"], "   "), "   </details>"
            lines += [f"\n{part}\n" for part in folded]
    return "".join(lines)
