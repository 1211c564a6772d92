"""Records the live page of a built site as one animated picture: λ goes from 0 to 1, and the merge answers anew.

    python -m website.animation runs/site figures/live.webp

Every frame is what Chromium shows once the merge has answered. What is hidden for the picture is listed in HIDDEN.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from website.chromium import OPTIONS, PROGRAM

WIDTH, SCALE = 390, 2  # of the page in CSS pixels, and of the picture: text stays readable at 330 pixels
QUESTION = "tom has 59 apples. he loses 22. he loses 11. he doubles them. how many apples are left?"
STEPS = [step / 20 for step in range(21)]
FRAME, FIRST, LAST = 450, 1500, 3000  # milliseconds
LOOPS = 3
HIDDEN = ".presets, .hint, .top, .question .buttons, .help, .note, .trail, .stream:not(.merged), .lower, .more, footer"
READY = "document.querySelector('.status').dataset.kind === 'ready'"


def rest(page: Page) -> None:
    """Wait until the merge has answered. The page's policy forbids Playwright's own way, which evaluates text."""
    page.wait_for_timeout(80)
    while not page.evaluate(READY):
        page.wait_for_timeout(20)


def frames(page: Page, address: str) -> list[Image.Image]:
    """A picture of problem, dial and answer at each λ; all of one size."""
    page.goto(f"{address}#l=1&q={QUESTION}")
    rest(page)
    page.evaluate(f"document.querySelectorAll('{HIDDEN}').forEach((node) => {{ node.style.display = 'none'; }})")
    top, bottom = (page.locator(name).bounding_box() for name in (".question", ".stream.merged"))
    assert top and bottom, "the live page has no problem or no merge"
    y = top["y"] - 8
    clip = {"x": 0, "y": y, "width": WIDTH, "height": bottom["y"] + bottom["height"] + 12 - y}  # λ = 1 answers longest
    shots = []
    for value in STEPS:
        page.locator(".dial input[type=range]").fill(str(value))
        page.evaluate("document.activeElement.blur()")
        rest(page)
        shots.append(Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True))).convert("RGB"))
    return shots


def main(site: str, out: str) -> None:
    """Write the picture. site: the folder of a built site; out: the file, whose ending gives the format."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=OPTIONS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE)
        shots = frames(page, (Path(site).resolve() / "index.html").as_uri())
        browser.close()
    save(shots, Path(out))
    print(f"{out}: {len(shots)} frames of {shots[0].width} × {shots[0].height}, {Path(out).stat().st_size // 1000} kB")


def save(shots: list[Image.Image], out: Path) -> None:
    """One animated picture; its first and last frames stay longer."""
    times = [FIRST, *[FRAME] * (len(shots) - 2), LAST]
    shots[0].save(out, save_all=True, append_images=shots[1:], duration=times, loop=LOOPS, quality=70, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
