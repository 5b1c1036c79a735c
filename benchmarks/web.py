"""The page in Chromium, on one thread: sizes, start, speed.

    make page && python benchmarks/web.py [web/dist [PICTURE.png]]

Needs Chromium and the package playwright. Codes the example five times; the browser compiles
what runs often better, so the first time is apart. Writes a markdown table, and a picture of the
page.
"""

from __future__ import annotations

import functools
import gzip
import http.server
import re
import shutil
import sys
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

RUNS = 5


class Files(http.server.SimpleHTTPRequestHandler):
    """A server of static files that says nothing."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def wait_for_status(page: Page, start: str) -> None:
    """Waits until the page says something that starts so."""
    while not page.inner_text("#status").startswith(start):
        page.wait_for_timeout(20)


def speeds(page: Page) -> tuple[float, float]:
    """Of the example, times real time: encoding, decoding."""
    page.evaluate("document.getElementById('status').textContent = ''")
    page.click("#example")
    wait_for_status(page, "Decoded")
    found = re.search(r"([\d.]+) and ([\d.]+) \u00d7 real time", page.inner_text("#facts"))
    assert found is not None
    return float(found[1]), float(found[2])


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the page's parts, and of all as a server sends them compressed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    graphs = sum(path.stat().st_size for path in files if path.parent.name == "graphs")
    wasm = (folder / "ort.wasm").stat().st_size
    total = sum(path.stat().st_size for path in files)
    return {
        "graphs and other numbers of the model": graphs,
        "ONNX Runtime (WebAssembly)": wasm,
        "page: HTML, style, scripts, example": total - graphs - wasm,
        "all": total,
        "all, compressed by gzip": sum(len(gzip.compress(path.read_bytes())) for path in files),
    }


def take_picture(page: Page, path: Path) -> None:
    """Of the example, with some packets lost."""
    page.locator("#loss").fill("10")
    while not page.inner_text("#lost").startswith("10 %:"):
        page.wait_for_timeout(20)
    page.locator("#seek").fill("2")
    page.locator("#play").focus()
    page.wait_for_timeout(2000)
    page.screenshot(path=path, full_page=True)


def main(folder: Path, picture: Path | None = None) -> None:
    """Prints the tables."""
    print("| what | MB |\n|---|---|")
    for name, size in sizes(folder).items():
        print(f"| {name} | {size / 1e6:.2f} |")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))))
    handler = functools.partial(Files, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        times = []
        for _ in range(2):
            start = time.perf_counter()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            wait_for_status(page, "Ready")
            times.append(time.perf_counter() - start)
        (first, *later) = [speeds(page) for _ in range(RUNS)]
        if picture is not None:
            take_picture(page, picture)
        version = browser.version
        browser.close()
    server.shutdown()
    print(f"\n| Chromium {version} | |\n|---|---|")
    print(f"| ready, first visit | {times[0]:.1f} s |")
    print(f"| ready, later visits | {times[1]:.1f} s |")
    for i, name in enumerate(("encode", "decode")):
        best = max(speed[i] for speed in later)
        print(f"| {name}, first time | {first[i]:.3g} times real time |")
        print(f"| {name}, best of {RUNS - 1} | {best:.3g} times real time |")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["web/dist"]))
