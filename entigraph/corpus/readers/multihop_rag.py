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
NO_ARTICLE, ARTICLE_NOT_LOADED = "no supporting article", "supporting article not loaded"
META = ("url", "source", "published_at", "category", "author")


@dataclass(frozen=True, kw_only=True)
class MultiHopRAG(BenchmarkReader):
    """`path` is a folder with corpus.json and MultiHopRAG.json. `documents` takes the first articles.

    A question belongs to the first article of its evidence. Questions without evidence ("Insufficient information"),
    and those with evidence in an article that is not loaded, are left out and counted.
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
            location = f"{articles}, article {number}"
            title, text = (text_field(raw, key, location, EXPECTED_ARTICLE) for key in ("title", "body"))
            meta = {key: normalize_text(str(raw[key])) for key in META if raw.get(key)}
            documents.append(Document(id=f"multihop_rag-{number}", title=title, text=text, meta=meta))
        by_title = {document.title: document for document in reversed(documents)}
        content = CorpusContent(documents)
        for number, raw in enumerate(load_json(queries, list, EXPECTED_QUERY), 1):
            result = read_query(raw, f"{queries}, query {number}", number, by_title)
            if isinstance(result, str):
                content.leave_out(result)
            else:
                content.questions.append(result)
        return content


def read_query(raw: Any, location: str, number: int, documents: dict[str, Document]) -> Question | str:
    """Returns a question, or the reason for skipping it."""
    text, answer = (text_field(raw, key, location, EXPECTED_QUERY) for key in ("query", "answer"))
    evidence = list_field(raw, "evidence_list", location, EXPECTED_QUERY)
    titles = [text_field(entry, "title", location, EXPECTED_QUERY) for entry in evidence]
    if not titles:
        return NO_ARTICLE
    if not all(title in documents for title in titles):
        return ARTICLE_NOT_LOADED
    group = text_field(raw, "question_type", location, EXPECTED_QUERY)
    document = documents[titles[0]]
    return Question(id=f"multihop_rag-q{number}", document_id=document.id, text=text, accepted=[answer], group=group)
