"""What lies beside the weights: end tokens, tokenizers, chat templates, leftover fields, links, hostile tokenizers."""

import json
import os
import shutil

import pytest
import torch
from helpers import EMBEDDING, ROWS, SINGLE, assert_found, contents, halfway, loaded, plan_of, recipe, texts
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import acm
from acm.errors import UserError
from acm.merging import companions

GENERATION, CONFIG, TOKENIZER = "generation_config.json", "config.json", "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TURN = {"id": ROWS, "content": "<|turn|>", "single_word": False, "lstrip": False, "rstrip": False}
TURN |= {"normalized": False, "special": True}


def edit(folder, name, **changes):
    """Changes fields of a JSON file, which may not be there yet (None: a field goes), and returns the folder."""
    path = folder / name
    content = (json.loads(path.read_text()) if path.exists() else {}) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def edited(folder, changes):
    """The folder, with fields of its files changed. changes: file → its fields."""
    for name, fields in changes.items():
        edit(folder, name, **fields)
    return folder


def read(folder, name):
    """A JSON file of a folder."""
    return json.loads((folder / name).read_text())


def others_notes(plan):
    """Everything that is found but the cost."""
    return [finding.text for finding in plan.findings if "GB are free" not in finding.text]


@pytest.fixture
def turning(variant, f32):
    """A fine-tuned model with one more token, in a row of its own, at which its responses end."""

    def make(name="chat"):
        def grow(held):
            for key in (EMBEDDING, "lm_head.weight"):
                held[key] = held[key][[*range(ROWS), 5]]

        folder = variant(f32[1], name, {"vocab_size": ROWS + 1}, grow, lambda held: held["added_tokens"].append(TURN))
        return edit(folder, GENERATION, eos_token_id=[0, ROWS])

    return make


# Where a model names its end tokens, and the ends of a merge with a base that ends at 0.
ENDS = {
    "generation list": ({GENERATION: {"eos_token_id": [0, 7]}}, [0, 7]),
    "generation number": ({GENERATION: {"eos_token_id": 7}}, [0, 7]),
    "config": ({CONFIG: {"eos_token_id": [7, 9]}}, [0, 7, 9]),
    "tokenizer": ({TOKENIZER_CONFIG: {"eos_token": "<|pad|>"}}, [0, 1]),
    "tokenizer, as an added token": ({TOKENIZER_CONFIG: {"eos_token": {"content": "<|pad|>"}}}, [0, 1]),
    "all": (
        {GENERATION: {"eos_token_id": 5}, CONFIG: {"eos_token_id": 6}, TOKENIZER_CONFIG: {"eos_token": "<|pad|>"}},
        [0, 5, 6, 1],
    ),
    "a row that it has not": ({GENERATION: {"eos_token_id": [0, 99_999]}}, 0),
    "the same": ({GENERATION: {"eos_token_id": [0]}}, 0),
    "none": ({GENERATION: {"eos_token_id": None}, CONFIG: {"eos_token_id": None}}, 0),
}


@pytest.mark.parametrize("changes, expected", ENDS.values(), ids=ENDS)
def test_a_merge_ends_where_any_of_its_models_ends(f32, variant, tmp_path, caplog, changes, expected):
    other = edited(variant(f32[1], "other"), changes)
    plan = plan_of(f32[0], other).check()
    assert any("the result ends responses at" in text for text in texts(plan, "note")) == (expected != 0)
    out = acm.merge(halfway(f32[0], other), tmp_path / "out")
    assert loaded(out, caplog).generation_config.eos_token_id == expected
    if expected == 0:
        assert (out / GENERATION).read_bytes() == (f32[0] / GENERATION).read_bytes()


def always_seven(held):
    """Weights that write token 7 after anything."""
    for name, tensor in held.items():
        tensor.fill_(float("norm" in name or name == EMBEDDING))
    held["lm_head.weight"][7] = 1


def test_a_merged_chat_model_stops(f32, variant, tmp_path, caplog):
    base, chat = (variant(folder, folder.name, weights=always_seven) for folder in f32[:2])
    edit(chat, GENERATION, eos_token_id=[0, 7])
    models = [base, acm.merge(halfway(base, chat), tmp_path / "out")]
    prompt = {"input_ids": torch.tensor([[5, 5]]), "attention_mask": torch.ones(1, 2)}
    written = [loaded(folder, caplog).generate(**prompt, max_new_tokens=9)[0, 2:].tolist() for folder in models]
    assert written == [[7] * 9, [7]]


@pytest.mark.parametrize("changes", [
    {"eos_token_id": 7}, {"eos_token_id": [0, 7]}, {"eos_token_id": 7, "pad_token_id": None},
])  # fmt: skip
def test_end_tokens_without_any_generation_config(f32, variant, tmp_path, caplog, changes):
    base, other = variant(f32[0], "parent"), variant(f32[1], "other", changes)
    for folder in (base, other):
        (folder / GENERATION).unlink()
    assert not (acm.merge(halfway(base, f32[1]), tmp_path / "same") / GENERATION).exists()
    out = acm.merge(halfway(base, other), tmp_path / "out")
    assert loaded(out, caplog).generation_config.eos_token_id == [0, 7] and read(out, GENERATION)["pad_token_id"] == 1


@pytest.mark.parametrize(
    "source, expected", [("union", [0, ROWS]), ("chat", [0, ROWS]), (None, [0, ROWS]), ("base", 0)]
)
def test_an_end_token_is_followed_to_its_row(f32, variant, turning, tmp_path, source, expected):
    base = variant(f32[0], "base")
    content = halfway(base, turning(), tokenizer_source=source)
    plan = plan_of(base, tmp_path / "chat", tokenizer_source=source)
    lost = [
        text
        for text in texts(plan, "warning")
        if f"responses at {ROWS} ('<|turn|>', of chat), and the result does not" in text
    ]
    assert len(lost) == (source == "base")
    out = acm.merge({key: value for key, value in content.items() if value}, tmp_path / "out")
    assert read(out, GENERATION)["eos_token_id"] == expected
    if source in ("union", "chat"):
        assert AutoTokenizer.from_pretrained(out).convert_ids_to_tokens(ROWS) == "<|turn|>"


@pytest.mark.parametrize("end", [7, [0, 7], [7, 8]])
def test_the_papers_rules_keep_the_bases_end_tokens_with_a_warning(f32, variant, tmp_path, end):
    other = edit(variant(f32[1], "other"), GENERATION, eos_token_id=end)
    assert_found(plan_of(f32[0], other, compatibility="paper"), "warning", "at 7 ('", ", of other)", "paper")
    out = acm.merge(halfway(f32[0], other, compatibility="paper"), tmp_path / "out")
    assert (out / GENERATION).read_bytes() == (f32[0] / GENERATION).read_bytes()


@pytest.mark.parametrize("value", ["</s>", 1.5, True, {"a": 1}, [[1]], [0, None], [0, "1"], [0] * 101], ids=str)
@pytest.mark.parametrize("name", [GENERATION, CONFIG])
def test_an_end_token_that_is_no_number_is_refused(assert_refused, f32, variant, name, value):
    assert_refused(name, "eos_token_id", left=edit(variant(f32[1], "left"), name, eos_token_id=value))


def test_models_that_never_end_are_a_warning(f32, variant):
    folders = [variant(folder, f"endless-{folder.name}", {"eos_token_id": None}) for folder in f32[:2]]
    for folder in folders:
        edit(edit(folder, GENERATION, eos_token_id=None), TOKENIZER_CONFIG, eos_token=None)
    assert_found(plan_of(*folders), "warning", "no model names an end token")
    assert not [text for text in texts(plan_of(*f32), "warning") if "end token" in text]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_that_are_no_number_are_refused(assert_refused, f32, variant, value):
    left = edit(variant(f32[1], "left"), GENERATION, temperature=value)
    assert_refused(str(left / GENERATION), "not a finite number", left=left)


ids = st.one_of(st.none(), st.integers(0, 427), st.lists(st.integers(0, 500), max_size=3))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stated=st.lists(st.tuples(ids, ids), min_size=2, max_size=3), paper=st.booleans())
def test_ends_are_those_of_all_models(f32, tmp_path_factory, stated, paper):
    folder = tmp_path_factory.mktemp("ends")
    folders = [shutil.copytree(source, folder / source.name) for source in f32[: len(stated)]]
    for model, (own, config) in zip(folders, stated, strict=True):
        edit(edit(model, GENERATION, eos_token_id=own), CONFIG, eos_token_id=config)

    def listed(value):
        return value if isinstance(value, list) else [] if value is None else [value]

    wanted = {0} | {i for pair in stated for value in pair for i in listed(value) if i < ROWS}  # the tokenizers' is 0
    found = plan_of(*folders, compatibility="paper" if paper else "own").check().generation.get("eos_token_id")
    kept = set(listed(stated[0][0]))
    assert set(listed(found)) == (kept if paper else wanted | kept)


DIFFERENT = {
    "bos": ({TOKENIZER_CONFIG: {"add_bos_token": True}}, "note", ["add_bos_token is True, not absent"]),
    "class": ({TOKENIZER_CONFIG: {"tokenizer_class": "LlamaTokenizerFast"}}, "note", ["tokenizer_class is 'LlamaTok"]),
    "pad": ({TOKENIZER_CONFIG: {"pad_token": "<|end|>"}}, "note", ["pad_token is '<|end|>', not '<|pad|>'"]),
    "length": ({TOKENIZER_CONFIG: {"model_max_length": 2048}}, "note", ["model_max_length is 2048, not absent"]),
    "two": ({TOKENIZER_CONFIG: {"legacy": True, "padding_side": "left"}}, "note", ["legacy is True", "padding_side"]),
    "prefix": ({TOKENIZER_CONFIG: {"add_prefix_space": True}}, "note", ["add_prefix_space"]),
    "normalizer": ({TOKENIZER: {"normalizer": {"type": "NFKC"}}}, "warning", ["splits text", "(normalizer of"]),
    "no normalizer": ({TOKENIZER: {"normalizer": None}}, "warning", ["splits text", "(normalizer of"]),
    "splitting": ({TOKENIZER: {"pre_tokenizer": {"type": "Whitespace"}}}, "warning", ["pre_tokenizer"]),
    "framing": (
        {TOKENIZER: {"post_processor": {"single": [{"SpecialToken": {"id": "<|end|>"}}]}}},
        "warning", ["post_processor"],
    ),
    "template": ({TOKENIZER_CONFIG: {"chat_template": "{{ 1 }}"}}, "note", ["another chat template", "gets none"]),
    "templates": (
        {TOKENIZER_CONFIG: {"chat_template": [{"name": "tools", "template": "x"}]}}, "note", ["another chat template"],
    ),
    "sampling": ({GENERATION: {"temperature": 0.6, "do_sample": True}}, "note", ["do_sample is True, not", "0.6"]),
    "pad id": ({GENERATION: {"pad_token_id": 5}}, "note", [f"{GENERATION} of other", "pad_token_id is 5"]),
    "processor": ({"processor_config.json": {"a": 1}}, "note", ["processor_config.json of other and base differ"]),
    "window": ({CONFIG: {"max_window_layers": 1}}, "note", ["config.json of other", "max_window_layers is 1"]),
    "layers": ({CONFIG: {"layer_types": ["full_attention", "sliding_attention"]}}, "note", ["layer_types is"]),
    "head": ({CONFIG: {"architectures": ["Qwen2ForSequenceClassification"]}}, "note", ["architectures is"]),
    "quantization": ({CONFIG: {"quantization_config": {"quant_method": "awq"}}}, "note", ["other", "not quantized"]),
}  # fmt: skip


@pytest.mark.parametrize("changes, level, words", DIFFERENT.values(), ids=DIFFERENT)
def test_each_difference_is_one_finding(f32, variant, tmp_path, changes, level, words):
    other = edited(variant(f32[1], "other"), changes)
    plan = plan_of(f32[0], other).check()
    assert_found(plan, level, *words)
    assert len(others_notes(plan)) == 1
    expected, found = (contents(acm.merge(halfway(f32[0], m), tmp_path / m.parent.name)) for m in (f32[1], other))
    for held in (expected, found):
        del held["README.md"], held["recipe.yml"]
    assert found == expected  # the result is the base's in everything beside the weights


@pytest.mark.parametrize("flag", ["special", "lstrip", "rstrip", "normalized", "single_word"])
def test_flags_of_added_tokens_count(f32, variant, flag):
    def turn(content):
        content["added_tokens"][1][flag] = not content["added_tokens"][1][flag]

    plan = plan_of(f32[0], variant(f32[1], "other", tokenizer=turn))
    assert_found(plan, "warning", "splits text into tokens otherwise", "(added_tokens of")
    assert len(others_notes(plan)) == 1


@pytest.mark.parametrize("fields", [
    {"attention_dropout": 0.1}, {"initializer_range": 0.01}, {"transformers_version": "4.40.0"}, {"use_cache": False},
    {"_attn_implementation": "eager"}, {"max_window_layers": None}, {"some_new_field": 5},
], ids=str)  # fmt: skip
def test_fields_that_change_nothing_are_no_difference(f32, variant, fields):
    assert others_notes(plan_of(f32[0], edit(variant(f32[1], "other"), CONFIG, **fields))) == []


def merges_as_text(content):
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def with_absent_defaults(content):
    content["model"] |= {"dropout": None, "ignore_merges": False, "byte_fallback": False}
    content["post_processor"] = None
    content.pop("truncation")


@pytest.mark.parametrize("respell, config", [
    (merges_as_text, {}), (with_absent_defaults, {}), (None, {"tokenizer_class": "Qwen2TokenizerFast"}),
    (None, {"eos_token": {"content": "<|end|>", "lstrip": False}, "model_max_length": 10**30, "add_bos_token": False}),
])  # fmt: skip
def test_other_spellings_of_the_same_tokenizer_are_no_difference(f32, variant, respell, config):
    other = edit(variant(f32[1], "other", tokenizer=respell), TOKENIZER_CONFIG, **config)
    assert others_notes(plan_of(f32[0], other)) == []


def inline(folder):
    edit(folder, TOKENIZER_CONFIG, chat_template="{{ messages }}")


def as_file(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}\n")


def as_list(folder):
    edit(folder, TOKENIZER_CONFIG, chat_template=[{"name": "default", "template": "{{ messages }}"}])


def beside_another(folder):
    as_file(folder)
    edit(folder, TOKENIZER_CONFIG, chat_template="the file counts")


@pytest.mark.parametrize("ours", [inline, as_file, as_list])
@pytest.mark.parametrize("theirs", [inline, as_file, as_list, beside_another])
def test_a_chat_template_is_the_same_wherever_it_is_written(f32, variant, ours, theirs):
    base, other = variant(f32[0], "parent"), variant(f32[1], "other")
    ours(base)
    theirs(other)
    assert others_notes(plan_of(base, other)) == []
    (other / "additional_chat_templates").mkdir()
    (other / "additional_chat_templates/tools.jinja").write_text("{{ tools }}")
    assert_found(plan_of(base, other), "note", "other has another chat template than parent")


@pytest.mark.parametrize("wanted", ["auto", "{{ '<|turn|>' + messages[0].content }}"])
def test_tokens_of_a_chosen_template_that_the_result_lacks_are_a_warning(f32, turning, wanted):
    chat = edit(turning(), TOKENIZER_CONFIG, chat_template="<|turn|>{{ messages }}")
    words = ("template has tokens that the tokenizer of the result lacks (<|turn|>)", "union")
    assert_found(plan_of(f32[0], chat, chat_template=wanted), "warning", *words)
    for source in ("union", "chat"):
        assert not [
            t
            for t in others_notes(plan_of(f32[0], chat, chat_template=wanted, tokenizer_source=source))
            if words[0] in t
        ]


def test_a_template_that_is_not_utf8_is_refused(assert_refused, f32, variant):
    base = variant(f32[0], "base")
    (base / "chat_template.jinja").write_bytes(b"\xff\xfe")
    assert_refused(f"{base / 'chat_template.jinja'} is not a readable chat template", "UTF-8", base=base)


def test_very_many_tokens_without_rows_are_refused(assert_refused, f32, variant):
    def grow(content):
        content["model"]["vocab"] |= {f"x{i}": i for i in range(ROWS, 100_000)}

    assert_refused(f"the id 99999, and the embedding has {ROWS}", left=variant(f32[1], "left", tokenizer=grow))


def test_all_templates_of_the_source_come_along(f32, variant, tmp_path):
    base = variant(f32[0], "parent")
    as_file(base)
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates/tools.jinja").write_text("{{ tools }}")
    out = acm.merge(halfway(base, f32[1]), tmp_path / "out")
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(base).chat_template
    assert_found(plan_of(base, f32[1]), "note", "left has no chat template, unlike parent; the result gets that of")
    assert not [
        t for t in others_notes(plan_of(base, f32[1], chat_template="{{ messages[0].content }}")) if "template" in t
    ]


def bare(folder):
    """The folder without any tokenizer."""
    (folder / TOKENIZER).unlink()
    (folder / TOKENIZER_CONFIG).unlink(missing_ok=True)
    return folder


def test_a_result_without_a_tokenizer_is_not_made(assert_refused, f32, variant, tmp_path):
    base, other = bare(variant(f32[0], "base")), bare(variant(f32[1], "left"))
    assert_refused("no model of this merge has a tokenizer", str(base), base=base, left=other)
    (base / "vocab.json").write_text("{}")  # half of one
    assert_refused("no model of this merge has a tokenizer", base=base, left=other)
    (base / "tokenizer_config.json").write_text("{}")
    assert_refused("no model of this merge has a tokenizer", base=base, left=other)


def test_a_tokenizer_that_the_base_lacks_comes_from_the_first_model_that_has_one(f32, variant, tmp_path):
    base, other = bare(variant(f32[0], "base")), bare(variant(f32[1], "left"))
    plan = plan_of(base, other, f32[2])
    assert_found(plan, "warning", "base has no tokenizer; the result gets that of right")
    assert_found(plan, "note", "left has no tokenizer; its tokens are taken to be those of right")
    with pytest.raises(UserError, match=r"base has no tokenizer.json, so .*or put its tokenizer there"):
        plan_of(base, other, f32[2], tokenizer_source="right")
    out = acm.merge(halfway(base, other, f32[2]), tmp_path / "out")
    assert (out / TOKENIZER).read_bytes() == (f32[2] / TOKENIZER).read_bytes()


@pytest.mark.parametrize("ours, theirs, source, words", [
    (b"one", b"one", "base", None), (b"one", b"one", None, None), (b"one", b"two", None, "tokenizer.model of left and"),
    (b"one", b"two", "base", "has no tokenizer.json"),
])  # fmt: skip
def test_models_with_sentencepiece_alone(f32, variant, tmp_path, ours, theirs, source, words):
    folders = [bare(variant(f32[0], "base")), bare(variant(f32[1], "left"))]
    for folder, content in zip(folders, (ours, theirs), strict=True):
        (folder / "tokenizer.model").write_bytes(content)
    if words and source:
        with pytest.raises(UserError, match=words):
            plan_of(*folders, tokenizer_source=source)
        return
    plan = plan_of(*folders, tokenizer_source=source).check()
    assert [words in text for text in others_notes(plan)] == ([True] if words else []) and not plan.alignment.maps
    out = acm.merge(halfway(*folders, **({"tokenizer_source": source} if source else {})), tmp_path / "out")
    assert (out / "tokenizer.model").read_bytes() == ours


def as_vocabulary_files(folder):
    """The tokenizer as vocab.json, merges.txt and added_tokens.json."""
    content = read(folder, TOKENIZER)
    added = {entry["content"]: entry["id"] for entry in content["added_tokens"]}
    trained = {token: i for token, i in content["model"]["vocab"].items() if token not in added}
    (folder / "vocab.json").write_text(json.dumps(trained))
    (folder / "merges.txt").write_text("\n".join(map(" ".join, content["model"]["merges"])))
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / TOKENIZER).unlink()
    return folder


def test_a_vocabulary_in_files_of_its_own_is_compared_and_aligned(f32, variant, turning, tmp_path):
    same = as_vocabulary_files(variant(f32[1], "same"))
    assert not texts(plan_of(f32[0], same), "warning")
    chat = as_vocabulary_files(turning())
    plan = plan_of(f32[0], chat, tokenizer_source="union")
    assert [entry["content"] for entry in plan.alignment.added] == ["<|turn|>"] and plan.alignment.rows == ROWS + 1
    base = edit(variant(f32[0], "base"), "added_tokens.json", **{"<|pad|>": 1})
    out = acm.merge(halfway(base, chat, tokenizer_source="union"), tmp_path / "out")
    assert read(out, "added_tokens.json") == {"<|pad|>": 1, "<|turn|>": ROWS}
    assert AutoTokenizer.from_pretrained(out).convert_tokens_to_ids("<|turn|>") == ROWS
    with pytest.raises(UserError, match=r"same has no tokenizer.json that `tokenizer_source: union`"):
        plan_of(same, chat, tokenizer_source="union")


def test_tokens_without_rows_are_a_warning(f32, variant):
    base = edit(variant(f32[0], "base"), "added_tokens.json", **{"<|pad2|>": ROWS})
    assert_found(plan_of(base, f32[1]), "warning", "1 tokens of base (such as '<|pad2|>') have no row in the result")
    assert not [text for text in texts(plan_of(base, f32[1], tokenizer_source="base"), "warning") if "no row" in text]


def test_tokens_that_the_tokenizers_config_adds_count(f32, variant):
    decoder = {str(ROWS): {key: value for key, value in TURN.items() if key != "id"}, "5": {"content": "taken"}}
    other = edit(variant(f32[1], "other"), TOKENIZER_CONFIG, added_tokens_decoder=decoder)
    assert_found(plan_of(f32[0], other), "warning", "1 ids mean different tokens", f"{ROWS}: '<|turn|>' against None")


CODE = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}


def test_code_of_a_model_is_never_carried_along(f32, variant, tmp_path, caplog):
    base = variant(f32[0], "base", {"auto_map": CODE, "_name_or_path": "/home/me/secret", "use_cache": False})
    (base / "modeling_x.py").write_text("raise SystemExit")
    edit(base, TOKENIZER_CONFIG, auto_map={"AutoTokenizer": ["x.XTokenizer", None]}, tokenizer_class="XTokenizer")
    plan = plan_of(base, f32[1]).check()
    assert_found(plan, "note", "config.json (auto_map), which is never run", "transformers has qwen2")
    assert_found(plan, "note", "the tokenizer of base names code", "tokenizer.json is used")
    out = acm.merge(halfway(base, f32[1]), tmp_path / "out")
    assert not list(out.glob("*.py")) and loaded(out, caplog).config.use_cache
    assert not {"auto_map", "_name_or_path"} & read(out, CONFIG).keys() and "auto_map" not in read(
        out, TOKENIZER_CONFIG
    )
    assert (
        AutoTokenizer.from_pretrained(out)("now")["input_ids"]
        == AutoTokenizer.from_pretrained(f32[0])("now")["input_ids"]
    )


@pytest.mark.parametrize("kind", ["mystery", None, ["llama"]])
def test_an_architecture_that_is_only_code_is_refused(assert_refused, f32, variant, kind):
    folders = {f.name: variant(f, f.name, {"auto_map": CODE, "model_type": kind}) for f in f32[:2]}
    assert_refused("names code of its own", "no model_type", **folders)


def test_a_tokenizer_that_is_only_code_is_refused(assert_refused, f32, variant):
    base = variant(f32[0], "base")
    left = edit(variant(f32[1], "left"), TOKENIZER_CONFIG, auto_map={"AutoTokenizer": ["x.XTokenizer", None]})
    (left / TOKENIZER).rename(left / "tokenizer.model")
    assert not texts(plan_of(base, left), "error")  # the result gets the base's
    (base / TOKENIZER).rename(base / "tokenizer.model")
    edit(base, TOKENIZER_CONFIG, auto_map={"AutoTokenizer": ["x.XTokenizer", None]})
    assert_refused("the tokenizer of base names code of its own", "save_pretrained", base=base)


@pytest.mark.parametrize("field", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("where", [0, 1])
def test_a_leftover_quantization_is_not_inherited(bf16, variant, tmp_path, caplog, field, where):
    models = [*bf16[:2]]
    models[where] = variant(models[where], "odd", {field: {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    assert_found(plan_of(*models), "note", f"odd has a {field}", "not quantized")
    out = acm.merge(halfway(*models), tmp_path / "out")
    assert field not in read(out, CONFIG)
    loaded(out, caplog)


TEXTS = [CONFIG, TOKENIZER, TOKENIZER_CONFIG, GENERATION, "chat_template.jinja", "processor_config.json"]


@pytest.mark.parametrize("name", [*TEXTS, "additional_chat_templates/x.jinja"])
@pytest.mark.parametrize("where", ["base", "left"])
def test_a_link_out_of_the_folder_is_refused_by_name(assert_refused, f32, variant, tmp_path, where, name):
    folder, private = variant(f32[where == "left"], where), tmp_path / "private"
    path = folder / name
    private.write_bytes(path.read_bytes() if path.exists() else b'{"secret": 1}')
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(private)
    assert_refused(f"{path} is a link to {private}", "put the file itself there", **{where: folder})


@pytest.mark.parametrize("name", [TOKENIZER, GENERATION])
def test_a_link_to_nothing_is_refused_by_name(assert_refused, f32, variant, name):
    folder = variant(f32[0], "base")
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere")
    assert_refused(f"{folder / name} is a link to nothing", base=folder)


def linked(folder, place):
    """A folder of links to the files of another."""
    folder.mkdir(parents=True)
    for path in place.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def test_weights_may_be_links_to_any_file(f32, variant, tmp_path):
    base = variant(f32[0], "base")
    (base / SINGLE).unlink()
    (base / SINGLE).symlink_to(f32[0] / SINGLE)
    assert acm.merge(halfway(base, f32[1]), tmp_path / "out")


def test_links_into_the_hubs_cache_and_within_a_folder_are_followed(f32, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    blobs = shutil.copytree(f32[1], cache / "models--me--left/blobs")
    (cache / "token").write_text('{"secret": 1}')
    folder = linked(tmp_path / "left", blobs)
    with pytest.raises(UserError, match="outside its folder"):
        plan_of(f32[0], folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    assert plan_of(f32[0], folder).check()
    (folder / "vocab.json").symlink_to(cache / "token")
    with pytest.raises(UserError, match=r"vocab.json is a link to .*token, outside"):
        plan_of(f32[0], folder)
    (folder / "vocab.json").unlink()
    (folder / "vocab.json").symlink_to("tokenizer_config.json")
    shutil.copyfile(blobs / TOKENIZER_CONFIG, tmp_path / "x").replace(folder / TOKENIZER_CONFIG)
    assert plan_of(f32[0], folder).check()


BAD_IDS = {
    "far": 4_000_000_000, "past the rows": 1_428, "beyond any": 10**300, "negative": -1, "float": 1.5, "true": True,
    "text": "5", "none": None, "list": [5],
}  # fmt: skip


@pytest.mark.parametrize("place", ["vocab", "added"])
@pytest.mark.parametrize("source", [None, "base", "union", "left"])
@pytest.mark.parametrize("value", BAD_IDS.values(), ids=BAD_IDS)
@pytest.mark.usefixtures("alarm")
def test_ids_that_cannot_be(assert_refused, f32, variant, place, source, value):
    def spoil(content):
        if place == "vocab":
            content["model"]["vocab"]["zzz\x1b"] = value
        else:
            content["added_tokens"].append(TURN | {"id": value, "content": "zzz\x1b"})

    left = variant(f32[1], "left", tokenizer=spoil)
    message = assert_refused("left", r"zzz\x1b", "id", left=left, change={"tokenizer_source": source})
    assert "\x1b" not in message and len(message) < 1000


BAD_TOKENIZERS = [
    {}, {"model": 5}, {"model": {"vocab": 5}}, {"model": {"vocab": [5]}}, {"model": {"vocab": [[]]}},
    {"model": {"vocab": [[5, 0.1]]}}, {"model": {"vocab": {"a": {}}}}, {"model": {"vocab": {}}, "added_tokens": 5},
    {"model": {"vocab": {}}, "added_tokens": ["a"]}, {"model": {"vocab": {}}, "added_tokens": [{"id": 5}]},
    {"model": {"vocab": {}}, "added_tokens": [{"content": "a"}]},
    {"model": {"vocab": {}}, "added_tokens": [{"content": ["a"], "id": 0}]},
    {"model": {"vocab": {}, "merges": 5}}, {"model": {"vocab": {}, "merges": [[1, 2]]}},
    {"model": {"vocab": {}}, "post_processor": 5}, {"model": {"vocab": {}}, "post_processor": {"type": "Sequence"}},
    {"model": {"vocab": {}}, "post_processor": {"single": [{"SpecialToken": 5}]}},
]  # fmt: skip


@pytest.mark.parametrize("content", BAD_TOKENIZERS, ids=str)
def test_a_file_that_is_no_tokenizer_is_refused_by_name(assert_refused, f32, variant, content):
    left = variant(f32[1], "left")
    (left / TOKENIZER).write_text(json.dumps(content))
    message = assert_refused(str(left / TOKENIZER), "fetch it again", left=left)
    assert "Error" not in message


@pytest.mark.parametrize("content", [5, {"a": 5}, {"x": {"content": "y"}}, {"5": {}}, {"-5": {"content": "y"}}])
def test_added_tokens_that_are_none(assert_refused, f32, variant, content):
    left = edit(variant(f32[1], "left"), TOKENIZER_CONFIG, added_tokens_decoder=content)
    assert_refused(str(left / TOKENIZER_CONFIG), left=left)


def test_a_list_of_pairs_is_a_vocabulary(f32, variant):
    def unigram(content):
        tokens = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
        content["model"] = {"type": "Unigram", "vocab": [[token, -0.5] for token in tokens]}

    base, left = (variant(folder, folder.name, tokenizer=unigram) for folder in f32[:2])
    assert plan_of(base, left, tokenizer_source="base").check().alignment.maps is None


def test_a_tokenizer_that_is_far_too_large_is_refused_at_once(assert_refused, f32, variant):
    left = variant(f32[1], "left")
    os.truncate(left / TOKENIZER, companions.MAX_BYTES + 1)
    assert_refused(str(left / TOKENIZER), "64 at most", left=left)


FIELDS = [
    "model", "added_tokens", "post_processor", "normalizer", "pre_tokenizer", "eos_token_id", "temperature",
    "added_tokens_decoder", "chat_template", "eos_token", "auto_map", "model_max_length", "tokenizer_class",
]  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([TOKENIZER, TOKENIZER_CONFIG, GENERATION, "special_tokens_map.json", "added_tokens.json"]),
    key=st.sampled_from(FIELDS),
    value=anything,
    source=st.sampled_from([None, "base", "union"]),
)
def test_whatever_stands_beside_the_weights_there_is_a_plan_or_a_sentence(
    f32, tmp_path_factory, name, key, value, source
):
    left = shutil.copytree(f32[1], tmp_path_factory.mktemp("odd") / "left")
    edit(left, name, **{key: value})
    try:
        plan = plan_of(f32[0], left, tokenizer_source=source)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1500
    else:
        assert plan.alignment.rows < ROWS + companions.MAX_BYTES / 2


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_the_card_lists_what_differs(f32, variant, tmp_path, value):
    other = edit(variant(f32[1], "other"), GENERATION, eos_token_id=[0, 7], temperature=0.6)
    content = recipe("task_arithmetic", f32[0], other, parameters={"weight": value})
    card = (acm.merge(content, tmp_path / "out") / "README.md").read_text()
    assert "the result ends responses at 7" in card and "temperature is 0.6" in card
