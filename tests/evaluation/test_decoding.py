"""The decoding loop: responses are those of each row alone, by transformers' own loop, while ended rows leave."""

import pytest
import torch
from helpers_evaluation import QUESTIONS, SAMPLED, instances, responses
from transformers import AutoConfig, AutoModelForCausalLM

from acm.evaluation import decoding
from acm.evaluation.decoding import StopStrings, decode

SIZE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 4, "initializer_range": 0.5, "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}  # fmt: skip
ATTENTION = {
    "qwen2": SIZE,
    "gpt2": {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "tie_word_embeddings": False},
    "mistral": SIZE | {"sliding_window": 5},
    "cohere2": SIZE | {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
}
STATES = {
    "mamba": {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.5},
    "lfm2": SIZE | {"layer_types": ["conv", "full_attention"]},
}
PAD, ENDS, NEW = 0, [3, 7, 11, 19], 24
PROMPTS = [[5 + (7 * row + 3 * k) % 30 for k in range(2 + row % 6)] for row in range(20)]


def made(kind, size):
    """A model of random weights in float64, and the rows of each of its forward passes."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **size, bos_token_id=1, eos_token_id=ENDS, pad_token_id=PAD)
    model = AutoModelForCausalLM.from_config(config).double().eval()
    rows = []
    model.get_input_embeddings().register_forward_hook(lambda _, taken, __: rows.append(len(taken[0])))
    return model, rows


def padded():
    """PROMPTS, padded on the left, and their mask."""
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    return {"input_ids": ids, "attention_mask": torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])}


def until_end(ids):
    """Up to and with the first end token."""
    return ids[: next((i + 1 for i, token in enumerate(ids) if token in ENDS), len(ids))]


@pytest.mark.parametrize("settings", [{"do_sample": False}, {"do_sample": True, "top_k": 1}])
@pytest.mark.parametrize("kind", ATTENTION)
def test_each_row_is_what_it_is_alone_and_ended_rows_leave(kind, settings):
    model, rows = made(kind, ATTENTION[kind])
    batch = padded()
    found = model.generate(**batch, max_new_tokens=NEW, custom_generate=decode, **settings)
    assert rows[0] == 20 and rows[-1] < 10 and rows == sorted(rows, reverse=True) and len(rows) <= NEW
    responses = found[:, batch["input_ids"].shape[1] :].tolist()
    for prompt, response in zip(PROMPTS, responses, strict=True):
        alone = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)[0, len(prompt) :].tolist()
        assert until_end(response) == alone and set(response[len(alone) :]) <= {PAD}
    cut = [until_end(response) for response in responses]
    assert len(set(map(len, cut))) > 4 and len({ids[-1] for ids in cut} & set(ENDS)) > 1


@pytest.mark.parametrize("kind", STATES)
def test_a_model_that_keeps_a_state_generates_by_the_usual_loop(kind):
    model, rows = made(kind, STATES[kind])
    found, usual = (model.generate(**padded(), max_new_tokens=NEW, do_sample=False, **how) for how in (
        {"custom_generate": decode}, {},
    ))  # fmt: skip
    assert torch.equal(found, usual) and set(rows) == {20}


def test_sampled_tokens_come_as_often_as_they_are_probable():
    model, _ = made("qwen2", SIZE)
    row = torch.tensor([PROMPTS[3]])
    expected = model(row).logits[0, -1].softmax(-1)
    torch.manual_seed(1)
    found = model.generate(row.repeat(20_000, 1), max_new_tokens=1, do_sample=True, top_k=0, custom_generate=decode)
    shares = found[:, -1].bincount(minlength=40) / 20_000
    assert (shares - expected).abs().max() < 5 * (0.25 / 20_000) ** 0.5


def test_when_rows_leave_changes_no_response(hf, monkeypatch):
    found = []
    for share in (1 / 100, 1 / 16, 1 / 2, 1):
        monkeypatch.setattr(decoding, "LEAVING", share)
        found.append(responses(hf, instances(cap=60), size=5))
    assert all(other == found[0] for other in found) and len({row["length"] for row in found[0].values()}) > 2


@pytest.mark.parametrize("stop", ["the answer", "nswer is", " is", "."])
def test_a_stop_string_ends_a_response_where_it_would_have_come_anyway(hf, stop):
    whole, cut = (responses(hf, instances(cap=60, until=until), size=5) for until in ([], [stop]))
    for item, response in cut.items():
        text = whole[item]["response"]
        assert text.startswith(response["response"]) and response["length"] <= whole[item]["length"]
        ids = hf.tokenizer.encode(text)[: response["length"]]
        assert (stop in text) == (stop in hf.tokenizer.decode(ids)) and stop not in hf.tokenizer.decode(ids[:-1])
        assert not response["truncated"] or stop not in text
    assert sum(row["length"] for row in cut.values()) < sum(row["length"] for row in whole.values())


def test_stop_strings_are_sought_in_responses_alone_by_row_and_across_tokens(hf):
    prompt = hf.tokenizer.encode("the answer is")
    rows = [hf.tokenizer.encode(text)[:2] for text in (" the answer is", " is 12", "is the answer")]
    ids = torch.tensor([prompt + row for row in rows])
    sought = StopStrings(hf.tokenizer, ["he ans"], len(prompt))
    texts = [hf.tokenizer.decode(row) for row in rows]
    assert sought(ids, None).tolist() == ["he ans" in text for text in texts]
    assert StopStrings(hf.tokenizer, ["he ans"], 0)(ids, None).all()


def test_beams_and_sampling_settings_of_a_task_reach_transformers(hf):
    beams = responses(hf, instances(QUESTIONS[:2], cap=12, num_beams=3))
    for item, question in enumerate(QUESTIONS[:2]):
        ids = hf.tokenizer(question, return_tensors="pt")["input_ids"]
        alone = hf.model.generate(ids, max_new_tokens=12, num_beams=3, do_sample=False, pad_token_id=1)[0]
        assert beams[item] == hf.counted(alone[ids.shape[1] :].tolist(), [])
    assert responses(hf, instances(**SAMPLED | {"top_k": 1})) == responses(hf, instances())
