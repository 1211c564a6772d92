"""Every committed row follows from its records, and a row that does not is refused with a sentence."""

import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from PIL import Image

from acm import hub
from acm.errors import UserError
from acm.profiles import Profile
from acm.sharing import entry as entries_of
from acm.sharing.community import COMMUNITY, community, entries, table_text
from acm.sharing.entry import check_entry, read_row, sha256
from acm.sharing.submit import submit

LONG, FAST, SLOW = "long-to-short", "abacus-fast", "abacus-slow"


def test_every_committed_row_follows_from_its_records():
    """What CI asks of a pull request that adds a row."""
    assert re.match(r"[1-9]\d* rows? follow", community(check=True))


def test_committed_entries_are_small_and_come_with_their_profile():
    for folder in entries(COMMUNITY):
        assert sum(path.stat().st_size for path in folder.iterdir()) < 20 << 20
        profile = Profile.model_validate(json.loads((folder / "profile.json").read_text()))
        assert profile.hash == read_row(folder / "row.json")["profile_hash"]


def edit_row(entry, without=None, **changes):
    row = json.loads((entry / "row.json").read_text())
    row.pop(without, None)
    (entry / "row.json").write_text(json.dumps(row | changes))


def edit_records(entry, change, seal=True):
    """Change the records of an entry; seal: write their new hash into the row too, as a forger would."""
    frame = pd.read_parquet(entry / "records.parquet")
    change(frame)
    frame.to_parquet(entry / "records.parquet", index=False)
    if seal:
        edit_row(entry, records=sha256(entry / "records.parquet"))


def first(frame, column, value):
    """Give the method's first response another value."""
    frame.loc[frame.index[frame["method"] == "ACM-TA"][0], column] = value


def reworded(frame):
    """The method's first response with another first word: neither grade nor length change."""
    response = frame.loc[frame["method"] == "ACM-TA", "response"].iloc[0]
    first(frame, "response", "no" + response.removeprefix("so"))


def graded_by_another_rule(frame):
    """The records as if they came from logs, those of the frontier with another filter."""
    for method, name in (("ACM-TA", "strict"), ("frontier-0.5", "flexible")):
        rows, rule = frame["method"] == method, {"abacus_easy": {"metric": "exact_match", "filter": name}}
        frame.loc[rows, "setting"] = json.dumps(json.loads(frame.loc[rows, "setting"].iloc[0]) | {"graded_by": rule})


def all_of(column, value):
    return lambda frame: frame.loc.__setitem__((frame["method"] == "ACM-TA", column), value)


FORGED = {
    "a better accuracy": (
        lambda e: edit_row(e, accuracy={"value": 101.0, "low": 100.0, "high": 102.0}),
        r"row\.json: accuracy\.high is 102\.0, computed anew 100\.0",
    ),
    "another verdict": (lambda e: edit_row(e, verdict="no difference shown"), 'verdict is "no difference shown"'),
    "a hash of another profile": (lambda e: edit_row(e, profile_hash="0" * 16), "profile_hash is"),
    "a further key": (lambda e: edit_row(e, prize="first"), "prize is none of its keys"),
    "a key less, whose value is null": (lambda e: edit_row(e, without="engine"), "engine is missing"),
    "a number beyond all floats": (lambda e: edit_row(e, repeats=10**400), r"repeats is 10+.*, computed anew 1"),
    "true for one": (lambda e: edit_row(e, repeats=True), "repeats is true, computed anew 1"),
    "a number that is none": (lambda e: (e / "row.json").write_text('{"a": NaN}'), "not a finite number"),
    "records that are said to be committed": (
        lambda e: edit_row(e, borrowed=[FAST, SLOW]), rf'borrowed is \["{FAST}", "{SLOW}"\], computed anew \[\]',
    ),
    "the name of another profile": (
        lambda e: (e / "profile.json").write_text((e / "profile.json").read_text().replace('"mine"', '"tiny"')),
        "profile tiny has another content than the repository's profile of this name; give it a name of its own",
    ),
    "a forged grade": (
        lambda e: edit_records(e, lambda f: first(f, "correct", 0.0)),
        "state other than their own text says: correct of 1 responses",
    ),
    "an edited response": (
        lambda e: edit_records(e, lambda f: first(f, "response", "the answer is 1234.")),
        "state other than their own text says",
    ),
    "an edited response that says the same": (
        lambda e: edit_records(e, reworded, seal=False),
        "is not the file that row.json was computed from",
    ),
    "shorter lengths": (lambda e: edit_records(e, all_of("length", 5)), "length of 8 responses"),
    "an item less": (
        lambda e: edit_records(e, lambda f: f.drop(f.index[0], inplace=True)), "lack item 0 of abacus_easy",
    ),
    "records of another profile": (lambda e: edit_records(e, all_of("profile", "tiny")), "of profile tiny, not mine"),
    "records of another method": (
        lambda e: edit_records(e, lambda f: f.replace({"method": {FAST: "TA"}}, inplace=True)),
        "holds records of TA, which its row is not on",
    ),
    "another column": (lambda e: edit_records(e, all_of("prize", 1)), "prize is no column of records; remove it"),
    "a truncated file": (
        lambda e: (e / "records.parquet").write_bytes((e / "records.parquet").read_bytes()[:-100]),
        "is not a readable parquet file",
    ),
    "a truncated row": (lambda e: (e / "row.json").write_text('{"format": 1,'), "is not readable JSON"),
    "another profile": (
        lambda e: (e / "profile.json").write_text((e / "profile.json").read_text().replace(": 60", ": 61")),
        "were made with max_tokens 60, and profile mine says 61",
    ),
    "a profile of endless repeats": (
        lambda e: (e / "profile.json").write_text(
            (e / "profile.json").read_text().replace('"reference"', '"repeats": 2000000000, "reference"')
        ),
        "asks for 2,000,000,000 repeats, and the limit is 1000",
    ),
    "another recipe": (
        lambda e: (e / "recipe.yml").write_text((e / "recipe.yml").read_text() + "parameters: {lambda: 2.0}\n"),
        "is not the profile's ACM-TA",
    ),
    "a recipe of a stranger's model of the same name": (
        lambda e: (e / "recipe.yml").write_text(
            (e / "recipe.yml").read_text().replace("model: abacus-slow", "model: evil/abacus-slow")
        ),
        r"merges evil/abacus-slow, which is none of abacus/checkpoints/abacus-fast, ",
    ),
    "another who": (
        lambda e: (e / "submission.yml").write_text((e / "submission.yml").read_text().replace("A. T", "B. T")),
        'who is "A. Tester", computed anew "B. Tester"',
    ),
    "no experiment": (lambda e: edit_row(e, experiment=["long-to-short"]), "is none of the entry's profile"),
    "a frontier that was graded otherwise": (
        lambda e: edit_records(e, graded_by_another_rule),
        "records of ACM-TA, compared with those of frontier-0.5, were graded by",
    ),
    "a further file": (lambda e: (e / "run.py").touch(), r"holds run\.py, which is no part of an entry"),
    "a pickle": (lambda e: (e / "records.pkl").touch(), r"holds records\.pkl"),
    "no recipe": (lambda e: (e / "recipe.yml").unlink(), r"lacks recipe\.yml"),
    "no coefficients": (lambda e: (e / "coefficients.json").unlink(), r"has no coefficients\.json"),
    "a link": (
        lambda e: ((e / "row.json").rename(e.parent / "x.json"), (e / "row.json").symlink_to("../x.json")),
        r"row\.json is a link",
    ),
    "another picture": (
        lambda e: shutil.copyfile(COMMUNITY / f"{FAST}+{SLOW}" / "example" / "figure.png", e / "figure.png"),
        "is not the figure of its row",
    ),
    "no picture": (lambda e: (e / "figure.png").write_bytes(b"<svg onload=alert(1)>"), "is not the figure of its row"),
    "a large picture": (lambda e: (e / "figure.png").write_bytes(bytes(400_000)), "and the limit is"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_was_tampered_with_is_refused_in_a_sentence(entry, name):
    forge, words = FORGED[name]
    forge(entry)
    with pytest.raises(UserError, match=words) as error:
        check_entry(entry)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_an_entry_that_nobody_touched_holds(entry):
    assert check_entry(entry)["verdict"] == "above"


def test_an_entry_belongs_to_its_pair(entry):
    moved = entry.parents[1] / "other" / "mine"
    shutil.copytree(entry, moved)
    with pytest.raises(UserError, match="lies under another pair than its own"):
        check_entry(moved)


def test_a_figure_of_another_matplotlib_is_drawn_anew_where_that_is_asked_for(entry):
    figure, old = entry / "figure.png", (entry / "figure.png").read_bytes()
    shutil.copyfile(COMMUNITY / f"{FAST}+{SLOW}" / "example" / "figure.png", figure)
    check_entry(entry, redraw=True)
    assert figure.read_bytes() == old


def test_a_few_pixels_may_differ(entry, monkeypatch):
    own = (entry / "figure.png").read_bytes()
    other = (COMMUNITY / f"{FAST}+{SLOW}" / "example" / "figure.png").read_bytes()
    assert entries_of.alike(own, own) and not entries_of.alike(own, other)
    monkeypatch.setattr(entries_of, "PIXELS", 10**9)
    assert entries_of.alike(own, other)


def redrawn(content, change, **options):
    """A PNG file with changed pixels, written by Pillow."""
    pixels = np.array(Image.open(io.BytesIO(content)).convert("RGBA"))
    change(pixels)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", **options)
    return out.getvalue()


def test_a_picture_that_shows_something_else_is_another_one(entry):
    own = (entry / "figure.png").read_bytes()
    assert entries_of.alike(redrawn(own, lambda pixels: None), own)  # other bytes, the same pixels
    assert not entries_of.alike(redrawn(own, lambda pixels: pixels.__setitem__((..., 3), 0)), own)  # transparent
    second = Image.new("RGBA", Image.open(io.BytesIO(own)).size, "red")
    moving = redrawn(own, lambda pixels: None, save_all=True, append_images=[second], duration=[1, 9999])
    assert b"acTL" in moving and not entries_of.alike(moving, own)
    for odd in (own + b"<script>", own[:-12], own[:-12] + own[-12:] * 2):
        assert not entries_of.alike(odd, own)


def test_the_table_is_written_from_the_rows_and_one_that_is_not_is_refused(entry):
    root = entry.parents[1]
    with pytest.raises(UserError, match=r"holds <pair>/<name>/ and README\.md alone"):
        community(root)  # the text of the pull request lies there too
    (root / f"{FAST}+{SLOW}-mine.md").unlink()
    assert "1 row follows" in community(root)
    text = (root / "README.md").read_text()
    assert f"## {FAST} + {SLOW}" in text and "| ACM-TA" in text and "A. Tester" in text and "above" in text
    assert "1 row follows" in community(root, check=True)
    (root / "README.md").write_text(text.replace("100.0", "99.9"))
    with pytest.raises(UserError, match="is not the table of its entries; write it with `acm community`"):
        community(root, check=True)


def test_a_page_that_is_a_link_is_not_written_through(entry, tmp_path):
    root = entry.parents[1]
    (root / f"{FAST}+{SLOW}-mine.md").unlink()
    (tmp_path / "precious").write_text("mine")
    (root / "README.md").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"README\.md is a link"):
        community(root)
    assert (tmp_path / "precious").read_text() == "mine"


def test_all_faults_are_told_together(entry):
    root = entry.parents[1]
    (root / f"{FAST}+{SLOW}-mine.md").unlink()
    shutil.copytree(entry, entry.with_name("second"))
    for place in (entry, entry.with_name("second")):
        edit_row(place, verdict="on the bar")
    with pytest.raises(UserError, match=r"mine/row\.json.*\n  .*second/row\.json"):
        community(root)


def test_what_is_borrowed_follows_from_the_committed_records(entry, profile, records, tmp_path, monkeypatch):
    """A frontier with one other response is the submitter's own, whatever its row says."""
    monkeypatch.setattr("acm.sharing.committed.repository_hash", lambda name: profile.hash)
    committed = tmp_path / "reports" / "mine" / LONG / "records.parquet"
    committed.parent.mkdir(parents=True)
    theirs = records(FAST, SLOW, "frontier-0.5")
    theirs.loc[theirs.index[theirs["method"] == "frontier-0.5"][0], "response"] = "no the answer is 1."
    theirs.to_parquet(committed, index=False)
    assert entries_of.read_entry(entry).borrowed == [FAST, SLOW]
    row = read_row(entry / "row.json")
    for borrowed, words in (
        ([FAST, SLOW], "own records of frontier-0.5, the committed ones of the other parents"),
        ([], "parents and frontier are the submitter's own records"),
        ([FAST, SLOW, "frontier-0.5"], "parents and frontier are the committed records"),
    ):
        text = MarkdownIt().render(table_text({entry: row | {"borrowed": borrowed}}))
        assert words in BeautifulSoup(text, "html.parser").get_text()


@pytest.mark.parametrize("name", ["a b", ".hidden", "x<y", "-"])
def test_folders_have_plain_names(entry, name):
    shutil.copytree(entry, entry.with_name(name))
    with pytest.raises(UserError, match=r"a folder's name|README\.md alone"):
        list(entries(entry.parents[1]))


HOSTILE = "<img src=x onerror=alert(1)> | [x](javascript:alert(1)) `a` $b$ {raw}`c`"


def test_hostile_names_are_text_on_the_page(profile, folder, tmp_path):
    place = folder(who=HOSTILE, hardware=HOSTILE, note=HOSTILE * 3, weights="https://huggingface.co/a/b")
    submit(place, profile, LONG, "mine", tmp_path / "community")
    entry = tmp_path / "community" / f"{FAST}+{SLOW}" / "mine"
    row = check_entry(entry)
    for text in (table_text({entry: row}), (tmp_path / "community" / f"{FAST}+{SLOW}-mine.md").read_text()):
        page = BeautifulSoup(MarkdownIt().enable("table").render(text), "html.parser")
        assert {tag.get("src") for tag in page.find_all("img")} <= {f"{FAST}+{SLOW}/mine/figure.png"}
        links = {tag["href"] for tag in page.find_all("a")}
        assert all(re.match(rf"{re.escape(f'{FAST}+{SLOW}')}/mine/|\.\./|https://huggingface", link) for link in links)
        assert HOSTILE in {cell.get_text() for cell in page.find_all("td")}
        assert len({len(line.find_all("td")) for line in page.select("tbody tr")}) == 1
    assert not yaml.safe_load((entry / "recipe.yml").read_text()).keys() & {"note"}


def test_tokenizers_come_from_the_hub_only_where_that_is_asked_for(entry, monkeypatch):
    """Lengths of a pair that is not here are counted again once its tokenizer was fetched."""
    setting = Profile.model_validate(json.loads((entry / "profile.json").read_text())).experiment(LONG)
    away = setting.model_copy(update={"base": "someone/fast", "finetuned": ["someone/slow"]})
    asked = []
    monkeypatch.setattr("acm.hub.tokenizer", lambda *given: asked.append(given) or COMMUNITY.parents[1] / setting.base)
    assert entries_of.here(away, tokenizers=False)("TA") is None and asked == []
    assert entries_of.here(away, tokenizers=True)("TA")("the answer is 1.") == 6
    assert asked == [("someone/fast", None), ("someone/slow", None)]


def test_an_entry_whose_tokenizer_cannot_be_had_is_told_and_refuses_nobody(entry, monkeypatch):
    root, path = entry.parents[1], entry / "profile.json"
    (root / f"{FAST}+{SLOW}-mine.md").unlink()
    path.write_text(path.read_text().replace("abacus/checkpoints/", "someone/"))
    edit_row(entry, profile_hash=Profile.model_validate(json.loads(path.read_text())).hash)

    def absent(model, revision):
        raise UserError(f"model {model} is gated.")

    monkeypatch.setattr("acm.hub.tokenizer", absent)
    assert "mine: lengths not counted: no tokenizer of the models is here." in community(root)
    assert "mine: lengths not counted: model someone/abacus-fast is gated." in community(root, True, tokenizers=True)
    text = BeautifulSoup(MarkdownIt().render((root / "README.md").read_text()), "html.parser").get_text()
    assert f"lengths not counted here, but with the tokenizers of someone/{FAST}, someone/{SLOW}" in text


@pytest.mark.parametrize("model", ["nowhere/x/abacus-fast", "runs/x/abacus-fast", "abacus-fast"])
def test_models_that_nobody_finds_are_refused(entry, model):
    path = entry / "profile.json"
    path.write_text(path.read_text().replace("abacus/checkpoints/abacus-fast", model))
    with pytest.raises(UserError, match=f"{model} is a folder of one machine alone"):
        check_entry(entry, tokenizers=True)


def test_of_a_tokenizer_no_weights_are_fetched(monkeypatch, tmp_path):
    def download(model, revision, allow_patterns, **_):
        assert (model, revision) == ("someone/fast", "0" * 40) and not any("safetensors" in p for p in allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.tokenizer("someone/fast", "0" * 40) == tmp_path
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: 1 / 0)
    with pytest.raises(UserError, match="model someone/fast is not here and the hub cannot be reached"):
        hub.tokenizer("someone/fast", None)
