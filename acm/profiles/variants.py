"""Finds the content of a profile from its name: the content of its file, with variants laid over it.

``qwen-7b+cap4096`` is the file ``profiles/qwen-7b.yaml`` with ``profiles/variants/cap4096.yaml`` laid over each of its
experiments. A variant is a YAML file with some keys of an experiment and a title.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acm.errors import UserError, check_distinct, unknown
from acm.paths import PROFILES
from acm.reading import read_yaml

VARIANTS = PROFILES / "variants"


def read_profile(name: str) -> tuple[str, dict[str, Any]]:
    """Where a profile stands, for error messages, and its content, variants included.

    name: of a file in ``profiles``, or the path of a YAML file; then ``+variant`` any number of times.
    Raises UserError for an unknown profile or variant, a file that names itself otherwise, and variants that disagree.
    """
    path, variants = parse_name(name)
    if not path.is_file():
        raise unknown("profile", name.partition("+")[0], (found.stem for found in PROFILES.glob("*.yaml")))
    content = read_yaml(path)
    if content.get("name", path.stem) != path.stem:
        raise UserError(f"{path}: the profile's name is its file's; remove `name` or rename the file.")
    name = "+".join([path.stem, *variants])
    return "+".join([str(path), *variants]), with_variants(content, variants) | {"name": name}


def parse_name(name: str) -> tuple[Path, list[str]]:
    """The file of a profile, and the variants that its name asks for."""
    folder, slash, last = name.rpartition("/")
    stem, *variants = last.split("+")
    check_distinct(variants, "variants")
    if stem.endswith((".yaml", ".yml")):
        return Path(folder + slash + stem), variants
    return PROFILES / f"{folder}{slash}{stem}.yaml", variants


def with_variants(content: dict[str, Any], variants: list[str]) -> dict[str, Any]:
    """A profile's content with the keys of each variant laid over every experiment.

    Raises UserError for an unknown variant, and where two variants set the same key.
    """
    if not variants or not isinstance(content.get("experiments"), dict):
        return content
    set_by: dict[str, str] = {}
    titles, experiments = [content.get("title") or ""], content["experiments"]
    for variant in variants:
        path = VARIANTS / f"{variant}.yaml"
        if not path.is_file():
            raise unknown("variant", variant, (found.stem for found in VARIANTS.glob("*.yaml")))
        change = read_yaml(path)
        titles.append(change.pop("title", variant))
        for key in change:
            if set_by.setdefault(key, variant) != variant:
                raise UserError(f"variants {set_by[key]} and {variant} both set {key}; name one of them.")
        experiments = {name: e | change if isinstance(e, dict) else e for name, e in experiments.items()}
    return content | {"title": ", ".join(filter(None, titles)), "experiments": experiments}
