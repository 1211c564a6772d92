"""Checkers of lesson 2: conflicts, TIES and DARE."""

from __future__ import annotations

import numpy as np
import torch

from acm.course import Answer, exercise, need, need_not, read, same


def numbers(seed: int, *shape: int) -> torch.Tensor:
    """Seeded normal numbers, without ties and zeros."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@exercise("2.1")
def share_of_conflicts(conflict: Answer) -> str:
    first, second = numbers(0, 40, 10), numbers(1, 40, 10)
    first[:10], second[5:15] = 0.0, 0.0
    found = float(read(conflict(first.clone(), second.clone()), "The share"))
    opposite, both = (first * second < 0).sum().item(), (first * second != 0).sum().item()
    need(not np.isclose(found, opposite), "This is how many conflicts there are; their share is asked for.")
    otherwise = "Entries where a vector is 0 count in the denominator; leave them out."
    need(not np.isclose(found, opposite / first.numel()), otherwise)
    otherwise = "This is the share of agreement; the share of opposite signs is asked for."
    need(not np.isclose(found, 1 - opposite / both), otherwise)
    differs = (first.sign() != second.sign()).float().mean().item()
    need(not np.isclose(found, differs), "An entry that is 0 on one side has no sign, so it is no conflict.")
    same(found, opposite / both, "the share", "The share should be of entries where neither is 0.")
    return "only entries with two signs can conflict."


@exercise("2.2")
def trimmed(trim: Answer) -> str:
    delta = numbers(0, 20, 5)
    given = delta.clone()
    found = read(trim(given, 0.3), "The trimmed vector", (20, 5))
    need(torch.equal(given, delta), "Your function changed its input: make a new tensor.")
    kept, size = found != 0, delta.abs().numpy()
    exact = size >= np.sort(size.ravel())[-30]
    small = "It keeps 70 of 100 entries, the small ones: the density is what stays, and the largest stay."
    many = "It keeps 70 of 100 entries at density 0.3; the density is the fraction that stays."
    signed = "It keeps the largest numbers, and loses large negative ones: rank by absolute value."
    need_not(kept, {
        small: ~exact,
        "It keeps the smallest entries; the largest should stay.": size <= np.sort(size.ravel())[29],
        many: size >= np.sort(size.ravel())[-70],
        signed: delta.numpy() >= np.sort(delta.numpy().ravel())[-30],
    })  # fmt: skip
    need(kept.sum() == 30, f"Of 100 entries at density 0.3, 30 should stay; {kept.sum()} do.")
    otherwise = "It keeps 30 of 100 entries, but not those that are largest in absolute value over the whole array."
    need(np.array_equal(kept, exact), otherwise)
    otherwise = "Entries that stay should keep their value."
    same(found, torch.where(torch.tensor(exact), delta, 0.0), "the trimmed vector", otherwise)
    one = read(trim(delta, 0.001), "The trimmed vector", (20, 5))
    need((one != 0).sum() == 1, f"At least one entry should stay, however small the density; {(one != 0).sum()} do.")
    otherwise = "Density 1 should change nothing."
    need(np.array_equal(read(trim(delta, 1.0), "The trimmed vector", (20, 5)), delta.numpy()), otherwise)
    return "the largest stay, as they are."


@exercise("2.3")
def elected_signs(elect: Answer) -> str:
    deltas = torch.tensor([[0.5, 0.0, -0.1, 0.2, 0.0], [-0.1, -0.3, -0.2, -0.2, 0.0], [-0.2, -0.1, 0.9, 0.0, 0.0]])
    found = read(elect(deltas.clone()), "The signs", (5,))
    need(set(found) <= {-1.0, 0.0, 1.0}, "Signs are +1 and −1; yours holds other numbers.")
    need(not (found[3] == 0 or found[4] == 0), "Where the sum is 0 the sign should be +1, and yours is 0.")
    need(found[3] != -1 and found[4] != -1, "Where the sum is 0 the sign should be +1, and yours is −1.")
    need(found[0] != -1, "Weight 0 has +0.5 against −0.1 and −0.2: the sum decides, not the number of models.")
    need(np.array_equal(found, [1, -1, 1, 1, 1]), "A sign is not that of the sum over models (the first axis).")
    return "the sum decides, and a tie goes to +."


@exercise("2.4")
def mean_of_the_agreeing(disjoint_mean: Answer) -> str:
    deltas = numbers(0, 3, 8, 4)
    deltas[torch.rand(deltas.shape, generator=torch.Generator().manual_seed(1)) < 0.4] = 0.0
    deltas[:, 0, 0] = 0.0
    signs = torch.where(deltas.sum(0) >= 0, 1.0, -1.0)
    value = disjoint_mean(deltas.clone(), signs.clone())
    otherwise = "0 / 0 where no model agrees: the mean is 0 there."
    need(not (isinstance(value, torch.Tensor) and value.isnan().any()), otherwise)
    found = read(value, "The mean", (8, 4))
    agrees = deltas * signs > 0
    total, count = (deltas * agrees).sum(0), agrees.sum(0).clamp(min=1)
    loose = ((deltas * signs >= 0).sum(0)).clamp(min=1)
    mistakes = {
        "This is the sum of the entries that agree; divide by how many they are.": total,
        "It divides by the number of models; divide by the number that agree.": total / 3,
        "Zeros count as agreeing: a trimmed entry has no sign.": total / loose,
        "This is the mean of all entries; those against the elected sign should not count.": deltas.mean(0),
        "This is the mean of absolute values; entries keep their sign.": total.abs() / count,
    }
    need_not(found, mistakes, 1e-6)
    otherwise = "The mean should be over the entries that have the elected sign, for each weight on its own."
    same(found, total / count, "the mean", otherwise)
    return "trim, elect, disjoint mean: you have written TIES."


GENERATOR = "The mask should come from `generator`, and from nothing else."


@exercise("2.5")
def dare(drop_and_rescale: Answer) -> str:
    delta = numbers(0, 200, 100)
    given = delta.clone()
    value = drop_and_rescale(given, 0.2, torch.Generator().manual_seed(1))
    found = torch.tensor(read(value, "The result", (200, 100)))
    need(torch.equal(given, delta), "Your function changed its input: make a new tensor.")
    kept = found != 0
    share = kept.double().mean().item()
    need(abs(share - 0.8) > 0.02, "At density 0.2 four fifths stay; the density is what stays, not what is dropped.")
    need(abs(share - 0.2) < 0.02, f"At density 0.2 about 0.2 of the entries should stay; {share:.3f} do.")
    ratio = (found[kept] / delta.double()[kept]).median().item()
    otherwise = "What stays keeps its size; divide it by the density, or the vector gets shorter on average."
    need(abs(ratio - 1) > 1e-3, otherwise)
    need(abs(ratio - 5) < 1e-3, f"What stays should be 1 / 0.2 = 5 times as large, and is {ratio:.3g} times.")
    again = torch.tensor(read(drop_and_rescale(delta, 0.2, torch.Generator().manual_seed(1)), "The result", (200, 100)))
    need(
        torch.equal(again, found), GENERATOR
    )  # before the next: a global generator of the same seed draws as the numbers did
    mean = delta[kept].abs().mean().item() / delta.abs().mean().item()
    need(abs(mean - 1) < 0.1, "What stays depends on the size of the entry; the draw should not look at it.")
    rows = kept.double().mean(1)
    otherwise = "Whole rows or columns are dropped together; draw for each entry."
    need(rows.std() < 0.1 and kept.double().mean(0).std() < 0.1, otherwise)
    other = torch.tensor(read(drop_and_rescale(delta, 0.2, torch.Generator().manual_seed(2)), "The result", (200, 100)))
    need(not torch.equal(other, found), GENERATOR)
    return "unbiased: the mean over masks is δ."


@exercise("2.6")
def price_of_dropping(relative_noise: Answer) -> str:
    found = float(read(relative_noise(0.2), "The relative noise"))
    need(not np.isclose(found, 5), "This is E ‖DARE(δ)‖² / ‖δ‖²; the distance from δ is asked for.")
    need(not np.isclose(found, 0.8), "This is the noise without rescaling; what stays is divided by p, and errs too.")
    need(not np.isclose(found, 2), "This is the distance; its square is asked for.")
    delta, generator = numbers(0, 200_000), torch.Generator().manual_seed(1)
    for density in (0.2, 0.5, 0.8):
        found = float(read(relative_noise(density), "The relative noise"))
        kept = torch.rand(delta.shape, generator=generator) < density
        simulated = (
            torch.where(kept, delta / density, 0.0) - delta
        ).square().sum().item() / delta.square().sum().item()
        close = abs(found - simulated) < 0.03 * max(1, simulated)
        need(close, f"At density {density} a simulation gives {simulated:.2f}, and your formula {found:.2f}.")
    whole = float(read(relative_noise(1.0), "The relative noise"))
    same(whole, 0.0, "the noise", f"At density 1 nothing is dropped, so there is no noise; yours gives {whole:.3g}.")
    return "paper and simulation agree."


@exercise("2.7")
def coefficient_of_the_nearest(nearest_coefficient: Answer) -> str:
    delta = numbers(0, 30, 10)
    sparse = torch.where(numbers(1, 30, 10) > 0.3, 1.7 * delta, 0.0)
    found = float(read(nearest_coefficient(sparse.clone(), delta.clone()), "The coefficient"))
    product = (sparse * delta).sum().item()
    mistakes = {
        "This is the ratio of the norms; it would count parts of τ that point elsewhere.": (
            sparse.norm() / delta.norm()
        ).item(),
        "This is the inner product; divide it by ‖δ‖².": product,
        "It divides by ‖δ‖; the derivative gives ‖δ‖².": product / delta.norm().item(),
        "It divides by ‖τ‖²; that is the nearest multiple of τ to δ, the other way round.": product
        / sparse.square().sum().item(),
        "This is the cosine; the length of τ matters too.": product / (delta.norm() * sparse.norm()).item(),
    }
    need_not(found, mistakes)
    same(found, product / delta.square().sum().item(), "the coefficient", "Another λ brings λδ nearer to τ.", atol=1e-5)
    return "⟨τ, δ⟩ / ⟨δ, δ⟩, the projection."
