"""The checkers of lessons 1 to 3: each accepts the lesson's solution, and tells typical mistakes what is wrong."""

import math
import re

import nbformat
import numpy as np
import pytest
import torch

from acm import course
from acm.checkpoints import layer_of
from acm.course import NotYet, check, checkers, exercise, judged, need, read, same
from acm.course.copies import lessons, tagged
from acm.errors import UserError

LESSONS = "123"


def solutions():
    """Exercise number → what its solution cell defines, of lessons 1 to 3."""
    found = {}
    for path in (p for p in lessons() if p.name[0] in LESSONS):
        notebook = nbformat.read(path, 4)
        for solution, checked in zip(tagged(notebook, "solution"), tagged(notebook, "check"), strict=True):
            number, name = re.fullmatch(r'course\.check\("([\d.]+)", (\w+)\)', checked.source).groups()
            space = {"np": np, "torch": torch, "layer_of": layer_of}
            exec(solution.source, space)
            found[number] = space[name]
    return found


SOLUTIONS = solutions()


@pytest.mark.parametrize("number", SOLUTIONS)
def test_accepts_the_solution(number, capsys):
    check(number, SOLUTIONS[number])
    assert re.fullmatch(rf"✓ Exercise {re.escape(number)}: .+\.\n", capsys.readouterr().out)


def changed(base, vectors, coefficients):
    for vector, c in zip(vectors, coefficients, strict=True):
        for name in base:
            base[name] += c * vector[name]
    return base


def only(*parts):
    """A wrong `reorder`, which moves these parts alone."""

    def reorder(weights, block, order):
        found = dict(weights)
        for part in parts:
            name = f"model.layers.{block}.mlp.{part}_proj.weight"
            found[name] = weights[name][:, order] if part == "down" else weights[name][order]
        return found

    return reorder


def by_name(rule):
    return lambda base, other: {name: rule(base[name], other[name]) for name in base}


def by_layer(rule):
    """A wrong `relative_norms`: the rule is given each array's ‖δ‖ and ‖θ₀‖."""

    def norms(base, vector):
        groups = {}
        for name in base:
            groups.setdefault(layer_of(name), []).append((vector[name].norm().item(), base[name].norm().item()))
        return {layer: rule(np.array(pairs).T) for layer, pairs in groups.items()}

    return norms


def flat(weights):
    return torch.cat([weights[name].flatten() for name in sorted(weights)])


def total_entropy(p):
    return float(-(p * np.log(p)).sum())


def entropy(labels):
    return total_entropy(np.unique(labels, return_counts=True)[1] / np.size(labels))


def unpaired(axis):
    """A wrong `information`: `np.unique` of the stacked arrays without its `axis`."""

    def information(a, b):
        pairs = np.stack([a, b], axis=axis)
        return entropy(a) + entropy(b) - total_entropy(np.unique(pairs, return_counts=True)[1] / len(pairs))

    return information


def shuffled_in_place(measure, a, b, times, seed):
    rng, found = np.random.default_rng(seed), []
    for _ in range(times):
        rng.shuffle(b)
        found.append(measure(a, b))
    return np.array(found)


def nulls(draw):
    """A wrong `null`: draw(rng, a, b) gives the pair to measure."""

    def null(measure, a, b, times, seed):
        rng = np.random.default_rng(seed)
        return np.array([measure(*draw(rng, a, b)) for _ in range(times)])

    return null


def counted(rule):
    """A wrong `corrected`: the rule is given plug-in, K_xy − K_x − K_y and n."""
    return lambda plug_in, a, b: rule(plug_in, len(set(zip(a, b, strict=True))) - len(set(a)) - len(set(b)), len(a))


TOP = torch.topk
WRONG = [
    ("1.1", by_name(lambda b, f: b.float() - f.float()), "sign is turned round"),
    ("1.1", by_name(lambda b, f: f - b), "convert the inputs to float32"),
    ("1.1", by_name(lambda b, f: (f - b).float()), "digits are lost"),
    ("1.1", lambda b, f: {k: f[k].float() - b[k].float() for k in list(b)[1:]}, "lacks model.embed_tokens"),
    ("1.2", changed, "changed the base"),
    ("1.2", lambda b, v, c: {k: b[k] + c[0] * v[0][k] for k in b}, "second task vector is missing"),
    (
        "1.2",
        lambda b, v, c: {k: b[k] + sum(x * y[k] for x, y in zip(c, v, strict=True)) / len(v) for k in b},
        "divided by the number",
    ),
    ("1.2", lambda b, v, c: {k: sum(x * y[k] for x, y in zip(c, v, strict=True)) for k in b}, "base is missing"),
    ("1.3", lambda c, a, n, m: int(np.argmin(np.where(a >= a.max() - m, n, np.inf))), "place in the array"),
    ("1.3", lambda c, a, n, m: c[np.argmin(n)], "shortest of all"),
    ("1.3", lambda c, a, n, m: n[a >= a.max() - m].min(), "You return the length"),
    ("1.3", lambda c, a, n, m: c[np.argmin(n[a >= a.max() - m])], "index into the selected models"),
    ("1.3", lambda c, a, n, m: c[np.argmin(np.where(a >= a.max() * (1 - m / 100), n, np.inf))], "is in points"),
    ("1.3", lambda c, a, n, m: c[np.argmax(a)], "most accurate"),
    ("1.3", lambda c, a, n, m: c[np.argmin(np.where(a > a.max() - m, n, np.inf))], "exactly `margin` points"),
    ("1.4", by_layer(lambda p: (p[0] / p[1]).mean()), "mean of its arrays' ratios"),
    ("1.4", by_layer(lambda p: p[0][-1] / p[1][-1]), "Only the last array"),
    ("1.4", by_name(lambda b, v: (v.norm() / b.norm()).item()), "not names of arrays"),
    ("1.4", by_layer(lambda p: p[0].sum() / p[1].sum()), "Norms do not add"),
    ("1.4", by_layer(lambda p: (p[0] ** 2).sum() / (p[1] ** 2).sum()), "take the root"),
    ("1.5", lambda u, v: flat(u) @ flat(v), "divide by both norms"),
    ("1.5", lambda u, v: flat(u) @ flat(v) / (flat(u) @ flat(u) * (flat(v) @ flat(v))), "roots are missing"),
    (
        "1.5",
        lambda u, v: np.mean([torch.cosine_similarity(u[k].flatten(), v[k].flatten(), dim=0).item() for k in u]),
        "mean of the arrays",
    ),
    (
        "1.5",
        lambda u, v: torch.cosine_similarity(flat(u), torch.cat([t.flatten() for t in v.values()]), dim=0),
        "pair arrays by name",
    ),
    ("1.5", lambda u, v: torch.cosine_similarity(flat(u), flat(v), dim=0).abs(), "−1"),
    ("1.6", only("gate", "down"), "rows of up_proj"),
    ("1.6", lambda w, b, order: w | {k: w[k][order] for k in w if f"{b}.mlp.down" in k}, "neurons in columns"),
    (
        "1.6",
        lambda w, b, order: w.update(only("gate", "up", "down")(w, b, order)) or w,
        r"Start from `dict\(weights\)`",
    ),
    ("1.6", only("gate", "up"), "down_proj is in its old order"),
    ("1.6", lambda w, b, order: only("gate", "up", "down")(w, b, order.argsort()), "the other way round"),
    ("1.6", lambda w, b, order: only("gate", "up", "down")(w, 0, order), "does not belong to the MLP of the block"),
    ("1.7", lambda a, b, m, c: (m - (a + b) / 2).norm() / (b - a).norm(), "weigh them by"),
    ("1.7", lambda a, b, m, c: (m - c * a - (1 - c) * b).norm() / (b - a).norm(), "exchanged"),
    ("1.7", lambda a, b, m, c: (m - (1 - c) * a - c * b).norm(), "divide it by the distance"),
    ("2.1", lambda x, y: ((x * y) < 0).float().mean(), "count in the denominator"),
    ("2.1", lambda x, y: ((x * y) > 0).sum() / ((x * y) != 0).sum(), "share of agreement"),
    ("2.1", lambda x, y: (x.sign() != y.sign()).float().mean(), "so it is no conflict"),
    (
        "2.2",
        lambda d, p: torch.where(d >= TOP(d.flatten(), int(p * d.numel())).values[-1], d, 0.0),
        "rank by absolute value",
    ),
    (
        "2.2",
        lambda d, p: torch.where(d.abs() >= TOP(d.abs().flatten(), round((1 - p) * 100)).values[-1], d, 0.0),
        "fraction that stays",
    ),
    (
        "2.2",
        lambda d, p: torch.where(d.abs() <= d.abs().flatten().sort().values[int(p * d.numel()) - 1], d, 0.0),
        "keeps the smallest",
    ),
    ("2.2", lambda d, p: torch.where(d.abs() >= d.abs().quantile(1 - p), d.sign(), 0.0), "keep their value"),
    ("2.3", lambda d: d.sum(0).sign(), "yours is 0"),
    ("2.3", lambda d: torch.where(d.sum(0) > 0, 1.0, -1.0), "yours is −1"),
    ("2.3", lambda d: torch.where(d.sign().sum(0) >= 0, 1.0, -1.0), "not the number of models"),
    ("2.4", lambda d, s: (d * (d * s > 0)).sum(0) / len(d), "number that agree"),
    ("2.4", lambda d, s: (d * (d * s > 0)).sum(0), "divide by how many"),
    ("2.4", lambda d, s: (d * (d * s > 0)).sum(0) / (d * s > 0).sum(0), "0 / 0"),
    ("2.4", lambda d, s: d.mean(0), "mean of all entries"),
    ("2.5", lambda d, p, g: torch.where(torch.rand(d.shape, generator=g) < p, d, 0.0), "divide it by the density"),
    ("2.5", lambda d, p, g: torch.where(torch.rand(d.shape, generator=g) > p, d / (1 - p), 0.0), "not what is dropped"),
    ("2.5", lambda d, p, g: torch.where(torch.rand(len(d), 1, generator=g) < p, d / p, 0.0), "draw for each entry"),
    ("2.5", lambda d, p, g: torch.where(torch.rand(d.shape) < p, d / p, 0.0), "from `generator`"),
    ("2.5", lambda d, p, g: torch.where(d.abs() >= d.abs().quantile(1 - p), d / p, 0.0), "should not look at it"),
    ("2.6", lambda p: 1 - p, "noise without rescaling"),
    ("2.6", lambda p: 1 / p, "distance from δ is asked for"),
    ("2.6", lambda p: p / (1 - p), "a simulation gives"),
    ("2.7", lambda t, d: t.norm() / d.norm(), "ratio of the norms"),
    ("2.7", lambda t, d: torch.cosine_similarity(t.flatten(), d.flatten(), dim=0), "the cosine"),
    ("2.7", lambda t, d: (t * d).sum() / (t * t).sum(), "the other way round"),
    ("3.1", lambda x: entropy(x) / np.log(2), "in bits"),
    ("3.1", lambda x: -entropy(x), "never negative"),
    ("3.1", lambda x: total_entropy(np.unique(x, return_counts=True)[1]), "counts, not shares"),
    ("3.1", lambda x: total_entropy(np.bincount(x + 3) / len(x)), "NaN"),
    ("3.2", lambda a, b: entropy(a) + entropy(b) - entropy(a + b), "does not tell pairs apart"),
    ("3.2", lambda a, b: entropy(a) + entropy(b) - entropy(a * b.max() + b), r"so b.max\(\) \+ 1 of them"),
    ("3.2", lambda a, b: entropy(a) + entropy(b) - entropy(a * b), "A product"),
    ("3.2", unpaired(0), "without `axis`"),
    ("3.2", unpaired(1), "without `axis`"),
    ("3.2", lambda a, b: entropy(a * 100 + b) - entropy(a) - entropy(b), "never negative"),
    ("3.2", lambda a, b: entropy(a) + entropy(b) - entropy(np.concatenate([a, b])), "joined end to end"),
    ("3.2", lambda a, b: entropy(a) + entropy(b) - entropy(a * 10 + b), "two different pairs"),
    ("3.3", lambda x, y, bias: math.ceil(x * y / (2 * bias)), "takes K_x · K_y"),
    ("3.3", lambda x, y, bias: math.ceil((x - 1) * (y - 1) / bias), "2 of 2n is missing"),
    ("3.3", lambda x, y, bias: round((x - 1) * (y - 1) / (2 * bias)), "Round up"),
    ("3.3", lambda x, y, bias: (x - 1) * (y - 1) // (2 * bias) + 1, "comes out even"),
    ("3.4", counted(lambda v, k, n: v + (k + 1) / (2 * n)), "sign is turned round"),
    ("3.4", counted(lambda v, k, n: v - k / (2 * n)), r"\+ 1 is missing"),
    ("3.4", counted(lambda v, k, n: v - (k + 1) / n), "over 2n"),
    ("3.4", counted(lambda v, k, n: max(0.0, v - (k + 1) / (2 * n))), "negative"),
    ("3.5", shuffled_in_place, "shuffled `b` itself"),
    (
        "3.5",
        nulls(lambda rng, a, b: (lambda order: (a[order], b[order]))(rng.permutation(len(a)))),
        "not both in the same way",
    ),
    ("3.5", nulls(lambda rng, a, b: (a, rng.choice(b, len(b)))), "without replacement"),
    ("3.5", nulls(lambda rng, a, b: (a, np.random.default_rng(0).permutation(b))), "make a new shuffle"),
    ("3.6", lambda x, y: entropy(x) + entropy(y), "ln n is missing"),
    ("3.6", lambda x, y: entropy(x) + entropy(y) - np.log(len(np.unique(x))), "not of distinct values"),
    ("3.6", lambda x, y: entropy(x) + entropy(y) + np.log(len(x)), "to be subtracted"),
    ("3.6", lambda x, y: entropy(x) + entropy(y) - np.log10(len(x)), "log10 or log2"),
    ("3.6", lambda x, y: (entropy(x) + entropy(y) - np.log(len(x))) / np.log(10), "log10 or log2"),
    ("3.7", lambda n, v: (np.polyfit(np.log(n), v, 1)[0], np.corrcoef(n, v)[0, 1] ** 2), "R² is that of the line"),
    ("3.7", lambda n, v: (np.polyfit(np.log(n), v, 1)[0], 100 * np.corrcoef(np.log(n), v)[0, 1] ** 2), "not percent"),
    ("3.7", lambda n, v: (np.polyfit(n, v, 1)[0], np.corrcoef(n, v)[0, 1] ** 2), "take their logarithm"),
    ("3.7", lambda n, v: (np.polyfit(np.log(n), v, 1)[0], np.corrcoef(np.log(n), v)[0, 1]), "R² is its square"),
    ("3.7", lambda n, v: (np.polyfit(np.log(n), v, 1)[1], 0.5), "intercept"),
    ("3.7", lambda n, v: np.polyfit(np.log(n), v, 1)[0], "Return a pair"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("number", "answer", "said"), WRONG, ids=[f"{n}-{s[:24]}" for n, _, s in WRONG])
def test_tells_what_is_wrong(number, answer, said):
    with pytest.raises(NotYet, match=said):
        judged(number, answer)


def test_two_mistakes_are_known_of_each_exercise():
    for number in SOLUTIONS:
        assert sum(n == number for n, _, _ in WRONG) >= 2, number
    assert SOLUTIONS.keys() == {n for n in checkers() if n[0] in LESSONS}


@pytest.mark.parametrize("number", SOLUTIONS)
def test_an_answer_of_nothing_is_no_answer(number):
    with pytest.raises(NotYet) as found:
        judged(number, lambda *_: None)
    assert len(str(found.value)) > 20 and "cannot be checked" not in str(found.value)


def raises(error):
    def answer(*_):
        raise error

    return answer


def test_what_is_not_written_yet_says_so():
    with pytest.raises(NotYet, match="still holds `raise NotImplementedError`"):
        judged("1.1", raises(NotImplementedError("Exercise 1.1")))


def test_the_unsolved_exercise_that_an_answer_calls_is_named(capsys):
    check("3.2", raises(NotImplementedError("Exercise 3.1")))
    told = capsys.readouterr().out
    assert told.startswith(
        "✗ Exercise 3.2, not yet. Your code calls the answer to exercise 3.1, whose cell still holds"
    )
    for own in (NotImplementedError("Exercise 3.2"), NotImplementedError):
        with pytest.raises(NotYet, match=r"^Its cell still holds"):
            judged("3.2", raises(own))


def test_an_exception_is_told_with_the_learners_line():
    with pytest.raises(NotYet, match=r"ZeroDivisionError \(a b\) in line \d+ of its cell: `raise error`\."):
        judged("3.3", raises(ZeroDivisionError("a\nb.")))
    with pytest.raises(NotYet, match=r"cannot be checked \(TypeError: .* takes 0 positional arguments"):
        judged("3.3", lambda: 0)
    with pytest.raises(NotYet, match="cannot be checked"):
        judged("3.3", 7)


def test_a_check_prints_one_sentence_and_stops_nothing(capsys):
    check("3.3", raises(NotImplementedError("Exercise 3.3")))
    check("3.3", lambda *_: 1)
    check("3.3", SOLUTIONS["3.3"])
    waits, wrong, solved = capsys.readouterr().out.splitlines()
    assert waits.startswith("○ Exercise 3.3 waits for you. Its cell still holds `raise NotImplementedError`: ")
    assert wrong.startswith("✗ Exercise 3.3, not yet. For 20 and 60 labels") and solved.startswith("✓ Exercise 3.3: ")
    with pytest.raises(UserError, match="unknown exercise"):
        check("3.99", None)


def test_an_unknown_exercise_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown exercise '1\.77'. Did you mean '1\.7'"):
        judged("1.77", None)


def test_a_number_has_one_checker():
    with pytest.raises(ValueError, match="two checkers"):
        exercise("1.1")(lambda answer: "")


def test_answers_are_read_kindly():
    need(True, "never")
    same([1.0, 2.0], np.array([1, 2]), "x", "never")
    assert read(torch.ones(2, 3, dtype=torch.bfloat16), "x", (2, 3)).sum() == 6
    for value, shape, said in (
        (None, (), "is None"),
        ("a", (), "made of numbers"),
        ([1, 2], (), "be one number"),
        ([1.0], (2,), r"shape \(2,\)"),
        (math.nan, (), "NaN"),
    ):
        with pytest.raises(NotYet, match=said):
            read(value, "x", shape)


def test_the_course_names_its_checkers_in_full():
    assert course.__name__ == "acm.course" and all(re.fullmatch(r"\d\.\d", number) for number in checkers())
