"""What the rivals of question 6 read beside the models: statistics of a calibration, and λ by every layer rule."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from acm.calibration import defaults
from acm.calibration.layer_rules import rule_coefficients
from acm.calibration.rules import RULES
from acm.calibration.texts import texts_hash
from acm.calibration.walk import calibrate
from acm.errors import UserError, brief, shown
from acm.files import write_json
from acm.identity import identity
from acm.merging.registry import METHODS
from acm.questions.rivals import Scene
from acm.questions.study import Coefficients, Study, texts_of
from acm.reading import read_json
from acm.records import write_parquet
from acm.sources import source_hash

# rule, as tables name it → its name in the registry, and the parameters that differ from its defaults
RULE_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "ACM": ("acm", {}),
    "ACM, shift over all layers": ("acm", {"shift": "global"}),
    "ACM, no shift": ("acm", {"shift": "none"}),
    "LiNeS, a = 0.2 (not tuned)": ("lines", {"a": 0.2}),
    "equal norms": ("equal_norm", {}),
    "relative norm": ("magnitude", {}),
    "effective rank": ("effective_rank", {}),
    "FIM-Merging (our reading)": ("fim", {}),
    "sensitivity": ("sensitivity", {}),
    "1 − CKA": ("cka", {}),
    "activation shift": ("activation_shift", {}),
}
TABLE, FACTS = "mutual_information.parquet", "measured.json"
SENSITIVITY = "sensitivity"


def selected(parameter: str, names: list[str] | None, known: Collection[str]) -> list[str]:
    """The names that a parameter of the notebook chooses, each once; None: all. UserError for anything else.

    >>> selected("rules", ["equal norms", "equal norms"], RULE_SETTINGS)
    ['equal norms']
    """
    if names is None:
        return list(known)
    if not isinstance(names, list | tuple) or not names:
        given = brief(names) if names else "nothing"
        raise UserError(f"{parameter} must be a list of names, or null for all of them, not {given}.")
    for name in names:
        if name not in known:
            raise UserError(f"{parameter}: '{shown(name)}' is unknown; known are {'; '.join(known)}.")
    return list(dict.fromkeys(names))


def measured(study: Study, scene: Scene, methods: Iterable[str], rules: Iterable[str] = ()) -> Scene:
    """The scene with statistics, from a calibration on the experiment's texts; what is there already is kept.

    methods, rules: names; what they read is gathered, and nothing else. Rules are tried on one task vector alone. A
    scene of which nothing is read stays as it is.
    """
    tried = [RULES[RULE_SETTINGS[rule][0]] for rule in rules] if scene.alone else []
    kinds = {METHODS[name].calibrated for name in methods} - {""}
    of_layers = any(parameter.kind == "layers" for name in methods for parameter in METHODS[name].takes)
    if scene.alone and (of_layers or any(SENSITIVITY in rule.needs for rule in tried)):
        kinds.add(SENSITIVITY)
    usual = study.profile.experiment(scene.experiment).estimator
    estimators = tuple(dict.fromkeys(rule.estimator or usual for rule in tried if "table" in rule.needs))
    if not kinds and not estimators:
        return scene
    return calibrated(study, scene, tuple(sorted(kinds)), estimators or (defaults.ESTIMATOR,))


def calibrated(study: Study, scene: Scene, kinds: tuple[str, ...], estimators: tuple[str, ...]) -> Scene:
    """:func:`measured` of these kinds of statistics, and with these estimators in the MI table."""
    profile, setting = study.profile, study.profile.experiment(scene.experiment)
    chosen = setting.calibration
    texts = texts_of(chosen)
    folder = study.folder / f"calibration-{scene.name}"
    models = {name: identity(path) for name, path in {"": scene.base, **scene.finetuned}.items()}
    facts = {"models": models, "texts": texts_hash(texts), "kinds": [*kinds], "estimators": [*estimators],
             "source": source_hash("calibration"), "dtype": profile.dtype, "seed": profile.seed,
             "max_tokens": chosen.max_tokens}  # fmt: skip
    if not (folder / FACTS).is_file() or not suffices(read_json(folder / FACTS), facts):
        table = calibrate(
            scene.base, scene.finetuned, texts, controls=("none",), estimators=estimators, seed=profile.seed,
            dtype=profile.dtype, device=profile.device, max_tokens=chosen.max_tokens, keep=folder / "unfinished",
            statistics=folder, kinds=kinds,
        )  # fmt: skip
        write_parquet(table, folder / TABLE)
        write_json(folder / FACTS, facts)
    return replace(scene, statistics=folder)


def suffices(known: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a calibration of the known facts has all that is wanted: it may have more kinds and estimators."""
    several = ("kinds", "estimators")
    more = all(set(wanted[key]) <= set(known[key]) for key in several if key in known)
    return more and known == wanted | {key: known.get(key) for key in several}


def rule_sets(study: Study, scene: Scene, rules: Iterable[str]) -> dict[str, Coefficients]:
    """λ by some rules of :data:`RULE_SETTINGS`, from the statistics of :func:`measured`."""
    found = {}
    setting = study.profile.experiment(scene.experiment)
    usual = {"t": setting.t, "estimator": setting.estimator}
    sources: dict[str, Callable[[], dict[str, Any]]] = {
        "table": lambda: {"table": scene.measured(TABLE)},
        "models": lambda: {"base": scene.base, "finetuned": list(scene.finetuned.values())},
        SENSITIVITY: lambda: {SENSITIVITY: scene.measured(f"{SENSITIVITY}.json")},
    }
    for title in rules:
        name, given = RULE_SETTINGS[title]
        needed = {key: value for need in RULES[name].needs for key, value in sources[need]().items()}
        settings = usual | given if name == "acm" else given
        found[title] = rule_coefficients(name, settings, **needed)["coefficients"]
    return found


def scenes(study: Study, ancestor: str | Path | None, skills: str | None) -> list[Scene]:
    """The scenes of a profile.

    ancestor: the model that both parents were fine-tuned from; None leaves out the scene of two task vectors.
    skills: experiment that merges several skills; None leaves it out.
    """
    base, finetuned = study.models
    found = [Scene("one", "one task vector: the slow model from the fast one", study.experiment, base, finetuned)]
    if ancestor is not None:
        both = {path.name: path for path in (base, *finetuned.values())}
        title = "two task vectors: the fast and the slow model from their common base"
        found.append(Scene("two", title, study.experiment, Path(ancestor), both))
    if skills is not None:
        (_, root), *others = study.profile.experiment(skills).parents.items()
        found.append(Scene("skills", "two task vectors: two unlike skills", skills, root, dict(others)))
    return found
