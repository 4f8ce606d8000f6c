import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from entigraph.errors import ArtifactError
from entigraph.llm.base import Completion, Usage
from entigraph.llm.response_cache import SCHEMA_VERSION, ResponseCache

ANSWER = Completion(text="An answer, naïvely — “quoted”. " * 40, model="m", usage=Usage(100, 60, 20, 0.25))


def test_what_is_put_comes_back_and_survives_the_process(tmp_path: Path) -> None:
    response_cache = ResponseCache(tmp_path / "response_cache.sqlite")
    assert response_cache.get(b"k") is None
    response_cache.put(b"k", ANSWER, attempts=2)
    assert ResponseCache(tmp_path / "response_cache.sqlite").get(b"k") == ANSWER
    assert response_cache.totals().answers == 1 and response_cache.totals().dollars == 0.25


def test_texts_are_stored_smaller_than_they_are(tmp_path: Path) -> None:
    response_cache = ResponseCache(tmp_path / "response_cache.sqlite")
    for number in range(300):
        response_cache.put(number.to_bytes(16, "big"), ANSWER, attempts=1)
    response_cache.close()
    assert (tmp_path / "response_cache.sqlite").stat().st_size < 300 * len(ANSWER.text)


def put_many(path: Path, start: int) -> None:
    response_cache = ResponseCache(path)
    for number in range(start, start + 200):
        response_cache.put(number.to_bytes(16, "big"), ANSWER, attempts=1)


def test_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_many, args=(tmp_path / "j", start)) for start in (0, 100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert ResponseCache(tmp_path / "j").totals().answers == 400


def test_a_damaged_response_cache_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "response_cache.sqlite"
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(ArtifactError, match="response cache .* is damaged: .* move it away"):
        ResponseCache(path)


def test_a_newer_response_cache_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "response_cache.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(ArtifactError, match="written by a newer entigraph"):
        ResponseCache(path)


def test_a_folder_that_cannot_be_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="response cache .* cannot be written"):
        ResponseCache(tmp_path / "file" / "response_cache.sqlite")
