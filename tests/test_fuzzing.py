"""Readers of external input accept it or raise one clear error, whatever it is: each is given random input."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entigraph.corpus import stage
from entigraph.corpus.base import CorpusReader
from entigraph.corpus.document_conversion import UnreadableFile, convert_file
from entigraph.corpus.readers.conversations import Conversations
from entigraph.corpus.readers.json_lines import JsonLines
from entigraph.corpus.readers.leval import LEval
from entigraph.corpus.readers.quality import Quality
from entigraph.corpus.readers.squad import Squad
from entigraph.corpus.readers.text_files import TextFiles
from entigraph.errors import EntigraphError
from entigraph.llm.base import Completion
from entigraph.llm.openai.batch_client import BatchClient
from entigraph.llm.openai.batch_writer import OpenAIBatchWriter
from entigraph.llm.replies import ReplyError
from entigraph.questions.drafting import parse_drafts, split_passages
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.storage import artifact
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.question_files import read_questions
from entigraph.storage.schemas import Document, Question
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.text.normalization import is_blank, normalize_text
from entigraph.tokenization.chat_templates import ChatEncoder
from tests.conftest import ARTICLE

FEW, MANY = 60, 10_000
ODD = [
    "\ufeff",
    "\u2028",
    "\u0085",
    "\r",
    "\x00",
    "\u200b",
    "\ud83d",
    "\udcff",
    "e\u0301",
    "<p>",
    "[" * 2000,
    "{",
    "```",
]
HOSTILE_JSON = [b"[" * 100_000, b'{"text": ' + b"9" * 5000 + b"}", b"NaN", b'"\\ud83d"', b"{}" * 3]
TEXT = st.lists(st.text(max_size=8) | st.sampled_from(ODD) | st.just("The mill of Tarn. "), max_size=4).map("".join)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def record(**fields: Any) -> st.SearchStrategy[Any]:
    """Objects like these fields' values, of which any may be missing or anything else."""
    often = {
        name: mostly(value if isinstance(value, st.SearchStrategy) else st.just(value), VALUE)
        for name, value in fields.items()
    }
    return mostly(st.fixed_dictionaries(often), st.fixed_dictionaries({}, optional=often) | VALUE)


def mostly(strategy: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 9).flatmap(lambda number: other if number == 0 else strategy)


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def lines(rows: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """JSON lines, some of them torn or no JSON, with other line separators, in an encoding that may be wrong."""
    torn = rows.map(lambda row: encode(row)[:-1])
    line = mostly(rows.map(encode), torn | st.binary(max_size=20) | st.sampled_from(HOSTILE_JSON))
    endings = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\xe2\x80\xa8\n"])
    starts = st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"version https://git-lfs.github.com/spec/v1\n"])
    return st.tuples(mostly(st.just(b""), starts), st.lists(line, max_size=4), endings).map(
        lambda parts: parts[0] + parts[2].join(parts[1])
    )


QUESTION = record(
    document="a.txt",
    question=TEXT,
    choices=st.lists(TEXT | VALUE, max_size=3) | st.just(["Ilse", "Jonas"]),
    answer=0,
    group="all",
    evidence=VALUE,
)
OPTION_LISTS = st.just(["Ilse", "Jonas", "No one", "The wind"]) | VALUE
QUALITY_QUESTION = record(question=TEXT, question_unique_id="1_1", options=OPTION_LISTS, gold_label=1, difficult=0)
ARTICLES = record(
    article_id=st.sampled_from(["1", "2"]),
    title=TEXT,
    article=st.just(ARTICLE) | TEXT,
    year=VALUE,
    author=VALUE,
    questions=st.lists(QUALITY_QUESTION, max_size=2),
)
MESSAGE = record(role=st.sampled_from(["user", "Assistant", "system"]), content=TEXT) | record(
    **{"from": st.sampled_from(["human", "gpt"]), "value": TEXT}
)
PASSAGE = record(title=TEXT, context=TEXT, questions=st.lists(record(question=TEXT, answer=TEXT | VALUE), max_size=2))
EXAM = record(
    input=TEXT, instructions=st.lists(TEXT, max_size=2), outputs=st.lists(TEXT, max_size=2), evaluation="exam"
)
CHOICE = record(
    message=record(content=TEXT | VALUE, reasoning_content=VALUE),
    finish_reason=st.sampled_from(["stop", "length"]),
    index=0,
)
BODY = record(id="x", choices=st.lists(CHOICE, max_size=2), usage=VALUE, model="m", error=VALUE)
RESULT = record(custom_id=st.just("0a") | TEXT, response=record(status_code=200, body=BODY), error=VALUE)
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=8)
FOLDERS = st.dictionaries(
    st.tuples(NAMES, st.sampled_from([".txt", ".md", ".TXT", "", ".gz", ".html", ".docx", ".epub"])).map("".join),
    st.binary(max_size=40) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.just(b"The mill."),
    max_size=4,
)


@contextmanager
def new_folder() -> Iterator[Path]:
    """Yields a temporary folder, in memory where there is a file system for that: disks remove folders slowly."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def check_corpus(corpus: CorpusReader, out: Path) -> None:
    """A corpus has clean documents with distinct ids, and questions about them."""
    out.mkdir()
    stage.run(corpus, out)
    documents = list(read_jsonl(out / "documents.jsonl", Document))
    ids = {document.id for document in documents}
    assert len(ids) == len(documents) > 0
    for document in documents:
        assert normalize_text(document.text) == document.text and not is_blank(document.text)
    assert {question.document_id for question in read_jsonl(out / "questions.jsonl", Question)} <= ids


def reads_file(reader: Callable[[str], Any], name: str) -> Callable[[bytes], None]:
    def check(content: bytes) -> None:
        with new_folder() as folder:
            (folder / name).write_bytes(content)
            check_corpus(reader(str(folder / name)), folder / "out")

    return check


def read_folder(files: dict[str, bytes]) -> None:
    with new_folder() as folder:
        (folder / "notes").mkdir()
        for name, content in files.items():
            with suppress(OSError, UnicodeEncodeError):  # a name that the file system does not take
                (folder / "notes" / name).write_bytes(content)
        check_corpus(TextFiles(path=str(folder / "notes")), folder / "out")


def read_page(content: bytes) -> None:
    with new_folder() as folder:
        (folder / "a.html").write_bytes(content)
        with suppress(UnreadableFile):
            assert convert_file(folder / "a.html").strip()


def read_question_file(content: bytes) -> None:
    with new_folder() as folder:
        (folder / "q.jsonl").write_bytes(content)
        for question in read_questions(folder / "q.jsonl", {"a.txt"}):
            assert question.document_id == "a.txt" and question.text.strip()
            assert len(set(question.choices)) == len(question.choices) > 1


def read_drafts(answer: str) -> None:
    settings = GeneratedQuestions()
    (passage,) = split_passages(Document(id="a", title="A", text="The mill."), settings)
    for draft in parse_drafts(passage, Completion(text=answer, model="m"), settings)[0]:
        assert len({choice.casefold() for choice in draft.question.choices}) == 4


def read_batch(content: bytes) -> None:
    client = BatchClient(OpenAIBatchWriter(model="m", base_url="http://localhost:1/v1", api_key_env=""))
    chunks = (content[start : start + 7] for start in range(0, len(content), 7))
    for key, result in client.parse_results(chunks):
        assert isinstance(key, bytes) and isinstance(result, Completion | ReplyError)


def read_prompt_folder(files: dict[str, bytes]) -> None:
    with new_folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        augmenter = Rephrase(prompts=str(folder), styles=["easy"])
        assert augmenter.prompt("rephrase_easy")


class Template:
    """A tokenizer's chat template, rendered as transformers does."""

    def __init__(self, source: str) -> None:
        self.source = source

    def apply_chat_template(self, messages: list[Any], tokenize: bool, add_generation_prompt: bool) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered, _ = render_jinja_template(
            [messages], chat_template=self.source, add_generation_prompt=add_generation_prompt
        )
        return rendered[0]


def render_template(source: str) -> None:
    encoder = ChatEncoder(Path(), None, "assistant")  # type: ignore[arg-type]
    encoder.template = Template(source)
    messages = [{"role": "user", "content": "Who rang?"}, {"role": "assistant", "content": "Ilse."}]
    text, spans = encoder.render_with_spans(messages)
    assert all(0 <= start <= end <= len(text) for start, end in spans)


def read_manifest(content: bytes) -> None:
    with new_folder() as folder:
        (folder / artifact.MANIFEST).write_bytes(content)
        artifact.verify(folder)
        artifact.is_from_another_version(artifact.read_manifest(folder))


JINJA = st.lists(
    st.sampled_from(
        [
            "{{ messages }}",
            "{% for m in messages %}",
            "{% endfor %}",
            "{{ m.role }}",
            "{{ m['content'] }}",
            "{{",
            "}}",
            "{{ 1 / 0 }}",
            "{{ range(10**9) }}",
            "{{ messages[9].x.y }}",
            "{{ raise_exception('no') }}",
            "{% if add_generation_prompt %}",
            "{% endif %}",
            "{{ bos_token }}",
            "{{ 'a' + 1 }}",
            "{{ m.__class__ }}",
            "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        ]
    )
    | st.text(max_size=5),
    max_size=6,
).map("".join)
FILE_ENTRY = record(bytes=3, sha256=TEXT)
MANIFEST = record(
    stage="corpus",
    key=TEXT,
    cache_key=VALUE,
    inputs=st.dictionaries(TEXT, record(folder=TEXT, digest=TEXT), max_size=2),
    counts=VALUE,
    files=st.dictionaries(TEXT, FILE_ENTRY, max_size=2),
)
TAGS = [
    *("<p>", "</p>", "<h1>", "<table>", "<tr>", "<td>", "</table>", "<ul>", "<li>", "<a href='/'>", "</a>", "<sup>"),
    *(
        "<math>",
        "<mfrac>",
        "<mi>",
        "</math>",
        "<script type='math/tex'>",
        "</script>",
        "<div hidden>",
        "</div>",
        "<pre>",
    ),
    *("<!--", "-->", "<?xml version='1.0' encoding='latin-1'?>", "<meta charset=gbk>", "<nav>", "&amp", "&#xd800;"),
    *("<body>", "<html>", "<frameset>", "<svg>", "<img>", "|", "<annotation encoding='application/x-tex'>"),
    "<div>" * 1000,
]
PAGE = st.lists(st.sampled_from(TAGS) | TEXT, max_size=12).map(
    lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
)
READERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "folder": (FOLDERS, read_folder),
    "page": (PAGE | st.binary(max_size=30), read_page),
    "json_lines": (lines(record(text=TEXT)), reads_file(lambda path: JsonLines(path=path), "a.jsonl")),
    "conversations": (
        lines(record(messages=st.lists(MESSAGE, max_size=3)) | record(conversations=st.lists(MESSAGE, max_size=3))),
        reads_file(lambda path: Conversations(path=path), "a.jsonl"),
    ),
    "quality": (lines(ARTICLES), reads_file(lambda path: Quality(path=path), "QuALITY.htmlstripped.dev")),
    "squad": (
        st.lists(PASSAGE, max_size=3).map(encode) | lines(PASSAGE),
        reads_file(lambda path: Squad(path=path), "squad.json"),
    ),
    "leval": (lines(EXAM), reads_file(lambda path: LEval(path=path), "exam.jsonl")),
    "questions": (lines(QUESTION), read_question_file),
    "drafts": (
        TEXT | record(questions=st.lists(record(question=TEXT, right="a", wrong=["b", "c", "d"]))).map(json.dumps),
        read_drafts,
    ),
    "batch output": (lines(RESULT), read_batch),
    "prompts": (
        st.dictionaries(
            st.just("rephrase_easy.txt") | st.sampled_from(["writer.txt", "x"]),
            st.binary(max_size=9) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
            max_size=2,
        ),
        read_prompt_folder,
    ),
    "chat template": (JINJA, render_template),
    "manifest": (MANIFEST.map(encode) | lines(MANIFEST), read_manifest),
}


def fuzz(name: str, examples: int) -> None:
    strategy, check = READERS[name]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == FEW,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value: Any) -> None:
        with suppress(EntigraphError):
            check(value)

    run()


@pytest.mark.parametrize("name", READERS)
def test_any_input_is_read_or_raises_one_error(name: str) -> None:
    fuzz(name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_inputs_are_read_or_raise_one_error(name: str) -> None:
    fuzz(name, MANY)
