"""The README's picture: a problem, the dial and the merge's answer at each λ, and nothing else of the page."""

from PIL import Image

from website import animation


def test_the_answer_grows_with_the_dial(site, open_page, tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "STEPS", [0, 0.5, 1])
    page = open_page({"width": animation.WIDTH, "height": 900})
    shots = animation.frames(page, f"{site}/index.html")
    assert page.trouble == []
    assert len({shot.tobytes() for shot in shots}) == 3 and len({shot.size for shot in shots}) == 1
    assert page.locator(".stream.fast, .lower, footer").locator("visible=true").count() == 0
    written = [sum(pixel < 128 for pixel in shot.convert("L").getdata()) for shot in shots]
    assert written == sorted(written)
    out = tmp_path / "live.webp"
    animation.save(shots, out)
    with Image.open(out) as picture:
        assert picture.n_frames == 3
