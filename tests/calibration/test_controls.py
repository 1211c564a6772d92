"""Pairs of the controls, and estimates of pairs that come in chunks."""

import pytest
import torch
from helpers_calibration import whole_pair

from acm.calibration.controls import Logits, Sides, check_measures, measure, pairs
from acm.calibration.information import mutual_information
from acm.calibration.registry import CONTROLS, ESTIMATORS
from acm.errors import UserError

ADDITIVE = tuple(name for name, row in ESTIMATORS.items() if row.additive)
FIXED = ["none", "other-sample", "shuffled", "unrelated"]  # the same whatever the size of the chunks


def arrays(seed=0, shape=(23, 8), dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    return x.to(dtype), (x + 0.3 * torch.randn(shape, generator=generator)).to(dtype)


def measured(control, x, y, names, entries=10**6):
    return measure(control, Sides(x, y), "key", names, entries).values


@pytest.mark.parametrize("control", ["none", "other-sample", "unrelated"])
def test_pairs_tokens_as_they_are(control):
    x, y = arrays()
    assert all(map(torch.equal, whole_pair(control, x, y), (x, y)))


@pytest.mark.parametrize("control", FIXED)
@pytest.mark.parametrize("entries", [1, 7, 8, 9, 40, 23 * 8, 10**6])
def test_the_pair_is_the_same_in_chunks_of_any_size(control, entries):
    x, y = arrays()
    pieces = list(pairs(control, Sides(x, y), "key", entries))
    assert all(len(left) == len(right) == max(1, min(23, entries // 8)) for left, right in pieces[:-1])
    assert all(map(torch.equal, whole_pair(control, x, y, entries=entries), whole_pair(control, x, y)))


def test_shuffled_permutes_whole_tokens_of_the_second():
    x, y = arrays()
    left, right = whole_pair("shuffled", x, y)
    order = [next(i for i in range(23) if torch.equal(y[i], row)) for row in right]
    assert torch.equal(left, x)
    assert sorted(order) == list(range(23)) != order


@pytest.mark.parametrize("control", ["shuffled", "gaussian"])
def test_random_numbers_follow_from_the_key(control):
    x, y = arrays()
    first, again, other = (whole_pair(control, x, y, key) for key in ("0/1", "0/1", "0/2"))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("control", CONTROLS)
def test_the_global_generator_and_the_arrays_are_left_alone(control):
    x, y = arrays()
    before = torch.get_rng_state(), x.clone(), y.clone()
    torch.manual_seed(5)
    first = whole_pair(control, x, y)
    torch.manual_seed(6)
    assert all(map(torch.equal, first, whole_pair(control, x, y)))
    torch.set_rng_state(before[0])
    whole_pair(control, x, y)
    assert torch.equal(before[0], torch.get_rng_state()) and torch.equal(x, before[1]) and torch.equal(y, before[2])


def test_gaussian_is_two_independent_standard_normal_arrays():
    x, y = arrays(shape=(400, 250))
    left, right = whole_pair("gaussian", x, y, entries=30_000)
    assert left.dtype == right.dtype == torch.bfloat16 and left.shape == right.shape == x.shape
    both = torch.stack([left.flatten(), right.flatten(), x.flatten(), y.flatten()]).double()
    assert both[:2].mean(1).abs().max() < 0.02 and (both[:2].std(1) - 1).abs().max() < 0.02
    assert both.corrcoef()[:2].fill_diagonal_(0).abs().max() < 0.02
    assert len(left.unique(dim=0)) == 400


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("entries", [10, 10**6])
def test_unlike_arrays_are_cut_to_what_they_share(control, entries):
    x, y = arrays(0, (23, 8))[0], arrays(1, (17, 11))[1]
    left, right = whole_pair(control, x, y, entries=entries)
    assert left.shape == right.shape == (17, 8)
    if control != "gaussian":
        assert torch.equal(left, x[:17])
        assert torch.equal(right[right[:, 0].argsort()], y[:, :8][y[:, 0].argsort()])
    other, base = whole_pair(control, y, x, entries=entries)
    assert other.shape == base.shape == (17, 8)
    assert control == "gaussian" or {tuple(row) for row in base.tolist()} <= {tuple(row) for row in x[:17].tolist()}


def test_an_unknown_control_is_refused():
    with pytest.raises(UserError, match=r"'shufled'.*Did you mean 'shuffled'"):
        pairs("shufled", Sides(*arrays()), "key")


class Head:
    """Stands for a model: logits are the normed states times a matrix."""

    def __init__(self, vocabulary):
        self.vocabulary, self.asked = vocabulary, []
        self.matrix = torch.arange(4.0 * vocabulary).view(4, vocabulary).sin()

    def logits(self, normed, width):
        self.asked.append((len(normed), width))
        return (normed.unsqueeze(2) * self.matrix[:, :width]).sum(1).bfloat16()


@pytest.mark.parametrize("control", FIXED)
@pytest.mark.parametrize("entries", [1, 30, 10**6])
def test_logits_are_computed_chunk_by_chunk(control, entries):
    states = [torch.randn((n, 4), generator=torch.Generator().manual_seed(n)) for n in (13, 11)]
    heads = [Head(9), Head(7)]
    expected = whole_pair(
        control, *(head.logits(state, head.vocabulary) for head, state in zip(heads, states, strict=True))
    )
    lazy = [Logits(head, state) for head, state in zip(heads, states, strict=True)]
    assert [(len(v), v.shape) for v in lazy] == [(13, (13, 9)), (11, (11, 7))]
    assert all(map(torch.equal, whole_pair(control, *lazy, entries=entries), expected))
    assert all(rows <= max(1, entries // 7) and width == 7 for head in heads for rows, width in head.asked[1:])
    mixed = whole_pair(control, heads[0].logits(states[0], 9), lazy[1], entries=entries)
    assert all(map(torch.equal, mixed, expected))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_estimates_are_the_same_in_one_chunk_or_many(estimator, dtype):
    x, y = arrays(dtype=dtype)
    expected = mutual_information(x, y, estimator)
    for entries in (1, 50, 10**6):
        assert measured("none", x, y, (estimator,), entries) == [pytest.approx(expected, abs=1e-12)]


@pytest.mark.parametrize("names", [("plug-in", "miller-madow"), ("miller-madow", "plug-in"), tuple(ESTIMATORS)])
@pytest.mark.parametrize("entries", [50, 10**6])
def test_estimates_come_in_the_order_asked_for(names, entries):
    x, y = arrays()
    expected = [mutual_information(x, y, name) for name in names]
    assert measured("none", x, y, names, entries) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("names", [("plug-in",), ADDITIVE, ("plug-in", "cosine"), ("gaussian",)])
@pytest.mark.parametrize("entries", [1, 50, 10**6])
@pytest.mark.parametrize("row", [0, 11, 22])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_in_any_chunk_is_refused(names, entries, row, side):
    both = arrays()
    both[side][row, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        measured("none", *both, names, entries)


@pytest.mark.parametrize("entries", [1, 10**6])
def test_text_without_tokens_is_refused(entries):
    x, y = arrays()
    with pytest.raises(ValueError, match="at least one entry"):
        measured("none", x[:0], y, ("plug-in",), entries)


@pytest.mark.parametrize("entries", [50, 10**6])
def test_unknown_estimator_is_refused(entries):
    with pytest.raises(UserError, match="Did you mean 'plug-in'"):
        measured("none", *arrays(), ("plugin",), entries)


@pytest.mark.parametrize(
    ("controls", "estimators", "texts", "message"),
    [
        (("none", "gausian"), ("plug-in",), 3, "control 'gausian'.*Did you mean 'gaussian'"),
        (("none",), ("plug-in", "kraskow"), 3, "estimator 'kraskow'.*Did you mean 'kraskov'"),
        (("none",), ("zzz",), 3, "unknown estimator 'zzz'. Known: .*plug-in"),
        ((), ("plug-in",), 3, "at least one control: none, shuffled"),
        (("none",), (), 3, "at least one estimator: plug-in"),
        (("none", "other-sample"), ("plug-in",), 1, "'other-sample' needs at least two"),
    ],
)
def test_measures_that_cannot_be_are_refused(controls, estimators, texts, message):
    with pytest.raises(UserError, match=message):
        check_measures(controls, estimators, texts)


def test_all_measures_are_accepted():
    check_measures(tuple(CONTROLS), tuple(ESTIMATORS), 2)
    check_measures(("none", "shuffled", "unrelated", "gaussian"), ("plug-in",), 1)
