"""Measures how many documents per second the corpus stage reads, from a folder of text files and from JSON lines.

Compares with a bare loop that reads the same files and writes the same JSON.

python benchmarks/documents.py [--documents 10000]
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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
    count = arguments.parse_args().documents
    with tempfile.TemporaryDirectory() as root:
        notes, lines = Path(root) / "notes", Path(root) / "documents.jsonl"
        write_sources(notes, lines, count)
        files, out = sorted(notes.rglob("*.txt")), Path(root) / "out"
        out.mkdir()
        report("text_files", count, read_corpus(TextFiles(path=str(notes)), out), lambda: read_files(files, out))
        report("json_lines", count, read_corpus(JsonLines(path=str(lines)), out), lambda: read_lines(lines, out))


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


def report(name: str, count: int, ours: Callable[[], object], bare: Callable[[], object]) -> None:
    """Prints the best of alternating repetitions, in CPU time: other processes disturb it least."""
    times = [(cpu_seconds(ours), cpu_seconds(bare)) for _ in range(REPEATS)]
    best, best_bare = (min(column) for column in zip(*times, strict=True))
    print(f"{name:12}{count / best:>10,.0f} documents/s, {best_bare / best:.2f} of a bare loop")


def cpu_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main()
