"""The response cache: durable, shared by processes, and compatible with files of earlier versions."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from entigraph.errors import ArtifactError
from entigraph.llm.base import Completion, Request, Usage
from entigraph.llm.caching import CachedAnswers, build_wire_request
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.response_cache import SCHEMA_VERSION, ResponseCache, response_cache_path
from entigraph.llm.vllm.vllm_writer import VLLMWriter

ANSWER = Completion(text="An answer, naïvely — “quoted”. " * 40, model="m", usage=Usage(100, 60, 20, 0.25))
REQUEST = Request(
    system="Write.",
    user="About the lamp of Orsk.\n- keeper",
    suffix="\n- keeper",
    temperature=1.0,
    sample=2,
    json_schema={"type": "object"},
    stop=("END",),
)
# Dumped from a cache that an earlier version wrote for REQUEST, to a model named mock-llm at any address.
FORMER_CACHE = """
CREATE TABLE answers (
    key BLOB UNIQUE NOT NULL, scope BLOB NOT NULL, model TEXT NOT NULL, finish_reason TEXT NOT NULL,
    text BLOB NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, dollars REAL NOT NULL, attempts INTEGER NOT NULL,
    seconds REAL NOT NULL, time REAL NOT NULL
);
INSERT INTO answers VALUES(
    X'85C7D1650F197C5A60EBBF7C0218013E', X'2CCAF40B133C26ABB74335079923711A', 'mock-llm', 'stop',
    X'789C0BC94855C849CC2D50284F2C56C8C92CD1030035B905EE', 12, 3, 5, 0.25, 1, 0.5, 1796002990.0
);
CREATE TABLE batched (key BLOB PRIMARY KEY, scope BLOB NOT NULL, batch TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (name TEXT PRIMARY KEY, address TEXT NOT NULL, id TEXT, time REAL NOT NULL);
CREATE TABLE spending (command TEXT PRIMARY KEY, spent REAL NOT NULL, reserved REAL NOT NULL);
CREATE INDEX answers_by_scope ON answers (scope);
PRAGMA user_version=2;
"""


def test_answers_are_stored_durably(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "response_cache.sqlite")
    assert cache.get(b"k") is None
    cache.put(b"k", ANSWER, attempts=2)
    assert ResponseCache(tmp_path / "response_cache.sqlite").get(b"k") == ANSWER
    assert cache.totals().answers == 1 and cache.totals().dollars == 0.25


def test_texts_are_compressed(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "response_cache.sqlite")
    for number in range(300):
        cache.put(number.to_bytes(16, "big"), ANSWER, attempts=1)
    cache.close()
    assert (tmp_path / "response_cache.sqlite").stat().st_size < 300 * len(ANSWER.text)


def put_many(path: Path, start: int) -> None:
    cache = ResponseCache(path)
    for number in range(start, start + 200):
        cache.put(number.to_bytes(16, "big"), ANSWER, attempts=1)


def test_processes_share_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=put_many, args=(tmp_path / "j", start)) for start in (0, 100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert ResponseCache(tmp_path / "j").totals().answers == 400


def test_damaged_file_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "response_cache.sqlite"
    path.write_bytes(b"this is not a database, " * 100)
    with pytest.raises(ArtifactError, match="response cache .* is damaged: .* move it away"):
        ResponseCache(path)


def test_newer_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "response_cache.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(ArtifactError, match="written by a newer entigraph"):
        ResponseCache(path)


def test_unwritable_folder_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="response cache .* cannot be written"):
        ResponseCache(tmp_path / "file" / "response_cache.sqlite")


def test_answers_of_an_earlier_version_are_reused(tmp_path: Path) -> None:
    assert response_cache_path(tmp_path).name == "response_cache.sqlite"
    with sqlite3.connect(tmp_path / "journal.sqlite") as database:
        database.executescript(FORMER_CACHE)
    path = response_cache_path(tmp_path)
    assert path.name == "journal.sqlite"
    options = OpenAIWriter(model="mock-llm", base_url="http://127.0.0.1:9/v1")  # nothing listens there
    with options.connect(path) as llm:
        (answer,) = llm.complete([REQUEST])
    assert answer == Completion(text="The lamp was lit.", model="mock-llm", usage=Usage(12, 3, 5, 0.25))
    cached = CachedAnswers(ResponseCache(path), options.body)
    assert cached.siblings(REQUEST).answers == 1 and list(cached.examples(REQUEST, 5)) == [answer]


def test_request_hashes_are_those_of_earlier_versions() -> None:
    assert REQUEST.hash == "0f6850076b8854220396a0c7aaa1cd10"
    wire_request = build_wire_request(VLLMWriter(model="m").body(REQUEST), REQUEST)
    assert wire_request.key.hex() == "54f47a74810379164f53ec7f9496424a"
    assert wire_request.scope.hex() == "eb76819a9917926e01e82e41eaf25645"
