import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from entigraph.errors import ArtifactError
from entigraph.llm.base import Completion, Usage
from entigraph.llm.response_cache import VERSION, Journal

ANSWER = Completion(text="An answer, naïvely — “quoted”. " * 40, model="m", usage=Usage(100, 60, 20, 0.25))


def test_what_is_put_comes_back_and_survives_the_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.get(b"k") is None
    journal.put(b"k", ANSWER, attempts=2)
    assert Journal(tmp_path / "journal.sqlite").get(b"k") == ANSWER
    assert journal.totals().answers == 1 and journal.totals().dollars == 0.25


def test_texts_are_stored_smaller_than_they_are(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for number in range(300):
        journal.put(number.to_bytes(16, "big"), ANSWER, attempts=1)
    journal.close()
    assert (tmp_path / "journal.sqlite").stat().st_size < 300 * len(ANSWER.text)


def put_many(path: Path, start: int) -> None:
    journal = Journal(path)
    for number in range(start, start + 200):
        journal.put(number.to_bytes(16, "big"), ANSWER, attempts=1)


def test_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_many, args=(tmp_path / "j", start)) for start in (0, 100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert Journal(tmp_path / "j").totals().answers == 400


def test_a_damaged_journal_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(ArtifactError, match="journal .* is damaged: .* move it away"):
        Journal(path)


def test_a_newer_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(ArtifactError, match="written by a newer entigraph"):
        Journal(path)


def test_a_folder_that_cannot_be_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="journal .* cannot be written"):
        Journal(tmp_path / "file" / "journal.sqlite")
