"""Question 1 by size: the parts of plug-in MI on pairs whose dependence is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers_questions import labelled
from sklearn.metrics import mutual_info_score

from acm.calibration.coefficients import layer_coefficients
from acm.questions import sizes
from acm.questions.messages import on_chance

WIDTH = 32


def pair(rho, tokens=4000, offset=0.0):
    """Gaussian arrays with correlation rho, token by token; offset: of channels, the same on both sides."""
    x, noise = torch.randn((2, tokens, WIDTH), generator=torch.Generator().manual_seed(0))
    y, places = rho * x + (1 - rho**2) ** 0.5 * noise, offset * torch.arange(WIDTH)
    return (x + places).bfloat16(), (y + places).bfloat16()


@pytest.mark.parametrize("rho, offset, present", [
    (0.0, 0.0, set()), (0.0, 8.0, {"marginals"}), (0.999, 0.0, {"pairing"}), (0.999, 1.0, {"marginals", "pairing"}),
])  # fmt: skip
def test_the_parts_are_what_was_put_in(rho, offset, present):
    table = sizes.by_size(pair(rho, offset=offset), [300_000], texts=4)
    row = sizes.parts(table).loc[300_000]
    assert row["real"] == pytest.approx(row["chance"] + row["marginals"] + row["pairing"])
    for part in ("marginals", "pairing"):
        assert row[part] > 0.3 if part in present else abs(row[part]) < 0.02


def test_chance_falls_with_size_and_pairing_rises():
    found = sizes.parts(sizes.by_size(pair(0.95), [1000, 10_000, 100_000], texts=6))
    assert (found["chance"].diff().iloc[1:] < 0).all() and (found["pairing"].diff().iloc[1:] > 0).all()
    assert found["kept"].iloc[0] > 0.98 and found["kept"].is_monotonic_decreasing
    assert ((found["kept_low"] <= found["kept"]) & (found["kept"] <= found["kept_high"])).all()


def test_a_text_has_about_n_entries_and_its_estimate_is_the_papers():
    table = sizes.by_size(pair(0.5), [2000], texts=50)
    real = table[table["kind"] == "real"]
    channels = round(2000 / sizes.question_tokens().mean())
    assert 1500 < (real["tokens"] * channels).mean() < 2500 and real["tokens"].nunique() > 10
    x, y = pair(0.5)
    values = [side[:200, :4].float().numpy().ravel() for side in (x, y)]
    labels = [np.unique(side, return_inverse=True)[1] for side in values]
    assert sizes.mutual_information(x[:200, :4], y[:200, :4]) == pytest.approx(mutual_info_score(*labels))


def test_no_text_is_longer_than_the_pair():
    table = sizes.by_size(pair(0.5, tokens=100), [100_000], texts=3)
    assert (table["tokens"] == 100).all() and table["value"].notna().all()


def test_coefficients_are_the_papers_rule_and_lie_apart_as_their_columns_do():
    table = sizes.by_size(pair(0.99), [300_000], texts=20)
    row = sizes.coefficients(table, 0.7).loc[300_000]
    mi = sizes.wide(table)
    assert row["coefficient"] == pytest.approx(layer_coefficients(mi["real"].to_numpy()[None], 0.7)[0])
    assert row["from_noise"] == pytest.approx(row["coefficient"] - row["gaussian"])
    assert row["from_noise_low"] <= row["from_noise"] <= row["from_noise_high"] < 0  # pairing makes MI fall less


def test_a_random_layer_is_closer_to_itself_the_smaller_its_update():
    found = [sizes.correlation(sizes.random_layer(update, 200, 64, 64)) for update in (0.0, 0.1, 1.0)]
    assert found[0] == pytest.approx(1) and found[0] > found[1] > 0.9 > found[2] > 0


def test_outputs_are_those_of_transformers_with_one_row_for_each_token():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from abacus import CHECKPOINTS

    folder, texts = CHECKPOINTS / "abacus-fast", ["Ann has 3 pens.", "Bob has 12 cups and 4 pens."]
    found = sizes.layer_outputs(folder, texts, ["2", "norm", "lm_head"])
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).float()
    ids = [tokenizer(text, return_tensors="pt").input_ids for text in texts]
    with torch.inference_mode():
        logits = torch.cat([model(one).logits[0] for one in ids])
        hidden = [model(one, output_hidden_states=True).hidden_states[-1][0] for one in ids]
    assert torch.equal(found["lm_head"], logits.bfloat16()) and torch.equal(found["norm"], torch.cat(hidden).bfloat16())
    assert found["2"].shape == (sum(one.numel() for one in ids), model.config.hidden_size)


def test_layers_are_ordered_by_what_their_sides_share_in_every_draw():
    pairs = {"0": pair(0.999), "1": pair(0.9), "2": pair(0.0)}
    found = sizes.order(pairs, {"0": 0.5, "1": 0.6, "2": 0.7}, 300_000, 0.7, draws=2)
    for _, part in found.groupby("draw"):
        assert part["coefficient"].is_monotonic_increasing and np.ptp(part["shuffled"]) < 0.01
        assert part["own"].tolist() == [0.5, 0.6, 0.7]
        assert part["correlation"].tolist() == pytest.approx([0.999, 0.9, 0.0], abs=0.02)
    assert found["coefficient"].nunique() == 6  # each draw has lengths of its own


def test_repeated_tokens_are_no_pairing_but_a_control_shows_them():
    x, y = pair(0.0)
    twice = sizes.parts(sizes.by_size((x[:400].repeat(10, 1), y[:400].repeat(10, 1)), [50_000], texts=6)).loc[50_000]
    once = sizes.parts(sizes.by_size((x, y), [50_000], texts=6)).loc[50_000]
    assert abs(once["pairing"]) < 0.02 < 0.2 < twice["pairing"]
    assert once["channels"] == pytest.approx(once["kept"], abs=0.01) and twice["channels"] > twice["kept"] + 0.05


def test_tokens_behind_a_beginning_that_was_there_before_are_left_out():
    from abacus import CHECKPOINTS

    texts = ["Ann has 3 pens.", "Ann has 4 cups.", "Ann has 3 pens."]
    found = sizes.layer_outputs(CHECKPOINTS / "abacus-fast", texts, ["embed", "2"])
    rows = found["2"].float().unique(dim=0)
    assert len(rows) == len(found["2"]) == len(found["embed"])
    first = sizes.layer_outputs(CHECKPOINTS / "abacus-fast", texts[:1], ["2"])["2"]
    assert torch.equal(found["2"][: len(first)], first) and len(first) < len(found["2"]) < 2 * len(first)


def test_gaussian_information_is_the_closed_form():
    assert sizes.gaussian_information(0.985) == pytest.approx(1.7566, abs=1e-3) and sizes.gaussian_information(0) == 0


def test_pairs_share_a_panel_of_chance_and_one_of_coefficients(monkeypatch):
    monkeypatch.setattr(sizes, "paper_size", lambda: 10_000)
    tables = {name: sizes.by_size(pair(rho, 500), [1000, 10_000], texts=4) for name, rho in (("a", 0.9), ("b", 0.99))}
    made = {name: sizes.parts(table).join(sizes.coefficients(table, 0.7, 5)) for name, table in tables.items()}
    figure = sizes.draw(made, 0.7)
    assert labelled(figure) == 2
    upper, lower = ({line.get_label(): line.get_ydata() for line in axes.lines} for axes in figure.axes)
    shares = {name: 100 * table["chance"] / table["real"] for name, table in made.items()}
    assert upper["b"].tolist() == pytest.approx(shares["b"].tolist())
    assert lower["a"].tolist() == pytest.approx(made["a"]["coefficient"].tolist())
    noise = (made["a"]["gaussian"] + made["b"]["gaussian"]) / 2
    assert lower[sizes.NOISE].tolist() == pytest.approx(noise.tolist())
    ends = sorted(share.loc[10_000] for share in shares.values())
    assert figure.get_label() == on_chance(ends)


def test_the_papers_size_is_that_of_its_mean_question():
    characters = pd.read_csv(sizes.load.__globals__["FOLDER"] / "s1k_question_characters.csv")["characters"]
    assert sizes.paper_size() == pytest.approx((characters / 3.2).mean() * 3584, rel=0.01)


def test_outputs_end_where_a_block_has_enough_entries(monkeypatch):
    from abacus import CHECKPOINTS

    monkeypatch.setattr(sizes, "BANK", 128)
    found = sizes.layer_outputs(CHECKPOINTS / "abacus-fast", ["Ann has 3 pens."] * 5, ["2"])
    once = sizes.layer_outputs(CHECKPOINTS / "abacus-fast", ["Ann has 3 pens."], ["2"])
    assert torch.equal(found["2"], once["2"])


def test_large_coefficients_are_the_rule_on_pieces_of_the_papers_size(quick, monkeypatch):
    monkeypatch.setattr(sizes, "TEXTS", 10)
    monkeypatch.setattr(sizes, "BANK", 128 * 500)
    monkeypatch.setattr(sizes, "paper_size", lambda: 5000)
    found = sizes.large_coefficients(quick, ["0", "lm_head"])["abacus-slow"]
    texts = sizes.read_texts(quick.setting.calibration.source, "question")
    base, finetuned = quick.models
    pair = tuple(sizes.layer_outputs(path, texts, ["0"])["0"] for path in (base, finetuned["abacus-slow"]))
    alone = sizes.order({"0": pair}, {"0": 0.5}, 5000, 0.7, draws=1)
    assert found["0"] == pytest.approx(alone["coefficient"].iloc[0])
    assert list(found) == ["0", "lm_head"] and 0.5 < found["lm_head"] < 1
