"""Lessons 4 to 7: every checker takes the solution and tells typical mistakes apart."""

import ast

import nbformat
import pytest

from acm.course import NotYet, check, checkers, judged
from acm.course.copies import COURSE

SOURCES = [
    COURSE / "source" / name for name in ("4-acm.ipynb", "5-measuring.ipynb", "6-project.ipynb", "7-search.ipynb")
]

# exercise: (what the solution says, what the learner wrote instead, a part of the answer)
MISTAKES = {
    "4.1": [
        (
            "rng.permutation(np.flatnonzero(cluster == c))",
            "np.flatnonzero(cluster == c)",
            "Every seed gives the same draw",
        ),
        ("np.random.default_rng(seed)", "np.random.default_rng()", "Two calls with one seed differ"),
        (
            "rng.permutation(np.flatnonzero(cluster == c))[:each]",
            "rng.choice(np.flatnonzero(cluster == c), each)",
            "without replacement",
        ),
        ("np.sort(np.concatenate(drawn))", "np.concatenate(drawn)", "ascending"),
    ],
    "4.2": [
        ("block.mlp.down_proj.register", "block.register", "residual stream"),
        ("block.mlp.down_proj.register", "block.mlp.up_proj.register", "shape .tokens, d."),
        ("output[0])", "output)", "three axes"),
        ("handle.remove()", "pass", "Hooks are left"),
        ("with torch.no_grad()", "with torch.enable_grad()", "gradients"),
        ("return found", "return found[::-1]", "wrong order"),
    ],
    "4.3": [
        (
            "np.array([[one(k, s) for s in range(len(base))] for k in range(len(base[0]))])",
            "np.array([[one(k, s) for k in range(len(base[0]))] for s in range(len(base))])",
            "texts, blocks",
        ),
        (
            "base[s][k].to(torch.bfloat16), finetuned[s][k].to(torch.bfloat16)",
            "base[s][k], finetuned[s][k]",
            "round both sides",
        ),
        ("finetuned[s][k].to", "base[s][k].to", "base with itself"),
    ],
    "4.4": [
        (
            "1 - expit(t * (mi - subtracted)).mean(axis=1)",
            "expit(t * (mi - subtracted)).mean(axis=1)",
            "Eq. 2 is 1 − σ",
        ),
        (
            "expit(t * (mi - subtracted)).mean(axis=1)",
            "expit(t * (mi - subtracted).mean(axis=1))",
            "take σ of each text",
        ),
        ("mi.max(axis=1, keepdims=True)", "mi.max(axis=0)", "maximum over layers"),
        ("expit(t * (mi - subtracted))", "expit(mi - subtracted)", "temperature t has no effect"),
        ('"none": 0.0', '"none": mi.max()', "gives what shift='global' should"),
        (".mean(axis=1)", ".mean(axis=0)", "each of the 4 layers"),
    ],
    "4.5": [
        ("(x, y[order])", "(x[order], y[order])", "both sides are moved alike"),
        ("y[order]", "y.flatten()[torch.randperm(y.numel(), generator=generator)].view(y.shape)", "Single numbers"),
        (".to(x.dtype) for", " for", "bfloat16"),
        ("(left, right)}", "(left, left)}", "draw twice"),
        ("torch.randn(x.shape, generator=generator)", "torch.randn(x.shape)", "equal generators differ"),
        ("y[order]", "y", "old order"),
    ],
    "4.6": [
        ("replace=False", "replace=True", "without replacement"),
        (
            "low, high = np.quantile(found, [0.025, 0.975], axis=0)",
            "return np.std(found, axis=0)",
            "standard deviation",
        ),
        ("[0.025, 0.975]", "[0.0, 1.0]", "whole range"),
        ("return high - low", "return high", "not its width"),
        ("mi.shape[1], size", "size, size", "does not move"),
    ],
    "4.7": [
        (
            "x + coefficients[layer_of(name)] * (finetuned[name].float() - x)",
            "(1 - coefficients[layer_of(name)]) * finetuned[name].float() + coefficients[layer_of(name)] * x",
            "wrong side",
        ),
        (
            "(x + coefficients[layer_of(name)] * (finetuned[name].float() - x)).to(tensor.dtype)",
            "x + coefficients[layer_of(name)] * (finetuned[name].float() - x)",
            "dtype",
        ),
        ("x = tensor.float()", "x = tensor\n        if '.layers.' not in name: continue", "missing in the merge"),
        ("(x + coeff", "(coeff", "add the base"),
        ("merged = {}", "merged = base", "changes its inputs"),
        (
            "(x + coefficients[layer_of(name)] * (finetuned[name].float() - x))",
            "(tensor + coefficients[layer_of(name)] * (finetuned[name] - tensor))",
            "rounding away",
        ),
        ("coefficients[layer_of(name)]", "coefficients['0']", "with the λ of layer"),
    ],
    "5.1": [
        ("ids.index(end) if", "ids.index(end) + 1 if", "does not count"),
        ("ids.index(end) if ended else len(ids)", "len([i for i in ids if i != end])", "padding"),
        ("not ended and length >= cap", "len(ids) >= cap", "has ended"),
        ("not ended and length >= cap", "not ended", "something else stopped"),
        ("ids.index(end) if", "len(ids[ids.index(8) + 1 if 8 in ids else 0 : ids.index(end)]) if", "Thinking counts"),
    ],
    "5.2": [
        (">= cap)", "> cap)", "exactly `cap`"),
        (', correct=records["correct"].where(~cut, 0.0)', "", "never said its answer"),
        ("return records.assign", "records = records[~cut]\n    return records.assign", "Rows are missing"),
        ('length=records["length"].clip(upper=cap), ', "", "longer than the cap"),
        ('records["truncated"] | (records["length"] >= cap)', 'records["length"] >= cap', "under the old cap"),
        ("cut = ", 'records["length"] = 3\n    cut = ', "on a copy"),
    ],
    "5.3": [
        (
            "(a - b)[drawn].mean(axis=1)",
            "a[drawn].mean(axis=1) - b[rng.permutation(drawn)].mean(axis=1)",
            "unlike sets",
        ),
        ("[0.025, 0.975]", "[0.05, 0.95]", "90 %"),
        ("(a - b)", "(b - a)", "sign is turned"),
        ("(a - b)[drawn].mean(axis=1)", "a - b", "average each draw first"),
    ],
    "5.4": [
        (
            "return middle - half, middle + half",
            "half = z * np.sqrt(p * (1 - p) / n)\n    return p - half, p + half",
            "no width at 0 of 30",
        ),
        ("return middle - half, middle + half", "return 100 * (middle - half), 100 * (middle + half)", "percent"),
        ("4 * n**2)) / denominator", "4 * n**2))", "denominator"),
        ("p, denominator", "z = 1.96\n    p, denominator", "z has no effect"),
    ],
    "5.5": [
        ("right.mean(axis=1)", "right.ravel()", "items of their own"),
        ("right.mean(axis=1)", "right.max(axis=1)", "pass@k"),
        ("right.mean(axis=1)", "right.mean(axis=0)", "draws repeats"),
    ],
    "5.6": [
        (
            "float((lengths / reference).mean() - 1), float(lengths.mean() / reference.mean() - 1)",
            "float(lengths.mean() / reference.mean() - 1), float((lengths / reference).mean() - 1)",
            "wrong order",
        ),
        (
            "float((lengths / reference).mean() - 1), float(lengths.mean() / reference.mean() - 1)",
            "(lengths / reference).mean(), lengths.mean() / reference.mean()",
            "subtract 1",
        ),
        ("(lengths / reference)", "(reference / lengths)", "upside down"),
    ],
    "5.7": [
        ("lengths[order], accuracies[order]", "lengths, accuracies", "sort both arrays"),
        (", left=np.nan, right=np.nan", "", "no frontier"),
        (
            "np.interp(length, lengths[order], accuracies[order], left=np.nan, right=np.nan)",
            "accuracies[abs(lengths - length).argmin()]",
            "nearest point",
        ),
        ("order = np.argsort(lengths)", "lengths.sort()\n    order = np.arange(len(lengths))", "alike|sort"),
    ],
    "6.1": [
        ("if points[name][1] > best", "if True", "beaten by"),
        ("> best", ">= best", "no more accurate"),
        ("(points[n][0], -points[n][1])", "points[n][0]", "it is beaten"),
        ("return kept", "return kept[::-1]", "wrong order"),
    ],
    "6.2": [
        ("np.random.default_rng(seed).permutation(n)", "np.arange(n)", "stretch of neighbours"),
        ("default_rng(seed)", "default_rng()", "one seed differ"),
        ("np.sort(order[cut:])", "np.sort(order[cut - 5:])", "both parts"),
        ("cut = n - round(share * n)", "cut = round(share * n)", "your holdout has 71"),
    ],
    "6.3": [
        ('np.clip(0.1 + 0.4 * features["position"], 0, 1)', '0.5 + 0 * features["position"]', "All λ are the same"),
        ('np.clip(0.1 + 0.4 * features["position"], 0, 1)', '0.1 + 1.4 * features["position"]', "must lie in"),
        (
            "return dict",
            "return {k: 0.1 * i for i, k in enumerate(['embed', '0', '1', '2', '3', '4', '5', 'norm', 'lm_head'])}\n  "
            "  return dict",
            "features.index|some of them are no layers",
        ),
        (
            'features["position"], 0',
            'features.loc[["embed", "0", "1", "2", "3", "4", "5", "norm", "lm_head"], "position"], 0',
            "features.index",
        ),
        ("0.1 + 0.4 * features", "np.random.rand() * features", "no chance"),
    ],
    "6.4": [
        ('"coefficients": {finetuned.name: layers}', '"coefficients": layers', "one more dictionary"),
        ('"coefficients": {finetuned.name: layers}', '"coefficients": {str(finetuned): layers}', "folder's name"),
        ('"model": str(finetuned)', '"model": str(base)', "refuses|base itself"),
        ('"task_arithmetic"', '"task-arithmetic"', "Did you mean"),
    ],
    "6.5": [
        ('records[records["item"].isin(chosen)]', "records", "all items"),
        ("describe(lead)", "describe(lead, 1)", "fraction"),
        ('{"verdict": verdict(lead)}', '{"verdict": "above" if lead[0] > 0 else "below"}', "outside|interval"),
        (
            "lead = above_bar(sample, method, bar)",
            "from acm.reporting.statistics import average\n    lead = average(sample, method)",
            "not the lead",
        ),
        (
            "lead = above_bar(sample, method, bar)",
            "from acm.reporting.statistics import above_frontier\n    lead = above_frontier(sample, method, bar)",
            "lead over the curve",
        ),
    ],
    "6.6": [
        ("sort_keys=True", "sort_keys=False", "sort the keys"),
        ("json.dumps(plan, sort_keys=True)", 'str(plan["rule"])', "gets the same fingerprint"),
        ("raise ValueError(f\"the plan lacks '{key}'.\")", "pass", "accepted"),
        (".hexdigest()", ".hexdigest()[:16]", "64"),
        ("json.dumps(plan, sort_keys=True)", "str(sorted(plan.items(), key=str))", "could not check"),
    ],
    "6.7": [
        ("break", "continue", "Stop at the first"),
        ("level / (len(p) - k)", "level", "smallest has to pass"),
        ("level / (len(p) - k)", "level / len(p)", "second of three"),
        ("passed[place] = True", "passed[k] = True", "order given"),
        ("level / (len(p) - k)", "0.05 / (len(p) - k)", "`level`"),
    ],
    "7.1": [
        ("accuracy - price", "accuracy + price", "worth less"),
        ("np.maximum(0, tokens - target)", "(tokens - target)", "gains from being short"),
        ("tokens - target", "tokens", "Every token is priced"),
        ("price * ", "", "price is missing"),
        ("accuracy - price", "-price", "taken from the accuracy"),
        ("return accuracy", "accuracy = np.atleast_1d(accuracy)\n    return accuracy", "one number"),
    ],
    "7.2": [
        ("size=(count, len(genes)))", "size=(len(genes), count)).T", "continue a search"),
        ("default_rng(seed)", "default_rng()", "one seed differ"),
        ("size=(count, len(genes)))", "size=(count, 1)) * np.ones(len(genes))", "that is one λ"),
        ("uniform(low, high,", "uniform(0, 1,", "spread evenly"),
        ("columns=genes", "columns=genes[::-1]", "columns should be"),
        ("default_rng(seed)", "default_rng(0)", "Every seed gives"),
    ],
    "7.3": [
        ("places.append(place)", "places.append(best)", "places are asked"),
        ("value_of_k > best", "value_of_k >= best", "earlier stays"),
        ("value_of_k > best", "not value_of_k <= best", "stopped has nan"),
        ("return np.array(places)", "return np.full(len(places), place)", "only at the end"),
        ("-np.inf", "0.0", "below 0"),
    ],
    "7.4": [
        (" - share", "", "subtract the true share"),
        ("right.max(axis=1).mean()", "right.mean()", "near 0"),
        ("100 * (", "(", "fraction"),
        ("right.max(axis=1).mean()", "right.max()", "all searches together"),
        ("default_rng(seed)", "default_rng()", "one seed differ"),
    ],
    "7.5": [
        ("chose.mean(axis=1).argmax()", "judge.mean(axis=1).argmax()", "first items alone"),
        ("chose[place].mean() - judge[place].mean()", "judge[place].mean() - chose[place].mean()", "sign is turned"),
        ("judge[place].mean()", "judge.mean(axis=1).max()", "follow the .chosen. candidate"),
        ("judge[place].mean()", "judge.mean()", "mean of all candidates"),
        ("100 * ", "", "fraction"),
    ],
    "7.6": [
        ("if text(item) not in seen:", "if True:", "leave it out"),
        ('" ".join(item["question"].lower().split())', 'item["question"].lower()', "a space alone"),
        (".lower()", "", "by case alone"),
        ('item["question"].lower()', 'item["gold"].lower()', "compare questions|leave it out"),
        ("seen.add(text(item))", "pass", "comes twice"),
        ("return kept", "return kept[::-1]", "order of the items"),
    ],
}


def lesson(path) -> tuple[dict, dict[str, str]]:
    """What a lesson imports, by name, and the source of each exercise's solution."""
    names, solutions, number = {}, {}, None
    for cell in nbformat.read(path, 4).cells:
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            number = cell.source.split()[2]
        if "solution" in tags:
            solutions[number] = cell.source
        if cell.cell_type == "code":
            imports = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), path.name, "exec"), names)
    return names, solutions


LESSONS = {path.name[0]: lesson(path) for path in SOURCES}


def answer(number: str, old: str = "", new: str = ""):
    """The function of the source notebook, with a part of its text replaced."""
    names, solutions = LESSONS[number[0]]
    assert old in solutions[number], f"the solution of {number} has no {old!r}"
    own = dict(names)
    exec(compile(solutions[number].replace(old, new), f"exercise {number}", "exec"), own)
    return own[solutions[number].split("def ", 1)[1].split("(", 1)[0]]


def test_every_exercise_has_a_checker_and_at_least_two_mistakes():
    written = {number for _, solutions in LESSONS.values() for number in solutions}
    assert written == set(MISTAKES) == {number for number in checkers() if number[0] in LESSONS}
    assert all(len(mistakes) >= 2 for mistakes in MISTAKES.values())


@pytest.mark.parametrize("number", MISTAKES)
def test_the_solution_is_accepted(number, capsys):
    check(number, answer(number))
    assert f"Exercise {number}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "old", "new", "said"), [(n, *m) for n, mistakes in MISTAKES.items() for m in mistakes]
)
def test_a_mistake_is_told_in_one_sentence(number, old, new, said):
    with pytest.raises(NotYet, match=said) as found:
        judged(number, answer(number, old, new))
    assert "\n" not in str(found.value) and len(str(found.value)) < 400


@pytest.mark.parametrize("number", MISTAKES)
@pytest.mark.parametrize(
    "wrong",
    [None, lambda *_, **__: None, lambda *_, **__: "text", lambda *_, **__: [], lambda: 1],
    ids=["None", "nothing", "text", "empty", "no argument"],
)
def test_nonsense_is_answered_kindly(number, wrong):
    with pytest.raises(NotYet):
        judged(number, wrong)
