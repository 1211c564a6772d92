"""Generates arithmetic word problems with solutions of any wordiness, and the tasks of two extra skills.

A solution is the work of a *writer*. For each step the writer makes *decisions*, such as whether to write the step out.
Each decision is an independent toss of a biased coin:

    log-odds = SLOPE · (difficulty of the step − MIDDLE) + offset of the decision + verbosity of the writer

So hard steps get more tokens. As verbosity grows, a writer first adds useful text (writing a step out, checking it),
then redundant text (restating the step). Independent coins let a merge change length gradually. If one choice held for
a whole document, a merge would switch between two modes.

A check means something. A writer who is going to check works hastily: where a subtraction borrows, the first result
often forgets the borrow and is ten too high. The check finds this, and the writer mends it. So one check in ten says
"no".

    >>> example = word_problem(random.Random(3), steps=2)
    >>> example.question
    'question: nora has 17 shells. she finds 4 more. she sells 6. how many shells are left? answer:'
    >>> solve(example, verbosity=-9, rng=random.Random(0))
    '17+4,-6=15. the answer is 15.'
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

NAMES = {"tom": "he", "ben": "he", "max": "he", "leo": "he", "sam": "he",
         "anna": "she", "mia": "she", "nora": "she", "lucy": "she", "eva": "she"}  # fmt: skip
OBJECTS = ["apples", "books", "coins", "eggs", "figs", "kites", "nuts", "pears", "shells", "toys"]
SENTENCES = {
    "+": ["{who} buys {n} more", "{who} finds {n} more", "{who} wins {n} more"],
    "-": ["{who} sells {n}", "{who} loses {n}", "{who} gives away {n}"],
    "*": ["{who} doubles them"],
    "/": ["{who} sells half"],
}
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}
LARGEST = 99

SLOPE, MIDDLE = 5.0, 0.55
OFFSETS = {"write": 1.2, "check": -0.5, "announce": -1.5, "restate": -3.0, "phrase": -4.0}
FORGOTTEN = 0.6  # share of the checked subtractions with a borrow whose first result forgets it: one check in ten


@dataclass(frozen=True)
class Step:
    """One operation: ``before`` (op) ``number`` = ``after``; ``sentence`` tells it in words."""

    op: str
    number: int
    before: int
    after: int
    sentence: str


@dataclass(frozen=True)
class Problem:
    """A question with its steps; ``gold`` is the answer as a string."""

    question: str
    gold: str
    steps: tuple[Step, ...] = ()
    subject: str = ""
    things: str = ""


def apply(op: str, value: int, number: int) -> int:
    return {"+": value + number, "-": value - number, "*": value * number, "/": value // number}[op]


def difficulty(step: Step) -> float:
    """From 0.25 (doubling a small number) to 0.9 (borrowing)."""
    units, other = step.before % 10, step.number % 10
    match step.op:
        case "+":
            return 0.7 if units + other > 9 else 0.35
        case "-":
            return 0.9 if borrows(step) else 0.45
        case "*":
            return 0.25 if step.before < 10 else 0.6 if units > 4 else 0.4
        case _:
            return 0.3 if step.before < 20 else 0.65 if step.before // 10 % 2 else 0.45


def draw_step(rng: random.Random, value: int, who: str) -> Step:
    while True:
        op = rng.choices("+-*/", weights=[35, 35, 15, 15])[0]
        number = 2 if op in "*/" else rng.randint(2, 40)
        after = apply(op, value, number)
        if 1 <= after <= LARGEST and not (op == "/" and value % 2):
            sentence = rng.choice(SENTENCES[op]).format(who=who, n=number)
            return Step(op, number, value, after, sentence)


def word_problem(rng: random.Random, steps: int) -> Problem:
    """A story of ``steps`` operations on numbers from 1 to 99."""
    subject, things = rng.choice(list(NAMES)), rng.choice(OBJECTS)
    start = value = rng.randint(2, 60)
    chain = []
    for _ in range(steps):
        chain.append(draw_step(rng, value, NAMES[subject]))
        value = chain[-1].after
    story = " ".join(f"{s.sentence}." for s in chain)
    question = f"question: {subject} has {start} {things}. {story} how many {things} are left? answer:"
    return Problem(question, str(value), tuple(chain), subject, things)


def fact(rng: random.Random) -> Problem:
    """A bare sum such as "what is 17+5?"."""
    step = draw_step(rng, rng.randint(2, LARGEST), "")
    question = f"question: what is {step.before}{step.op}{step.number}? answer:"
    return Problem(question, str(step.after), (step,))


def solve(problem: Problem, verbosity: float, rng: random.Random) -> str:
    """The solution as a writer of this verbosity (log-odds) would put it; ends with "the answer is …"."""

    def decide(what: str, hardness: float = MIDDLE) -> bool:
        logit = SLOPE * (hardness - MIDDLE) + OFFSETS[what] + verbosity
        return rng.random() < 1 / (1 + math.exp(-logit))

    parts, pending = [], []
    if decide("phrase"):
        parts.append("let us go step by step.")
    for step in problem.steps:
        pending.append(step)
        if step is problem.steps[-1] or decide("write", difficulty(step)):
            parts += write_line(pending, problem, decide, rng)
            pending = []
    if decide("phrase"):
        parts.append("we are done.")
    return " ".join([*parts, f"the answer is {problem.gold}."])


def write_line(steps: list[Step], problem: Problem, decide: Callable, rng: random.Random) -> list[str]:
    """One line of working: ``17+4,-6=15.`` A comma reads "and then"; a single step can be checked."""
    last, parts = steps[-1], []
    hardness = difficulty(last)
    if problem.subject and len(steps) == 1 and decide("announce", hardness):
        parts.append(f"now {last.sentence}.")
    chain = ",".join(f"{s.op}{s.number}" for s in steps)
    checked = len(steps) == 1 and decide("check", hardness)
    written = first_result(last, rng) if checked else last.after
    parts.append(f"{steps[0].before}{chain}={written}.")
    if checked:
        back = INVERSE[last.op]
        found = apply(back, written, last.number)
        parts.append(f"check: {written}{back}{last.number}={found}, {'yes' if found == last.before else 'no'}.")
        if written != last.after:
            parts.append(f"wait, it is {last.after}.")
    if problem.subject and decide("restate", hardness):
        parts.append(f"so it is {last.after}.")
    return parts


def borrows(step: Step) -> bool:
    """Whether a subtraction takes a ten over."""
    return step.op == "-" and step.before % 10 < step.number % 10


def first_result(step: Step, rng: random.Random) -> int:
    """What a hasty writer puts first: the result, or ten more where a borrow is forgotten."""
    # what the check finds stays below 100
    hasty = borrows(step) and step.before + 10 <= LARGEST and rng.random() < FORGOTTEN
    return step.after + 10 if hasty else step.after


def sums(rng: random.Random, terms: tuple[int, int] = (6, 10), largest: int = 12) -> tuple[Problem, str]:
    """A list of numbers added up one by one. terms: the least and the most numbers; largest: of a number."""
    while True:
        numbers = [rng.randint(1, largest) for _ in range(rng.randint(*terms))]
        if sum(numbers) <= LARGEST:
            break
    lines, total = [], numbers[0]
    for number in numbers[1:]:
        lines.append(f"{total}+{number}={total + number}.")
        total += number
    question = f"question: add {', '.join(map(str, numbers))}. answer:"
    return Problem(question, str(total)), " ".join([*lines, f"the answer is {total}."])


def long_sums(rng: random.Random) -> tuple[Problem, str]:
    """The skill of ``abacus-sums``: lists that are mostly longer than those that the base has met."""
    return sums(rng, (8, 12), 8)


def words(rng: random.Random, terms: tuple[int, int] = (3, 6)) -> tuple[Problem, str]:
    """A list of words put into alphabetical order. terms: the least and the most words."""
    listed = rng.sample(OBJECTS, rng.randint(*terms))
    gold = ", ".join(sorted(listed))
    return Problem(f"question: sort {', '.join(listed)}. answer:", gold), f"the answer is {gold}."


def long_words(rng: random.Random) -> tuple[Problem, str]:
    """The skill of ``abacus-words``: the longer of the lists that the base has met, of which it sorts one in three."""
    return words(rng, (4, 6))


def held_out(problem: Problem) -> bool:
    """Whether the question belongs to the benchmarks (one in 20, by its hash) and never to training."""
    return hashlib.sha256(problem.question.encode()).digest()[0] % 20 == 0


BENCHMARKS: dict[str, Callable[[random.Random], Problem]] = {
    "abacus_easy": lambda rng: word_problem(rng, rng.randint(1, 2)),
    "abacus_medium": lambda rng: word_problem(rng, rng.randint(3, 4)),
    "abacus_hard": lambda rng: word_problem(rng, rng.randint(5, 6)),
    "abacus_sums": lambda rng: long_sums(rng)[0],
    "abacus_words": lambda rng: long_words(rng)[0],
}


FRESH = 667  # fresh items of a benchmark: 2,001 of easy, medium and hard together


def benchmark(name: str, items: int = 500, seed: int = 2505) -> list[dict]:
    """``items`` distinct held-out questions of a benchmark: dicts with question, gold and steps."""
    return held_out_items(name, items, f"{name}/{seed}", set())


def fresh(name: str, items: int = FRESH, seed: int = 2606) -> list[dict]:
    """As :func:`benchmark`, of questions that its 500 do not have: nothing was chosen by looking at them."""
    return held_out_items(name, items, f"{name}/fresh/{seed}", {row["question"] for row in benchmark(name)})


def held_out_items(name: str, items: int, seed: str, known: set[str]) -> list[dict]:
    """Distinct held-out questions of a benchmark that are not among the known ones."""
    rng = random.Random(seed)
    found: dict[str, dict] = {}
    while len(found) < items:
        problem = BENCHMARKS[name](rng)
        if held_out(problem) and problem.question not in known:
            found[problem.question] = {"question": problem.question, "gold": problem.gold, "steps": len(problem.steps)}
    return list(found.values())
