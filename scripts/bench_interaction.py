"""How long the front of a site takes to answer: from a click until the frame that follows it, in Chromium.

python scripts/bench_interaction.py SITE [--out results/bench/interaction.md]

An action begins when the rows of the one before are all there.
"""

import argparse
import functools
import http.server
import os
import shutil
import statistics
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

TIMES = 7
WIDTH, HEIGHT = 1440, 900
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

ACTIONS = {
    "sort by a column": "all('#board thead button')[n % 9 + 2].click()",
    "search": "enter('#q', ['m', 'mo', 'model-1', 'model-0', 'ins'][n % 5], 'input')",
    "filter": "enter('[data-filter]', one('[data-filter]').options[n % 2 + 1].value, 'change')",
    "hide or show a column": "all('[data-column]')[n % 5 + 2].click()",
    "all columns, few columns": "one(n % 2 ? '#few-columns' : '#all-columns').click()",
    "sort, with all columns": "n || one('#all-columns').click();"
    " all('#board thead button')[n % 9 + 2].click()",
}
"""What is done, each on a page of its own, with n = 0, 1, ..."""

TIMED = """async (n) => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => document.querySelectorAll(selector);
  const enter = (selector, value, kind) => {
    one(selector).value = value;
    one(selector).dispatchEvent(new Event(kind));
  };
  const began = performance.now();
  ACTION;
  await new Promise((seen) => requestAnimationFrame(() => {
    const after = new MessageChannel();  // its message comes once the frame is painted
    after.port1.onmessage = seen;
    after.port2.postMessage(0);
  }));
  return performance.now() - began;
}"""
COUNTED = """() => [
  document.querySelectorAll('#board tbody tr').length,
  document.querySelector('#found').textContent.split(' ')[0],
]"""
AT_FIRST = 25
"""Rows that are there in the end, of more."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def wait(page: Page) -> None:
    """Until all rows are there, and a little longer."""
    while True:
        page.wait_for_timeout(100)
        there, found = page.evaluate(COUNTED)
        if there >= min(AT_FIRST, int(found)):
            return


def measure(page: Page, address: str, action: str) -> list[float]:
    """Milliseconds of each time."""
    page.goto(address)
    wait(page)
    found = []
    for n in range(TIMES):
        found.append(page.evaluate(TIMED.replace("ACTION", action), n))
        wait(page)
    return found


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("site", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    chromium = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    handler = functools.partial(Quiet, directory=str(args.site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        address = f"http://127.0.0.1:{server.server_port}/index.html"
        took = {name: measure(page, address, action) for name, action in ACTIONS.items()}
        page.goto(address)
        rows = page.locator("#found").inner_text().split()[-2]
        columns = page.locator("[data-column]").count()
        browser.close()
    server.shutdown()
    lines = [
        "# The front of a leaderboard: how soon it answers",
        "",
        f"{rows} models, {columns} columns; {WIDTH} x {HEIGHT}; {TIMES} times each, in milliseconds,",
        f"from a click until the frame that follows it. {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}",
        f"when it ended, niceness {os.nice(0)}.",
        "Made by `scripts/bench_interaction.py`.",
        "",
        "| action | least | median | most |",
        "|---|---:|---:|---:|",
        *(f"| {n} | {min(t):.0f} | {statistics.median(t):.0f} | {max(t):.0f} |" for n, t in took.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf8")


if __name__ == "__main__":
    main()
