"""Question 1, by size: what is plug-in MI made of, and what do λ follow, at n entries a text?

    variable   shape                meaning
    n          ()                   entries of a text: tokens · channels
    x, y       (tokens, channels)   activations of one layer in two models, token by token, bf16; many texts in a row
    real       ()                   plug-in MI of x and y, nats
    shuffled   ()                   the same with y's tokens shuffled
    entries    ()                   the same with all entries of y shuffled
    chance     ()                   entries: what the estimate gives for these values where nothing is shared
    marginals  ()                   shuffled − entries: what channels share at any token
    pairing    ()                   real − shuffled: what takes the same token on both sides

Chance, marginals and pairing add up to the estimate. They are not the truth and its bias. Chance is the bias for values
that share nothing. A pair that shares much has a smaller bias, so the truth can be larger than pairing and marginals:
two Gaussians of correlation 0.985 share 1.76 nats, and at 400,000 entries pairing shows 0.8 of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from acm.calibration.coefficients import layer_coefficients
from acm.calibration.information import mutual_information
from acm.calibration.texts import read_texts
from acm.paper import load
from acm.paths import require_clone
from acm.questions.messages import on_chance
from acm.questions.study import Coefficients, Study
from acm.reporting.intervals import interval_columns
from acm.reporting.plotting import COLOURS, TEXT, name_lines, sheet
from acm.reporting.statistics import describe

CHARACTERS_PER_TOKEN = 3.2  # in s1K's questions; a rule of thumb
WIDTH = 3584  # channels of the paper's 7B models
INNER = 4096  # inner channels of the random layer; the paper's have 18,944, which would take five times as long
TEXTS = 100  # how many texts the paper's calibration set has
BANK = 5_000_000  # entries of a layer's outputs that pieces of texts are taken from
DRAWS = 9  # of lengths, over which the order of layers is looked at
POOL = 300  # how many texts sets of TEXTS are drawn from
UNPAIRED = "smol-slow, block 29, other texts"  # a pair whose sides read other texts: no token belongs to another
KINDS = {  # which two arrays are measured → its name in figures
    "real": "the pair as it is",
    "shuffled": "tokens shuffled",
    "channels": "channels permuted",
    "entries": "entries shuffled",
    "gaussian": "independent Gaussians",
}
LAMBDAS = {"coefficient": "real", "shuffled": "shuffled", "gaussian": "gaussian"}  # column → kind
NOISE = "noise: independent Gaussians"  # its line in the figure
Pair = tuple[Tensor, Tensor]


def question_tokens() -> np.ndarray:
    """Tokens of each of s1K's 1,000 questions, (1000,): their characters over CHARACTERS_PER_TOKEN."""
    require_clone("question_tokens, which reads the paper's published numbers,", writes=False)
    characters = load("s1k_question_characters")["characters"]
    tokens: np.ndarray = (characters / CHARACTERS_PER_TOKEN).round().clip(lower=1).to_numpy(int)
    return tokens


def paper_size() -> int:
    """Entries of a mean text of the paper, if its texts are s1K's questions: tokens of the mean question · WIDTH."""
    return round(float(question_tokens().mean()) * WIDTH)


def random_layer(update: float, tokens: int, width: int = WIDTH, inner: int = INNER, seed: int = 0) -> Pair:
    """Outputs of a gated MLP of random weights, before and after a random update; (tokens, width) each, bf16.

    update: norm of the update over the norm of the weights, of each of the three matrices. The tokens are independent
    standard normal vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn((tokens, width), generator=generator)
    shapes = {"gate": (inner, width), "up": (inner, width), "down": (width, inner)}
    weights = {name: torch.randn(shape, generator=generator) / shape[1] ** 0.5 for name, shape in shapes.items()}
    sides = []
    for change in (0.0, update):
        for weight in weights.values():
            noise = torch.randn(weight.shape, generator=generator) if change else 0.0
            weight += change * noise / weight.shape[1] ** 0.5
        inside = torch.nn.functional.silu(hidden @ weights["gate"].T) * (hidden @ weights["up"].T)
        sides.append((inside @ weights["down"].T).bfloat16())
    return sides[0], sides[1]


def layer_outputs(
    model: Path, texts: Sequence[str], layers: Sequence[str], dtype: str = "float32", device: str = "cpu"
) -> dict[str, Tensor]:
    """Layer → its outputs on texts, one at a time, put in a row: (tokens, channels), bf16, on the CPU.

    model: a folder; it is run whole. Of a block, ``mlp.down_proj`` is what is looked at. A token whose text began like
    an earlier one up to there has the same outputs again, so it is left out: repeated pairs of values would look like
    pairing. Texts are read until a block has BANK entries. Of the head, the first WIDTH channels are kept.
    """
    places = {"embed": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, device_map=device).eval()
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for layer, outputs in found.items():
        module = network.get_submodule(places.get(layer, f"model.layers.{layer}.mlp.down_proj"))
        module.register_forward_hook(
            lambda _, given, output, outputs=outputs: outputs.append(output[0, :, :WIDTH].bfloat16().cpu())
        )
    tokens, most = 0, BANK // network.config.hidden_size
    beginnings: set[tuple[int, ...]] = set()
    with torch.inference_mode():
        for text in tqdm(texts, desc=model.name, unit="text", mininterval=10):
            ids = tokenizer(text, return_tensors="pt").input_ids
            here = [tuple(ids[0, : end + 1].tolist()) for end in range(ids.shape[1])]
            new = [end for end, beginning in enumerate(here) if beginning not in beginnings]
            beginnings.update(here)
            network(ids.to(device))
            for outputs in found.values():
                outputs[-1] = outputs[-1][new]
            tokens += len(new)
            if tokens >= most:
                break
    return {layer: torch.cat(outputs) for layer, outputs in found.items()}


def correlation(pair: Pair) -> float:
    """Correlation of the entries of two arrays (tokens, channels), each channel less its mean over tokens."""
    x, y = (side.double() - side.double().mean(dim=0) for side in pair)
    return float((x * y).sum() / (x.norm() * y.norm()))


def by_size(
    pair: Pair, sizes: Sequence[int], texts: int = POOL, kinds: Sequence[str] = tuple(KINDS), seed: int = 0
) -> pd.DataFrame:
    """Plug-in MI of texts of about n entries: a row for each n, sample and kind, with tokens and value (nats).

    The texts are as unlike in length as s1K's questions. A text is a piece of the pair that starts at a random token,
    and at most as long as the pair. Where n is smaller than a mean question's tokens times the pair's channels,
    channels are left out; where it is larger, texts are longer.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    known = question_tokens()
    lengths = rng.choice(known, texts, replace=False) / known.mean()
    (tokens, width), rows = pair[0].shape, []
    for n in sizes:
        channels = min(width, max(1, round(n / known.mean())))
        for sample, length in enumerate(lengths):
            count = min(tokens, max(2, round(length * n / channels)))
            start = rng.integers(tokens - count + 1)
            x, y = (side[start : start + count, :channels] for side in pair)
            rows += [(n, sample, count, kind, mutual_information(*changed(kind, x, y, generator))) for kind in kinds]
    return pd.DataFrame(rows, columns=["n", "sample", "tokens", "kind", "value"])


def changed(kind: str, x: Tensor, y: Tensor, generator: torch.Generator) -> Pair:
    """The two arrays that a kind of KINDS measures; x and y are (tokens, channels)."""
    if kind == "gaussian":
        first, second = torch.randn((2, *x.shape), generator=generator).bfloat16()
        return first, second
    if kind == "shuffled":
        return x, y[torch.randperm(len(y), generator=generator)]
    if kind == "channels":
        return x, y[:, torch.randperm(y.shape[1], generator=generator)]
    if kind == "entries":
        return x, y.flatten()[torch.randperm(y.numel(), generator=generator)].view(y.shape)
    return x, y


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The values of :func:`by_size`, (n, sample) × kind."""
    return table.pivot(index=["n", "sample"], columns="kind", values="value")


def parts(table: pd.DataFrame) -> pd.DataFrame:
    """What the MI at each n is made of, means over texts: a row for each n.

    real (nats) = chance + marginals + pairing (nats). kept, channels, noise: shares that shuffled tokens and permuted
    channels keep, and that Gaussian noise reaches, with 95 % intervals by bootstrap over the lengths of the texts
    alone; the pair of layers is one. explained: R² of MI against log tokens.
    """
    rows = {}
    for n, each in wide(table).groupby("n"):
        mean, count = each.mean(), len(each)
        row = {"real": mean["real"], "chance": mean["entries"]}
        row |= {"marginals": mean["shuffled"] - mean["entries"], "pairing": mean["real"] - mean["shuffled"]}
        drawn = np.random.default_rng(0).integers(count, size=(1000, count))
        drawn = np.vstack([np.arange(count), drawn])
        for name, kind in (("kept", "shuffled"), ("channels", "channels"), ("noise", "gaussian")):
            sums = {k: each[k].to_numpy()[drawn].sum(axis=1) for k in (kind, "real")}
            row |= interval_columns(name, describe(sums[kind] / sums["real"], 1))
        tokens = table[(table["n"] == n) & (table["kind"] == "real")].set_index("sample")["tokens"]
        row["explained"] = np.log(tokens).corr(each.droplevel("n")["real"]) ** 2
        rows[n] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("n")


def gaussian_information(rho: float) -> float:
    """MI of two Gaussian variables of this correlation, nats."""
    return -0.5 * math.log1p(-(rho**2))


def coefficients(table: pd.DataFrame, t: float, draws: int = 200) -> pd.DataFrame:
    """λ at each n with the shift by layer; a row for each n. Means over draws of TEXTS texts.

    Columns: those of LAMBDAS, λ of these kinds. from_shuffled, from_noise: the pair's
    λ less theirs on the same texts; 95 % of the draws lie between ``_low`` and ``_high``. Draws are of lengths alone.
    """
    rows = {}
    for n, each in wide(table).groupby("n"):
        rng = np.random.default_rng(0)
        drawn = [rng.choice(len(each), min(TEXTS, len(each)), replace=False) for _ in range(draws)]
        found = {
            kind: np.array([layer_coefficients(each[kind].to_numpy()[None, one], t)[0] for one in drawn])
            for kind in LAMBDAS.values()
        }
        row = {name: found[kind].mean() for name, kind in LAMBDAS.items()}
        for name, kind in (("from_shuffled", "shuffled"), ("from_noise", "gaussian")):
            apart = found["real"] - found[kind]
            row |= interval_columns(name, describe(np.array([apart.mean(), *apart]), 1))
        rows[n] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("n")


def draw(made: dict[str, pd.DataFrame], t: float) -> Figure:
    """How much of MI is chance, and λ, against n; a line for each pair of layers, and in grey λ of noise.

    made: name → table of :func:`parts` joined with that of :func:`coefficients`.
    """
    at = paper_size()
    chance = {name: 100 * table["chance"] / table["real"] for name, table in made.items()}
    shares = [each.loc[at] for name, each in chance.items() if name != UNPAIRED and at in each.index]
    message = on_chance(shares) if shares else "Plug-in MI of texts of several sizes"
    figure, panels = sheet(message, 7.0, 2, sharex=True, height_ratios=(1, 1.4))
    looks = dict(zip(made, zip(sns.color_palette("colorblind").as_hex(), "osDv^XP", strict=False), strict=False))
    looks |= {NOISE: (COLOURS["frontier"], "")}
    found = {name: table["coefficient"] for name, table in made.items()}
    found[NOISE] = pd.concat([table["gaussian"] for table in made.values()]).groupby(level="n").mean()
    axis = f"λ at t = {t:g}"
    for axes, lines, label, top in ((panels[0], chance, "chance, % of plug-in MI", 105), (panels[1], found, axis, 1)):
        for name, line in lines.items():
            colour, marker = looks[name]
            axes.plot(line.index, line, marker=marker, color=colour, label=name, lw=1.8, ms=6)
        axes.set(ylabel=label, ylim=(0, top), xscale="log")
        axes.axvline(at, color="0.3", ls=":", lw=1.2)
    panels[1].set_xlabel("entries of a text: tokens · channels")
    panels[0].text(at, 3, "the paper's size ", ha="right", fontsize=TEXT, color="0.3")
    name_lines(panels[1], "lower left")
    return figure


def order(pairs: dict[str, Pair], own: dict[str, float], n: int, t: float, draws: int = DRAWS) -> pd.DataFrame:
    """Do λ follow what the two sides of a layer share? One row for each draw of TEXTS lengths and each layer.

    pairs: layer → its outputs in both models. own: layer → λ on the profile's own texts. correlation: of the outputs, a
    measure that knows no MI. coefficient, shuffled: λ at n, of the pair and with tokens shuffled.
    """
    rows = []
    for layer, pair in tqdm(pairs.items(), desc=f"layers at n = {n:,}", unit="layer", mininterval=10):
        alike = correlation(pair)
        for draw in range(draws):
            mi = wide(by_size(pair, [n], TEXTS, ("real", "shuffled"), seed=draw))
            found = layer_coefficients(mi[["real", "shuffled"]].to_numpy().T, t)
            rows.append((draw, layer, alike, *found, own[layer]))
    columns = ["draw", "layer", "correlation", "coefficient", "shuffled", "own"]
    return pd.DataFrame(rows, columns=columns).set_index(["draw", "layer"])


def large_coefficients(study: Study, layers: Sequence[str]) -> Coefficients:
    """λ of these layers by the paper's rule, from TEXTS pieces of the paper's size, of the study's models and texts."""
    setting, (base, finetuned) = study.setting, study.models
    texts = read_texts(setting.calibration.source, setting.calibration.field)
    outputs = partial(layer_outputs, texts=texts, layers=layers, dtype=study.profile.dtype, device=study.profile.device)
    ours, found = outputs(base), {}
    for name, path in finetuned.items():
        theirs = outputs(path)
        mi = [by_size((ours[layer], theirs[layer]), [paper_size()], TEXTS, ["real"])["value"] for layer in layers]
        values = layer_coefficients(np.array(mi), setting.t, setting.shift)
        found[name] = dict(zip(layers, map(float, values), strict=True))
    return found
