"""The examples in the docstrings of the public functions run as they stand, from the repository's root."""

import doctest
import sys

import pytest

import acm
from acm.paths import ROOT

WITH_EXAMPLES = ("mutual_information", "layer_coefficients", "calibrate", "evaluate", "show")


@pytest.mark.parametrize("name", acm.__all__)
def test_the_examples_of_a_public_function_run(name, monkeypatch, tmp_path):
    function = getattr(acm, name)
    monkeypatch.chdir(ROOT)
    found = doctest.DocTestFinder(recurse=False).find(function, name, sys.modules[function.__module__], {})
    examples = sum(len(test.examples) for test in found)
    assert examples or name not in WITH_EXAMPLES
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report: list[str] = []
    for test in found:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
