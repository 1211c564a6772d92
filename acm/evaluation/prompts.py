"""The prompts: how a question is put to a model, word for word. Profiles and the command line choose one by its name.

`qwen25-math-cot` is the usual prompt. It has no examples: a system turn in ChatML, then the question, as in the paper's
setup (arXiv 2505.14009, experiments). The name comes from the evaluation code of Qwen2.5-Math.
`few-shot` shows worked examples and is meant for base models. The paper says that it used few-shot chain of thought but
does not print the examples. Ours are our own.
`chat-template` uses the model's own template. The instruction stands in the user's turn, because the makers of
R1-Distill advise against a system turn.
The paper gives no prompt for its code benchmarks. There the instruction and the examples are ours, in the same three
forms.
"""

from __future__ import annotations

from collections.abc import Callable

from acm.errors import unknown

Examples = tuple[tuple[str, str], ...]  # pairs of a question and its worked answer
USUAL_PROMPT, FEW_SHOT, CHAT_TEMPLATE = "qwen25-math-cot", "few-shot", "chat-template"
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
QWEN25_MATH_COT = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
)
CHAT = "{question}\n\n{system}"

EXAMPLES = (
    (
        "A bakery fills 14 trays with 9 rolls each and sells 97 rolls before noon. How many rolls are left?",
        "The bakery makes $14 \\cdot 9 = 126$ rolls. After selling 97 of them, $126 - 97 = 29$ are left. "
        "The final answer is $\\boxed{29}$.",
    ),
    (
        "Simplify $\\frac{6x^2 - 24}{3x + 6}$ for $x \\neq -2$.",
        "The numerator is $6(x^2 - 4) = 6(x - 2)(x + 2)$ and the denominator is $3(x + 2)$. "
        "The factor $x + 2$ cancels, and $\\frac{6}{3} = 2$ remains. The final answer is $\\boxed{2(x - 2)}$.",
    ),
    (
        "Two fair dice are thrown. What is the probability that the sum of the two numbers is 5?",
        "There are $6 \\cdot 6 = 36$ equally likely outcomes. "
        "The sum is 5 for $(1, 4)$, $(2, 3)$, $(3, 2)$ and $(4, 1)$, which are 4. "
        "The probability is $\\frac{4}{36} = \\frac{1}{9}$. The final answer is $\\boxed{\\frac{1}{9}}$.",
    ),
    (
        "For which real $x$ is $x^2 - 3x - 10 < 0$?",
        "We have $x^2 - 3x - 10 = (x - 5)(x + 2)$. "
        "The product is negative exactly where the factors have opposite signs, "
        "which is between the roots $-2$ and $5$. The final answer is $\\boxed{(-2, 5)}$.",
    ),
)
CODE_SYSTEM = "Please reason step by step, and give the complete program last, in one block that starts with ```python."
CODE_EXAMPLES = (
    (
        "Write the functions below in Python; the second is meant to call the first.\n"
        "```python\ndef is_leap(year: int) -> bool:\n"
        '    """Whether a year of the Gregorian calendar is a leap year."""\n\n'
        "# Count the leap years of a list of years.\ndef count_leap(years: list[int]) -> int:\n```",
        "A year is a leap year if 4 divides it and 100 does not, or if 400 does. Counting adds the truth values up.\n"
        "```python\ndef is_leap(year: int) -> bool:\n"
        "    return year % 4 == 0 and year % 100 != 0 or year % 400 == 0\n\n\n"
        "def count_leap(years: list[int]) -> int:\n    return sum(is_leap(year) for year in years)\n```",
    ),
    (
        "The first line has a number n, the second has n integers. Print the largest difference of two of them.\n\n"
        "Write a Python program that reads from standard input and prints the answer.",
        "The largest difference is that of the greatest and the least number.\n"
        "```python\ninput()\nnumbers = [int(word) for word in input().split()]\n"
        "print(max(numbers) - min(numbers))\n```",
    ),
)
EXAMPLE = "Question: {question}\nAnswer: {answer}"
# After its answer a base model invents a next question, so `few-shot` stops there. Other prompts have no such stop,
# because long reasoning may contain any text.
FEW_SHOT_STOPS = ["\n\nQuestion:"]


def math_cot(question: str, system: str, _: Examples) -> str:
    """The system turn, the question, and the answer's turn left open."""
    return QWEN25_MATH_COT.format(system=system, question=question)


def few_shot(question: str, _: str, examples: Examples) -> str:
    """The worked examples, then the question with its answer left open."""
    return "\n\n".join(EXAMPLE.format(question=q, answer=a).rstrip() for q, a in (*examples, (question, "")))


def chat(question: str, system: str, _: Examples) -> str:
    """The user's turn. lm-evaluation-harness puts the model's template around it."""
    return CHAT.format(system=system, question=question)


PROMPTS: dict[str, Callable[[str, str, Examples], str]] = {
    USUAL_PROMPT: math_cot,
    FEW_SHOT: few_shot,
    CHAT_TEMPLATE: chat,
}


def render(prompt: str, question: str, system: str = SYSTEM, examples: Examples = EXAMPLES) -> str:
    """The text that a model is given for a question. Code tasks pass a system turn and examples of their own.

    Raises UserError for an unknown prompt.
    """
    if prompt not in PROMPTS:
        raise unknown("prompt", prompt, PROMPTS)
    return PROMPTS[prompt](question, system, examples)
