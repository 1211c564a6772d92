r"""Grading: hand-checked responses, with what math-verify and what the string comparison should say.

The kinds of answer are those of the six benchmarks; the questions behind them are none of theirs.
"""

import threading
import time

import pandas as pd
import pytest

from acm.errors import UserError
from acm.evaluation.grading import after_thinking, differences, extract, grade, normalized, summary
from acm.evaluation.verifier import Verifier

BOX = "So we get $\\boxed{%s}$."
# answer in the box, gold, math-verify, string
BOXED = [
    # GSM8K, AIME24: numbers
    ("18", "18", True, True),
    ("19", "18", False, False),
    ("-10", "-10", True, True),
    ("10", "-10", False, False),
    ("2,125", "2125", True, True),
    ("2{,}125", "2125", True, True),
    ("1,450,000", "1450000", True, True),
    ("2.125", "2125", False, False),
    ("18.00", "18", True, True),
    ("18.5", "18", False, False),
    ("\\$18", "18", True, True),
    ("\\$1,600", "1600", True, True),
    ("18 \\text{ dollars}", "18", True, True),
    ("18 dollars", "18", True, True),
    ("x = 18", "18", True, True),
    ("36/2", "18", True, False),
    ("25", "025", True, True),
    ("073", "073", True, True),
    ("73", "073", True, True),
    ("37", "073", False, False),
    ("371.0", "371", True, True),
    ("\\text{371}", "371", True, True),
    ("\\mathbf{371}", "371", True, True),
    ("20\\%", "20", True, True),
    ("20\\%", "0.2", False, False),
    # MATH500: fractions, roots, points, intervals, words
    ("\\frac{14}{3}", "\\frac{14}{3}", True, True),
    ("\\dfrac{14}{3}", "\\frac{14}{3}", True, True),
    ("\\tfrac{14}{3}", "\\frac{14}{3}", True, True),
    ("\\frac43", "\\frac{4}{3}", True, True),
    ("4/3", "\\frac43", True, True),
    ("-\\frac{1}{2}", "-1/2", True, True),
    ("\\frac{28}{6}", "\\frac{14}{3}", True, False),
    ("4\\frac{2}{3}", "\\frac{14}{3}", True, False),
    ("\\frac{3}{14}", "\\frac{14}{3}", False, False),
    ("0.75", "\\frac{3}{4}", True, False),
    ("0.333", "\\frac{1}{3}", False, False),
    ("11\\sqrt{2}", "11\\sqrt2", True, True),
    ("\\sqrt{242}", "11\\sqrt2", True, False),
    ("15.556", "11\\sqrt2", False, False),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})", True, True),
    ("(\\frac{\\pi}{2}, 3)", "(3,\\frac{\\pi}{2})", False, False),
    ("\\left(3,\\, 4\\right]", "(3,4]", True, True),
    ("[3,4]", "(3,4]", False, False),
    ("(3,5]", "(3,4]", False, False),
    ("(-\\infty, 2) \\cup (3, \\infty)", "(-\\infty,2)\\cup(3,\\infty)", True, True),
    ("(-\\infty, 2] \\cup (3, \\infty)", "(-\\infty,2)\\cup(3,\\infty)", False, False),
    ("[-2,7]", "x \\in [-2,7]", True, True),
    ("90", "90^\\circ", True, True),
    ("90^{\\circ}", "90^\\circ", True, True),
    ("80^\\circ", "90^\\circ", False, False),
    ("\\text{Evelyn}", "\\text{Evelyn}", True, True),
    ("Evelyn", "\\text{Evelyn}", True, True),
    ("evelyn", "\\text{Evelyn}", True, True),
    ("Novelyn", "\\text{Evelyn}", False, False),
    ("\\text{seat}", "\\text{east}", False, False),
    ("seat", "east", False, False),
    ("C", "\\text{(C)}", True, False),
    ("B", "\\text{(C)}", False, False),
    ("1, -2", "1,-2", True, True),
    ("-2, 1", "1,-2", True, False),
    ("1", "1,-2", False, False),
    ("\\{1,-2\\}", "1,-2", True, False),
    ("x=1 \\text{ or } x=-2", "1,-2", True, False),
    ("1+\\sqrt{19}, 1-\\sqrt{19}", "1 \\pm \\sqrt{19}", True, False),
    ("y = 2x + 3", "y = 2x+3", True, True),
    ("2x+3", "y = 2x+3", True, True),
    ("3+2x", "y = 2x+3", True, False),
    ("y = 2x + 4", "y = 2x+3", False, False),
    ("x = 5", "y = 5", False, True),  # the string comparison takes any name off
    ("6 - 5i", "6-5i", True, True),
    ("-5i + 6", "6-5i", True, False),
    ("\\begin{pmatrix} -2 \\\\ 7 \\end{pmatrix}", "\\begin{pmatrix}-2\\\\7\\end{pmatrix}", True, True),
    ("\\begin{pmatrix} -2 \\\\ 8 \\end{pmatrix}", "\\begin{pmatrix}-2\\\\7\\end{pmatrix}", False, False),
    ("52_8", "52_8", True, True),
    ("11,\\! 111", "11111", True, True),
    ("5.4 \\text{ cents}", "5.4", True, True),
    ("15\\mbox{ cm}^2", "15", True, True),
    ("x^2+2x+1", "(x+1)^2", True, False),
    ("x^2+2x+2", "(x+1)^2", False, False),
    # Minerva: scientific notation, small numbers, formulas
    ("4.5 \\times 10^{33}", "4.5e33", True, True),
    ("4.5e33", "4.5e33", True, True),
    ("4.5 \\cdot 10^{33}", "4.5e33", True, True),
    ("4.5 \\times 10^{32}", "4.5e33", False, False),
    ("0.00000177", "1.77e-6", True, False),
    ("0.0000019", "1.77e-6", False, False),
    ("3.61 \\times 10^{-10}", "3.61e-10", True, True),
    ("2 \\times 10^{-9}", "3.61e-10", False, False),
    ("1.33 \\times 10^{-27}", "1.325e-27", False, False),
    ("0", "1.325e-27", False, False),
    ("15000", "1.5e4", True, False),
    ("e^{t}/3", "\\frac{e^t}{3}", True, False),
    ("I = 2\\cos 5t", "I=2 \\cos 6t", False, False),  # math-verify alone says equal: neither equation has a solution
    ("x^2+1=0", "x^2+2=0", False, False),  # the same without mending: neither has a real solution
    ("2x^2+4=0", "x^2+2=0", True, False),
    ("\\log_2(8)=4", "\\log_2(8)=3", False, False),
    ("\\log_2(8)=3", "$\\log_{2}(8)=3$", True, False),
    ("(x-1)^2+y^2=4", "x^2-2x+y^2=3", True, False),
    ("(x-1)^2+y^2=5", "x^2-2x+y^2=3", False, False),
    ("10 \\mathrm{~ft} \\times 19 \\mathrm{~ft}", "10 \\mathrm{ft} \\times 18 \\mathrm{ft}", False, False),
    ("1985.06", "$P=\\frac{2000}{e^{0.0075}} \\approx \\$ 1985.06$", True, False),
    ("1985.07", "$P=\\frac{2000}{e^{0.0075}} \\approx \\$ 1985.06$", False, False),
    ("\\sum_{n=0}^\\infty (n+1) x^n", "\\sum_{n=0}^\\infty (n+2) x^n", False, False),
    ("E_1,  E_2", "E_{1},E_{2}", False, False),
    ("E_{1}, E_{2}", "E_{1},E_{2}", True, True),  # it cannot read the gold
    ("E_{1}, E_{3}", "E_{1},E_{2}", False, False),
    ("[-6,-2]", "$-6 \\leqslant x \\leqslant-2:[-6,-2]$", True, False),
    ("(-6,-2]", "$-6 \\leqslant x \\leqslant-2:[-6,-2]$", False, False),
    ("6.608", "$6.608 \\mathrm{mi} / \\mathrm{hr}$", True, True),
    ("7 \\text{ m/s}", "$7 \\mathrm{~m} / \\mathrm{s}$", True, False),
    ("n^2-n-1", "$m_{\\max }=n^{2}-n-1$", True, False),
    ("40/3 minutes", "$\\frac{40}{3}$ minutes", True, True),
    (
        "\\frac{2}{3} E_{2}",
        "\\frac{1}{3} E_{1}+\\frac{2}{3} E_{2}",
        False,
        False,
    ),  # it cannot read E_1 and takes the last fraction
    ("1-5051/2^{101}", "1-5051/2^{100}", False, False),  # exact, so that no difference is too small
    ("1", "1-5051/2^{100}", False, False),
    ("0", "\\frac{1}{10000001}", False, False),
    ("\\frac{2^{100}-5051}{2^{100}}", "1-5051/2^{100}", True, False),
    ("2\\sqrt{3}\\pi+\\sqrt{12}\\pi", "4\\sqrt{3}\\pi", True, False),
    ("2.5\\pi", "\\frac{5\\pi}{2}", True, False),
    (
        "3\\mathbf{u}_{1}+5\\mathbf{u}_{2}",
        "$3 \\mathbf{u}_{1}+4 \\mathbf{u}_{2}$",
        False,
        False,
    ),  # a bold letter is no unit
    ("4u_2+3u_1", "$3 \\mathbf{u}_{1}+4 \\mathbf{u}_{2}$", True, False),
    ("2\\mathbf{i}-\\mathbf{j}", "2 \\mathbf{i}-\\mathbf{j}", True, True),
    ("2\\mathbf{i}", "2 \\mathbf{i}-\\mathbf{j}", False, False),
    ("y=\\frac{c}{x-c}, y=-1", "y=\\frac{c}{x-c} \\quad y=-1", True, True),
    ("y=\\frac{c}{x-2c} \\quad y=-1", "y=\\frac{c}{x-c} \\quad y=-1", False, False),
    ("\\quad(2,3)", "(2,3)", True, True),
    ("\\infty", "\\infty", True, True),
    ("-\\infty", "\\infty", False, False),
    ("1.4757732", "x_{3}=1.475773162", True, False),  # six decimals count
    ("1.4758", "x_{3}=1.475773162", False, False),
    # OlympiadBench, College Math: units, several answers, prose, dollar signs
    ("$3n$", "3 n", True, True),
    ("45 \\text{ minutes}", "45", True, True),
    ("166 \\text{ cm}^2", "166", True, True),
    ("4.2\\%", "4.2", True, True),
    ("-3, 0", "-3,0", True, True),
    ("0, -3", "-3,0", True, False),
    ("(1,2), (2,1)", "(1,2),(2,1)", True, True),
    ("(1,2), (2,3)", "(1,2),(2,1)", False, False),
    ("No solution.", "no solution", True, True),
    ("\\text{no solution}", "no solution", True, True),
    ("all real numbers", "no solution", False, False),
    ("495", "495 cookies", True, True),
    ("494", "495 cookies", False, False),
    ("$\\max$ at $x=64$", "$\\max$ at $x=63 / 64$", False, False),
    ("f^{-1}(x)=\\frac{-2x-2}{x+2}", "$f^{-1}(x)=\\frac{-2 x-2}{x+2}$", True, True),
    ("\\frac{-2x-2}{x+2}", "$f^{-1}(x)=\\frac{-2 x-2}{x+2}$", True, False),
    ("x=\\frac{\\pi}{6}, \\frac{5\\pi}{6}", "$x=\\frac{\\pi}{6}, \\frac{5 \\pi}{6}$", True, True),
]
# whole response, gold, math-verify, string
RESPONSES = [
    ("First \\boxed{17}, no: \\boxed{18}.", "18", True, True),
    ("First \\boxed{18}, no: \\boxed{17}.", "18", False, False),
    ("\\boxed{18} and then \\boxed{1", "18", True, True),  # the last complete one
    ("The result is \\boxed{18", "18", False, False),
    ("The answer is 18, so \\boxed{1", "18", False, False),  # cut off: nothing else is looked at
    ("\\boxed{\\frac{\\sqrt{2}}{{2}}}", "\\frac{\\sqrt2}{2}", True, False),
    ("\\\\boxed{18}", "18", True, True),
    ("\\boxed{" * 6000 + "18", "18", False, False),
    ("\\boxed {18}", "18", True, True),
    ("\\fbox{18}", "18", True, True),
    ("\\boxed{}", "18", False, False),
    ("", "18", False, False),
    ("The answer is 18.", "18", True, False),
    ("The final answer is: $18$.", "18", True, False),
    ("**Answer:** 18", "18", True, False),
    ("Answer: \\frac{1}{2}\nI hope it helps", "0.5", True, False),
    ("The answer is 17. Wait, the answer is 18.", "18", True, False),
    ("Then 9 + 9 = 18", "18", False, False),  # a last number is no answer
    ("<think>\\boxed{17}</think> It is \\boxed{18}.", "18", True, True),
    ("<think>\\boxed{18}</think> It is \\boxed{17}.", "18", False, False),
    ("reasoning </think> \\boxed{18}", "18", True, True),  # the template opened it
    ("<think> it is \\boxed{18}", "18", False, False),  # never closes
    ("<think>a</think> \\boxed{18} <think> again", "18", False, False),
    ("<think>\\boxed{18}</think> done", "18", False, False),
    ("\\boxed{2^{2^{2^{2^{2^{2^{2^2}}}}}}}", "18", False, False),
    ("\\boxed{" + "(" * 1500 + "}", "18", False, False),
    ("\\boxed{" + "9" * 5000 + "}", "18", False, False),
    ("\\boxed{" + "{" * 10000, "18", False, False),
    ("\\boxed{\\frac{1}{0}}", "18", False, False),
    ("\\boxed{\\begin{pmatrix} 1 \\end{matrix}}", "18", False, False),
    ("\\boxed{\\}}", "18", False, False),
]


@pytest.mark.parametrize(("answer", "gold", "math", "string"), BOXED)
def test_a_boxed_answer(answer, gold, math, string):
    found = grade(BOX % answer, gold)
    assert (found.correct, found.correct_string, found.source) == (math, string, "box")


@pytest.mark.parametrize(("response", "gold", "math", "string"), RESPONSES, ids=range(len(RESPONSES)))
def test_a_response(response, gold, math, string):
    found = grade(response, gold)
    assert (found.correct, found.correct_string) == (math, string)


@pytest.mark.parametrize(("response", "closed"), [
    ("no thinking", None), ("<think>a</think> b", True), ("a</think> b", True), ("<think> a", False),
    ("<think>a</think><think>", False),
])  # fmt: skip
def test_thinking_that_never_closes_is_told_apart(response, closed):
    assert after_thinking(response)[1] is closed


def test_where_the_answer_stood():
    assert extract("\\boxed{a} \\boxed{b}") == ("b", "box")
    assert extract("The answer is $3$.") == ("3", "sentence")
    assert extract("<think> \\boxed{a}") == extract("3") == ("", "none")


def test_grading_works_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(grade("\\boxed{0.5}", "1/2").correct))
    thread.start()
    thread.join()
    assert found == [True]


def test_a_comparison_that_hangs_is_unequal_and_the_next_one_works():
    verifier = Verifier(seconds=1)
    assert verifier.equal("2", "\\frac{4}{2}", 6)
    start = time.monotonic()
    assert not verifier.equal("7", "9^{9^{9^{9}}}", 6) and time.monotonic() - start < 30
    assert verifier.equal("2", "\\frac{4}{2}", 6)
    verifier.child.kill()
    verifier.child.wait()
    assert verifier.equal("2", "\\frac{4}{2}", 6)
    verifier.stop()


def test_without_math_verify_there_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("acm.evaluation.verifier.sys.executable", "/bin/false")
    with pytest.raises(UserError, match=r"math-verify cannot be run .*pip install 'lm-eval\[math\]'"):
        Verifier().equal("1", "2", 6)


def test_normalizing_is_done_after_one_pass():
    for answer, gold, *_ in BOXED:
        for text in (answer, gold):
            assert normalized(normalized(text)) == normalized(text)


def test_differences_and_summary():
    records = pd.DataFrame({
        "model": "m", "task": ["a", "a", "a", "b"], "item": [0, 1, 2, 0], "correct": [1.0, 1.0, 0.0, 1.0],
        "correct_string": [1.0, 0.0, 0.0, None], "truncated": [False, False, True, False],
        "answer_from": ["box", "sentence", "none", None],
        "thinking_closed": [True, None, False, None],
    })  # fmt: skip
    assert list(differences(records)["item"]) == [1]
    assert differences(records.drop(columns="correct_string")).empty
    row = summary(records).loc[("m", "a")]
    assert dict(row.round(2)) == {
        "correct": 0.67,
        "correct_string": 0.33,
        "truncated": 0.33,
        "no_answer": 0.33,
        "still_thinking": 0.33,
        "n": 3,
    }
