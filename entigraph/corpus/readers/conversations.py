"""Reads conversations for instruction tuning from JSON lines or Parquet, in files or a dataset on the Hub."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import check_positive, runtime_field
from entigraph.corpus.base import CorpusContent
from entigraph.corpus.source_files import find_record_files
from entigraph.errors import DataError
from entigraph.huggingface import hub
from entigraph.storage.jsonl import json_error, numbered_lines, parse_records, parse_strict_json
from entigraph.storage.schemas import Document, SkippedFile
from entigraph.text.normalization import is_blank, normalize_text

EXPECTED = (
    'expected {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...]}, or '
    '"conversations" with "from" and "value"'
)
SOURCE = "a .jsonl or .parquet file, a folder of them"
SUFFIXES = (".jsonl", ".parquet")
FIELDS = ("messages", "conversations", "conversation")  # in order of preference
SYSTEM, TOOLS = "system", "tools"  # fields next to the messages: the system prompt, and tools that they may call
TOOL_CALLS = ("tool_calls", "function_call")
NO_TOOLS: tuple[Any, ...] = (None, "", "[]", [], {})
TOOL_ROLES = frozenset({"tool", "function", "function_call", "function_response", "ipython", "observation"})
ROLE_NAMES, CONTENT_NAMES = ("role", "from"), ("content", "value")  # OpenAI's and ShareGPT's keys of a message
ROLES: Mapping[str, str] = {
    **dict.fromkeys(["human", "prompter"], "user"),
    **dict.fromkeys(["gpt", "chatgpt", "bot", "model", "ai"], "assistant"),
}
NO_ASSISTANT, NO_TEXT, NOT_TEXT = "no assistant message", "a message without text", "a message with more than text"
WITH_TOOLS, TWO_SYSTEM_PROMPTS = "tools or calls of tools", "two system prompts"

Message = dict[str, str]


class UnusableConversation(Exception):
    """A conversation in the expected format that cannot be trained on."""


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Every file at `path` whose name matches `files`: a file, a folder, or a dataset on the Hub, downloaded once.

    A document's text is the JSON of its messages, which tokenizer=chat renders. `documents` limits how many are read
    (null: all). Conversations without an assistant message, with an empty one, or with tools are skipped and counted.
    """

    name: str = "conversations"
    path: str = runtime_field("")
    files: str = "*"
    documents: int | None = None
    fictional: ClassVar[bool] = False
    has_questions: ClassVar[bool] = False
    conversations: ClassVar[bool] = True
    cache_key: ClassVar[Mapping[str, str]] = {"reads": "the field `system`"}  # which earlier versions did not

    def __post_init__(self) -> None:
        check_positive(self, "corpus", "documents")

    def sources(self) -> list[Path]:
        return [hub.resolve_dataset(self.path, "corpus.path", SOURCE)]

    def read(self) -> CorpusContent:
        files, skipped = find_record_files(self.path, SOURCE, SUFFIXES, self.files)
        content = CorpusContent(skipped=skipped)
        content.documents = islice(stream_documents(files, content), self.documents)
        return content


def stream_documents(files: Sequence[tuple[str, Path]], content: CorpusContent) -> Iterator[Document]:
    for name, file in files:
        rows = enumerate(read_parquet_rows(file), 1) if file.suffix.lower() == ".parquet" else numbered_lines(file)
        parse = partial(read_conversation, changes=content.changes)
        for number, conversation in parse_records(file, rows, parse, EXPECTED):
            document_id = f"{name}-{number}"
            if isinstance(conversation, UnusableConversation):
                content.skipped.append(SkippedFile(file=document_id, reason=str(conversation)))
            else:
                text = json.dumps(conversation, ensure_ascii=False)
                yield Document(id=document_id, title=document_id, text=text)


def read_conversation(raw: Any, changes: Counter[str]) -> "list[Message] | UnusableConversation":
    """Returns the messages of a row or a line of JSON, or why it cannot be trained on. Raises DataError."""
    try:
        row = parse_strict_json(raw) if isinstance(raw, str) else raw
    except ValueError as error:
        raise DataError(f"not JSON ({json_error(error)})") from None
    try:
        return read_messages(row, changes)
    except UnusableConversation as error:
        return error


def read_parquet_rows(file: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as rows:
            columns = [name for name in (*FIELDS, SYSTEM, TOOLS) if name in rows.schema_arrow.names]
            for batch in rows.iter_batches(batch_size=1000, columns=columns):
                yield from batch.to_pylist() if columns else [None]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read ({str(error).splitlines()[0]}); download it again") from None


def read_messages(row: Any, changes: Counter[str]) -> list[Message]:
    """Returns normalized messages, without empty system messages. Raises UnusableConversation or DataError."""
    fields = row if isinstance(row, dict) else {}
    rows = next(filter(None, map(fields.get, FIELDS)), None)
    if not isinstance(rows, list) or not rows:
        raise DataError("no messages")
    if fields.get(TOOLS) not in NO_TOOLS or any(map(uses_tools, rows)):
        raise UnusableConversation(WITH_TOOLS)
    system = [{"role": SYSTEM, "content": fields[SYSTEM]}] if fields.get(SYSTEM) else []
    messages = [read_message(message, changes) for message in (*system, *rows)]
    messages = [message for message in messages if message["role"] != "system" or not is_blank(message["content"])]
    if system and sum(message["role"] == SYSTEM for message in messages) > 1:
        raise UnusableConversation(TWO_SYSTEM_PROMPTS)
    if not any(message["role"] == "assistant" for message in messages):
        raise UnusableConversation(NO_ASSISTANT)
    if any(is_blank(message["content"]) for message in messages):
        raise UnusableConversation(NO_TEXT)
    return messages


def uses_tools(message: Any) -> bool:
    """Returns whether a message calls a tool or has the result of one."""
    if not isinstance(message, dict):
        return False
    roles = (message.get(name) for name in ROLE_NAMES)
    calls = (message.get(name) for name in TOOL_CALLS)
    is_result = any(isinstance(role, str) and role.strip().lower() in TOOL_ROLES for role in roles)
    return is_result or any(call not in NO_TOOLS for call in calls)


def read_message(row: Any, changes: Counter[str]) -> Message:
    role, content = (read_field(row, names) for names in (ROLE_NAMES, CONTENT_NAMES))
    if not isinstance(role, str) or not role.strip() or not isinstance(content, str | list | None):
        raise DataError(f"{row!r:.80} is not a message")
    role = normalize_text(role).strip().lower()
    return {"role": ROLES.get(role, role), "content": normalize_text(join_parts(content), changes)}


def read_field(row: Any, names: Sequence[str]) -> Any:
    """Returns the first of these fields that is not null; a number if the message has none, which no field can be."""
    values = [row[name] for name in names if name in row] if isinstance(row, dict) else []
    return next((value for value in values if value is not None), None if values else 0)


def join_parts(content: str | list[Any] | None) -> str:
    """Returns the text of a message whose content is a text, a list of parts, or null."""
    if not isinstance(content, list):
        return content or ""
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise UnusableConversation(NOT_TEXT)
    return "".join(map(str, texts))
