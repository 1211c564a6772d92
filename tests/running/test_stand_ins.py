"""A user without a name or a home, as in a container, can run the pipeline."""

import getpass

import pytest

from acm.paths import RUNS
from acm.running.reproduce import stand_ins


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set")])
def test_snakemake_is_told_a_name_where_the_machine_has_none(monkeypatch, tmp_path, error):
    def nameless():
        raise error

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    assert stand_ins() == {}
    monkeypatch.setattr(getpass, "getuser", nameless)
    assert stand_ins()["USER"].isdigit()


@pytest.mark.parametrize("cache", ["/dev/null/cache", "/proc/none", "/sys/none/cache"])
def test_its_cache_moves_where_the_usual_one_cannot_be_written_and_the_hubs_stays(monkeypatch, cache):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever runs the tests may be root
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.delenv("HF_HOME", raising=False)
    assert stand_ins() == {"XDG_CACHE_HOME": str(RUNS / "cache"), "HF_HOME": f"{cache}/huggingface"}
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    assert stand_ins()["HF_HOME"] == "/elsewhere"
