"""`acm submit`: a folder becomes an entry, a row and the text of a pull request, or nothing at all."""

import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from acm.__main__ import app
from acm.errors import UserError
from acm.sharing import untrusted
from acm.sharing.submit import slug, submit

LONG, FAST, SLOW, HALF = "long-to-short", "abacus-fast", "abacus-slow", "frontier-0.5"


def bar_at(means, length):
    """The bar at a length: points by length, without those that a shorter one beats."""
    points, kept = sorted(zip(means["length"], means["correct"], strict=True)), []
    for x, y in points:
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return float(np.interp(length, *zip(*kept, strict=True)))


def test_a_folder_becomes_an_entry_with_its_row(profile, folder, records, tmp_path):
    out = tmp_path / "community"
    said = submit(folder(), profile, LONG, "mine", out)
    place = out / f"{FAST}+{SLOW}" / "mine"
    row, found = json.loads((place / "row.json").read_text()), records(FAST, SLOW, HALF, "ACM-TA")
    assert {p.name for p in place.iterdir()} == {
        "submission.yml", "recipe.yml", "coefficients.json", "profile.json", "records.parquet", "row.json",
        "figure.png",
    }  # fmt: skip
    means = found.groupby(["method", "task"])[["correct", "length"]].mean().groupby("method").mean()
    own = means.loc["ACM-TA"]
    assert row["accuracy"]["value"] == pytest.approx(100 * own["correct"], abs=1e-3)
    assert row["length"]["value"] == pytest.approx(own["length"], abs=1e-3)
    above = 100 * (own["correct"] - bar_at(means.loc[[FAST, HALF, SLOW]], own["length"]))
    assert row["bar"]["value"] == pytest.approx(above, abs=1e-3) and row["verdict"] == "above"
    assert row["truncated"]["value"] == 0 and row["n"] == {"abacus_easy": 4, "abacus_medium": 4}
    assert row["profile_hash"] == profile.hash and row["provenance"]["source"] and row["pair"] == f"{FAST}+{SLOW}"
    assert len(pd.read_parquet(place / "records.parquet")) == len(found)
    text = (out / f"{FAST}+{SLOW}-mine.md").read_text()
    assert text.startswith(f"# Records: ACM-TA of {FAST}+{SLOW}, by A. Tester\n") and "- [ ] The records are" in text
    for name in (place, out / f"{FAST}+{SLOW}-mine.md"):
        assert f"wrote {name}" in said
    assert "above" in said and "git add" not in said  # nothing lies there


def test_the_commands_of_a_pull_request_are_those_of_the_repositorys_own_folder(profile, folder, tmp_path, monkeypatch):
    for module in ("submit", "community"):
        monkeypatch.setattr(f"acm.sharing.{module}.COMMUNITY", tmp_path / "community")
    said = submit(folder(), profile, LONG, "mine")
    assert "git add reports/community" in said and "gh pr create" in said


def test_a_dry_run_and_a_second_entry_of_the_name_write_nothing(profile, folder, tmp_path, written):
    assert "nothing was written" in submit(folder(), profile, LONG, out=tmp_path / "community", dry_run=True)
    assert written() == []
    submit(folder(), profile, LONG, "mine", tmp_path / "community")
    before = {path: path.stat().st_mtime_ns for path in written()}
    with pytest.raises(UserError, match="exists already; remove it, or give another name by --name"):
        submit(folder(), profile, LONG, "mine", tmp_path / "community")
    assert {path: path.stat().st_mtime_ns for path in written()} == before


@pytest.mark.parametrize("methods, why", [
    (["ACM-TA"], "No frontier in the folder, and none among the committed records of this profile."),
    ([FAST, SLOW, "ACM-TA"], f"The frontier lacks {HALF}."),
])  # fmt: skip
def test_without_a_frontier_there_is_a_row_and_no_verdict(profile, folder, tmp_path, methods, why):
    said = submit(folder(*methods), profile, LONG, "mine", tmp_path / "community")
    row = json.loads((tmp_path / "community" / f"{FAST}+{SLOW}" / "mine" / "row.json").read_text())
    assert f"No verdict. {why}" in said
    assert row["verdict"] == "none" and row["bar"] is None and row["why_no_verdict"] == why
    assert row["accuracy"]["value"] == 100


def test_the_frontier_may_be_the_committed_one(profile, folder, records, tmp_path, monkeypatch):
    monkeypatch.setattr("acm.sharing.committed.repository_hash", lambda name: profile.hash)
    committed = tmp_path / "reports" / "mine" / LONG / "records.parquet"
    committed.parent.mkdir(parents=True)
    records(FAST, SLOW, HALF, "TA").to_parquet(committed, index=False)
    submit(folder("ACM-TA"), profile, LONG, "mine", tmp_path / "community")
    place = tmp_path / "community" / f"{FAST}+{SLOW}" / "mine"
    row = json.loads((place / "row.json").read_text())
    assert row["verdict"] == "above" and set(row["borrowed"]) == {FAST, SLOW, HALF}
    assert set(pd.read_parquet(place / "records.parquet")["method"]) == {FAST, SLOW, HALF, "ACM-TA"}
    (committed.parent.parent / "manifest.json").write_text(json.dumps({"profile_hash": "0" * 16}))
    assert "No frontier" in submit(folder("ACM-TA"), profile, LONG, "other", tmp_path / "community")


def test_a_method_of_ones_own_needs_its_recipe(profile, folder, tmp_path):
    place = folder(FAST, SLOW, HALF, "mine-2", method="mine-2")
    with pytest.raises(UserError, match=r"unknown method of the profile \(any other needs a recipe.yml\) 'mine-2'"):
        submit(place, profile, LONG, "a", tmp_path / "community")
    recipe = {"merge_method": "ties", "base_model": f"/x/{FAST}", "models": [{"model": f"/y/{SLOW}"}],
              "parameters": {"weight": 0.5, "density": 0.2}}  # fmt: skip
    (place / "recipe.yml").write_text(yaml.safe_dump(recipe))
    submit(place, profile, LONG, "a", tmp_path / "community")
    kept = yaml.safe_load((tmp_path / "community" / f"{FAST}+{SLOW}" / "a" / "recipe.yml").read_text())
    assert kept["base_model"] == FAST and kept["models"] == [{"model": SLOW}]  # no path of this machine
    (place / "recipe.yml").write_text(yaml.safe_dump(recipe | {"base_model": "/x/other"}))
    with pytest.raises(UserError, match="merges /x/other, which is none of"):
        submit(place, profile, LONG, "b", tmp_path / "community")


def test_a_recipe_that_is_not_the_profiles_is_refused(profile, folder, tmp_path):
    place = folder()
    recipe = {"merge_method": "task_arithmetic", "base_model": FAST, "models": [{"model": SLOW}],
              "coefficients": "elsewhere/coefficients.json"}  # fmt: skip
    (place / "recipe.yml").write_text(yaml.safe_dump(recipe))
    assert submit(place, profile, LONG, dry_run=True)
    (place / "recipe.yml").write_text(yaml.safe_dump(recipe | {"parameters": {"lambda": 2.0}}))
    with pytest.raises(UserError, match="is not the profile's ACM-TA"):
        submit(place, profile, LONG, dry_run=True)


@pytest.mark.parametrize("stated, words", [
    ({"who": None}, "who: is missing"),
    ({"who": "a\nb"}, "who: must be one line of text"),
    ({"who": " "}, "who: must be one line of text"),
    ({"who": "a" * 101}, "who"),
    ({"licence": "all rights reserved"}, "licence"),
    ({"weights": "javascript:alert(1)"}, "weights: must be an https:// address"),
    ({"weights": "https://x.y/a)(b"}, "weights: must be an https:// address"),
    ({"hours": 0}, "hours"),
    ({"accuracy": 99}, "accuracy: unknown key"),
    ({"method": "../x"}, "method: must be of letters"),
    ({"method": HALF}, "is a parent or a point of the frontier"),
    ({"method": "TA"}, "holds no records of TA"),
])  # fmt: skip
def test_what_it_states_is_checked(profile, folder, tmp_path, written, stated, words):
    with pytest.raises(UserError) as error:
        submit(folder(**stated), profile, LONG, "mine", tmp_path / "community")
    assert words in str(error.value) and written() == []


@pytest.mark.parametrize("columns, words", [
    ({"correct": 1.0}, "state other than their own text says: correct of"),
    ({"length": 3}, "state other than their own text says: length of"),
    ({"truncated": True}, "truncated of"),
    ({"gold": "7"}, "the reference answer of item 0"),
    ({"profile": "other"}, "of profile other, not mine"),
    ({"setting": json.dumps({"seed": float("nan")})}, "a setting that is no readable JSON"),
    ({"item": 0}, "comes twice"),
])  # fmt: skip
def test_records_are_held_against_their_own_text(profile, folder, records, tmp_path, written, columns, words):
    place = folder()
    records(FAST, SLOW, HALF, "ACM-TA", **columns).to_parquet(place / "records.parquet", index=False)
    with pytest.raises(UserError) as error:
        submit(place, profile, LONG, "mine", tmp_path / "community")
    assert words in str(error.value) and written() == []


def linked(path):
    path.rename(path.with_name("away"))
    path.symlink_to("away")


@pytest.mark.parametrize("name", ["records.parquet", "submission.yml", "coefficients.json", "recipe.yml"])
def test_links_are_refused(profile, folder, tmp_path, name):
    place = folder()
    (place / name).touch()
    linked(place / name)
    with pytest.raises(UserError, match=f"{name} is a link, a folder or a device"):
        submit(place, profile, LONG, "mine", tmp_path / "community")


def test_large_files_are_refused_unread(profile, folder, monkeypatch):
    place = folder()
    os.truncate(place / "records.parquet", untrusted.LARGE + 1)
    with pytest.raises(UserError, match=r"has 50\.0 MiB, and the limit is 50 MiB"):
        submit(place, profile, LONG, dry_run=True)
    place = folder()
    (place / "submission.yml").write_text("#" * (untrusted.SMALL + 1))
    with pytest.raises(UserError, match="limit is 1 MiB"):
        submit(place, profile, LONG, dry_run=True)


def test_an_entry_that_would_be_too_large_is_not_written(profile, folder, tmp_path, written, monkeypatch):
    monkeypatch.setattr("acm.sharing.entry.LARGE", 1000)
    with pytest.raises(UserError, match="give the profile fewer `items` or points of the `frontier`"):
        submit(folder(), profile, LONG, "mine", tmp_path / "community")
    assert written() == []


def test_records_that_unpack_to_too_much_are_refused(profile, folder, records, monkeypatch):
    place = folder()
    records("ACM-TA", response="x" * 2_000_000).to_parquet(place / "records.parquet", index=False)
    assert (place / "records.parquet").stat().st_size < 1 << 20
    monkeypatch.setattr(untrusted, "DECODED", 1 << 23)
    with pytest.raises(UserError, match="unpacks to more than"):
        submit(place, profile, LONG, dry_run=True)
    monkeypatch.setattr(untrusted, "ROWS", 3)
    with pytest.raises(UserError, match="is too large: the limit is 3 rows"):
        submit(place, profile, LONG, dry_run=True)


def nested(table):
    return table.append_column("steps", pa.array([[{"a": None}]] * len(table)))


def packed(table):
    """One long text that every record has: stored once, 64 MiB for each when it is unpacked."""
    place = table.schema.get_field_index("response")
    values = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), pa.array(["a" * (64 << 20)]))
    return pa.concat_tables([table.set_column(place, "response", values)] * 4)


def broken(table):
    place = table.schema.get_field_index("response")
    buffers = pa.array([b"\xff" + text.encode() for text in table["response"].to_pylist()]).buffers()
    return table.set_column(place, "response", pa.StringArray.from_buffers(len(table), *buffers[1:], buffers[0]))


@pytest.mark.parametrize("change, words", [
    (nested, "steps.list.element.a is no column of records; remove it"),
    (packed, "unpacks to more than 2 GiB"),
    (broken, "column response holds what is no UTF-8 text"),
])  # fmt: skip
def test_parquet_files_that_would_fill_the_memory_are_refused_in_a_moment(tmp_path, records, change, words):
    path = tmp_path / "x.parquet"
    table = pa.Table.from_pandas(records("ACM-TA").drop(columns="thinking_closed"), preserve_index=False)
    pq.write_table(change(table), path, compression="zstd", store_schema=False)
    with pytest.raises(UserError, match=words):
        untrusted.check_parquet(path)


def test_models_of_one_machine_are_no_pair_of_others(profile, folder, tmp_path):
    from acm.profiles import load_profile

    content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    for bad in ("/home/me/fast", "../fast"):
        content["experiments"][LONG]["base"] = bad
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(UserError, match="is a folder of one machine alone"):
            submit(folder(), load_profile(str(tmp_path / "mine.yaml")), LONG, dry_run=True)


def test_a_server_needs_its_engine(profile, folder, records):
    place = folder()
    frame = records(FAST, SLOW, HALF, "ACM-TA")
    frame["setting"] = frame["setting"].str.replace('"seed"', '"backend": "server", "seed"')
    frame.to_parquet(place / "records.parquet", index=False)
    with pytest.raises(UserError, match="say what ran behind it by `engine`"):
        submit(place, profile, LONG, dry_run=True)
    (place / "submission.yml").write_text((place / "submission.yml").read_text() + "engine: vLLM 0.11.0\n")
    assert "above" in submit(place, profile, LONG, dry_run=True)


def test_a_slug_is_a_folders_name():
    assert slug("ACM-TA by Ünal & Co/../x") == "acm-ta-by-nal-co-x" and slug("…") == "entry"


def test_the_command_line_and_coefficients_that_are_none(profile, folder, tmp_path):
    place = folder()
    typed = ["submit", str(place), "--profile", str(tmp_path / "mine.yaml"), "--experiment", LONG]
    done = CliRunner().invoke(app, [*typed, "--out", str(tmp_path / "community"), "--name", "x"])
    assert done.exit_code == 0 and "wrote" in done.output, done.output
    for content, words in (
        ({"coefficients": {"other": {"0": 1.0}}}, "has coefficients of other, not of the models merged"),
        ({"coefficients": {SLOW: {"0": True}}}, "are no numbers by layer"),
        ({"coefficients": {SLOW: {"0": 1e300}}}, "each from −100 to 100"),
        ({"coefficients": {SLOW: {"0": 10**400}}}, "each from −100 to 100"),
        ({"coefficients": {SLOW: {"nolayer": 1.0}}}, f"nolayer is no layer of {SLOW}"),
        ({"coefficients": {SLOW: {"01": 1.0}}}, f"01 is no layer of {SLOW}"),
        ({"coefficients": {}}, "has coefficients of none"),
    ):
        (place / "coefficients.json").write_text(json.dumps(content))
        done = CliRunner().invoke(app, [*typed, "--dry-run"])
        assert isinstance(done.exception, UserError) and words in str(done.exception)
    (place / "coefficients.json").unlink()
    assert "has no coefficients.json" in str(CliRunner().invoke(app, [*typed, "--dry-run"]).exception)
