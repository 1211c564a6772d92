"""Published numbers, computed anew from the committed records, without the packages that are checked."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom, norm
from sklearn.metrics import mutual_info_score
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[1]
RESULTS, ABACUS, TINY = (ROOT / name for name in ("docs/results.md", "abacus", "reports/tiny"))
PAIR, GENERAL, QUESTIONS = TINY / "long-to-short", TINY / "general", TINY / "questions"
BASE, FINETUNED, BEST = "abacus-fast", "abacus-slow", "best single λ for "
POINTS = f"^({BASE}|{FINETUNED}|frontier-.*)$"  # of plain interpolation
TOKENIZER = Tokenizer.from_file(str(ABACUS / "checkpoints" / BASE / "tokenizer.json"))
Z, DIGITS = norm.ppf(0.975), 6e-5  # tables have four digits
EXPERIMENTS = pytest.mark.parametrize("folder", [PAIR, GENERAL], ids=lambda folder: folder.name)


def read(path):
    """A table, a JSON file or a text."""
    readers = {".json": lambda p: json.loads(p.read_bytes()), ".parquet": pd.read_parquet, ".csv": pd.read_csv}
    return readers.get(path.suffix, lambda p: p.read_text(encoding="utf-8"))(path)


@cache
def cells(path, what, family=None):
    """One column of records by method: a row for each item of each task, repeats averaged."""
    records = read(path) if family is None else read(path).query("family == @family")
    return records.pivot_table(index=["task", "item"], columns="method", values=what)


def overall(frame):
    """The mean over tasks of the means over items."""
    return frame.groupby("task").mean().mean()


def height(lengths, shares, at, beaten):
    """The frontier at a length or, without the points that a shorter one beats, the bar; NaN beyond its ends."""
    points, kept = sorted(zip(lengths, shares, strict=True)), []
    for length, share in points:
        if beaten or not kept or share > kept[-1][1]:
            kept.append((length, share))
    return np.interp(at, *zip(*kept, strict=True)) if points[0][0] <= at <= points[-1][0] else np.nan


def summary(path, family=None):
    """Of every method accuracy (percent) and length, means over tasks, and its points above bar and frontier."""
    found = pd.DataFrame({"accuracy": 100 * overall(cells(path, "correct", family))})
    found["length"] = overall(cells(path, "length", family))
    line = found.filter(regex=POINTS, axis=0)[["length", "accuracy"]].to_numpy().T
    for name, beaten in (("bar", False), ("frontier", True)):
        found[name] = found["accuracy"] - [height(*line, at, beaten) for at in found["length"]]
    return found


def redrawn(frame):
    """The mean over tasks in each bootstrap draw; the same items are drawn for all frames of an experiment."""
    rng, tasks = np.random.default_rng(7), [part / len(part) for _, part in frame.groupby("task")]
    return sum(rng.multinomial(len(p), np.full(len(p), 1 / len(p)), size=1500) @ p for p in tasks) / len(tasks)


def ends_agree(drawn, row, name):
    """The interval of a table's row is that of drawn values, but for chance."""
    ends = pytest.approx([row[f"{name}_low"], row[f"{name}_high"]], abs=0.4 * drawn.std() + DIGITS)
    assert drawn.quantile([0.025, 0.975]).to_list() == ends


def shows(text, *values, digits=1):
    """A text begins with these numbers, rounded."""
    found = [float(number) for number in re.findall(r"[+-]?\d+(?:\.\d+)?", text)]
    assert found[: len(values)] == pytest.approx(values, abs=0.5 * 10**-digits + 1e-6), text


def block(name):
    """The rows of a marked table of the page of results."""
    found = re.search(rf"<!-- acm: {name} -->\n(.*?)<!-- end -->", read(RESULTS), re.DOTALL)[1]
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in found.splitlines() if "|" in line)
    return [dict(zip(head, row, strict=True)) for row in rows]


def mean_share(shares, n):
    """Percent: the mean of shares with Zou and Donner's interval, made of Wilson's interval of each."""
    middle, half = shares + Z**2 / (2 * n), Z * np.sqrt(shares * (1 - shares) / n + Z**2 / (4 * n**2))
    low, high = (np.linalg.norm((middle + s * half) / (1 + Z**2 / n) - shares) / len(shares) for s in (-1, 1))
    return [100 * (shares.mean() + away) for away in (0, -low, high)]


@EXPERIMENTS
def test_accuracy(folder):
    """Accuracy of every method, by task and in the mean over tasks, with its interval."""
    right = cells(folder / "records.parquet", "correct").groupby("task")
    shares, n = right.mean(), right.size()
    for _, row in read(folder / "tables/main.csv").iterrows():
        tasks = list(n.index) if row["task"] == "average" else [row["task"]]
        found = mean_share(shares.loc[tasks, row["method"]].to_numpy(), n[tasks].to_numpy())
        assert list(row[["accuracy", "accuracy_low", "accuracy_high"]]) == pytest.approx(found, abs=DIGITS)
    for row in block("headline tiny") if folder == PAIR else ():
        shows(row["accuracy %"], *mean_share(shares[row["method"]].to_numpy(), n.to_numpy()))


@pytest.mark.parametrize("folder, reference", [(PAIR, FINETUNED), (GENERAL, "abacus-base")])
def test_length(folder, reference):
    """Mean length of every method, and the mean over tasks of length / length of the reference − 1."""
    items = cells(folder / "records.parquet", "length")
    means, drawn = items.groupby("task").mean(), redrawn(items)
    lengths, changes = means.mean(), 100 * (means.div(means[reference], axis=0) - 1).mean()
    for method, row in read(folder / "tables/main.csv").query("task == 'average'").set_index("method").iterrows():
        assert [row["length"], row["length_change"]] == pytest.approx([lengths[method], changes[method]], abs=DIGITS)
        ends_agree(drawn[method], row, "length")
    for row in block("headline tiny") if folder == PAIR else ():
        shows(row["length, tokens"], lengths[row["method"]], digits=0)
        shows(row["length change %"], changes[row["method"]])


def test_points_above_the_bar():
    """Accuracy less the bar's and the frontier's at the same mean length, with the bar's interval and the verdict."""
    found, path = summary(PAIR / "records.parquet"), PAIR / "records.parquet"
    shares, lengths = redrawn(cells(path, "correct")), redrawn(cells(path, "length"))
    line = [values.filter(regex=POINTS).to_numpy() for values in (lengths, shares)]
    for method, row in read(PAIR / "tables/verdicts.csv").query("verdict != 'outside'").set_index("method").iterrows():
        bars = [height(*draw, beaten=False) for draw in zip(*line, lengths[method], strict=True)]
        ends_agree(100 * (shares[method] - bars), row, "bar")
        assert [row["bar"], row["difference"]] == pytest.approx([*found.loc[method, ["bar", "frontier"]]], abs=DIGITS)
        told = "above" if row["bar_low"] > 0 else "below" if row["bar_high"] < 0 else "no difference shown"
        assert row["verdict"] == told or (row["verdict"] == "on the bar" and abs(row["bar"]) < DIGITS)
    for row in (row for row in block("headline tiny") if re.search(r"\d", row["points above the bar"])):
        shows(row["points above the bar"], found.loc[row["method"], "bar"])


def measured(path, name):
    """Accuracy and length of each item by a method; "best single λ" is the λ that the other parity's items choose."""
    right, length, method = cells(path, "correct"), cells(path, "length"), name.removeprefix(BEST)
    found = pd.DataFrame({"accuracy": right[method], "length": length[method]})
    odd, points = right.index.get_level_values("item") % 2, [*right.filter(regex=POINTS)]
    for half in (0, 1) if name.startswith(BEST) else ():
        share, size = overall(right[odd != half]).round(9), overall(length[odd != half])
        allowed = [p for p in points if size[p] <= size[method]] or [size[points].idxmin()]
        best = max(allowed, key=lambda p: (share[p], -size[p]))
        found[odd == half] = np.stack([right[best], length[best]], axis=1)[odd == half]
    return found


def apart(folder):
    """The rows of a dominance table, each with the differences of accuracy and length on each item."""
    path, rows = folder / "records.parquet", read(folder / "tables/dominance.csv").to_dict("records")
    assert {("ACM-TA", "TA"), ("Null-TA", "TA")} <= {(row["method"], row["against"]) for row in rows}
    return [(row, measured(path, row["method"]) - measured(path, row["against"])) for row in rows]


@EXPERIMENTS
def test_dominance(folder):
    """Differences on the same items, of accuracy with Bonett and Price's interval: in tables and in sentences."""
    pages = read(TINY / "report.md").partition(f"\n## {folder.name}\n")[2].partition("\n## ")[0]
    pages += read(RESULTS) if folder == PAIR else ""
    told = re.findall(r"(\S+)() (\S+ \[\S+ \S+\]) points and (\S+) \[", pages)  # less those of TA
    told += [tuple(row.values()) for row in (block("dominance tiny") if folder == PAIR else ())]
    for row, found in (rows := apart(folder)):
        gains, value = found["accuracy"].groupby("task"), overall(found)
        n, up, down = gains.size(), gains.agg(lambda d: (d > 0).sum()) + 1, gains.agg(lambda d: (d < 0).sum()) + 1
        variance = ((up + down) / (n + 2) - ((up - down) / (n + 2)) ** 2) / (n + 2)
        middle, error = 100 * ((up - down) / (n + 2)).mean(), 100 * np.sqrt(variance.sum()) / len(n)
        points = [100 * value["accuracy"], middle - Z * error, middle + Z * error]
        least = (norm.isf(0.025 / (2 * len(rows))) + norm.ppf(0.8)) * error
        stated = [row[name] for name in ("accuracy", "accuracy_low", "accuracy_high", "length", "detectable")]
        assert stated == pytest.approx([*points, value["length"], least], abs=DIGITS)
        ends_agree(redrawn(found)["length"], row, "length")
        assert folder == GENERAL or [row["method"], row["against"]] in [[*texts[:2]] for texts in told]
        for method, against, text, length, *_ in told:
            if (method, against or "TA") == (row["method"], row["against"]):
                shows(text, *points)
                shows(length, value["length"])


def flip_p(differences):
    """Two-sided p, the signs being exchangeable: McNemar's exact test where all sizes are equal, else by draws."""
    sizes, total = np.abs(differences[differences != 0]), abs(differences.sum())
    if not len(sizes) or np.ptp(sizes) < 1e-12:
        n, more = len(sizes), round((len(sizes) + total / max(sizes, default=1)) / 2)
        return min(1.0, 2 * binom.sf(more - 1, n, 0.5))
    signs = 1 - 2 * np.random.default_rng(11).integers(2, size=(10_000, len(sizes)), dtype=np.int8)
    return (np.abs(signs @ sizes) >= total - 1e-9).mean()


@EXPERIMENTS
def test_findings(folder):
    """What a dominance table finds follows from p-values that are adjusted by Holm for the whole table."""
    words = {"accuracy": ("less often right", "more often right"), "length": ("shorter", "longer")}
    rows = apart(folder)
    items = {(i, what): found[what] for i, (_, found) in enumerate(rows) for what in words}
    p = {key: flip_p((d / d.groupby("task").transform("size")).to_numpy()) for key, d in items.items()}
    adjusted = (pd.Series(p).sort_values() * np.arange(len(p), 0, -1)).cummax()
    for i, (row, _) in enumerate(rows):
        for what, said in zip(words, row["finding"].split(", "), strict=True):
            told = words[what][row[what] > 0] if adjusted[i, what] < 0.05 else f"no difference of {what} shown"
            assert said == told or (what == "length" and abs(adjusted[i, what] - 0.05) < 0.01), (i, what)


@pytest.mark.parametrize("path", sorted(TINY.glob("*/coefficients*.json")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_coefficients(path):
    """λ of a layer is 1 − the mean over texts of σ(t · (MI − the layer's largest MI)); uniform λ is their mean."""
    stated, table = read(path), read(path.parent / "mutual_information.parquet").query("estimator == 'plug-in'")
    uniform = stated["control"] == "uniform"
    table = table[table["control"] == ("none" if uniform else stated["control"])]
    for model, layers in stated["coefficients"].items():
        mi = table[table["finetuned"] == model].pivot(index="layer", columns="sample", values="value")
        found = (1 / (1 + np.exp(stated["t"] * mi.sub(mi.max(axis=1), axis=0)))).mean(axis=1)
        assert layers == pytest.approx(dict.fromkeys(found.index, found.mean()) if uniform else dict(found), abs=1e-9)


def test_what_plug_in_information_measures():
    """Question 1: the share of MI that each control keeps, and R² of a line against log tokens, mean over blocks."""
    stated, table = (read(QUESTIONS / "estimate" / name) for name in ("verdict.json", "information.parquet"))
    table = table.query("estimator == 'plug-in' and layer.str.isdigit()")
    sums, lines = table.groupby("control")["value"].sum(), table.groupby(["control", "layer"])[["tokens", "value"]]
    kept = {control: row["share"] for control, row in stated["numbers"]["kept"].items()}
    assert kept == pytest.approx(dict(sums.drop("none") / sums["none"]), abs=1e-9)
    squared = lines.apply(lambda part: np.corrcoef(np.log(part["tokens"]), part["value"])[0, 1] ** 2)
    explained = squared.groupby("control").mean()
    assert stated["numbers"]["explained"] == pytest.approx(dict(explained), abs=1e-9)
    shows(re.search(r"shuffled tokens (\d.*)", stated["verdict"])[1], 100 * kept["shuffled"])
    shows(re.search("Log length alone explains (.*)", stated["verdict"])[1], 100 * explained["none"], digits=0)


def test_acm_against_other_coefficients():
    """Question 2: ACM less uniform λ and less noise's, by calibration draw, on the same items and above the bar."""
    stated, means = read(QUESTIONS / "coefficients/verdict.json"), summary(QUESTIONS / "coefficients/records.parquet")
    for kind, words in (("uniform", "uniform λ, same mean"), ("null", "λ of Gaussian noise")):
        draws = [name.split()[1] for name in means.index if name.startswith(f"{kind} ")]
        found = sum(means.loc[f"acm {i}"] - means.loc[f"{kind} {i}"] for i in draws) / len(draws)
        same, lead = stated["numbers"]["same_items"][kind], stated["numbers"]["lead"][kind]["lead"]
        assert [same["righter"], same["longer"]] == pytest.approx(list(found[["accuracy", "length"]]), abs=1e-9)
        assert lead in (None, pytest.approx(found["bar"], abs=1e-9))
        told = stated["verdict"].partition(f"minus those of {words}: ")[2]
        shows(told, found["accuracy"], same["righter_low"], same["righter_high"], found["length"])


def test_layers():
    """Question 4: the layers with the largest effect on length and on accuracy, left out or alone."""
    stated, means = read(QUESTIONS / "layers/verdict.json"), summary(QUESTIONS / "layers/records.parquet")
    for kind, reference in (("without", FINETUNED), ("only", BASE)):
        side = stated["numbers"] if kind == "without" else stated["numbers"]["alone"]
        for what in ("length", "accuracy"):
            effects, layer = means[what].filter(like=f"{kind} ") - means.loc[reference, what], side["largest"][what]
            assert side["largest_change"][what]["value"] == pytest.approx(effects[f"{kind} {layer}"], abs=1e-9)
            assert abs(effects[f"{kind} {layer}"]) == pytest.approx(effects.abs().max(), abs=1e-9)
            words = {"embed": "the embedding", "lm_head": "the head"}.get(layer, f"block {layer}")
            assert re.search(rf"{what} with {words} \(", stated["verdict"])


def test_rules_on_fresh_families():
    """Question 5: rules less ACM, on the same items and above the bars; means over the fresh families."""
    path, stated = QUESTIONS / "rule/families.parquet", read(QUESTIONS / "rule/verdict.json")
    families = read(path)["family"].unique()
    means = sum(summary(path, family) for family in families) / len(families)
    less = means - means.loc["ACM"]
    for rule, row in ((rule, row) for rule, row in stated["numbers"]["rules"].items() if rule in means.index):
        found = [less.loc[rule, "accuracy"], less.loc[rule, "length"], means.loc[rule, "bar"], less.loc[rule, "bar"]]
        for name, value in zip(("righter", "longer", "above", "lead"), found, strict=True):
            assert row[name] in (None, pytest.approx(value, abs=1e-9)), (rule, name)
    ramp = stated["verdict"].partition("accuracy and length minus ACM's: ")[2].partition("ramp ")[2]
    shows(ramp, less.loc["ramp", "accuracy"])
    shows(ramp.partition(" points, ")[2], less.loc["ramp", "length"])


def test_information_from_the_models():
    """Plug-in MI of a text is that of the two models' activations in bf16, entry by entry, each value being a label."""
    lines, parents = read(ABACUS / "benchmarks/calibration_problems.jsonl").splitlines(), [BASE, FINETUNED]
    models = [AutoModelForCausalLM.from_pretrained(ABACUS / "checkpoints" / m, dtype=torch.float32) for m in parents]
    paths = (QUESTIONS / "stability/pool.parquet", PAIR / "mutual_information.parquet")
    tables = (read(path).query("control == 'none' and estimator == 'plug-in'") for path in paths)
    pool, own = (table.pivot(index="sample", columns="layer", values="value") for table in tables)
    for sample in (0, len(own) // 2, len(own) - 1):  # the pool holds the file's texts in their order
        place, seen = (pool[own.columns] - own.loc[sample]).abs().sum(axis=1).idxmin(), {}
        for model in models:
            layers = {str(i): block.mlp.down_proj for i, block in enumerate(model.model.layers)}
            layers |= {"embed": model.model.embed_tokens, "norm": model.model.norm, "lm_head": model.lm_head}
            for layer, module in layers.items():
                kept = seen.setdefault(layer, [])
                module.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out.bfloat16().float()))
            model(torch.tensor([TOKENIZER.encode(json.loads(lines[place])["question"]).ids]))
        for layer, value in own.loc[sample].items():
            labels = [np.unique(side.detach().flatten(), return_inverse=True)[1] for side in seen[layer]]
            assert mutual_info_score(*labels) == pytest.approx(value, abs=1e-6)


@EXPERIMENTS
def test_grades(folder):
    """A response is right if its last "the answer is …." names the gold; its length is its number of tokens."""
    for task, records in read(folder / "records.parquet").groupby("task"):
        items = pd.read_json(ABACUS / f"benchmarks/{task}.jsonl", lines=True, dtype=False).loc[records["item"]]
        assert records["question"].tolist() == items["question"].tolist()
        answers = records["response"].map(lambda text: re.findall(r"the answer is ([^.]*)\.", text)[-1:])
        assert records["correct"].tolist() == [a == [gold] for a, gold in zip(answers, items["gold"], strict=True)]
        assert records["length"].tolist() == [len(each) for each in TOKENIZER.encode_batch([*records["response"]])]


SEARCHES = sorted(path.parent for path in ROOT.glob("reports/*/searches/*/front.csv"))


NO_FAMILIES = ("abacus", "four", "smol")


def of_search(folder):
    """Settings, candidates, and by judged point or trial accuracy (percent) and length (tokens) on fresh items."""
    records = [read(folder / "fresh.parquet").rename(columns={"point": "method"})]
    if (folder / "trials.parquet").is_file():
        records.append(read(folder / "trials.parquet").rename(columns={"trial": "method"}))
    table = pd.concat(records).pivot_table(index=["task", "item"], columns="method", values=["correct", "length"])
    points = pd.DataFrame({"accuracy": 100 * overall(table["correct"]), "length": overall(table["length"])})
    return read(folder / "search.json")["settings"], read(folder / "candidates.parquet"), points


@pytest.mark.parametrize("folder", SEARCHES, ids=lambda folder: folder.name)
def test_budgets_of_a_search_are_counted_from_its_candidates(folder):
    """31 candidates of one λ, and of the sampler as many as of random search; their scores from their own records."""
    settings, candidates, _ = of_search(folder)
    arms = candidates.groupby("arm").size().to_dict()
    shares = [f"{100 * target:g}" for target in settings["targets"]]
    names = [f"{s}-{t}-{seed}" for s in (settings["sampler"], "random") for t in shares for seed in settings["seeds"]]
    assert arms == {"one": 31} | dict.fromkeys(names, settings["candidates"])
    first, last = settings["validation"]["first"], settings["validation"]["end"]
    for row in candidates.to_dict("records"):
        parts = json.loads(row["records"])
        asked = {task: part["item"] for task, part in parts.items()}
        assert sorted(asked) == sorted(settings["validation"]["tasks"]) and row["asked"] == sum(
            map(len, asked.values())
        )
        every = range(first, last, 3 if row["stopped"] else 1)  # a candidate that is stopped was asked every third item
        assert all(sorted(items) == list(every) for items in asked.values())
        assert row["accuracy"] == pytest.approx(100 * np.mean([np.mean(part["correct"]) for part in parts.values()]))
        assert row["tokens"] == pytest.approx(np.mean([np.mean(part["length"]) for part in parts.values()]))


@pytest.mark.parametrize("folder", SEARCHES, ids=lambda folder: folder.name)
def test_best_points_of_a_search_are_those_of_the_highest_value(folder):
    """At a share's length on the line of one λ; a point that was judged has the scores of its fresh records."""
    settings, candidates, points = of_search(folder)
    whole, front = candidates[~candidates["stopped"].astype(bool)], read(folder / "front.csv")
    for arm in set(whole["arm"]) - {"one"}:
        target = length_of(whole[whole["arm"] == "one"], float(arm.split("-")[1]) / 100)
        own = whole[whole["arm"] == arm]
        value = own["accuracy"] - settings["price"] * np.maximum(0, own["tokens"] - target)
        best = front[(front["arm"] == arm) & (front["role"] == "best")]["candidate"].item()
        assert value[own["candidate"] == best].item() == pytest.approx(value.max())
    for row in front.to_dict("records"):
        point = points.loc[f"{row['arm']}-{row['candidate']}"]
        assert row["fresh_accuracy"] == pytest.approx(point["accuracy"])
        assert row["fresh_tokens"] == pytest.approx(point["length"])
        assert row["optimism"] == pytest.approx(row["accuracy"] - point["accuracy"])


def lead_of(points, name):
    """Points above the bar of the judged points of one λ."""
    line = points.filter(regex="^one-", axis=0)[["length", "accuracy"]].to_numpy().T
    return points.loc[name, "accuracy"] - height(*line, points.loc[name, "length"], False)


def test_leads_of_searches_and_their_means():
    """Of question 8: the lead of every best point, its mean over seeds or families, and the answer's first words."""
    verdict = read(QUESTIONS / "search/verdict.json")
    rows = pd.DataFrame(verdict["numbers"]["summary"])
    leads = []
    for folder in SEARCHES:
        points, front = of_search(folder)[2], read(folder / "front.csv")
        for row in front[front["role"] == "best"].to_dict("records"):
            sampler, target, _ = row["arm"].split("-")
            lead = lead_of(points, f"{row['arm']}-{row['candidate']}")
            leads.append({"search": folder.name, "sampler": sampler, "target": target, "lead": lead})
    leads = pd.DataFrame(leads)
    families = leads[~leads["search"].isin(NO_FAMILIES)].assign(search="all others")
    means = pd.concat([leads, families]).groupby(["search", "sampler", "target"])["lead"].agg(["mean", "size"])
    for _, row in rows.iterrows():
        mean, size = means.loc[(row["search"], row["sampler"], row["target"])]
        assert row["n"] == size and (row["lead"] == pytest.approx(mean) or np.isnan(mean))
    tested = rows[(rows["sampler"] != "random") & rows["search"].isin(["abacus", "all others", "smol"])]
    above = (tested["lead"] > 0) & (tested["p_adjusted"] < 0.05)
    told = f"beat one λ for all in {above.sum()} of" if above.any() else "are not shown to"
    assert verdict["answer"].startswith(f"λ by layer from a search {told}")


def test_trials_beside_a_search():
    """Of question 8: what a λ set back to the mean loses, and the mean lead over families of what was tried there."""
    numbers = read(QUESTIONS / "search/verdict.json")["numbers"]
    tried = {}
    for folder in SEARCHES:
        points = of_search(folder)[2]
        tried[folder.name] = {name: lead_of(points, name) for name in points.index if not name.startswith("one-")}
    front = read(TINY / "searches/abacus/front.csv")
    found = front[(front["role"] == "best") & front["arm"].str.startswith("cmaes")].sort_values(
        ["value", "tokens"], ascending=[True, False]
    )
    for row in numbers["flatness"]:
        best = found[found["arm"].str.split("-").str[1] == row["target"]].iloc[-1]
        lost = (
            tried["abacus"][f"{best['arm']}-{best['candidate']}"]
            - tried["abacus"][f"{row['what']} back at {row['target']}"]
        )
        assert row["lost"] is None or row["lost"] == pytest.approx(lost)
    for row in numbers["rules"]:
        own = [leads[row["trial"]] for name, leads in tried.items() if name not in NO_FAMILIES]
        assert row["searches"] == len(own) and (row["lead"] is None or row["lead"] == pytest.approx(np.mean(own)))


def length_of(one, share):
    """Tokens at which one λ has a share of its best accuracy, on the line through its points. one: its candidates."""
    line = []
    for row in one.sort_values(["tokens", "accuracy"]).to_dict("records"):
        if not line or row["accuracy"] > line[-1][1]:
            line.append((row["tokens"], row["accuracy"]))
    lengths, shares = zip(*line, strict=True)
    return np.interp(share * shares[-1], shares, lengths)


def values_of(folder, target):
    """By judged point or trial of a search: accuracy less the price of each token above a target."""
    settings, candidates, points = of_search(folder)
    length = length_of(candidates[candidates["arm"] == "one"], float(target) / 100)
    return points["accuracy"] - settings["price"] * np.maximum(0, points["length"] - length)


def test_null_merges_and_fewer_coefficients():
    """Of question 8: the value of null merges, mean over deals and families; λ by layer against four λ."""
    numbers, found = read(QUESTIONS / "search/verdict.json")["numbers"], {folder.name: folder for folder in SEARCHES}
    assert numbers["nulls"] and numbers["finer"] and numbers["at_home"]
    for row in numbers["nulls"]:
        own, null = [], []
        for name in set(found) - set(NO_FAMILIES):
            value, facts = values_of(found[name], 75), read(found[name] / "trials.csv")
            own.append(value[row["of"]])
            null.append(value[facts.loc[(facts["of"] == row["of"]) & (facts["null"] == row["null"]), "trial"]].mean())
        expected = {"value": np.mean(own), "null_value": np.mean(null), "less": np.mean(own) - np.mean(null)}
        assert all(row[name] == pytest.approx(value) for name, value in expected.items())
    for row in numbers["finer"]:
        means = []
        for name in ("abacus", row["search"]):
            front = read(found[name] / "front.csv")
            best = front[(front["role"] == "best") & front["arm"].str.startswith(f"cmaes-{row['target']}-")]
            names = [f"{r['arm']}-{r['candidate']}" for r in best.to_dict("records")]
            means.append(values_of(found[name], row["target"])[names].mean())
        assert [row["value"], row["coarse_value"], row["less"]] == pytest.approx([*means, means[0] - means[1]])
