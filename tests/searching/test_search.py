"""A search on the embedded models: the same answers as from folders, the same candidates after a kill."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import recipe
from typer.testing import CliRunner

import acm
from abacus import CHECKPOINTS
from acm.__main__ import app
from acm.errors import UserError
from acm.merging.recipe import Recipe
from acm.merging.tensors import merged_tensors, planned
from acm.profiles import load_profile
from acm.searching.arm import JOURNAL, Arm, wide
from acm.searching.front import chosen
from acm.searching.objective import Objective
from acm.searching.profiled import search_of
from acm.searching.resident import Resident, check_apart
from acm.searching.run import Items, Search

FAST, SLOW = CHECKPOINTS / "abacus-fast", CHECKPOINTS / "abacus-slow"
CONTENT = recipe("task_arithmetic", FAST, SLOW, parameters={"weight": 0.5})
ENGINE = acm.Engine(dtype="float32", device="cpu", batch_size=8)
TASKS = ("abacus_easy", "abacus_medium")
SAME = ["arm", "candidate", "asked", "accuracy", "tokens", "value", "stopped", "weights", "records"]


def search(**changed):
    usual = {"validation": Items(TASKS, 0, 3), "fresh": Items(TASKS, 5, 7), "candidates": 5, "targets": (25.0,),
             "engine": ENGINE, "max_tokens": 32}  # fmt: skip
    return Search(changed.pop("recipe", CONTENT), **usual | changed)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A finished search."""
    out = tmp_path_factory.mktemp("search")
    return out, search().run(out)


def test_a_loaded_model_answers_as_the_folder_does(tmp_path):
    model = Resident(Recipe.model_validate(CONTENT), tmp_path, dict.fromkeys(TASKS, 9), ENGINE, 32)
    model.take(merged_tensors(planned(CONTENT | {"parameters": {"weight": 0.9}})))
    checksum = model.take(merged_tensors(planned(CONTENT)))
    assert checksum == model.take(merged_tensors(planned(CONTENT)))
    own = model.ask({"abacus_easy": [6, 2], "abacus_medium": range(4)})
    folder = acm.evaluate(acm.merge(CONTENT, tmp_path / "merged"), [*TASKS], items=7, max_tokens=32, engine=ENGINE)
    both = own.merge(folder, on=["task", "item"], suffixes=("", "_folder"))
    assert len(both) == len(own) == 6
    for column in ("correct", "length", "truncated"):
        assert (both[column] == both[f"{column}_folder"]).all()


def test_weights_of_another_model_are_refused(tmp_path, f32):
    model = Resident(Recipe.model_validate(CONTENT), tmp_path, dict.fromkeys(TASKS, 9), ENGINE, 32)
    with pytest.raises(UserError, match="none of the loaded"):
        model.take(merged_tensors(planned(recipe("task_arithmetic", *f32[:2], parameters={"weight": 0.5}))))
    with pytest.raises(UserError, match="fewer"):
        model.ask({"abacus_easy": [10**6]})
    with pytest.raises(UserError, match="comes twice"):
        model.ask({"abacus_easy": [1, 1]})


def test_every_candidate_is_a_row_from_which_the_budget_is_recounted(found):
    out, _ = found
    table = pd.read_parquet(out / "candidates.parquet")
    assert table.groupby("arm").size().to_dict() == {"one": 31, "cmaes-25t-0": 5, "random-25t-0": 5}
    for row in table.to_dict("records"):
        records = wide(json.loads(row["records"]))
        means = records.groupby("task")[["correct", "length"]].mean().mean()
        assert len(records) == row["asked"] and row["accuracy"] == pytest.approx(100 * means["correct"])
        assert row["tokens"] == pytest.approx(means["length"]) and (row["asked"] < 6) == row["stopped"]
        if not row["stopped"] and row["arm"] != "one":
            assert row["value"] == pytest.approx(row["accuracy"] - 0.6 * max(0, row["tokens"] - 25))


def test_judged_points_are_recipes_that_give_the_same_weights_and_answers(found, tmp_path):
    out, front = found
    fresh = pd.read_parquet(out / "fresh.parquet")
    assert {"one", "cmaes-25t-0", "random-25t-0"} == set(front["arm"]) and set(fresh["item"]) == {5, 6}
    row = front[front["arm"] == "cmaes-25t-0"].iloc[0]
    name = f"cmaes-25t-0-{row['candidate']}"
    content = yaml.safe_load((out / "recipes" / f"{name}.yml").read_text())
    records = acm.evaluate(acm.merge(content, tmp_path / "best"), [*TASKS], items=7, max_tokens=32, engine=ENGINE)
    both = fresh[fresh["point"] == name].merge(records, on=["task", "item"])
    assert (both["correct_x"] == both["correct_y"]).all() and (both["length_x"] == both["length_y"]).all()
    assert row["optimism"] == pytest.approx(row["accuracy"] - row["fresh_accuracy"])
    by_layer = out / "coefficients" / f"{name}.json"
    plain = {key: CONTENT[key] for key in ("merge_method", "base_model", "models")}
    same, expected = ({tensor.name: tensor.digest for tensor in merged_tensors(planned(one))}
                      for one in (plain | {"coefficients": str(by_layer)}, content))  # fmt: skip
    assert same == expected
    assert set(json.loads((out / "search.json").read_text())["versions"]) >= {"optuna", "cmaes", "torch"}


def test_the_best_of_one_coefficient_at_each_target_is_judged_though_the_front_is_thinned():
    tokens = np.arange(20.0)
    one = pd.DataFrame({"arm": "one", "candidate": range(20), "accuracy": 2 * tokens, "tokens": tokens})
    rows = pd.DataFrame(chosen(one.assign(stopped=False), [Objective(8, 9.0), Objective(11, 9.0), Objective(None)]))
    assert {8, 11} <= set(rows["tokens"]) and rows["tokens"].is_monotonic_increasing
    assert {8, 11}.isdisjoint(row["tokens"] for row in chosen(one.assign(stopped=False), []))
    assert len(rows) == len(chosen(one.assign(stopped=False), [])) + 2


class Killed(Exception):
    pass


def test_a_killed_search_goes_on_as_if_nothing_had_happened(found, tmp_path, monkeypatch):
    tell, count = Arm.tell, iter(range(1000))

    def killed(self, *given):
        if next(count) in (3, 33, 38):
            raise Killed
        tell(self, *given)

    monkeypatch.setattr(Arm, "tell", killed)
    for _ in range(3):
        with pytest.raises(Killed):
            search().run(tmp_path)
    with (tmp_path / "cmaes-25t-0" / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code": 4, "wor')  # what a kill leaves of a line
    search().run(tmp_path)
    tables = [pd.read_parquet(folder / "candidates.parquet")[SAME] for folder in (found[0], tmp_path)]
    pd.testing.assert_frame_equal(*tables)


def test_more_candidates_continue(tmp_path):
    """By a share of the best accuracy as target, which more candidates must not move; fewer cut the table."""
    settings = {"fresh": None, "targets": (0.85,), "max_tokens": 64}
    assert "optimism" not in search(**settings).run(tmp_path)
    for candidates in (7, 2):
        search(**settings, candidates=candidates).run(tmp_path)
        counts = pd.read_parquet(tmp_path / "candidates.parquet").groupby("arm").size()
        assert counts.to_dict() == {"one": 31, "cmaes-85-0": candidates, "random-85-0": candidates}
    with (tmp_path / "one" / JOURNAL).open("r+b") as journal:
        journal.write(b"{{{")
    with pytest.raises(UserError, match=r"journal.log is damaged"):
        search(**settings).run(tmp_path)


def test_another_search_is_refused(tmp_path):
    search(fresh=None, candidates=1).run(tmp_path)
    with pytest.raises(UserError, match=r"another search \(another engine\)"):
        search(fresh=None, max_tokens=16).run(tmp_path)


def test_nsga2_needs_no_target_and_random_searches_beside_it(tmp_path):
    front = search(sampler="nsga2", targets=None, fresh=None).run(tmp_path)
    assert {"one", "nsga2-0", "random-0"} == set(front["arm"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sampler": "cma"}, "sampler"),
        ({"genome": "one"}, "cmaes needs two genes"),
        ({"sampler": "grid"}, "sampler"),
        ({"sampler": "nsga2"}, "leave out the target"),
        ({"candidates": 0}, "candidates"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"price": float("inf")}, "price: is inf"),
        ({"targets": (float("inf"),)}, "is no length"),
        ({"targets": (0.85, 0.85)}, "targets"),
        ({"validation": Items(("abacus_easy",) * 2, 0, 3)}, "tasks"),
        ({"recipe": CONTENT | {"parameters": {"weight": 1.0, "normalize": True}}}, "they change nothing"),
        ({"recipe": CONTENT | {"parameters": {"weight": 1.0, "lambda": 0.5}}}, "would multiply every λ"),
        ({"high": 1e300}, "are no bounds"),
        ({"targets": (-1.0,)}, "is no length"),
        ({"seeds": ()}, "seeds: there are none"),
        ({"price": 0.0}, "price: is 0"),
        ({"fresh": Items(TASKS, 2, 7)}, "are validation items too"),
        ({"recipe": recipe("task_arithmetic", FAST, FAST, parameters={"weight": 1.0})}, "besides the base"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changed, words):
    with pytest.raises(UserError, match=words):
        search(**changed)


def test_the_command_searches_and_names_its_options(tmp_path, monkeypatch):
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(CONTENT))
    words = ["search", str(tmp_path / "recipe.yml"), "--task", "abacus_easy", "--items", "0:2", "--fresh-items", "4:6",
             "--candidates", "2", "--target", "20", "--max-tokens", "16", "--dtype", "float32", "--device", "cpu",
             "--out", str(tmp_path / "out")]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "cmaes-20t-0" in result.stdout and "fresh %" in result.stdout
    for option, value, said in (
        ("--items", "0-2", "--items: '0-2' is no range"), ("--bounds", "a:b", "--bounds: 'a:b' is no pair"),
        ("--also", "density", "--also: '' is no pair"), ("--items", "3:3", "--items: 3:3 are no items"),
        ("--fresh-items", "4:9999", "has 500, and 9999 are asked"),
        ("--fresh-items", "1:3", "are validation items too"),
    ):  # fmt: skip
        result = CliRunner().invoke(app, [*words, option, value])
        assert isinstance(result.exception, UserError) and said in str(result.exception)


def test_two_processes_on_one_arm_propose_different_candidates(tmp_path):
    out = tmp_path / "pair"
    search(fresh=None, validation=Items(TASKS, 0, 1), max_tokens=4, candidates=6).run(out, jobs=4)
    table = pd.read_parquet(out / "candidates.parquet")
    assert table.groupby("arm").size().to_dict() == {"one": 31, "cmaes-25t-0": 6, "random-25t-0": 6}
    assert (table.query("arm == 'cmaes-25t-0'").iloc[0][["embed", "0", "norm"]] == 0.5).all()  # the centre
    table = table[(table["arm"] != "one") & ~((table["arm"] == "cmaes-25t-0") & (table["candidate"] == 0))]
    genes = table[["embed", *map(str, range(6)), "norm", "lm_head"]]
    assert len(set(genes.to_numpy().ravel())) == genes.size


def test_recipes_are_given_from_their_own_folder(tmp_path, monkeypatch):
    """Models that the recipe gives from its own folder are found from the folder of the written recipes."""
    (tmp_path / "mine").mkdir()
    for path in (FAST, SLOW):
        (tmp_path / "mine" / path.name).symlink_to(path)
    content = recipe("task_arithmetic", "abacus-fast", "abacus-slow", parameters={"weight": 0.5})
    (tmp_path / "mine" / "recipe.yml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    few = {"validation": Items(TASKS, 0, 1), "max_tokens": 2, "candidates": 1, "fresh": None}
    front = search(recipe=tmp_path / "mine" / "recipe.yml", **few).run(tmp_path / "out" / "search")
    row = front[front["arm"] == "random-25t-0"].iloc[0]
    monkeypatch.chdir(tmp_path / "mine")
    plan = planned(tmp_path / "out" / "search" / "recipes" / f"random-25t-0-{row['candidate']}.yml")
    again = Resident(Recipe.model_validate(CONTENT), tmp_path, dict.fromkeys(TASKS, 1), ENGINE, 2).take(
        merged_tensors(plan)
    )
    assert again == row["weights"]


def test_a_stopped_judgement_goes_on(tmp_path, monkeypatch):
    judged, ask, count = [], Resident.ask, iter(range(1000))

    def killed(self, rows):
        if min(map(min, rows.values())) == 5:  # the fresh items
            judged.append(rows)
            if next(count) == 1:
                raise Killed
        return ask(self, rows)

    monkeypatch.setattr(Resident, "ask", killed)
    with pytest.raises(Killed):
        search(candidates=2, racing=False).run(tmp_path)
    front = search(candidates=2, racing=False).run(tmp_path)
    assert len(judged) == len(front) + 1  # the one that was stopped comes twice


def test_items_with_one_text_cannot_choose_and_judge(tmp_path, monkeypatch):
    check_apart({"abacus_easy": [1]}, {"abacus_easy": [2]}, None)
    with pytest.raises(UserError, match="item 1 of abacus_easy judges and has the text of item 1 of abacus_easy"):
        check_apart({"abacus_easy": [0, 1]}, {"abacus_easy": [1]}, None)


def test_a_profile_gives_models_tasks_and_engine():
    profile = load_profile("tiny")
    found = search_of(profile, "abacus")
    assert found.goals == [0.75, 0.95] and found.seeds == [0, 1, 2] and found.genome == "layer"
    assert found.validation == Items(tuple(profile.experiments["long-to-short"].tasks), 0, 60)
    assert found.engine == profile.engine and found.max_tokens == 320
    assert profile.searches["abacus"].asked == 2 * 200 * 2 * 3
    assert {model.folders[0].name for model in found.plan.models} == {"abacus-fast", "abacus-slow"}
    with pytest.raises(UserError, match="abacus"):
        search_of(profile, "abacuss")
