"""Explorer 2: the live page in a notebook. Two small models are merged in the browser, and answer there.

The browser's code lies in ``web/``. Python hands over the models' files and the recorded numbers. What the reader sets
goes both ways: :attr:`Playground.coefficients` reads it, and set from Python, the dial moves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from abacus import CHECKPOINTS
from acm.errors import UserError, brief, unknown
from acm.paths import CLONE, REPORTS, WEB
from acm.widgets.bundle import bundle

BASE, FINETUNED = "abacus-fast", "abacus-slow"
METHODS = ("interpolation", "task_arithmetic", "ties")  # those that the browser has, see web/core/merge.js
PARTS = {"attention": ("input_layernorm", "self_attn"), "mlp": ("post_attention_layernorm", "mlp")}
SHARED = ("config", "tokenizer")  # what both models have alike
OUTSIDE = {"embed": "embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}  # layer outside the blocks → its tensor
LOWEST, HIGHEST = -0.5, 1.5  # of λ on the page, see web/live/state.js
LONGEST = 400  # characters of a question
FILE = "live.json"


class Playground(anywidget.AnyWidget):
    """A dial for λ, a strip of layers to paint λ on, and the answers of both models and their merge.

    coefficients: λ to start with, as :attr:`coefficients` takes them. method: one of ``METHODS``. density: the share of
    a task vector that TIES keeps, fraction. question: a word problem; None: the page's first.

    >>> from acm.widgets import Playground
    >>> play = Playground(coefficients={"embed": 0.2, "0": 0.9})
    >>> play.coefficients.head(3)
       layer       part  coefficient
    0  embed                     0.2
    1      0  attention          0.9
    2      0        mlp          0.9
    """

    name = "playground"
    _esm = bundle("widgets/playground_widget.js")
    _css = "\n".join((WEB / path).read_text(encoding="utf-8") for path in ("chart/chart.css", "live/playground.css"))
    state = traitlets.Dict().tag(sync=True)
    numbers = traitlets.Dict().tag(sync=True)
    worker = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, coefficients: Any = 0.5, method: str = "interpolation", density: float = 0.2, question: str | None = None
    ) -> None:
        super().__init__(numbers=recorded(), worker=bundle("core/worker.js"))
        self.layers = self.numbers["layers"]
        self.state = {"question": question or "", **self.setting(coefficients, dict.fromkeys(self.layers, 0.5))}
        self.method, self.density = method, density
        self.on_msg(self.hand_over)

    def hand_over(self, _: object, content: dict[str, Any], buffers: list[memoryview]) -> None:
        """Send the models when the page asks for them. As traits, a saved notebook would hold them."""
        if content == {"wanted": "models"}:
            weights = [(CHECKPOINTS / name / "model.safetensors").read_bytes() for name in (BASE, FINETUNED)]
            texts = {name: (CHECKPOINTS / BASE / f"{name}.json").read_text(encoding="utf-8") for name in SHARED}
            shared = {name: json.loads(text) for name, text in texts.items()}
            self.send(shared, weights)

    @property
    def coefficients(self) -> pd.DataFrame:
        """λ as a table: layer, part (attention or mlp in a block, else empty), coefficient (fraction).

        Set it to a number, to a mapping or Series from a layer (``"0"``) or a part (``"0.mlp"``) to λ, which leaves the
        other layers as they are, or to such a table. UserError for a layer that the models lack, and for a λ that is no
        number from -0.5 to 1.5.
        """
        told = self.state["coefficients"]
        rows = [(layer, part, float(told.get(f"{layer}.{part}", told.get(layer)))) for layer, part in self.places()]
        return pd.DataFrame(rows, columns=["layer", "part", "coefficient"])

    @coefficients.setter
    def coefficients(self, value: Any) -> None:
        self.state = self.state | self.setting(value, flat(self.coefficients))

    @property
    def method(self) -> str:
        """The merge method."""
        return str(self.state["method"])

    @method.setter
    def method(self, value: str) -> None:
        if value not in METHODS:
            raise unknown("method of the playground", str(value), METHODS)
        self.state = self.state | {"method": value}

    @property
    def density(self) -> float:
        """The share of a task vector that TIES keeps, fraction."""
        return float(self.state["density"])

    @density.setter
    def density(self, value: float) -> None:
        if not is_number(value) or not 0.05 <= value <= 1:
            raise UserError(f"density must be a number from 0.05 to 1, not {value!r}.")
        self.state = self.state | {"density": float(value)}

    @property
    def question(self) -> str:
        """The problem that the three models answer."""
        return str(self.state["question"])

    @question.setter
    def question(self, value: str) -> None:
        if not isinstance(value, str) or not 0 < len(value.strip()) <= LONGEST:
            raise UserError(f"the question must be a text of at most {LONGEST} characters, not {brief(value)}.")
        self.state = self.state | {"question": value}

    def setting(self, value: Any, before: Mapping[str, float]) -> dict[str, Any]:
        """Mode and coefficients of the page for what :attr:`coefficients` was set to. before: λ so far."""
        if is_number(value):
            return {"mode": "one", "coefficients": dict.fromkeys(self.layers, checked("all layers", value))}
        given = given_by_key(value)
        keys = [f"{layer}.{part}" if part else layer for layer, part in self.places()]
        every = {key: before.get(key, before.get(layer_of(key))) for key in keys}
        for key, number in given.items():
            hit = [name for name in keys if key in (name, layer_of(name))]
            if not hit:
                raise unknown("layer of the models", key, [*self.layers, *keys])
            every |= dict.fromkeys(hit, checked(key, number))
        whole = {layer_of(key): number for key, number in every.items()}
        alike = all(number == whole[layer_of(key)] for key, number in every.items())
        return {"mode": "layer", "coefficients": whole} if alike else {"mode": "part", "coefficients": every}

    def places(self) -> list[tuple[str, str]]:
        """Layers and, in blocks, their parts."""
        return [(layer, part) for layer in self.layers for part in (PARTS if layer.isdecimal() else [""])]

    def recipe(self) -> dict[str, Any]:
        """The recipe of the current setting, as :func:`acm.merge` takes it; its merge is the browser's, bit for bit."""
        content: dict[str, Any] = {
            "merge_method": self.method,
            "base_model": str(CHECKPOINTS / BASE),
            "models": [{"model": str(CHECKPOINTS / FINETUNED)}],
            "parameters": {"density": self.density, "normalize": False} if self.method == "ties" else {},
        }
        told = self.state["coefficients"]
        if self.state["mode"] != "part":
            return content | {"coefficients": {FINETUNED: dict(told)}}
        weights: list[dict[str, Any]] = []
        for key, value in told.items():
            layer, _, part = key.partition(".")
            places = [f"layers.{layer}.{name}" for name in PARTS[part]] if part else [OUTSIDE[layer]]
            weights += [{"filter": place, "value": value} for place in places]
        content["models"][0]["parameters"] = {"weight": weights}
        return content

    def measure(self, items: int = 34) -> pd.DataFrame:
        """What the current merge is worth, by the engine: :func:`acm.widgets.measured.measure`, items of each task."""
        from acm.widgets.measured import measure  # needs lm-eval, which lessons do without

        return measure(self.recipe(), items=items)


def layer_of(key: str) -> str:
    """The layer of a layer or part."""
    return key.split(".")[0]


def checked(key: str, value: Any) -> float:
    """λ as a float; UserError for none, or one outside the dial."""
    if not is_number(value) or not LOWEST <= value <= HIGHEST:
        raise UserError(f"λ of {key} must be a number from {LOWEST} to {HIGHEST}, not {value!r}.")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether it is a number, and no truth value."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))


def given_by_key(value: Any) -> dict[str, Any]:
    """What coefficients were set to, as a mapping from layer or part to λ, the parts after their layers.

    UserError for what is no mapping, Series or table.
    """
    if isinstance(value, pd.DataFrame):
        value = flat(value)
    if not isinstance(value, (Mapping, pd.Series)):
        kind = type(value).__name__
        raise UserError(f"coefficients must be a number, a table, or a mapping or Series from layer to λ, not {kind}.")
    return {str(key): value[key] for key in sorted(value.keys(), key=lambda key: "." in str(key))}


def flat(table: pd.DataFrame) -> dict[str, Any]:
    """A table of coefficients as a mapping from layer or part to λ; UserError for another table."""
    if missing := {"layer", "part", "coefficient"} - set(table.columns):
        raise UserError(f"the table of coefficients lacks the column {min(missing)}.")
    layers, parts = table["layer"].astype(str), table["part"].fillna("").astype(str)  # a CSV file has NaN for ""
    keys = [f"{layer}.{part}".rstrip(".") for layer, part in zip(layers, parts, strict=True)]
    return dict(zip(keys, table["coefficient"].tolist(), strict=True))


def recorded() -> dict[str, Any]:
    """The numbers beside which a merge is set: those of the committed results; the package has a copy of them."""
    folder = REPORTS / "tiny" / "long-to-short" if CLONE else WEB
    found: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return found
