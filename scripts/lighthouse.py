"""What Lighthouse says of a site's pages: the median of five runs, desktop preset, in the system's Chromium.

python scripts/lighthouse.py SITE [--out results/bench/lighthouse.md]

Needs Node and Chromium. Ends with status 1 where a category is below 95.
"""

import argparse
import functools
import gzip
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from pathlib import Path

VERSION = "12.8.2"
"""Of the npm package: the last that Node 20 runs."""
LEAST = 95
PACKED = {".html", ".css", ".js", ".svg", ".json"}
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


class Host(http.server.SimpleHTTPRequestHandler):
    """Serves a folder as a static host does: text compressed."""

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Answer with a file."""
        path = Path(self.translate_path(self.path))
        if path.suffix not in PACKED or not path.is_file():
            super().do_GET()
            return
        content = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", f"{self.guess_type(str(path))}; charset=utf-8")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "max-age=3600")
        self.end_headers()
        self.wfile.write(content)


def pages(site: Path) -> list[str]:
    """A page of each kind that is asked of: of models and benchmarks the largest."""

    def largest(folder: str) -> str:
        path = max((site / folder).glob("*.html"), key=lambda one: one.stat().st_size)
        return str(path.relative_to(site))

    return ["index.html", largest("models"), largest("suites"), "attempts.html"]


def categories(address: str, chromium: str) -> dict[str, float]:
    """Category -> points of 100, of one run."""
    command = [
        "npx",
        "--yes",
        f"lighthouse@{VERSION}",
        address,
        "--preset=desktop",
        "--output=json",
        "--quiet",
    ]
    command.append("--chrome-flags=--headless=new --no-sandbox --disable-dev-shm-usage")
    environment = {**os.environ, "CHROME_PATH": chromium}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    told = json.loads(answer.stdout)
    for audit in told["audits"].values():
        if audit["score"] is not None and audit["score"] < 0.9:
            print(f"    {audit['id']}: {audit['score']} {audit.get('displayValue', '')}", file=sys.stderr)
    return {one["title"]: 100 * one["score"] for one in told["categories"].values()}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="a folder that `harness site` wrote")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where the table goes (default: the terminal alone)")
    args = parser.parse_args()
    chromium = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    if chromium is None or shutil.which("npx") is None:
        sys.exit("Lighthouse needs Node and Chromium: install nodejs, npm and chromium")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Host, directory=str(args.site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found: dict[str, dict[str, float]] = {}
    for page in pages(args.site):
        address = f"http://127.0.0.1:{server.server_port}/{page}"
        runs = [categories(address, chromium) for _ in range(args.runs)]
        found[page] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        print(page, found[page], flush=True)
    server.shutdown()
    names = list(next(iter(found.values())))
    lines = [
        "# A leaderboard's pages in Lighthouse",
        "",
        f"Median of {args.runs} runs of Lighthouse {VERSION}, desktop preset, {os.cpu_count()} cores. "
        "Made by `scripts/lighthouse.py`.",
        "",
        f"| page | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *(f"| {page} | {' | '.join(f'{own[n]:.0f}' for n in names)} |" for page, own in found.items()),
    ]
    report = "\n".join(lines) + "\n"
    print(report)
    if args.out:
        args.out.write_text(report)
    if any(value < LEAST for own in found.values() for value in own.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
