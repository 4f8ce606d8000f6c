"""Passages of documents, ranked for questions → passages.jsonl, rankings.jsonl, recall.json."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from entigraph.errors import DataError
from entigraph.llm.response_cache import ResponseCache
from entigraph.retrieval.base import Ranked, query_of
from entigraph.retrieval.embedding_cache import Vectors
from entigraph.retrieval.gold_passages import Shelf, recall
from entigraph.retrieval.passages import split
from entigraph.retrieval.retrievers import Settings
from entigraph.runtime.progress import Progress
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, Question, Ranking

TOLD_AT = "8"  # the paper's recall@8


def run(
    documents: Path,
    questions: Sequence[Question],
    out: Path,
    *,
    settings: Settings,
    vectors: Path,
    response_cache: Path,
    progress: Progress,
) -> dict[str, Any]:
    """`vectors` is the file that keeps embeddings and rerankings, `response_cache` counts what a command spends.

    Raises DataError where there is no passage, LLMError where an endpoint gives no answer or would cost too much.
    """
    known = list(read_jsonl(documents, Document))
    shelf = Shelf.of(known, list(split(known, settings.characters, settings.separators)))
    if not shelf.passages:
        raise DataError(f"{documents} gives no passage: its documents are empty; check corpus.path")
    write_jsonl(out / "passages.jsonl", shelf.passages)
    with (
        closing(Vectors(vectors)) as kept,
        closing(ResponseCache(response_cache)) if settings.paid else nullcontext() as spending,
        progress.bar("retrieval", len(questions), "questions") as advance,
    ):
        retriever = settings.retriever(kept, spending)
        queries = [query_of(question, settings.with_choices) for question in questions]
        texts = [shelf.passages[number].text for number in shelf.distinct]
        ranked = retriever.rank(texts, queries, settings.depth)
        rankings = []
        for ranking in numbered(shelf, questions, ranked):
            rankings.append(ranking)
            advance(1)
    write_jsonl(out / "rankings.jsonl", rankings)
    found = recall(rankings, settings.depth)
    write_json(out / "recall.json", found)
    missing = [
        question.id
        for question, ranking in zip(questions, rankings, strict=True)
        if question.evidence and ranking.evidence is None
    ]
    return {
        "passages": len(shelf.passages),
        "duplicates": len(shelf.passages) - len(texts),
        "questions": len(questions),
        "without_passages": sum(not ranking.passages for ranking in rankings),
        "evidence_not_found": len(missing),
        "recall": found,
        **retriever.reported,
    }


def numbered(shelf: Shelf, questions: Sequence[Question], ranked: Iterator[Ranked]) -> Iterator[Ranking]:
    numbers = shelf.distinct
    for question, found in zip(questions, ranked, strict=True):
        gold = shelf.gold(question)
        yield Ranking(
            question_id=question.id,
            passages=[numbers[place] for place, _ in found],
            scores=[round(score, 5) for _, score in found],
            article=gold.article,
            evidence=gold.evidence,
        )


def summary(counts: Mapping[str, Any]) -> list[str]:
    """What a reader should know of the rankings at once."""
    lines = [f"  {counts['passages']:,} passages for {counts['questions']:,} questions"]
    for name, words in (("article", "its article"), ("evidence", "its evidence")):
        shares = counts["recall"][name]["at"]
        if shares:
            k = TOLD_AT if TOLD_AT in shares else next(iter(shares))
            lines.append(
                f"  recall@{k}: {shares[k]:.1%} of {counts['recall'][name]['questions']:,} questions found {words}"
            )
    notes = {
        "duplicates": "passages say the same as another and count once",
        "without_passages": "questions for which nothing was found",
        "evidence_not_found": "questions whose evidence does not stand in their document word for word",
        "cut_by_model": "texts are longer than the embedding model reads: it saw their beginnings",
        "cut_by_reranker": "pairs are longer than the reranker reads: it saw their beginnings",
    }
    dollars = counts.get("embedding_dollars", 0.0) + counts.get("rerank_dollars", 0.0)
    lines += [f"  ${dollars:,.2f} paid for embeddings and rerankings"] if dollars else []
    return lines + [f"  {counts[key]:,} {note}" for key, note in notes.items() if counts.get(key)]
