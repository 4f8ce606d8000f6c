"""The response cache: durable, shared by processes and hosts, and compatible with files of earlier versions."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from entigraph.errors import ArtifactError
from entigraph.llm.answer_files import SCHEMA_VERSION, AnswerLog
from entigraph.llm.base import Completion, Request, Usage
from entigraph.llm.caching import CachedAnswers, build_wire_request
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.response_cache import PendingBatch, ResponseCache, finish_log, merge_files, response_cache_path
from entigraph.llm.vllm.vllm_writer import VLLMWriter
from entigraph.storage import locks, record_log
from entigraph.storage.record_log import HEADER, LogReader, RecordLog
from tests.commands import ForkedProcess
from tests.polling import wait_for

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def numbered(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_answers_are_stored(folder: Path) -> None:
    cache = ResponseCache(folder)
    assert cache.get(b"k") is None
    cache.put(b"k", ANSWER, attempts=2)
    assert cache.get(b"k") == ResponseCache(folder).get(b"k") == ANSWER
    assert cache.totals().answers == 1 and cache.totals().dollars == 0.25
    cache.close()
    assert [file.suffix for file in folder.iterdir()] == [".sqlite"]
    assert ResponseCache(folder).get(b"k") == ANSWER


def test_first_answer_to_a_request_is_kept(folder: Path) -> None:
    cache = ResponseCache(folder)
    assert cache.put(b"k", ANSWER) == cache.put(b"k", replace(ANSWER, text="another")) == ANSWER


def test_texts_are_compressed(folder: Path) -> None:
    cache = ResponseCache(folder)
    for number in range(300):
        cache.put(numbered(number), ANSWER, attempts=1)
    logged = sum(file.stat().st_size for file in folder.iterdir())
    cache.close()
    (database,) = folder.iterdir()
    assert max(logged, database.stat().st_size) < 300 * len(ANSWER.text)


def test_scopes_group_answers_in_every_file(folder: Path) -> None:
    """In the SQLite file of a finished process, and in the logs of running ones."""
    finished, running, reader = ResponseCache(folder), ResponseCache(folder), ResponseCache(folder)
    for cache, number in ((finished, 1), (finished, 2), (running, 2), (running, 3)):
        cache.put(numbered(number), ANSWER, scope=b"scope", seconds=1.0)
    running.put(numbered(4), ANSWER, scope=b"other")
    finished.close()
    reader.next_refresh = 0.0
    assert reader.totals(b"scope").answers == 3 and reader.totals(b"scope").seconds == 3.0
    assert len(reader.examples(b"scope", 2)) == 2 and reader.totals().answers == 4


def put_many(folder: Path, start: int) -> None:
    with closing(ResponseCache(folder)) as cache:
        for number in range(start, start + 200):
            cache.put(numbered(number), ANSWER, attempts=1)


def test_processes_share_one_folder(folder: Path) -> None:
    writers = [ForkedProcess(put_many, folder, start) for start in (0, 100, 200)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert ResponseCache(folder).totals().answers == 400


def test_answers_of_running_processes_are_found(folder: Path) -> None:
    one, other = ResponseCache(folder), ResponseCache(folder)
    one.put(b"k", ANSWER)
    wait_for(lambda: other.get(b"k") == ANSWER)
    one.put(b"l", ANSWER)
    wait_for(lambda: other.get(b"l") == ANSWER)
    one.close()  # replaces the file that the other one has read
    assert other.get(b"k") == ANSWER
    wait_for(lambda: (folder.glob("*.log"), other.get(b"m"), other.get(b"l"))[2] == ANSWER)


def put_until_killed(folder: Path) -> None:
    cache = ResponseCache(folder)
    for number in range(50):
        cache.put(numbered(number), ANSWER)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_while_writing(folder: Path) -> Path:
    """Returns the log of a process that was killed while it wrote another answer."""
    assert ForkedProcess(put_until_killed, folder).wait() == -signal.SIGKILL
    (log,) = folder.glob("*.log")
    with log.open("ab") as file:
        file.write(HEADER.pack(1000, 7) + b"half an answer")
    return log


def test_killed_process_loses_no_answer(folder: Path) -> None:
    log = kill_while_writing(folder)
    cache = ResponseCache(folder)
    assert cache.totals().answers == 50 and cache.get(numbered(49)) == ANSWER
    assert list(merge_files(folder, merge=False)) == [
        f"1 files of the response cache in {folder} can be merged; clean=true merges them"
    ]
    merged = list(merge_files(folder, merge=True))
    assert "50 answers" in merged[0] and "22 bytes of answers" in merged[1] and not log.exists()
    assert cache.get(numbered(3)) == ANSWER and ResponseCache(folder).totals().answers == 50


def test_merging_keeps_answers_batches_and_files_of_running_processes(folder: Path) -> None:
    for start in (0, 100):
        put_many(folder, start)
    with closing(ResponseCache(folder)) as ended:
        ended.begin_batch(PendingBatch("ended", "a"), {b"1": b""})
        ended.end_batch("ended")
    with closing(ResponseCache(folder)) as pending:
        pending.begin_batch(PendingBatch("pending", "a"), {b"2": b"s"})
        pending.set_batch_id("pending", "batch_7")
    running = ResponseCache(folder)
    running.put(b"k", ANSWER)
    for log in folder.glob("*.log"):  # as if the two processes had ended
        if running.log is None or log != running.log.path:
            forget_writer(log)
    assert "merged 4 files of the response cache: 300 answers" in list(merge_files(folder, merge=True))
    assert len(list(folder.glob("*.sqlite"))) == 1 and len(list(folder.glob("*.log"))) == 2
    for cache in (running, ResponseCache(folder)):
        assert cache.totals().answers == 301 and cache.get(numbered(250)) == cache.get(b"k") == ANSWER
        assert cache.pending_batches("a") == [PendingBatch("pending", "a", "batch_7")]
        assert cache.is_pending(b"2", "a") and not cache.is_pending(b"1", "a")
        assert cache.batch_keys("pending") == {b"2": b"s"}


def forget_writer(log: Path) -> None:
    """Rewrites a log as one of another host."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "host", lambda: "another host")
        copy = RecordLog(log.with_suffix(".copy"))
    for _, record in LogReader(log).read_new():
        copy.append(record)
    copy.close()
    copy.path.replace(log)


def test_damaged_record_is_not_read(folder: Path) -> None:
    cache = ResponseCache(folder)
    cache.put(b"k", ANSWER)
    cache.put(b"l", ANSWER)
    (log,) = folder.glob("*.log")
    content = bytearray(log.read_bytes())
    content[-10] ^= 1
    log.write_bytes(content)
    read = ResponseCache(folder)
    assert read.get(b"k") == ANSWER and read.get(b"l") is None


def test_answers_behind_a_damaged_record_are_merged(folder: Path) -> None:
    log = kill_while_writing(folder)
    content = bytearray(log.read_bytes())
    content[1000:2000] = bytes(1000)  # of records of about 300 bytes
    log.write_bytes(content)
    finish_log(AnswerLog(log))
    assert log.exists(), "closing keeps them, too"
    merged = list(merge_files(folder, merge=True))
    assert ResponseCache(folder).totals().answers >= 40 and "bytes of answers that" in merged[1]
    assert ResponseCache(folder).get(numbered(49)) == ANSWER


def test_damaged_file_raises_one_error(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.sqlite").write_bytes(b"this is not a database, " * 100)
    with pytest.raises(ArtifactError, match=r"response cache file .*a.sqlite is damaged .* move it away"):
        ResponseCache(folder)


def test_newer_file_of_former_kind_is_rejected(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "response_cache.sqlite") as database:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(ArtifactError, match="written by a newer entigraph"):
        ResponseCache(tmp_path / "cache")


def test_unwritable_folder_raises_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="response cache .* must be a folder, got a file"):
        ResponseCache(tmp_path / "file")
    with pytest.raises(ArtifactError, match="response cache .* cannot be used: Not a directory"):
        ResponseCache(tmp_path / "file" / "cache").put(b"k", ANSWER)


def test_failed_write_leaves_a_readable_log(folder: Path) -> None:
    """A file size limit fails like a full disk."""
    code = f"""
import resource
from pathlib import Path
from tests.llm.test_response_cache import ANSWER, ResponseCache, numbered
from entigraph.errors import ArtifactError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
cache = ResponseCache(Path({str(folder)!r}))
try:
    for number in range(10_000):
        cache.put(numbered(number), ANSWER)
except ArtifactError as error:
    print(error)
cache.close()
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert "Check disk space" in process.stdout and process.returncode == 0, process.stderr
    assert 20 < ResponseCache(folder).totals().answers < 1000


def test_answer_is_on_disk_before_it_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    may_sync = threading.Event()

    def sync(file: int) -> None:
        may_sync.wait()
        synced.append(os.fstat(file).st_size)

    monkeypatch.setattr(record_log, "sync_content", sync)
    cache = ResponseCache(folder)
    for number in range(20):
        cache.put(numbered(number), ANSWER)
    waiting = threading.Thread(target=cache.sync)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive() and not synced
    may_sync.set()
    waiting.join(600)
    (log,) = folder.glob("*.log")
    assert not waiting.is_alive() and synced[-1] == log.stat().st_size
    assert len(synced) < 20, "several answers share one flush"


def test_answers_of_an_earlier_version_are_reused(tmp_path: Path) -> None:
    """Also those in the write-ahead log of a process that was killed."""
    database = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.executescript(FORMER_CACHE)
    database.execute("INSERT INTO batches VALUES ('pending', 'a', 'batch_7', 0)")
    database.execute("INSERT INTO batched VALUES (X'01', X'02', 'pending')")
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"journal.sqlite{suffix}", tmp_path / f"copy{suffix}")
    database.close()
    for suffix in ("", "-wal"):
        (tmp_path / f"copy{suffix}").rename(tmp_path / f"journal.sqlite{suffix}")
    path = response_cache_path(tmp_path)
    options = OpenAIWriter(model="mock-llm", base_url="http://127.0.0.1:9/v1")  # nothing listens there
    with options.connect(path) as llm:
        (answer,) = llm.complete([REQUEST])
    assert answer == Completion(text="The lamp was lit.", model="mock-llm", usage=Usage(12, 3, 5, 0.25))
    cached = CachedAnswers(ResponseCache(path), options.body)
    assert cached.siblings(REQUEST).answers == 1 and list(cached.examples(REQUEST, 5)) == [answer]
    with closing(ResponseCache(path)) as cache:
        assert cache.pending_batches("a") == [PendingBatch("pending", "a", "batch_7")]
        assert cache.batch_keys("pending") == {b"\x01": b"\x02"}
        cache.end_batch("pending")
    assert ResponseCache(path).pending_batches("a") == []
    assert sorted(file.name for file in tmp_path.iterdir()) == [".locks", "cache", "journal.sqlite"]


def test_request_hashes_are_those_of_earlier_versions() -> None:
    assert REQUEST.hash == "0f6850076b8854220396a0c7aaa1cd10"
    wire_request = build_wire_request(VLLMWriter(model="m").body(REQUEST), REQUEST)
    assert wire_request.key.hex() == "54f47a74810379164f53ec7f9496424a"
    assert wire_request.scope.hex() == "eb76819a9917926e01e82e41eaf25645"


def test_discarded_answer_has_another_key_for_other_commands(folder: Path) -> None:
    """Also after a kill, in the file of a finished process, and after merging; `totals` counts answers only."""
    killed = ResponseCache(folder)
    killed.put(b"k", ANSWER)
    killed.discard(b"not answered", "one")
    killed.discard(b"k", "one")
    other = ResponseCache(folder)
    assert killed.current_key(b"k", "one") == other.current_key(b"k", "one") == b"k"
    second = other.current_key(b"k", "two")
    assert second != b"k" and other.get(second) is None
    other.put(second, ANSWER)
    other.discard(second, "two")
    other.close()
    killed.close()
    list(merge_files(folder, merge=True))
    merged = ResponseCache(folder)
    assert merged.current_key(b"k", "two") == second
    third = merged.current_key(b"k", "three")
    assert third not in (b"k", second) and third == merged.current_key(b"k", "four")
    assert merged.get(b"k") == merged.get(second) == ANSWER and merged.totals().answers == 2
