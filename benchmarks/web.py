"""The page in Chromium, on one thread: sizes, start, speed.

    make page && python benchmarks/web.py [web/dist [PICTURE.png]]

Needs Linux, Chromium and the package playwright. Codes the example five times; the browser
compiles what runs often better, so the first time is apart. Speeds are of processor time. Writes
markdown tables, and a picture of the page.
"""

from __future__ import annotations

import functools
import gzip
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import FilePayload, Page, sync_playwright

RUNS = 5
SECONDS = 4.555
"""Length of the example."""


class Files(http.server.SimpleHTTPRequestHandler):
    """A server of static files that says nothing."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def wait_for_status(page: Page, start: str) -> None:
    """Waits until the page says something that starts so."""
    while not page.inner_text("#status").startswith(start):
        page.wait_for_timeout(20)


def busy() -> float:
    """Seconds of processor time that the browser's worker threads have taken."""
    ticks = 0
    for thread in Path("/proc").glob("[0-9]*/task/*"):
        try:
            if (thread / "comm").read_text() == "DedicatedWorker\n":
                ticks += sum(map(int, (thread / "stat").read_text().split()[13:15]))
        except OSError:
            continue  # it has ended
    return ticks / os.sysconf("SC_CLK_TCK")


def took(page: Page, start: Callable[[], object]) -> float:
    """Seconds of processor time until the page has decoded what is started."""
    page.evaluate("document.getElementById('status').textContent = ''")
    before = busy()
    start()
    wait_for_status(page, "Decoded")
    return busy() - before


def speeds(page: Page) -> tuple[float, float]:
    """Of the example, times real time: encoding, decoding, each with its pictures."""
    both = took(page, lambda: page.click("#example"))
    with page.expect_download() as download:
        page.click("#save")
    data = Path(download.value.path()).read_bytes()
    file: FilePayload = {"name": "example.pcx", "mimeType": "", "buffer": data}
    decoding = took(page, lambda: page.set_input_files("#file", file))
    return SECONDS / (both - decoding), SECONDS / decoding


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
    took(page, lambda: page.click("#example"))
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
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        wait_for_status(page, "Ready")
        start = busy()
        (first, *later) = [speeds(page) for _ in range(RUNS)]
        if picture is not None:
            take_picture(page, picture)
        version = browser.version
        browser.close()
    server.shutdown()
    print(f"\n| Chromium {version} | |\n|---|---|")
    print(f"| start | {start:.1f} s |")
    for i, name in enumerate(("encode", "decode")):
        best = max(speed[i] for speed in later)
        print(f"| {name}, first time | {first[i]:.3g} times real time |")
        print(f"| {name}, best of {RUNS - 1} | {best:.3g} times real time |")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["web/dist"]))
