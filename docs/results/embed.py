"""Updates the published results of the demo from the output of `entigraph analyze experiments=scaling/fictional`.

entigraph analyze experiments=scaling/fictional | python docs/results/embed.py        (make results)

Writes the table, fits and forecasts to scaling-fictional.txt, embeds that file in experiments/README.md and
docs/getting-started.md, and a summary of it in README.md. tests/test_docs.py checks that the pages agree with the file.
"""

import re
import sys
from pathlib import Path

RESULTS = Path(__file__).with_name("scaling-fictional.txt")
ROOT = RESULTS.parents[2]
README = ROOT / "README.md"
PAGES = (ROOT / "experiments" / "README.md", ROOT / "docs" / "getting-started.md")
TABLE_HEADER = re.compile(r"\s+tokens\s+accuracy")
LAST_LINES = ("fit, ", "backtests, ", "forecast, ")
BLOCK = re.compile(r"(?<=<!-- results/scaling-fictional\.txt -->\n```\n).*?(?=```\n<!-- end of results -->)", re.DOTALL)
SUMMARY = re.compile(
    r"(?<=<!-- summary of results/scaling-fictional\.txt -->\n).*?(?=<!-- end of summary -->)", re.DOTALL
)
ROW = re.compile(r"(\w+) +([\d,]+) +(\d\.\d+) +(\d\.\d+) +\d+")
GAIN = re.compile(r"fit, (\w+): .*, (\S+) points per doubling")


def extract(output: str) -> str:
    """Returns the lines from the header of the table to the last forecast."""
    lines = output.splitlines()
    first = next(number for number, line in enumerate(lines) if TABLE_HEADER.match(line))
    last = max(number for number, line in enumerate(lines) if line.startswith(LAST_LINES))
    return "\n".join(lines[first : last + 1]) + "\n"


def summarize(results: str) -> str:
    """Returns a Markdown table with the largest budget of each augmenter."""
    rows = [match.groups() for line in results.splitlines() if (match := ROW.match(line))]
    gains = dict(match.groups() for line in results.splitlines() if (match := GAIN.match(line)))
    largest = {name: (tokens, accuracy, stderr) for name, tokens, accuracy, stderr in rows}
    _, base, base_stderr = largest.pop("base")
    lines = [
        f"| augmenter | synthetic tokens | accuracy (base model {base} ± {base_stderr}) | points per doubling |",
        "|---|---|---|---|",
    ]
    for name, (tokens, accuracy, stderr) in largest.items():
        lines.append(f"| {name} | {tokens} | {accuracy} ± {stderr} | {gains[name]} |")
    return "\n".join(lines) + "\n"


def embed(results: str, page: str) -> str:
    """Returns the page with the results in place of its results block, and their summary in place of its summary."""
    return SUMMARY.sub(lambda _: summarize(results), BLOCK.sub(lambda _: results, page))


def main() -> None:
    results = extract(sys.stdin.read())
    RESULTS.write_text(results, encoding="utf-8")
    for page in (README, *PAGES):
        page.write_text(embed(results, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
