"""What all explorers share: errors that show, a worker thread, pictures, the results that there are."""

import time

from matplotlib.figure import Figure
from widgets.reading import HERE, Reader

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


def test_pictures_have_a_text_for_those_who_do_not_see_them():
    picture = parts.Picture()
    picture.draw(Figure(), 'a "quoted" <text>', {"p": (0.9, 0.1)}, {"p": "<hint>"})
    read = Reader(picture.image.value)
    assert read.tags == ["img"] and "alt" in read.attributes
    assert {"acm-point", "acm-low", "acm-right-side"} <= set(picture.points["p"]._dom_classes)


def test_own_runs_come_first_and_foreign_folders_are_left_out(tmp_path, monkeypatch):
    for path in ("tiny/long-to-short", "nobody/long-to-short", "tiny/nothing"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "records.parquet").write_bytes(b"")
    monkeypatch.setitem(sources.KINDS, "runs", (tmp_path, "your run"))
    found = list(sources.results_with("records.parquet"))
    assert found[0] == "tiny / long-to-short (your run)" and all(name.endswith("(committed)") for name in found[1:])
    assert {"tiny / general (committed)", "tiny / long-to-short (committed)"} < set(found)
    assert sources.preferred(found, "tiny", "long-to-short") == found[0]
