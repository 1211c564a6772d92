"""Chromium, the built site and JupyterLab for the tests that look at a screen. `make test-browser` runs them."""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from website.chromium import OPTIONS, PROGRAM

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(os.environ.get("ACM_SITE", ROOT / "runs" / "site"))
SHOTS = ROOT / "runs" / "screenshots"
PYTHON = Path(
    os.environ.get("ACM_PYTHON", ROOT / ".venv/bin/python")
)  # of the environment that holds JupyterLab and acm
SETTINGS = {"notebook-extension/tracker": '{"windowingMode": "none"}'}  # all cells are on the page, seen or not
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser():
    if PROGRAM is None:
        pytest.skip(
            "Chromium is not installed: `apt-get install chromium`, or name the program in the variable CHROMIUM."
        )
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=PROGRAM, args=OPTIONS)
        yield found
        found.close()


@pytest.fixture
def open_page(browser):
    """Factory of pages in a context of their own; what goes wrong collects in ``page.trouble``."""
    contexts = []

    def make(viewport=DESK, dark=False):
        context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.trouble = []
        context.route(re.compile(".*"), functools.partial(only_local, page.trouble))
        page.on("console", lambda m: m.type == "error" and page.trouble.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: page.trouble.append(f"script: {e}"))
        page.on("dialog", lambda d: (page.trouble.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("response", lambda r: r.status >= 400 and page.trouble.append(f"{r.status}: {r.url}"))
        return page

    yield make
    for context in contexts:
        context.close()


def only_local(trouble: list[str], route) -> None:
    """Lets a request to this machine through; notes and stops any other."""
    if re.match(r"(http://(127\.0\.0\.1|localhost)[:/]|file:|data:|blob:)", route.request.url):
        route.continue_()
    else:
        trouble.append(f"request to elsewhere: {route.request.url}")
        route.abort()


@pytest.fixture(scope="session")
def serve():
    """Serves a folder on a free port of this machine; gives its address."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def start(folder: Path, handler: type[SimpleHTTPRequestHandler] = Quiet) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture(scope="session")
def site(serve):
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: `make site`.")
    return serve(SITE)


@pytest.fixture
def shot():
    """Saves a picture of a page or a part of it as runs/screenshots/<name>.png."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return lambda part, name: part.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab over a copy of the notebooks, so that saving changes nothing here; gives its address and token."""
    if not PYTHON.is_file():
        pytest.skip(f"{PYTHON} does not exist: `make test-browser` makes the environment.")
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    playground = folder / "notebooks/explore/2-merge-playground.ipynb"
    if playground.is_file():
        playground.write_text(playground.read_text().replace("items = 34", "items = 3"))
    for name, text in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, log = secrets.token_hex(16), (folder / "lab.log").open("w")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }  # fmt: skip
    options = [
        "--no-browser",
        f"--port={port}",
        f"--IdentityProvider.token={token}",
        f"--notebook-dir={folder}",
        "--ServerApp.port_retries=0",
        f"--LabApp.app_settings_dir={ROOT / 'notebooks/settings'}",  # as `make lab`: no question about news
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    command = [PYTHON, "-m", "jupyterlab", *options]
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(f"{address}/api?token={token}", server, folder / "lab.log")
        yield address, token
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def wait_until_up(url: str, server: subprocess.Popen, log: Path, seconds: int = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not come up:\n{log.read_text()[-2000:]}")
