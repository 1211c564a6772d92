"""What all explorers share: errors that show, a worker thread, the results that there are."""

import time

from widgets.reading import HERE

from acm.widgets import parts, sources
from acm.widgets.coefficients_explorer import CoefficientsExplorer
from acm.widgets.response_browser import ResponseBrowser
from acm.widgets.trade_off_explorer import TradeOffExplorer


def test_a_profile_without_results_is_told_in_the_widget():
    for kind in (CoefficientsExplorer, TradeOffExplorer, ResponseBrowser):
        explorer = kind("qwen-7b", HERE[1])
        assert "no results of profile qwen-7b" in explorer.message.value and "Traceback" not in explorer.message.value


def test_a_newer_job_takes_the_place_of_the_one_under_way():
    seen = []
    worker = parts.Worker(seen.append)

    def job(name):
        def run(stop):
            while name == "old" and not stop():
                time.sleep(0.01)
            seen.append(name)

        return run

    worker.start(job("old"))
    worker.start(job("new"))
    assert worker.wait(20) and seen[-1] == "new"
    worker.start(lambda stop: 1 / 0)
    assert worker.wait(20) and isinstance(seen[-1], ZeroDivisionError)


def test_a_message_stays_until_another_is_told_and_an_error_goes_with_the_next_step():
    explorer = ResponseBrowser(*HERE)
    explorer.say("a note")
    explorer.attempt(lambda: None)
    assert "a note" in explorer.message.value
    explorer.attempt(lambda: 1 / 0)
    assert 'role="alert"' in explorer.message.value and "ZeroDivisionError" in explorer.message.value
    explorer.attempt(lambda: None)
    assert explorer.message.value == ""
    assert explorer.children[1] is explorer.message, "the status line stands on top"


def test_own_runs_come_first_and_foreign_folders_are_left_out(tmp_path, monkeypatch):
    for path in ("tiny/long-to-short", "nobody/long-to-short", "tiny/nothing"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "records.parquet").write_bytes(b"")
    monkeypatch.setitem(sources.KINDS, "runs", (tmp_path, "your run"))
    found = list(sources.results_with("records.parquet"))
    assert found[0] == "tiny / long-to-short (your run)" and all(name.endswith("(committed)") for name in found[1:])
    assert {"tiny / general (committed)", "tiny / long-to-short (committed)"} < set(found)
    assert sources.preferred(found, "tiny", "long-to-short") == found[0]
