"""Reads MultiHop-RAG (Tang and Yang 2024): news articles, and questions whose evidence is in two to four of them.

The release has corpus.json, `[{"title", "body", "url", "source", "published_at"}]`, and MultiHopRAG.json, `[{"query",
"answer", "question_type", "evidence_list": [{"title", "url", "fact"}]}]`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.corpus.base import CorpusContent, resolve_path
from entigraph.corpus.readers.benchmark_records import BenchmarkReader, list_field, load_json, text_field
from entigraph.errors import ConfigError
from entigraph.storage.schemas import Document, Question
from entigraph.text.normalization import normalize_text

ARTICLES, QUERIES = "corpus.json", "MultiHopRAG.json"
EXPECTED_ARTICLE = '[{"title": "...", "body": "...", "url": "..."}]'
EXPECTED_QUERY = '[{"query": "...", "answer": "...", "question_type": "...", "evidence_list": [{"title": "..."}]}]'
NO_EVIDENCE, OTHER_ARTICLES = "no article answers it", "its articles are not read"
META = ("url", "source", "published_at", "category", "author")


@dataclass(frozen=True, kw_only=True)
class MultiHopRAG(BenchmarkReader):
    """`path` is a folder with corpus.json and MultiHopRAG.json. `documents` takes the first articles.

    A question belongs to the first article of its evidence. Questions without evidence ("Insufficient information"),
    and those with evidence in an article that is not read, are left out and counted.
    """

    name: str = "multihop_rag"

    def sources(self) -> list[Path]:
        folder = resolve_path(self.path, "corpus.path", f"a folder with {ARTICLES} and {QUERIES}")
        for name in (ARTICLES, QUERIES):
            if not (folder / name).is_file():
                raise ConfigError(f"corpus.path: {folder} has no {name}; give a folder with {ARTICLES} and {QUERIES}")
        return [folder / ARTICLES, folder / QUERIES]

    def read(self) -> CorpusContent:
        articles, queries = self.sources()
        documents: list[Document] = []
        for number, raw in enumerate(load_json(articles, list, EXPECTED_ARTICLE)[: self.documents], 1):
            place = f"{articles}, article {number}"
            title, text = (text_field(raw, key, place, EXPECTED_ARTICLE) for key in ("title", "body"))
            meta = {key: normalize_text(str(raw[key])) for key in META if raw.get(key)}
            documents.append(Document(id=f"multihop_rag-{number}", title=title, text=text, meta=meta))
        by_title = {document.title: document for document in reversed(documents)}
        content = CorpusContent(documents)
        for number, raw in enumerate(load_json(queries, list, EXPECTED_QUERY), 1):
            question = read_query(raw, f"{queries}, query {number}", number, by_title)
            if isinstance(question, str):
                content.leave_out(question)
            else:
                content.questions.append(question)
        return content


def read_query(raw: Any, place: str, number: int, documents: dict[str, Document]) -> Question | str:
    """Returns a question, or why it has to be left out."""
    text, answer = (text_field(raw, key, place, EXPECTED_QUERY) for key in ("query", "answer"))
    evidence = list_field(raw, "evidence_list", place, EXPECTED_QUERY)
    titles = [text_field(entry, "title", place, EXPECTED_QUERY) for entry in evidence]
    if not titles:
        return NO_EVIDENCE
    if not all(title in documents for title in titles):
        return OTHER_ARTICLES
    group = text_field(raw, "question_type", place, EXPECTED_QUERY)
    document = documents[titles[0]]
    return Question(id=f"multihop_rag-q{number}", document_id=document.id, text=text, accepted=[answer], group=group)
