"""The merge playground: its merges are the engine's, its answers the evaluation's; its controls."""

import re
import time

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from widgets.reading import HERE, Reader

import acm
from acm.errors import UserError
from acm.widgets import playground
from acm.widgets.merge_playground import MergePlayground
from acm.widgets.playground_recipe import parameter


def test_merges_are_the_engines(trio, tmp_path):
    chosen = [
        ("task_arithmetic", {"lambda": 0.9}),
        ("ties", {"density": 0.3}),
        ("slerp", {}),
        ("dare_linear", {"density": 0.5}),
    ]
    for name, parameters in chosen:
        choice = playground.Choice(
            name, dict(zip(trio.layers, np.linspace(0.1, 0.9, 9).tolist(), strict=True)), parameters, 3
        )
        trio.merge(choice)
        folder = acm.merge(yaml.safe_load(trio.export(choice)), tmp_path / name)
        expected = load_file(folder / "model.safetensors")
        found = trio.models["merge"].state_dict()
        assert all(torch.equal(found[key], tensor.float()) for key, tensor in expected.items()), name
    assert trio.layers == ["embed", *"012345", "norm", "lm_head"]


def test_every_offered_method_merges_at_its_defaults(trio):
    assert {"task_arithmetic", "ties", "dare_ties", "della", "twin", "slerp"} <= set(playground.offered_methods())
    for method in set(playground.offered_methods()) - {"della", "della_linear"}:
        trio.merge(playground.Choice(method, dict.fromkeys(trio.layers, 0.5), playground.parameters_of(method)))
    trio.merge(
        playground.Choice(
            "della", dict.fromkeys(trio.layers, 0.5), playground.parameters_of("della") | {"density": 0.5}
        )
    )


def test_parameters_start_at_numbers_and_whole_numbers_take_whole_steps():
    assert playground.parameters_of("lines") == {"alpha": 0.4, "beta": 0.6}
    assert playground.parameters_of("consensus")["agreement"] == 2
    assert [parameter("key", value, (0.0, 9.0)).step for value in (2, 2.0)] == [1, 0.01]


def test_export_to_mergekit_refuses_by_name(trio):
    choice = playground.Choice("task_arithmetic", dict.fromkeys(trio.layers, 0.5))
    content = yaml.safe_load(trio.export(choice, "mergekit"))
    assert (
        content["merge_method"] == "task_arithmetic"
        and content["models"][0]["parameters"]["weight"][-1]["value"] == [0.5] * 6
    )
    with pytest.raises(UserError, match="dare_linear"):
        trio.export(playground.Choice("dare_linear", choice.coefficients, {"density": 0.5}), "mergekit")


def test_answers_are_those_of_the_evaluation(trio, results):
    """The committed records hold what the evaluation got from these models and items."""
    items = playground.benchmark_items(9)
    assert items["task"].value_counts().eq(3).all() and items["item"].max() == 2
    for name in ("abacus-fast", "abacus-slow"):
        trio.models["merge"].load_state_dict(trio.models[name].state_dict())
        found = trio.evaluate(items, lambda done: None)
        expected = items[["task", "item"]].merge(results.records.query("method == @name"), on=["task", "item"])
        for column in ("response", "length", "truncated", "answer", "correct", "reflections"):
            assert found[column].tolist() == expected[column].tolist(), column


def test_grading_is_the_evaluations(results):
    for row in results.records.groupby(["task", "correct", "truncated"]).head(40).to_dict("records"):
        item = {key: row[key] for key in ("task", "item", "gold")}
        found = playground.graded(item, playground.Answer(row["response"], row["length"], row["truncated"]))
        assert (found["correct"], found["answer"]) == (row["correct"], row["answer"])


def test_prompts_are_checked(trio):
    assert playground.as_prompt("  tom has 3\n eggs. ") == "question: tom has 3 eggs. answer:"
    assert playground.as_prompt("question: x answer:") == "question: x answer:"
    for text, words in (("  ", "type a problem"), ("x" * 2000, "2000 characters")):
        with pytest.raises(UserError, match=words):
            playground.as_prompt(text)
    with pytest.raises(UserError, match="room"):
        trio.ask("abacus-fast", "question: " + "7 " * 700 + "answer:")
    problem = playground.draw_problem(4, 5)
    assert (
        len(problem.steps) == 4 and playground.problems.held_out(problem) and problem == playground.draw_problem(4, 5)
    )


def test_too_large_models_are_refused(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(playground, "LARGEST", 10)
    folder = make_model(tmp_path / "model")
    with pytest.raises(UserError, match="at most"):
        playground.Trio(folder, folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A playground on few items that the tests below use one after the other."""
    explorer = MergePlayground(*HERE, items=6, saved=tmp_path_factory.mktemp("saved"))
    assert not explorer.message.value or "merged in" in explorer.message.value, explorer.message.value
    explorer.worker.wait()
    return explorer


def test_sliders_merge_and_ask(shared):
    assert Reader(shared.answers.value).tags.count("section") == 3 and "✓ right" in shared.answers.value, (
        "a drawn problem is graded"
    )
    shared.controls.every.value = 0.0
    assert shared.worker.wait(60) and {control.value for control in shared.controls.layers.values()} == {0.0}
    texts = re.findall('<div class="acm-text[^>]*>([^<]*)', shared.answers.value)
    assert texts[2] == texts[0] != texts[1], "a merge with λ = 0 answers as the base"
    shared.controls.every.value = 1.0
    assert shared.worker.wait(60)
    assert (
        "merged in" in shared.message.value
        and re.findall(r"(\d+) tokens", shared.answers.value)[1:]
        == [re.findall(r"(\d+) tokens", shared.answers.value)[1]] * 2
    )


def test_measure_undo_compare_and_export(shared):
    shared.measure_button.click()
    assert shared.worker.wait(120) and "merge 1" in shared.picture.points and shared.progress.value == 6
    assert (
        "task_arithmetic, λ 1" in shared.picture.points["merge 1"].tooltip
        and "n = 6" in shared.picture.points["merge 1"].tooltip
    )
    assert shared.other.value == "TA" and "accuracy less TA&#x27;s, points" in shared.table.value
    shared.other.value = "abacus-slow"
    assert "+0.0 (all items alike)" in shared.table.value, "λ = 1 is the fine-tuned model"
    assert not re.search(r"\[(\S+), \1\]", shared.table.value), "no interval has zero width"
    first = shared.current
    shared.controls.method.value = "ties"
    shared.controls.parameters["density"].value = 0.2
    shared.controls.layers["3"].value = 0.25
    shared.worker.wait()
    assert shared.current.parameters["density"] == 0.2 and shared.current.coefficients["3"] == 0.25
    shared.controls.undo_button.click()
    assert shared.controls.layers["3"].value == 1.0 and shared.controls.parameters["density"].value == 0.2
    shared.picture.points["merge 1"].click()
    shared.worker.wait()
    assert shared.current == first and shared.controls.method.value == "task_arithmetic" and shared.merged == first
    shared.other.value = "merge 1"
    assert "merge 1" in shared.table.value and "less" not in shared.table.value, "nothing is compared with itself"
    shared.style_of_recipe.value = "mergekit"
    assert yaml.safe_load(shared.recipe.value)["merge_method"] == "task_arithmetic"
    shared.save_button.click()
    assert [p.name for p in shared.saved.iterdir()] == ["recipe-1.yml"] and "recipe-1.yml" in shared.message.value
    shared.controls.method.value = "dare_ties"
    assert "mergekit cannot" in shared.message.value and shared.save_button.disabled and shared.recipe.value == ""
    shared.style_of_recipe.value = "ours"
    assert yaml.safe_load(shared.recipe.value)["coefficients"]["abacus-slow"]["3"] == 1.0 and shared.worker.wait(60)


def test_the_presets_are_the_committed_coefficients(shared, results):
    shared.controls.preset_buttons["gaussian"].click()
    shared.worker.wait()
    assert shared.current.coefficients == results.coefficients["gaussian"]["abacus-slow"]


def test_errors_and_stops_of_the_thread_show(shared, monkeypatch):
    shared.problem.value = " "
    assert shared.worker.wait(60) and "type a problem" in shared.message.value
    shared.problem.value = "tom has 3 eggs. he buys 2 more. how many eggs are left?"
    assert shared.worker.wait(60) and "type a problem" not in shared.message.value
    shared.problem.value = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    assert (
        shared.worker.wait(60)
        and not {"script", "img"} & set(Reader(shared.answers.value).tags)
        and "merged" not in shared.message.value
    )
    assert Reader(shared.answers.value).tags.count("section") == 3
    points = set(shared.picture.points)

    def evaluate(items, report, stop):
        report(2)
        while not stop():
            time.sleep(0.01)
        raise playground.Stopped

    monkeypatch.setattr(shared.trio, "evaluate", evaluate)
    shared.measure_button.click()
    assert any(shared.progress.value == 2 or time.sleep(0.02) for _ in range(2000))
    assert not shared.stop_button.disabled, "measuring does not block"
    shared.stop_button.click()
    assert (
        shared.worker.wait(60)
        and "Stopped after 2 of 6" in shared.message.value
        and set(shared.picture.points) == points
    )
    monkeypatch.setattr(shared.trio, "evaluate", lambda *_: 1 / 0)
    shared.measure_button.click()
    assert shared.worker.wait(60) and "ZeroDivisionError" in shared.message.value and shared.stop_button.disabled


def test_generation_ends_when_it_is_stopped(trio):
    with pytest.raises(playground.Stopped):
        trio.generate("abacus-slow", ["question: tom has 3 eggs. answer:"], lambda: True)
