"""Chooses and writes the chat template of a merged model, where the recipe says something of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from acm.errors import listed
from acm.files import write_json, write_text
from acm.merging.companions import OLD_TEMPLATE, TEMPLATE, TEMPLATES, TOKENIZER_CONFIG, Companions
from acm.merging.compatibility import Finding
from acm.merging.vocabulary import Alignment
from acm.reading import read_json


def chosen_template(wanted: str | None, companions: list[Companions]) -> str | None:
    """The text of the template that the recipe chooses; None where the tokenizer's own stays.

    ``auto`` takes the most common one of the models; of several that are, the first, in the order base and models.
    """
    if wanted != "auto":
        return wanted
    found = Counter(text.strip() for each in dict.fromkeys(companions) if (text := each.templates.get("default")))
    return found.most_common(1)[0][0] if found else None


def template_findings(wanted: str | None, companions: list[Companions], alignment: Alignment) -> list[Finding]:
    """Whose chat template the result gets, and which tokens of a chosen one its tokenizer lacks."""
    models, source = dict.fromkeys(companions), companions[alignment.source]
    if wanted is None:
        return [difference(source, other) for other in models if source.templates != other.templates]
    text = chosen_template(wanted, companions)
    added = {token for each in models if each.vocabulary for token in each.vocabulary.added}
    known = {*(source.vocabulary.ids if source.vocabulary else added), *(entry["content"] for entry in alignment.added)}
    found = []
    if text and (lacking := sorted(token for token in added - known if token in text)):
        such = f"the chosen chat template has tokens that the tokenizer of the result lacks ({listed(lacking)})"
        found.append(Finding("warning", f"{such}; `tokenizer_source: union` adds them."))
    return found if wanted != "auto" else [*found, choice(text, models)]


def choice(text: str | None, models: Iterable[Companions]) -> Finding:
    """Whose chat template ``auto`` takes."""
    having = [each.name for each in models if text and each.templates.get("default", "").strip() == text]
    found = f"that of {', '.join(having)}" if having else "none, as no model has one"
    return Finding("note", f"chat_template: auto chooses {found} ({len(having)} of {len(list(models))} models).")


def difference(source: Companions, other: Companions) -> Finding:
    """What the result gets where two models have different chat templates."""
    has = "has another chat template than" if other.templates else "has no chat template, unlike"
    gets = f"that of {source.name}" if source.templates else f"none, as {source.name} has none"
    text = f"{other.name} {has} {source.name}; the result gets {gets} (`tokenizer_source`, `chat_template` decide)."
    return Finding("note", text)


def write_template(folder: Path, text: str) -> None:
    """Make a template the only one of a written tokenizer."""
    write_text(folder / TEMPLATE, text)
    (folder / OLD_TEMPLATE).unlink(missing_ok=True)
    shutil.rmtree(folder / TEMPLATES, ignore_errors=True)
    if (folder / TOKENIZER_CONFIG).is_file():
        config = read_json(folder / TOKENIZER_CONFIG)
        if config.pop("chat_template", None) is not None:
            write_json(folder / TOKENIZER_CONFIG, config, indent=2, ensure_ascii=False)
