"""The committed results that the explorers are tested on."""

import pytest
from widgets.reading import HERE

from acm.profiles import load_profile
from acm.reporting.results import Results
from acm.widgets import sources, trade_off


@pytest.fixture(scope="module", autouse=True)
def committed(tmp_path_factory):
    """Only the committed results, whatever was run here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.KINDS, "runs", (tmp_path_factory.mktemp("runs"), "your run"))
        yield


@pytest.fixture(scope="module")
def results():
    """Those of one experiment."""
    return Results(load_profile(HERE[0]), HERE[1], "reports")


@pytest.fixture(scope="module")
def records(results):
    """Its records, as the trade-off explorer takes them."""
    return trade_off.Records(results)
