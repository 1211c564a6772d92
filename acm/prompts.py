"""What the models are asked, as visible constants: one prompt for slow and merged models, one for fast ones.

`qwen25-math-cot`: zero-shot, a ChatML system turn and the question, as in the paper's setup (arXiv 2505.14009, experiments;
the name is that of the Qwen2.5-Math evaluation code). `few-shot`: worked examples for base models; the paper names few-shot
chain of thought without giving its examples, so these are our own. `chat-template`: the model's own template, with the
instruction in the user's turn, since the makers of R1-Distill advise against a system turn.
"""

from __future__ import annotations

from acm.errors import unknown

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
QWEN25_MATH_COT = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
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
EXAMPLE = "Question: {question}\nAnswer: {answer}"
FEW_SHOT_STOPS = ["\n\nQuestion:"]  # a base model goes on with a question of its own; never used for models that reason at length


def few_shot(question: str) -> str:
    """The worked examples, then the question with its answer left open."""
    return "\n\n".join(EXAMPLE.format(question=q, answer=a).rstrip() for q, a in (*EXAMPLES, (question, "")))


PROMPTS = {
    "qwen25-math-cot": lambda question: QWEN25_MATH_COT.format(system=SYSTEM, question=question),
    "few-shot": few_shot,
    "chat-template": lambda question: CHAT.format(system=SYSTEM, question=question),  # lm-eval puts the template around it
}


def render(prompt: str, question: str) -> str:
    """The text that a model is given for a question; UserError for an unknown prompt."""
    if prompt not in PROMPTS:
        raise unknown("prompt", prompt, PROMPTS)
    return PROMPTS[prompt](question)
