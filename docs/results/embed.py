"""Updates the published results of the demo from the output of `entigraph analyze experiments=scaling/fictional`.

entigraph analyze experiments=scaling/fictional | python docs/results/embed.py        (make results)

Writes the table, fits and forecasts to scaling-fictional.txt and embeds that file in README.md and
experiments/README.md. tests/test_docs.py checks that both embed it verbatim.
"""

import re
import sys
from pathlib import Path

RESULTS = Path(__file__).with_name("scaling-fictional.txt")
ROOT = RESULTS.parents[2]
PAGES = (ROOT / "README.md", ROOT / "experiments" / "README.md")
TABLE_HEADER = re.compile(r"\s+tokens\s+accuracy")
LAST_LINES = ("fit, ", "past forecasts, ", "forecast, ")
BLOCK = re.compile(r"(?<=<!-- results/scaling-fictional\.txt -->\n```\n).*?(?=```\n<!-- end of results -->)", re.DOTALL)


def extract(output: str) -> str:
    """Returns the lines from the header of the table to the last forecast."""
    lines = output.splitlines()
    first = next(number for number, line in enumerate(lines) if TABLE_HEADER.match(line))
    last = max(number for number, line in enumerate(lines) if line.startswith(LAST_LINES))
    return "\n".join(lines[first : last + 1]) + "\n"


def embed(results: str, page: str) -> str:
    """Returns the page with the results in place of its results block."""
    return BLOCK.sub(lambda _: results, page)


def main() -> None:
    results = extract(sys.stdin.read())
    RESULTS.write_text(results, encoding="utf-8")
    for page in PAGES:
        page.write_text(embed(results, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
