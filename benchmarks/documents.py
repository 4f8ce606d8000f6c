"""Measures how many documents per second the corpus stage reads, from a folder of text files, from JSON lines, and from
pages.

Compares with a bare loop that reads the same files and writes the same JSON; pages are read there by trafilatura alone.

python benchmarks/documents.py [--documents 10000] [--pages 200]
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from trafilatura import extract

from entigraph.corpus import stage
from entigraph.corpus.base import CorpusReader
from entigraph.corpus.readers.json_lines import JsonLines
from entigraph.corpus.readers.text_files import TextFiles

REPEATS = 5
FILES_PER_FOLDER = 500
PARAGRAPHS, WORDS = 4, 100


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--documents", type=int, default=10_000)
    arguments.add_argument("--pages", type=int, default=200)
    options = arguments.parse_args()
    count, page_count = options.documents, options.pages
    with tempfile.TemporaryDirectory() as root:
        notes, lines = Path(root) / "notes", Path(root) / "documents.jsonl"
        write_sources(notes, lines, count)
        files, out = sorted(notes.rglob("*.txt")), Path(root) / "out"
        out.mkdir()
        report("text_files", count, read_corpus(TextFiles(path=str(notes)), out), lambda: read_files(files, out))
        report("json_lines", count, read_corpus(JsonLines(path=str(lines)), out), lambda: read_lines(lines, out))
        for attributes in ("", ' class="text wide" id="part"'):
            pages = write_pages(Path(root) / f"pages{bool(attributes):d}", page_count, attributes)
            folder, name = TextFiles(path=str(pages[0].parent)), f"html{', attributes' * bool(attributes)}"
            report(name, page_count, read_corpus(folder, out), partial(read_pages, pages, out))


def write_sources(notes: Path, lines: Path, count: int) -> None:
    """Writes the same random documents as files and as lines."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(3000)]
    with lines.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = "\n\n".join(f"{' '.join(rng.choices(words, k=WORDS))}." for _ in range(PARAGRAPHS))
            folder = notes / f"{number // FILES_PER_FOLDER:03}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"note_{number}.txt").write_text(text, encoding="utf-8")
            file.write(json.dumps({"text": text}) + "\n")


def write_pages(folder: Path, count: int, attributes: str) -> list[Path]:
    """Writes pages of random sentences with headings, lists and a table, between navigation."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(3000)]
    folder.mkdir()

    def element(tag: str, content: str) -> str:
        return f"<{tag}{attributes}>{content}</{tag}>"

    def sentence(length: int) -> str:
        return " ".join(rng.choices(words, k=length)).capitalize() + "."

    def section() -> str:
        paragraphs = [
            sentence(50) + element("b", sentence(3)) + sentence(20) + element("i", sentence(2)) for _ in "123"
        ]
        items = "".join(element("li", sentence(8)) for _ in "1234")
        return element("h2", sentence(4)) + "".join(element("p", text) for text in paragraphs) + element("ul", items)

    for number in range(count):
        links = "".join(element("li", f'<a href="/{link}">{sentence(2)}</a>') for link in range(25))
        menu = element("nav", element("ul", links))
        rows = "".join(element("tr", "".join(element("td", rng.choice(words)) for _ in "1234")) for _ in "123456")
        article = element("h1", sentence(4)) + "".join(section() for _ in "123") + element("table", rows)
        body = element("header", menu) + element("div", element("article", article)) + element("footer", menu)
        (folder / f"page_{number}.html").write_text(f"<!doctype html><html><body>{body}</body></html>")
    return sorted(folder.iterdir())


def read_corpus(corpus: CorpusReader, out: Path) -> Callable[[], object]:
    return lambda: stage.run(corpus, out)


def read_files(files: list[Path], out: Path) -> None:
    with (out / "bare.jsonl").open("w", encoding="utf-8") as file:
        for path in files:
            file.write(json.dumps({"id": path.name, "text": path.read_text(encoding="utf-8")}) + "\n")


def read_lines(lines: Path, out: Path) -> None:
    with lines.open(encoding="utf-8") as source, (out / "bare.jsonl").open("w", encoding="utf-8") as file:
        for line in source:
            file.write(json.dumps({"id": "", "text": json.loads(line)["text"]}) + "\n")


def read_pages(pages: list[Path], out: Path) -> None:
    with (out / "bare.jsonl").open("w", encoding="utf-8") as file:
        for path in pages:
            text = extract(path.read_bytes(), output_format="markdown", include_comments=False)
            file.write(json.dumps({"id": path.name, "text": text}) + "\n")


def report(name: str, count: int, ours: Callable[[], object], bare: Callable[[], object]) -> None:
    """Prints the best of alternating repetitions, in CPU time: other processes disturb it least."""
    times = [(cpu_seconds(ours), cpu_seconds(bare)) for _ in range(REPEATS)]
    best, best_bare = (min(column) for column in zip(*times, strict=True))
    print(f"{name:18}{count / best:>10,.0f} documents/s, {best_bare / best:.2f} of a bare loop")


def cpu_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main()
