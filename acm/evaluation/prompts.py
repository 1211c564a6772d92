"""What the models are asked, as visible constants: one prompt for slow and merged models, one for fast ones.

`qwen25-math-cot`: zero-shot, a ChatML system turn and the question, as in the paper's setup (arXiv 2505.14009, experiments;
the name is that of the Qwen2.5-Math evaluation code). `few-shot`: worked examples for base models; the paper names few-shot
chain of thought without giving its examples, so these are our own. `chat-template`: the model's own template, with the
instruction in the user's turn, since the makers of R1-Distill advise against a system turn. For the code benchmarks the paper gives no
prompt: instruction and examples are ours, in the same three forms.
"""

from __future__ import annotations

from acm.errors import unknown

Examples = tuple[tuple[str, str], ...]  # questions with their worked answers
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
        "There are $6 \\cdot 6 = 36$ equally likely outcomes. The sum is 5 for $(1, 4)$, $(2, 3)$, $(3, 2)$ and $(4, 1)$, which are 4. "
        "The probability is $\\frac{4}{36} = \\frac{1}{9}$. The final answer is $\\boxed{\\frac{1}{9}}$.",
    ),
    (
        "For which real $x$ is $x^2 - 3x - 10 < 0$?",
        "We have $x^2 - 3x - 10 = (x - 5)(x + 2)$. The product is negative exactly where the factors have opposite signs, "
        "which is between the roots $-2$ and $5$. The final answer is $\\boxed{(-2, 5)}$.",
    ),
)  # fmt: skip
CODE_SYSTEM = "Please reason step by step, and give the complete program last, in one block that starts with ```python."
CODE_EXAMPLES = (
    (
        "Write the functions below in Python; the second is meant to call the first.\n"
        "```python\ndef is_leap(year: int) -> bool:\n    \"\"\"Whether a year of the Gregorian calendar is a leap year.\"\"\"\n\n"
        "# Count the leap years of a list of years.\ndef count_leap(years: list[int]) -> int:\n```",
        "A year is a leap year if 4 divides it and 100 does not, or if 400 does. Counting adds the truth values up.\n"
        "```python\ndef is_leap(year: int) -> bool:\n    return year % 4 == 0 and year % 100 != 0 or year % 400 == 0\n\n\n"
        "def count_leap(years: list[int]) -> int:\n    return sum(is_leap(year) for year in years)\n```",
    ),
    (
        "The first line has a number n, the second has n integers. Print the largest difference of two of them.\n\n"
        "Write a Python program that reads from standard input and prints the answer.",
        "The largest difference is that of the greatest and the least number.\n"
        "```python\ninput()\nnumbers = [int(word) for word in input().split()]\nprint(max(numbers) - min(numbers))\n```",
    ),
)  # fmt: skip
EXAMPLE = "Question: {question}\nAnswer: {answer}"
FEW_SHOT_STOPS = [
    "\n\nQuestion:"
]  # a base model goes on with a question of its own; never used for models that reason at length


def few_shot(question: str, examples: Examples) -> str:
    """The worked examples, then the question with its answer left open."""
    return "\n\n".join(EXAMPLE.format(question=q, answer=a).rstrip() for q, a in (*examples, (question, "")))


PROMPTS = {  # prompt → (question, system, examples) → text
    "qwen25-math-cot": lambda question, system, _: QWEN25_MATH_COT.format(system=system, question=question),
    "few-shot": lambda question, _, examples: few_shot(question, examples),
    "chat-template": lambda question, system, _: CHAT.format(
        system=system, question=question
    ),  # lm-eval puts the template around it
}


def render(prompt: str, question: str, system: str = SYSTEM, examples: Examples = EXAMPLES) -> str:
    """The text that a model is given for a question; UserError for an unknown prompt. Code tasks have their own system and examples."""
    if prompt not in PROMPTS:
        raise unknown("prompt", prompt, PROMPTS)
    return PROMPTS[prompt](question, system, examples)
