"""Puts the live page into the built site: the page as index.html, its scripts, style and models in ``live/``.

A browser may fetch from a server, but not from a folder on disk. So each model lies there twice: as it is, for servers,
and in base64 in a script, for a site that is opened from disk. None of this is committed.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from pathlib import Path

from acm.widgets.bundle import bundle
from website.navigation import links
from website.stage import ROOT, commit

DATA = "reports/tiny/long-to-short/live.json"
STYLES = ("web/chart/chart.css", "web/live/playground.css", "web/live/page.css")
CHECKPOINTS = "abacus/checkpoints"
SECTIONS = re.compile(r'(<nav aria-label="sections">\n).*?(</nav>)', re.DOTALL)


def main(site: str, root: str = str(ROOT)) -> None:
    """Write the page into a site that Sphinx built. site: its folder; root: the repository."""
    source, out = Path(root), Path(site)
    folder = out / "live"
    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads((source / DATA).read_text(encoding="utf-8"))
    names = [data["base"], data["finetuned"]]
    for name in names:
        put_model(source / CHECKPOINTS / name / "model.safetensors", folder / name)
    (folder / "data.js").write_text(data_script(source, data, names), encoding="utf-8")
    (folder / "page.js").write_text(bundle("live/page.js"), encoding="utf-8")
    style = "\n".join((source / name).read_text(encoding="utf-8") for name in STYLES)
    (folder / "live.css").write_text(style, encoding="utf-8")
    page = with_sections((source / "web/live/index.html").read_text(encoding="utf-8"))
    version = commit(source)
    built = page.replace("{built}", f"Built from commit {version}. " if version else "")
    (out / "index.html").write_text(built, encoding="utf-8")


def with_sections(page: str) -> str:
    """The page with the header's links of all pages. page: HTML with a ``nav`` of sections."""
    page, count = SECTIONS.subn(lambda m: f"{m[1]}{links()}\n{m[2]}", page)
    if count != 1:
        raise ValueError('web/live/index.html needs one <nav aria-label="sections">')
    return page


def put_model(weights: Path, target: Path) -> None:
    """A model as a file and as a script."""
    shutil.copyfile(weights, target.with_suffix(".safetensors"))
    text = base64.b64encode(weights.read_bytes()).decode()
    target.with_suffix(".js").write_text(f'acmFile("{target.name}", "{text}");\n', encoding="utf-8")


def data_script(source: Path, data: dict, names: list[str]) -> str:
    """What the page knows from the start: the measured results, the worker's script, the models' config and words."""
    folder = source / CHECKPOINTS / names[0]
    handed = {
        "data": data,
        "names": names,
        "bytes": [(source / CHECKPOINTS / name / "model.safetensors").stat().st_size for name in names],
        "config": json.loads((folder / "config.json").read_text(encoding="utf-8")),
        "tokenizer": json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")),
        "worker": bundle("core/worker.js"),
    }
    return f"globalThis.acmLive = {json.dumps(handed, separators=(',', ':'))};\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
