"""Question 6: do the rivals do better? Every training-free method and layer rule on one yardstick.

A scene is a base with its task vectors, and what the merges of them are held against. Each method is merged with the
parameters of its example in `docs/methods.md`, and once more at equal norm: the merged task vector is scaled until it
is as long as that of plain averaging (of one model: plain interpolation at λ = 0.7). Every trim shortens the task
vector, and a shorter task vector alone gives other answers. At equal norm only its direction is compared.

    variable     symbol            meaning
    moved        θ − θ_0           what a merge changed, all tensors together as one vector
    reference    r                 α mean δ_i, α = 0.7 for one model, 1 for several
    norm         ‖θ − θ_0‖ / ‖r‖   its length, over that of the reference
    cosine       cos(θ − θ_0, r)   of its angle with the reference
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from acm.calibration.nulls import controlled
from acm.calibration.task_vectors import parts, tensors_by_layer
from acm.checkpoints import Checkpoint
from acm.errors import UserError
from acm.merging.engine import merge
from acm.merging.registry import METHODS, MergeMethod
from acm.questions.study import SLIM, Coefficients, Study, evaluate_model, yardstick
from acm.reporting.results import Results

QUESTION = "Is a rival above the bar: another method, or another rule for λ by layer?"
ALONE = 0.7  # λ of plain interpolation at which one task vector is compared: the paper's
SKETCHED = 4096
SAME = 1e-4  # models that differ by less, over the reference's norm, are one
USUAL, EQUAL, WEIGHED = "example", "equal norm", "ACM"  # how a rival is merged: as of :class:`Trial`


@dataclass(frozen=True)
class Scene:
    """Task vectors to merge, and where the records of their yardstick come from.

    experiment: of the profile; its tasks, parents and frontier. finetuned: name → folder.
    statistics: folder of what a calibration knows of these models; None where no method that needs it is tried.
    """

    name: str
    title: str
    experiment: str
    base: Path
    finetuned: dict[str, Path]
    statistics: Path | None = None

    @property
    def models(self) -> list[dict[str, Any]]:
        """The fine-tuned models as a recipe lists them."""
        return [{"model": str(path)} for path in self.finetuned.values()]

    @property
    def alone(self) -> bool:
        """Whether there is one task vector."""
        return len(self.finetuned) == 1

    @property
    def reference(self) -> dict[str, Any]:
        """The recipe whose task vector has the norm at which all are compared."""
        return self.recipe(METHODS["task_arithmetic"], {"weight": ALONE if self.alone else 1 / len(self.finetuned)})

    @property
    def reference_name(self) -> str:
        """The reference's method in the records."""
        return f"λ = {ALONE} everywhere" if self.alone else "plain average"

    def scaled(self, merged: Path, factor: float) -> dict[str, Any]:
        """The recipe of a merged model whose task vector is so many times as long."""
        recipe = {"merge_method": "task_arithmetic", "base_model": str(self.base), "models": [{"model": str(merged)}]}
        return recipe | {"parameters": {"weight": factor}}

    def recipe(self, method: MergeMethod, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A recipe of this scene. A method that needs no base takes the base as one more model beside a single one."""
        models = self.models
        for parameter in method.takes:
            if parameter.kind == "layers":
                parameters = parameters | {parameter.name: str(self.measured("sensitivity.json"))}
            elif parameter.kind == "statistics":
                for entry in models[: 1 if method.base_statistics else None]:
                    owner = self.base if parameter.name == "base_statistics" else Path(entry["model"])
                    place = [method.calibrated, *([] if method.base_statistics else [owner.name])]
                    entry.setdefault("parameters", {})[parameter.name] = str(self.measured(*place))
        base = {"base_model": str(self.base)}
        if not method.needs_base and self.alone:
            models, base = [{"model": str(self.base)}, *models], {}
        return {"merge_method": method.name, **base, "models": models, "parameters": parameters, **more}

    def measured(self, *parts: str) -> Path:
        """A file or folder of the statistics."""
        if self.statistics is None:
            raise UserError(f"the scene {self.name} has no statistics of a calibration.")
        return self.statistics.joinpath(*parts).absolute()

    def takes(self, method: MergeMethod) -> bool:
        """Whether the method can merge this scene's models with what is known of them."""
        least, most = method.models
        count = len(self.finetuned) + (self.alone and not method.needs_base)
        return least <= count <= (most or count) and not (method.reads_files and self.statistics is None)


@dataclass
class Trial:
    """One merge of a scene: what was merged, how far it moved, and which model's records stand for it.

    kind: ``method`` or ``rule``. title: the rival's name in tables.
    setting: ``example``, a method with the parameters of its example, or a rule with its own λ; the others are at equal
    norm: ``equal norm``, the same at that norm; ``ACM``, a method whose task vectors ACM's λ scaled first; ``permuted``
    and ``reversed``, a rule's λ dealt at random, once, and those of its blocks from last to first.
    norm, cosine: against the reference.
    same_as: the earlier model that it equals, whose records are its own; empty: it has records of its own.
    recipe: of the merge, before it is scaled.
    """

    kind: str
    name: str
    title: str
    setting: str
    norm: float = np.nan
    cosine: float = np.nan
    same_as: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its method in the records."""
        return self.same_as or f"{self.title}, {self.setting}"


def differences(base: Path, model: Path) -> Iterator[np.ndarray]:
    """θ − θ_0 in pieces, flat float64, over the rows that both models have. A head that both tie comes once."""
    for tensors in tensors_by_layer(Checkpoint(base), Checkpoint(model)).values():
        for pair in tensors:
            for _, difference in parts(*pair):
                yield difference.ravel()


def moved(base: Path, model: Path) -> float:
    """‖θ − θ_0‖ over all tensors of two model folders."""
    return sum(float(piece @ piece) for piece in differences(base, model)) ** 0.5


def sketch(base: Path, model: Path) -> np.ndarray:
    """A task vector in (SKETCHED,) numbers, float64. Their distances are those of task vectors to a few percent.

    Each entry is added, with a random sign, to one of the numbers at random (count sketch, arXiv:0902.2206).
    """
    found = np.zeros(SKETCHED)
    for place, piece in enumerate(differences(base, model)):
        drawn = np.random.default_rng(place).integers(2 * SKETCHED, size=piece.size, dtype=np.int32)
        found += np.bincount(drawn % SKETCHED, np.where(drawn < SKETCHED, piece, -piece), SKETCHED)
    return found


@contextmanager
def merged(recipe: dict[str, Any], folder: Path) -> Iterator[Path]:
    """The merged model in float32, for the time of the block. Rounding to bfloat16 would move abacus by 2 % of δ."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        yield merge(recipe | {"out_dtype": "float32"}, Path(place) / "merged")


class Judge:
    """Merges and evaluates the trials of one scene. ``records`` has what was evaluated, and what was known before.

    reference: folder of the model at whose norm all are compared.
    """

    def __init__(self, study: Study, scene: Scene, reference: Path) -> None:
        self.study, self.scene, self.reference, self.norm = study, scene, reference, moved(scene.base, reference)
        self.records = [yardstick(Results(study.profile, scene.experiment))]
        self.sketches: dict[str, np.ndarray] = {}
        models = {path.name: path for path in (scene.base, *scene.finetuned.values())}
        for label, path in (models | {scene.reference_name: reference}).items():
            self.sketches[label] = sketch(scene.base, path)
            if label not in set(self.records[0]["method"]):
                self.evaluate(path, label)

    def evaluate(self, model: Path, label: str) -> None:
        """Evaluate a model, and keep its records under a label."""
        found = evaluate_model(model, self.study.profile, self.scene.experiment, self.study.folder, label)
        self.records.append(found[SLIM])

    def judge(self, kind: str, name: str, recipe: dict[str, Any], settings: tuple[str, ...]) -> list[Trial]:
        """A merge as it is, if one of the settings is :data:`USUAL`; and at equal norm, by the name of the other."""
        title = METHODS[name].title if kind == "method" else name
        found = []
        with merged(recipe, self.study.folder) as made:
            size = moved(self.scene.base, made)
            if USUAL in settings:
                found.append(self.trial(Trial(kind, name, title, USUAL, recipe=recipe), made, size))
            if size > SAME * self.norm:
                with merged(self.scene.scaled(made, self.norm / size), self.study.folder) as equal:
                    trial = Trial(kind, name, title, settings[-1], recipe=recipe)
                    found.append(self.trial(trial, equal, self.norm))
        return found

    def trial(self, trial: Trial, made: Path, size: float) -> Trial:
        """The trial, evaluated unless an earlier model of the scene is the same."""
        trial.norm = size / self.norm
        squares = size**2 + self.norm**2 - moved(self.reference, made) ** 2
        trial.cosine = squares / (2 * size * self.norm) if size else np.nan
        own = sketch(self.scene.base, made)
        apart = {label: float(np.linalg.norm(own - other)) for label, other in self.sketches.items()}
        nearest = min(apart, key=apart.__getitem__)
        if apart[nearest] <= SAME * self.norm:
            trial.same_as = nearest
        else:
            self.sketches[trial.label] = own
            self.evaluate(made, trial.label)
        return trial

    def methods(self, names: Iterable[str], acm: Coefficients | None = None) -> list[Trial]:
        """Each method as in its example and at equal norm; with ACM's λ too where there are some and they can count."""
        found: list[Trial] = []
        for name in progress(names, f"{self.scene.name}, methods"):
            method = METHODS[name]
            own = self.judge("method", name, self.scene.recipe(method, dict(method.example)), (USUAL, EQUAL))
            found += own
            weighed = method.takes_coefficients and method.needs_base
            if acm and weighed and not all(trial.same_as for trial in own):
                replaced = method.coefficient.name if method.coefficient else ""
                kept = {key: value for key, value in method.example.items() if key != replaced}
                found += self.judge("method", name, self.scene.recipe(method, kept, coefficients=acm), (WEIGHED,))
        return found

    def rules(self, rules: dict[str, Coefficients]) -> list[Trial]:
        """Task arithmetic by the λ of each rule, and by the same λ permuted and reversed. rules: name → its λ."""
        found: list[Trial] = []
        for name, own in progress(rules.items(), f"{self.scene.name}, rules"):
            for control, settings in (
                ("none", (USUAL, EQUAL)),
                ("permuted", ("permuted",)),
                ("reversed", ("reversed",)),
            ):
                recipe = self.scene.recipe(METHODS["task_arithmetic"], {}, coefficients=controlled(own, control))
                found += self.judge("rule", name, recipe, settings)
        return found


def judge(
    study: Study, scene: Scene, methods: Iterable[str], rules: dict[str, Coefficients], acm: Coefficients | None = None
) -> tuple[list[Trial], pd.DataFrame]:
    """All trials of a scene and the records of its models, known and new.

    methods: names; those that the scene cannot take are left out. rules: name → λ. acm: λ to try with each method.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    with merged(scene.reference, study.folder) as reference:
        court = Judge(study, scene, reference)
        trials = court.methods([name for name in methods if scene.takes(METHODS[name])], acm) + court.rules(rules)
    return trials, pd.concat(court.records, ignore_index=True).assign(scene=scene.name)


def progress(things: Iterable[Any], what: str) -> Iterable[Any]:
    """The things, with a progress bar."""
    return tqdm(list(things), desc=what, unit="rival", mininterval=10)
