"""The retrieval stage ranks passages of documents for questions: passages.jsonl, rankings.jsonl, recall.json."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.llm.cost import render_dollars
from entigraph.llm.response_cache import ResponseCache
from entigraph.retrieval.base import Ranked, RetrievalContext, Retriever, build_query
from entigraph.retrieval.embedding_cache import EmbeddingCache
from entigraph.retrieval.gold_passages import PassageIndex, compute_recall
from entigraph.retrieval.passages import split_documents
from entigraph.runtime.progress import SILENT, Progress
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, Question, Ranking

REPORTED_K = "8"  # the paper's recall@8


def run(
    documents: Path,
    questions: Sequence[Question],
    out: Path,
    *,
    retriever: Retriever,
    embedding_cache: Path,
    response_cache: Path,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Ranks passages for all questions. `response_cache` records the spending of the command.

    Raises DataError if there are no passages, LLMError if an endpoint fails or the spending limit is reached.
    """
    corpus = list(read_jsonl(documents, Document))
    index = PassageIndex.build(corpus, list(split_documents(corpus, retriever.characters, retriever.separators)))
    if not index.passages:
        raise DataError(f"{documents} has no passages: its documents are empty; check corpus.path")
    write_jsonl(out / "passages.jsonl", index.passages)
    texts = [index.passages[passage].text for passage in index.distinct]
    queries = [build_query(question, retriever.with_choices) for question in questions]
    rankings: list[Ranking] = []
    with (
        closing(EmbeddingCache(embedding_cache)) as embeddings,
        closing(ResponseCache(response_cache)) if retriever.paid else nullcontext() as spending,
    ):
        context = RetrievalContext(embeddings, spending, progress=progress)
        ranked = build_rankings(index, questions, retriever.rank(texts, queries, context))
        rankings += islice(ranked, 1)  # after all embeddings, which have their own bars
        with progress.bar("retrieval", len(questions), "questions") as advance:
            advance(len(rankings), resumed=True)
            for ranking in ranked:
                rankings.append(ranking)
                advance(1)
    write_jsonl(out / "rankings.jsonl", rankings)
    recall = compute_recall(rankings, retriever.depth)
    write_json(out / "recall.json", recall)
    unmatched = sum(
        bool(question.evidence) and ranking.evidence is None
        for question, ranking in zip(questions, rankings, strict=True)
    )
    return {
        "passages": len(index.passages),
        "duplicates": len(index.passages) - len(texts),
        "questions": len(questions),
        "without_passages": sum(not ranking.passages for ranking in rankings),
        "evidence_not_found": unmatched,
        "recall": recall,
        **context.counts,
    }


def build_rankings(index: PassageIndex, questions: Sequence[Question], ranked: Iterator[Ranked]) -> Iterator[Ranking]:
    """Yields rankings by passage index, from rankings of the distinct texts."""
    distinct = index.distinct
    for question, texts in zip(questions, ranked, strict=True):
        gold = index.find_gold(question)
        yield Ranking(
            question_id=question.id,
            passages=[distinct[text] for text, _ in texts],
            scores=[round(score, 5) for _, score in texts],
            article=gold.article,
            evidence=gold.evidence,
        )


def summary_lines(counts: Mapping[str, Any]) -> list[str]:
    """Returns recall, cost and warnings for the terminal."""
    lines = [f"  {counts['passages']:,} passages for {counts['questions']:,} questions"]
    for name in ("article", "evidence"):
        recall = counts["recall"][name]
        if recall["at"]:
            k = REPORTED_K if REPORTED_K in recall["at"] else next(iter(recall["at"]))
            lines.append(f"  {name} recall@{k}: {recall['at'][k]:.1%} of {recall['questions']:,} questions")
    notes = {
        "duplicates": "passages duplicate the text of another and count once",
        "without_passages": "questions without any retrieved passage",
        "evidence_not_found": "questions whose evidence does not occur verbatim in a document",
        "truncated_by_model": "texts exceed the embedding model's length and were truncated",
        "truncated_by_reranker": "pairs exceed the reranker's length and were truncated",
    }
    dollars = counts.get("embedding_dollars", 0.0) + counts.get("rerank_dollars", 0.0)
    lines += [f"  {render_dollars(dollars)} paid for embeddings and reranking"] if dollars else []
    return lines + [f"  {counts[key]:,} {note}" for key, note in notes.items() if counts.get(key)]
