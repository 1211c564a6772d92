"""Programs that want to pass without doing the task, and honest ones whose results are no plain data."""

import os
import subprocess
import sys
import time

import pytest

from acm.evaluation.code_grading import Limits, box, run_program, run_tests
from acm.paths import ROOT

LIMITS = Limits(seconds=15, cpu_seconds=3, memory=512, file=2)
TESTS = "assert f(2) == 12345\nassert math.isclose(f(3), 8.5)\nassert abs(f(1) - 2) < 1e-9\nassert f(4) in [9]"
AGREES = "class E({}):\n    __eq__ = __lt__ = __gt__ = lambda *a: True\n    __hash__ = None\n" + "".join(
    f"    __{name}__ = lambda *a: 0.0\n" for name in ("sub", "rsub", "abs", "float")
)
CHEATS = {
    "reads its own file": "import re\nfound = re.findall('done-.*|12345', open('program.py').read())\nprint(found[0])",
    "reads its folder and arguments": "import os, sys\nfor name in os.listdir():\n    print(open(name).read())\n"
    "print(sys.argv, os.environ, sys.stdin.read())\ndef f(x): return 0",
    "leaves": "import os\nprint('passed', flush=True)\nos._exit(0)",
    "leaves when called": "import os\ndef f(x):\n    os._exit(0)",
    "exits when called": "def f(x):\n    raise SystemExit(0)",
    "exits at the end": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x):\n    exit(0)",
    "agrees with everything": AGREES.format("object") + "def f(x):\n    return E()",
    "agrees as a number": AGREES.format("int") + "def f(x):\n    return E(3)",
    "agrees as a list": AGREES.format("list") + "def f(x):\n    return E()",
    "changes built-ins": "import builtins, math\nbuiltins.abs = abs = lambda x: 0\nmath.isclose = lambda *a: True\n"
    "class math:\n    isclose = lambda *a: True\ndef f(x):\n    return 12345",
    "changes AssertionError": "import builtins\nclass AssertionError(BaseException): pass\n"
    "builtins.AssertionError = AssertionError\ndef f(x):\n    raise AssertionError",
    "walks frames and objects": "import gc, sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        if 12345 in frame.f_locals.values() or 'assert' in str(frame.f_locals):\n            return 12345\n"
    "        frame = frame.f_back\n    return next((o for o in gc.get_objects() if o == 12345), 0)",
    "writes to whatever is open": "import os\nfor i in range(3, 100):\n    try:\n"
    "        os.write(i, b'\\0\\0\\0\\6passed')\n    except OSError:\n        pass\ndef f(x):\n    return 0",
    "answers with code": "import gc, pickle\nclass Exit:\n    def __reduce__(self):\n"
    "        return eval, (\"__import__('os')._exit(0)\",)\ndef f(x):\n"
    "    (peer,) = [o for o in gc.get_objects() if type(o).__name__ == 'Peer']\n"
    "    peer.connection.send_bytes(pickle.dumps(('=', (Exit(), []))))",
    "hands over other names": "from acm.evaluation.code_peers import Peer\n"
    "names = {'abs': lambda x: 0, '__builtins__': {}, 'f': lambda x: 12345}\n"
    "Peer.done = lambda self, action, *d: names if action == 'names' else (12345, list(d[2]))",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)\ndef f(x):\n    return 0",
    "prints without end": "print('passed' * 10**7)\ndef f(x):\n    return 0",
    "closes all": "import os\nos.closerange(0, 100)\ndef f(x):\n    return 0",
    "leaves threads": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(60,)).start()\ndef f(x):\n    return 0",
    "returns without end": "def f(x):\n    while True:\n        yield 1",
    "returns what is too much": "def f(x):\n    return 'x' * (1 << 29)",
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_does_not_pass(name):
    start = time.monotonic()
    found = run_tests(CHEATS[name], TESTS, allow_unsafe_code=True, limits=LIMITS)
    assert not found.passed and time.monotonic() - start < 40


def test_the_tests_and_their_values_reach_no_program():
    """A program that says all that it can find, of the processes above it too, finds no expected value."""
    code = (
        "import gc, glob, os\ndef f(x):\n    for path in [*glob.glob('/proc/[0-9]*/cmdline'), *os.listdir()]:\n"
        "        try:\n            print(open(path).read())\n        except Exception:\n            pass\n"
        "    wanted = int(''.join(['98765', '4321']))\n    kinds = list, dict, tuple\n"
        "    print(len([o for o in gc.get_objects() if type(o) in kinds and wanted in o]), 'found')\n    return 0"
    )
    found = run_tests(code, "assert f(1) == 987654321", allow_unsafe_code=True, limits=LIMITS)
    assert not found.passed and "987654321" not in found.output and "0 found" in found.output


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux keeps processes of a user apart by prctl")
@pytest.mark.skipif(os.getuid() == 0 and not box(), reason="root reads every process, unless in bubblewrap")
def test_the_tests_process_cannot_be_read():
    code = "import os\nfor name in ('mem', 'fd/0', 'maps'):\n    open(f'/proc/{os.getppid()}/{name}', 'rb').read(1)"
    assert "Permission" in run_tests(code, "", allow_unsafe_code=True, limits=LIMITS).output


def test_a_program_s_output_cannot_be_replaced_by_a_link(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("42")
    code = f"import os\nfor name in ('output.txt', 'errors.txt'):\n    os.symlink({str(secret)!r}, name)"
    assert not run_program(code, "", "42", allow_unsafe_code=True, limits=LIMITS).passed


HONEST = {
    "nested data": (
        "def f():\n    return [1, (2.5, None), {'a': {True}}]",
        "assert f() == [1, (2.5, None), {'a': {1}}]",
    ),
    "a generator": (
        "def f(n):\n    yield from range(n)",
        "assert list(f(3)) == [0, 1, 2] and 2 in f(3) and sum(f(4)) == 6",
    ),
    "an object": (
        "class Stack:\n    def __init__(self):\n        self.rows = []\n    def push(self, x):\n"
        "        self.rows.append(x)\n    def __len__(self):\n        return len(self.rows)",
        "s = Stack()\ns.push(3)\nassert len(s) == 1 and s.rows == [3] and isinstance(s, Stack) and s == s",
    ),
    "a tree": (
        "class Node:\n    def __init__(self, v):\n        self.v, self.left, self.right = v, None, None\n"
        "def depth(n):\n    return 1 + max(depth(n.left), depth(n.right)) if n else 0",
        "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)\nassert depth(root) == 3",
    ),
    "a function of the tests": (
        "def twice(g, x):\n    return g(g(x))",
        "assert twice(lambda x: x + [1], []) == [1, 1]",
    ),
    "a list changed in place": ("def f(x):\n    x.sort()", "x = [3, 1, 2]\nf(x)\nassert x == [1, 2, 3]"),
    "an error": (
        "def f(x):\n    raise KeyError(x)",
        "try:\n    f(3)\n    assert False\nexcept KeyError as e:\n    pass",
    ),
    "an error of its own": (
        "class Low(ValueError):\n    pass\nclass Lower(Low):\n    pass\ndef f(x):\n    raise Lower('no')",
        "for kind in (Low, Lower, ValueError, Exception):\n    try:\n        f(1)\n        assert False, 1\n"
        "    except kind as error:\n        assert 'no' in str(error)",
    ),
    "the views of a dict": (
        "def f():\n    return {1: 2}.keys(), {1: 2}.values()",
        "a, b = f()\nassert a == {1} and list(b) == [2] and 2 in b",
    ),
    "containers and numbers": (
        "from collections import *\nfrom fractions import Fraction\nfrom decimal import Decimal\nimport datetime\n"
        "def f():\n    return Counter('aab'), deque([1]), Fraction(1, 3), Decimal('0.5'), 1j, datetime.date(9, 1, 2)",
        "a, b, c, d, e, g = f()\nassert a['a'] == 2 and list(b) == [1] and 3 * c == 1 == 2 * d == -e * e\n"
        "assert g.day == 2",
    ),
    "types that extend plain ones": (
        "from collections import *\nfrom enum import *\nP = namedtuple('P', 'x y')\nclass E(IntEnum):\n    A = 3\n"
        "def f():\n    return P(1, 2), E.A, defaultdict(list, a=[1]), OrderedDict(b=2)",
        "assert f() == ((1, 2), 3, {'a': [1]}, {'b': 2})",
    ),
    "NumPy's numbers": (
        "import numpy as np\ndef f():\n    return np.float64(2.5), np.bool_(True)",
        "assert f() == (2.5, True)",
    ),
    "objects that compare": (
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass D:\n    x: int\n    def __add__(self, o):\n"
        "        return D(self.x + o.x)",
        "assert D(1) + D(2) == D(3) != D(4) and D(1) < D(2) and not D(1) == 1",
    ),
    "the name of a built-in": ("def sum(a, b):\n    return a + b", "assert sum(1, 2) == 3"),
    "a check of the tests' own": ("def f(x):\n    return x + 1", "def check(g):\n    assert g(1) == 2\ncheck(f)"),
    "a large number": (
        "import math\ndef f(n):\n    return math.factorial(n)",
        "assert f(3000) == math.factorial(3000)",
    ),
    "an import of the tests": (
        "def f(x):\n    return random.Random(x).random()",
        "import random\nassert 0 <= f(3) < 1",
    ),
    "a future import of both": (
        "from __future__ import annotations\ndef f(x: X):\n    return x",
        "from __future__ import annotations\nassert f(1) == 1",
    ),
    "main": ("if __name__ == '__main__':\n    x = 3", "assert x == 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_passes_and_no_other_test_does(name):
    code, tests = HONEST[name]
    found = run_tests(code, tests, asked=["sum"], allow_unsafe_code=True, limits=LIMITS)
    assert found.passed, found.output
    assert not run_tests(code, f"{tests}\nassert False", asked=["sum"], allow_unsafe_code=True, limits=LIMITS).passed


def test_what_the_program_prints_is_kept_though_its_tests_fail():
    found = run_tests(
        "def f():\n    print('thought')\n    return 1", "assert f() == 2", allow_unsafe_code=True, limits=LIMITS
    )
    assert "thought" in found.output and 'File "tests", line 1' in found.output


@pytest.mark.skipif(not box(), reason="bubblewrap is not there, or does not work here")
@pytest.mark.parametrize(
    "code",
    [
        "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)",
        "open({outside!r}, 'w')",
        "import os\nos.kill({pid}, 0)",
        "open({outside!r} + '.secret').read()",
    ],
    ids=["network", "writing elsewhere", "other processes", "the home's and temporary files"],
)
def test_bubblewrap_contains(code, tmp_path):
    import socket

    (tmp_path / "x.secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as open_port, subprocess.Popen(["sleep", "30"]) as other:
        outside = str(tmp_path / "x")
        code = code.format(port=open_port.getsockname()[1], outside=outside, pid=other.pid)
        found = run_program(code, "", "", allow_unsafe_code=True, limits=LIMITS)
        other.kill()
    assert not found.passed and "Error" in found.output and not (tmp_path / "x").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_process_that_holds_the_tests_is_shut_to_others_of_its_user():
    grade = "from acm.evaluation.code_grading import run_tests as r; r('x = 1', 'assert x', allow_unsafe_code=True)"
    code = f"{grade}; import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "0\n"
