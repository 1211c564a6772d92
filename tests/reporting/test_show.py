"""acm.show knows what the public functions return, has their numbers, and lets no name do anything."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from matplotlib import pyplot
from matplotlib.axes import Axes
from widgets.reading import HOSTILE, Reader

import acm
from acm.errors import UserError
from acm.merging.recipe import load_recipe
from acm.paths import REPORTS, ROOT
from acm.reporting.comparison import as_json, compare

HOME = REPORTS / "tiny" / "long-to-short"
TAGS = {"p", "strong", "table", "thead", "tbody", "tr", "td", "th"}
RECIPE = {
    "merge_method": "ties", "base_model": "abacus/checkpoints/abacus-fast", "out_dtype": "bfloat16",
    "models": [{"model": "abacus/checkpoints/abacus-slow", "parameters": {"density": 0.2}}],
    "coefficients": {"abacus-slow": {"embed": 0.5, "0": 0.25}},
}  # fmt: skip


@pytest.fixture(scope="module")
def records():
    return pd.read_parquet(HOME / "records.parquet")


@pytest.fixture(scope="module")
def information():
    return pd.read_parquet(HOME / "mutual_information.parquet")


def coefficients():
    return json.loads((HOME / "coefficients.json").read_text())


def plotted(shown):
    """The axes of the plot, closed."""
    axes = shown.plot()
    assert isinstance(axes, Axes)
    pyplot.close(axes.figure)
    return axes


def test_records_have_the_numbers_of_the_reports_table(records):
    found = acm.show(records)
    table = pd.read_csv(HOME / "tables" / "main.csv").query("task == 'average'").set_index("method")
    assert found.title == "23 methods on abacus_easy, abacus_medium, abacus_hard" and "95 % intervals" in found.caption
    assert [*found.table.index] == [*table.index]
    for method, row in found.table.iterrows():
        own = table.loc[method]
        accuracy = f"{own['accuracy']:.1f} [{own['accuracy_low']:.1f}, {own['accuracy_high']:.1f}]"
        assert (row["n"], row["accuracy, %"]) == (str(own["n"]), accuracy)
        assert row["length, tokens"].startswith(f"{own['length']:.1f} [")
    axes = plotted(found)
    assert axes.get_xlabel() == "length, tokens" and axes.get_ylabel() == "accuracy, %"


def test_records_of_one_method_have_a_row_for_each_task(records):
    own = records[records["method"] == "ACM-TA"]
    assert [*acm.show(own).table.index] == ["abacus_easy", "abacus_medium", "abacus_hard", "average"]
    assert [*acm.show(own[own["task"] == "abacus_easy"]).table.index] == ["abacus_easy"]
    assert [text.get_text() for text in plotted(acm.show(own)).texts][-1] == "average"


def test_mutual_information_has_a_column_for_each_control(information):
    found = acm.show(information)
    rows = information.query("layer == 'embed' and control == 'none'")
    assert found.table.loc["embed", "real pair"] == f"{rows['value'].mean():.3f}"
    assert "n = 100 calibration texts, nats per entry" in found.caption
    drawn = plotted(found).lines[0].get_ydata()
    assert drawn[0] == pytest.approx(rows["value"].mean()) and len(drawn) == 9
    two = pd.concat([information, information.assign(estimator="cka", value=0.5)])
    assert acm.show(two).table.equals(found.table)
    other = acm.show(two, estimator="cka")
    assert set(other.table["real pair"]) == {"0.500"} and "similarity, by cka" in other.caption
    with pytest.raises(UserError, match="no estimator 'none'; it has plug-in, cka"):
        acm.show(two, estimator="none")
    pair = pd.concat([information, information.assign(finetuned="other")])
    assert "other embed" in acm.show(pair).table.index and "abacus-slow and other" not in acm.show(pair).title


def test_all_forms_of_coefficients_are_one(information):
    held = coefficients()
    layers = held["coefficients"]["abacus-slow"]
    texts = [f"{value:.3f}" for value in layers.values()]
    long = pd.DataFrame([{"finetuned": "abacus-slow", "layer": k, "coefficient": v} for k, v in layers.items()])
    for x in (held, held["coefficients"], long, pd.DataFrame(held["coefficients"])):
        found = acm.show(x)
        assert [*found.table["abacus-slow"]] == texts and [*found.table.index] == [*layers]
        assert found.title == "Coefficients λ of abacus-slow, from 0.510 to 0.550"
        assert list(plotted(found).lines[0].get_ydata()) == [*layers.values()]
    assert acm.show(held).caption.endswith("t 0.7, shift layer, estimator plug-in, control none.")
    assert [*acm.show(np.array([*layers.values()])).table["λ"]] == texts
    parts = pd.DataFrame(
        {"layer": ["embed", "0", "0"], "part": ["", "attention", "mlp"], "coefficient": [0.5, 0.2, 0.4]}
    )
    assert [*acm.show(parts).table.index] == ["embed", "0.attention", "0.mlp"]
    two = acm.show(pd.DataFrame({("a", "none"): layers, ("a", "gaussian"): layers}))
    assert [*two.table.columns] == ["a: none", "a: gaussian"]
    assert [text.get_text() for text in plotted(two).get_legend().get_texts()] == ["a: none", "a: gaussian"]


def test_parts_of_a_layer_are_no_layers(tmp_path):
    """Also from a CSV file, which has no empty text."""
    whole = pd.DataFrame({"layer": ["embed", "norm", "lm_head"], "part": "", "coefficient": [0.5, 0.25, 1.0]})
    blocks = [{"layer": str(i), "part": part, "coefficient": 0.5} for i in range(6) for part in ("attention", "mlp")]
    parts = pd.concat([whole, pd.DataFrame(blocks)])
    parts.to_csv(tmp_path / "parts.csv", index=False)
    for table in (parts, pd.read_csv(tmp_path / "parts.csv")):
        found = acm.show(table)
        assert found.title == "Coefficients λ of 9 layers, from 0.250 to 1.000"
        assert [*found.table.index] == [*whole["layer"], *(f"{row['layer']}.{row['part']}" for row in blocks)]
    assert acm.show({"λ": {"vision.0": 0.5, "vision.1": 0.5}}).title.startswith("Coefficients λ of 2 layers")


@pytest.mark.parametrize("x, says", [
    (pd.read_csv(REPORTS / "paper-numbers" / "figure4_coefficients_7b.csv"), "for layer lm_head; show those of one t"),
    (pd.DataFrame({"finetuned": "m", "layer": [0, 0], "coefficient": [0.1, 0.9]}), "for layer 0 of m;"),
    (pd.DataFrame({"a": [0.1, 0.9]}, index=["embed", "embed"]), "for layer embed of a;"),
    (pd.DataFrame([[0.1, 0.9]], index=["embed"], columns=["a", "a"]), "for layer embed of a;"),
    ({"a": {0: 0.1, "0": 0.9}}, "for layer 0 of a;"),
])  # fmt: skip
def test_no_coefficient_hides_another(x, says):
    with pytest.raises(UserError, match=f"several λ {says}"):
        acm.show(x)


def test_comparisons_have_their_finding_and_differences(records):
    table = compare(records, "TA", ["ACM-TA"])
    found = acm.show(table)
    assert found.title == "ACM-TA against TA: no difference of accuracy shown, shorter."
    assert found.table.loc["length, average", "difference"] == "-17.2 [-17.9, -16.5]"
    assert not found.table.index.str.startswith("truncated").any()  # in which no item differs
    assert str(acm.show(json.loads(json.dumps(as_json(table, ["TA", "ACM-TA"], []))))) == str(found)
    points = plotted(found).lines[1].get_xdata()
    assert [*points] == [*table.query("measure == 'accuracy'")["difference"][::-1]]
    two = acm.show(compare(records, "TA", ["ACM-TA", "Null-TA"]))
    assert [*two.table.index][::2] == ["ACM-TA: accuracy %, average", "Null-TA: accuracy %, average"]


def test_a_recipe_shows_itself():
    recipe, _ = load_recipe(RECIPE)
    found = acm.show(recipe)
    assert recipe._repr_html_() == found._repr_html_() and recipe._repr_markdown_() == found._repr_markdown_()
    assert str(acm.show(RECIPE)) == str(found)
    assert found.title == "TIES: abacus-slow into abacus-fast"
    assert dict(found.table["value"]) == {
        "method": "TIES (ties)", "base": RECIPE["base_model"], "out_dtype": "bfloat16",
        "model": "abacus/checkpoints/abacus-slow: density 0.2", "coefficients": "by layer, of abacus-slow",
    }  # fmt: skip
    assert list(plotted(found).lines[0].get_ydata()) == [0.5, 0.25]


@pytest.mark.parametrize("change, key, text", [
    ({"parameters": {"weight": [0.1, 0.9]}, "coefficients": None}, "weight", "0.1, 0.9 along the layers"),
    ({"parameters": {"weight": [{"filter": "mlp", "value": 0.3}, {"value": 0.5}]}, "coefficients": None}, "weight",
     "0.3 where mlp; 0.5 where else"),
    ({"coefficients": "coefficients.json"}, "coefficients", "coefficients.json"),
    ({"coefficients": [0.1, 0.2]}, "coefficients", "0.1, 0.2 along the layers"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings", "false"),
])  # fmt: skip
def test_what_a_recipe_sets_is_told(change, key, text):
    found = acm.show({name: value for name, value in (RECIPE | change).items() if value is not None})
    assert found.table.loc[key, "value"] == text
    if "filter" in str(change) or ".json" in str(change):
        with pytest.raises(UserError, match="there is nothing to plot"):
            found.plot()
    else:
        plotted(found)


@pytest.mark.parametrize("x, says", [
    (3, "not a int"), (None, "not a NoneType"), ("a.parquet", "not a str"), ([0.5], "not a list"),
    (np.zeros((2, 2)), r"not an array of shape \(2, 2\) and type float64"), (np.array([1, 2]), "and type int64"),
    (np.array([]), "not an array"), (pd.DataFrame({"a": [1]}), "with the columns a"), ({"a": 1}, "with the keys a"),
    ({}, "with the keys none"), ({"coefficients": {"m": {"0": "x"}}}, "with the keys coefficients"),
    ({"coefficients": {"m": {}}}, "with the keys"), (pd.DataFrame({"a": [0.5]}, index=["x"]), "with the columns a"),
    (pd.DataFrame({"a": ["x"]}, index=["embed"]), "with the columns a"), (pd.DataFrame(), "has no rows"),
])  # fmt: skip
def test_what_it_cannot_show_is_said_with_what_it_can(x, says):
    with pytest.raises(UserError, match=says) as error:
        acm.show(x)
    assert "a recipe, a table of mutual information (acm.calibrate), coefficients" in str(error.value)


def test_tables_that_say_nothing_are_refused(records):
    with pytest.raises(UserError, match="hold no finite number"):
        acm.show(np.array([np.nan]))
    with pytest.raises(UserError, match="of several experiments"):
        acm.show(pd.concat([records, records.assign(experiment="other")]))
    part = records[(records["method"] != "TA") | (records["item"] > 3)]
    with pytest.raises(UserError, match="not every method has every item"):
        acm.show(part)
    with pytest.raises(UserError, match="merge_method"):
        acm.show({"merge_method": "none"})


def test_a_method_is_one_model(records):
    own = records[records["method"] == "TA"]
    other = json.dumps(json.loads(own["setting"].iloc[0]) | {"model": "0" * 16})
    with pytest.raises(UserError, match=r"method 'TA' has several responses to item 0 of abacus_easy in repeat 0; .*"):
        acm.show(pd.concat([own, own.assign(correct=0.0)]))
    half = own["item"] < 9
    for change in ({"model": own["model"].where(half, "b")}, {"setting": own["setting"].where(half, other)}):
        with pytest.raises(UserError, match=r"'TA' is of several models \(.*, .*\); .* labels={\"method\": …}"):
            acm.show(own.assign(**change))
    assert acm.show(own.drop(columns=["model", "setting"])).title == acm.show(own).title


def test_values_that_cannot_be_are_said_in_a_sentence(records, information):
    compared = compare(records, "TA", ["ACM-TA"])
    told = as_json(compared, ["TA", "ACM-TA"], [])
    for absent in ("only_first", "difference_low"):
        with pytest.raises(UserError, match="with the columns against"):
            acm.show(compared.drop(columns=absent))
        rows = [{name: value for name, value in row.items() if name != absent} for row in told["rows"]]
        with pytest.raises(UserError, match="with the keys first"):
            acm.show(told | {"rows": rows})
    for x, says in (
        ({"first": 1, "others": 2, "rows": 5}, "with the keys first, others, rows"),
        (told | {"rows": [row | {"p_adjusted": "x"} for row in told["rows"]]}, "'p_adjusted' must hold numbers"),
        (compared.assign(measure="speed"), "unknown measure 'speed'"),
        (information.assign(value="x"), "'value' must hold numbers"),
        (records.assign(correct="x"), "'correct' must hold numbers"),
        (records.assign(method=None), r"records lack method .* records.dropna\(subset="),
        (np.array([1.0, np.inf]), "hold an infinite number"),
    ):
        with pytest.raises(UserError, match=says):
            acm.show(x)


def hostile(records, information):
    """Each kind with names of strangers."""
    held = {"coefficients": {HOSTILE: {HOSTILE: 0.5, "0": 0.1}, "b": {"0": 0.2}}, "t": HOSTILE}
    yield held
    name = HOSTILE.replace("\ud800", "")  # which tables of pandas do not hold
    own = records[records["method"].isin(["TA", "ACM-TA"])]
    own = own.assign(method=own["method"].replace("TA", name), task=own["task"].replace("abacus_easy", f"e {name}"))
    yield own
    yield own[own["method"] == name]
    yield compare(own, "ACM-TA", [name])
    yield information.replace({"finetuned": {"abacus-slow": name}, "control": {"none": name}})
    yield RECIPE | {"models": [{"model": name}], "coefficients": {name: {name: 0.5}}, "parameters": {"density": 0.5}}


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_names_stay_text(records, information):
    for x in hostile(records, information):
        found = acm.show(x)
        made, written = found._repr_html_(), found._repr_markdown_()
        assert {*Reader(made).tags} <= {"style", *TAGS, "div", "img", "span"}
        assert made.count("<style>") == made.count("<img") == 1
        assert {*Reader(made).attributes} <= {"class", "tabindex", "role", "aria-label", "scope", "alt", "src"}
        assert {*Reader(MarkdownIt("commonmark", {"html": True}).enable("table").render(written)).tags} <= TAGS
        for text in (made, written, str(found)):
            text.encode("utf-8")
            assert not any(character in text for character in "\x1b\x00\u202e\u200b\ud800")
        widths = {line.replace(r"\|", "").count("|") for line in written.splitlines() if line[:1] == "|"}
        assert len(widths) == 1


WITHOUT = """
import sys
absent = ("matplotlib", "seaborn", "tabulate", "jinja2", "lm_eval", "optuna", "cmaes", "ipywidgets", "IPython")
sys.modules.update(dict.fromkeys(absent))
import numpy as np, acm, pandas as pd
from acm.errors import UserError
shown = acm.show(np.array([0.5, 0.25]))
assert "0.250" in shown._repr_html_() and "<img" not in shown._repr_html_() and "0.250" in shown._repr_markdown_()
print(acm.show(pd.read_parquet("reports/tiny/long-to-short/records.parquet")))
try:
    shown.plot()
except UserError as error:
    assert 'pip install "acm-companion[notebooks]"' in str(error)
else:
    raise AssertionError
"""


def test_the_core_shows_all_but_plots():
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ACM-TA" in done.stdout
