"""Reads and checks recipes. A recipe describes a merge in YAML, in mergekit's format plus a few keys of ours.

    merge_method: ties
    base_model: abacus/checkpoints/abacus-fast
    models:
      - model: abacus/checkpoints/abacus-slow
        parameters: {density: 0.2}
    coefficients: coefficients.json      # ACM: replaces `weight`
    out_dtype: bfloat16

A parameter is a number, a list of numbers along the layers, or a list of `{filter, value}`, as in mergekit
(`parameters.py`). Relative paths start from the recipe's folder. Unknown keys are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from acm.checkpoints import exists
from acm.errors import UserError, explain, listed, unknown
from acm.merging.mergekit import plain_form, template_text
from acm.merging.parameters import check_parameters, resolve
from acm.merging.registry import METHODS, MergeMethod
from acm.reading import read_documents

if TYPE_CHECKING:
    from acm.display import Shown

Dtype = Literal["float32", "bfloat16", "float16"]
Number = Annotated[float, Field(strict=True)]


class ModelEntry(BaseModel):
    """One model of a recipe. Its ``parameters`` override the recipe's.

    layer_range: of mergekit's slices, all layers only.
    """

    model_config = ConfigDict(extra="forbid")
    model: str
    parameters: dict[str, Any] = {}
    layer_range: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The folder's name, or that of the hub id."""
        return Path(self.model).name


class Recipe(BaseModel):
    """A validated recipe, in the plain form: `mergekit.py` turns mergekit's other spellings into it.

    chat_template: ``auto``, the most common one of the models, or the text of a template.
    pad_to_multiple_of: the number of rows is one already; else the plan refuses.
    coefficients: λ for each layer, as a coefficients.json, a CSV, a list along the layers, or {model: {layer: λ} or
    list}.
    election: how signs are elected. ``weighted`` (mergekit's order, the default) weighs each vote by λ; ``unweighted``
    (the papers', the default with `coefficients`) does not.
    scope: whether TIES and breadcrumbs trim each ``tensor`` on its own (as mergekit) or all together, ``global`` (as
    the TIES paper).
    compatibility: ``paper`` keeps the base's config, tokenizer, rows and head as they are; docs/merging.md has the
    rules.
    tie_word_embeddings: of the result, where the models disagree.
    seed: of the random masks.
    """

    model_config = ConfigDict(extra="forbid")
    merge_method: str
    base_model: str | None = None
    models: list[ModelEntry] = Field(min_length=1)
    parameters: dict[str, Any] = {}
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None
    pad_to_multiple_of: int | None = Field(None, ge=1)
    coefficients: str | list[Number] | dict[str, dict[str, Number] | list[Number]] | None = None
    election: Literal["weighted", "unweighted"] | None = None
    scope: Literal["tensor", "global"] = "tensor"
    compatibility: Literal["own", "paper"] = "own"
    tie_word_embeddings: bool | None = None
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def plain(cls, content: Any) -> Any:
        """mergekit's spellings in the plain form; ValueError for what mergekit alone can do."""
        return plain_form(content) if isinstance(content, dict) else content

    @field_validator("merge_method")
    @classmethod
    def known_method(cls, name: str) -> str:
        """ValueError for a method that the registry does not have."""
        if name not in METHODS:
            raise ValueError(str(unknown("merge method", name, METHODS)))
        return name

    @field_validator("chat_template")
    @classmethod
    def known_template(cls, text: str | None) -> str | None:
        """The template's text, or ``auto``; ValueError for what is neither."""
        return None if text is None else template_text(text)

    @model_validator(mode="after")
    def coherent(self) -> Recipe:
        """ValueError for parts that are each allowed but do not go together."""
        check_parameters(self.parameters, self.method, "parameters")
        for entry in self.models:
            check_parameters(entry.parameters, self.method, f"the parameters of {entry.model}", own=True)
        named = [entry.model for entry in self.models] + ([] if self.base_model is None else [self.base_model])
        if not all(map(str.strip, named)):
            raise ValueError("a model's name is empty; write its folder or hub id")
        if self.base_model is None and self.method.needs_base:
            raise ValueError(f"{self.merge_method} needs `base_model`")
        if not self.finetuned:
            raise ValueError("`models` names no model besides the base")
        if len(set(self.names)) < len(self.names):
            raise ValueError("`models` lists a model twice; list it once, with the sum of the weights")
        least, most = self.method.models
        if not least <= len(self.finetuned) <= (most or len(self.finetuned)):
            wanted = f"{'exactly' if least == most else 'at least'} {least} model{'s' if least > 1 else ''}"
            raise ValueError(f"{self.merge_method} takes {wanted} besides the base, not {len(self.finetuned)}")
        if self.coefficients is not None and not self.method.takes_coefficients:
            raise ValueError(f"{self.merge_method} has no task vectors; use task_arithmetic with `normalize: true`")
        if self.coefficients is not None and self.base_model is None and self.method.from_zero:
            raise ValueError(f"{self.merge_method} has task vectors for `coefficients` only with `base_model`; name it")
        if self.scope == "global" and not self.method.trims:
            raise ValueError(
                f"`scope: global` is for ties and breadcrumbs; {self.merge_method} ranks no magnitudes over tensors"
            )
        self.check_values()
        return self

    def check_values(self) -> None:
        """ValueError for a required parameter that is missing, or weights that cannot be normalized."""
        for parameter in self.method.takes:
            if parameter is self.method.coefficient and self.coefficients is not None:
                continue
            if not parameter.per_model:
                self.setting(parameter.name)
                continue
            for entry in self.measured if parameter.kind == "statistics" else self.finetuned:
                self.setting(parameter.name, entry)
        flag = self.method.normalizer
        if flag and self.method.needs_sum and self.coefficients is None and self.setting(flag.name):
            weights = [self.setting("weight", entry) for entry in self.finetuned]
            if all(isinstance(w, (int, float)) for w in weights) and abs(sum(weights)) < 1e-8:
                raise ValueError(f"the weights sum to 0, and `{flag.name}` divides by their sum")

    @property
    def method(self) -> MergeMethod:
        """The method's row of the registry."""
        return METHODS[self.merge_method]

    @property
    def finetuned(self) -> list[ModelEntry]:
        """The models to merge, by name, so that their order in the file changes no byte.

        A method that needs no base counts the base in where the recipe lists it. An average does so too where the
        recipe only names it, with the recipe's weight, as mergekit. A method whose task vectors may start at 0 never
        does.
        """
        entries = [entry for entry in self.models if not self.is_base(entry)]
        if self.base_model and not self.method.needs_base and not self.method.from_zero:
            listed = [entry for entry in self.models if self.is_base(entry)]
            named = [ModelEntry(model=self.base_model)] if self.method.average else []
            entries += listed or named
        return sorted(entries, key=lambda entry: (entry.name, entry.model))

    @property
    def names(self) -> list[str]:
        """A name for each of ``finetuned``: its folder's, with as many parents as tell it from the others."""
        paths = [Path(entry.model).parts for entry in self.finetuned]
        found = []
        for own in paths:
            sizes = (n for n in range(1, len(own)) if [other[-n:] for other in paths].count(own[-n:]) == 1)
            found.append(str(Path(*own[-next(sizes, len(own)) :])))
        return found

    @property
    def idle(self) -> list[str]:
        """The parameters that the recipe gives and that change nothing."""
        given = {key for own in (self.parameters, *(entry.parameters for entry in self.models)) for key in own}
        return sorted(given & self.method.idle.keys() - {"int8_mask"})

    @property
    def measured(self) -> list[ModelEntry]:
        """The models whose entries name statistics.

        Statistics of the base alone stand in the first entry, or the recipe.
        """
        return self.finetuned[:1] if self.method.base_statistics else self.finetuned

    @property
    def shown(self) -> Shown:
        """What it sets, as :func:`acm.show` shows it."""
        from acm.merging.described import described  # takes half a second, and a merge needs none of it

        return described(self)

    def _repr_html_(self) -> str:
        return self.shown._repr_html_()

    def _repr_markdown_(self) -> str:
        return self.shown._repr_markdown_()

    def is_base(self, entry: ModelEntry) -> bool:
        """Whether an entry is the base."""
        return self.base_model is not None and Path(entry.model) == Path(self.base_model)

    def setting(self, key: str, entry: ModelEntry | None = None, tensor: str = "", t: float = 0.0) -> Any:
        """The value that holds for a model and tensor: its own, else the recipe's, else the method's default.

        t: place of the tensor's layer, 0 (first) to 1 (last). Without a tensor, the first value that is given.
        UserError where none is.
        """
        for source in (entry.parameters if entry else {}, self.parameters, self.method.defaults):
            value = resolve(source.get(key), tensor, t)
            if value is not None:
                return value
        place = (f" for {entry.model}" if entry else "") + (f" at {tensor}" if tensor else "")
        raise UserError(f"{self.merge_method} needs `{key}`{place}")


def load_recipe(recipe: str | PathLike[str] | Mapping[str, Any] | Recipe) -> tuple[Recipe, Path]:
    """The recipe, validated, and the folder that its relative paths start from (a mapping's: the working directory).

    UserError for a file that cannot be read, and for a recipe that is not valid.
    """
    if isinstance(recipe, Recipe):
        return recipe, Path()
    if isinstance(recipe, Mapping):
        source, folder, content = "the recipe", Path(), dict(recipe)
    else:
        source, folder, content = str(recipe), Path(recipe).parent, read_recipe(Path(recipe))
    try:
        return Recipe.model_validate(content), folder
    except ValidationError as error:
        raise explain(error, source, Recipe) from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The content of a recipe's file; of a file with several recipes, of the one whose name stands after a `#`."""
    file, mark, wanted = str(path).rpartition("#")
    if not mark or exists(path):
        file, mark = str(path), ""
    documents = read_documents(Path(file))
    names = [str(document.get("name", "")) for document in documents]
    if len(set(names)) < len(names):
        raise UserError(f"{file} holds {len(names)} recipes; give each a `name` of its own.")
    if not mark and len(names) > 1:
        called = listed(name or "one without a name" for name in names)
        raise UserError(
            f"{file} holds {len(names)} recipes ({called}), and one runs at a time: give its name, as in "
            f"`{file}#{names[0]}`. What a recipe calls by another's name must lie in that folder beside the file."
        )
    if mark and wanted not in names:
        raise unknown(f"recipe in {file}", wanted, names)
    return documents[names.index(wanted) if mark else 0]
