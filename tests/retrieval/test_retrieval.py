"""Ranking: recall of gold passages, determinism, duplicates, caching, costs, and user-defined retrievers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer

from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.pipeline import cost_estimate, execution
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import run_steps
from entigraph.retrieval import retrieval_endpoints, stage
from entigraph.retrieval.base import Ranked, RetrievalContext, Retriever, top_indices
from entigraph.retrieval.bm25 import BM25, tokenize
from entigraph.retrieval.dense import Dense, Embedder, rank_by_distance
from entigraph.retrieval.embedding_cache import EmbeddingCache
from entigraph.retrieval.gold_passages import PassageIndex, compute_recall
from entigraph.retrieval.passages import SEPARATORS, split_documents
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, Passage, Question, Ranking
from entigraph.tracking.base import Tracker
from tests.conftest import ARTICLE
from tests.mock_llm_server import Handle, bag_of_words
from tests.retrieval.small_corpus import RankCorpus


def dense(endpoint: Handle, **options: object) -> Dense:
    return Dense(**{"model": "bag", "base_url": endpoint.base_url, "characters": 256, "batch_size": 5, **options})  # type: ignore[arg-type]


def nearest(texts: list[str], queries: list[str], depth: int, embedder: Embedder, folder: Path) -> Iterator[Ranked]:
    context = RetrievalContext(EmbeddingCache(folder / "vectors.sqlite"), None)
    return rank_by_distance(texts, queries, depth, embedder, context)


def test_bm25_finds_gold_passages(ranked: RankCorpus, tmp_path: Path) -> None:
    counts, rankings = ranked()
    assert counts["recall"]["article"] == {
        "questions": 16,
        "at": dict.fromkeys(["1", "2", "4", "8", "16", "32", "64", "128"], 1.0),
    }
    assert counts["recall"]["evidence"]["at"]["1"] == 1.0
    assert json.loads((tmp_path / "out" / "recall.json").read_text()) == counts["recall"]
    assert all(list(ranking.scores) == sorted(ranking.scores, reverse=True) for ranking in rankings)


def test_compute_recall() -> None:
    def make_ranking(passages: list[int], article: list[int] | None, evidence: list[list[int]] | None) -> Ranking:
        return Ranking(question_id="q", passages=passages, scores=[], article=article, evidence=evidence)

    rankings = [
        make_ranking([5, 1, 2], [1, 2], [[2]]),
        make_ranking([1, 7, 8], [1], [[1], [8]]),
        make_ranking([], [3], None),
        make_ranking([4], None, None),
    ]
    results = compute_recall(rankings, 3)
    assert results["article"] == {"questions": 3, "at": {"1": 1 / 3, "2": 2 / 3, "3": 2 / 3}}
    assert results["evidence"] == {"questions": 2, "at": {"1": 0.0, "2": 0.0, "3": 1.0}}


def test_evidence_matches_passages_that_overlap_by_half() -> None:
    text = "aaaa " * 10 + "The door was green. " + "bbbb " * 10
    document = Document(id="d", title="", text=text)
    index = PassageIndex.build([document], list(split_documents([document], 40, SEPARATORS)))

    def held(part: str) -> list[str] | None:
        question = Question(
            id="q", document_id="d", text="?", choices=["a"], answer=0, group="", evidence=[part] if part else []
        )
        evidence = index.find_gold(question).evidence
        return [index.passages[number].text for number in evidence[0]] if evidence else None

    results = held("The door was green.")
    assert results and all("door" in passage or "green" in passage for passage in results)
    assert held("The door was blue.") is None and held("") is None
    assert held(text.strip()) == [passage.text for passage in index.passages], "each passage is part of it"


def test_evidence_of_questions_about_two_documents_is_found_in_both() -> None:
    texts = {"one": "The keeper lit the lamp at dusk.", "two": "The lamp was bought in Bergen."}
    documents = [Document(id=name, title=name, text=text) for name, text in texts.items()]
    index = PassageIndex.build(documents, list(split_documents(documents, 200, SEPARATORS)))
    parts = ["lit the lamp at dusk", "bought in Bergen"]
    question = Question(id="q", document_id="one", text="?", accepted=["Bergen"], group="", evidence=parts)
    assert index.find_gold(question).evidence == [[0], [1]] and index.find_gold(question).article == [0]


def test_top_indices_breaks_ties_by_order() -> None:
    assert top_indices(np.array([1, 3, 3, 3, 2], dtype=np.float32), 2) == [1, 2]
    assert top_indices(np.zeros(6, dtype=np.float32), 3) == [0, 1, 2]
    assert top_indices(np.array([1, 2], dtype=np.float32), 9) == [1, 0]


def test_rankings_are_independent_of_other_questions(ranked: RankCorpus, tmp_path: Path) -> None:
    _, all_counts = ranked()
    _, rerun = ranked(out="again")
    assert all_counts == rerun
    questions = list(read_jsonl(tmp_path / "corpus" / "questions.jsonl", Question))
    _, some = ranked(questions=questions[3:5], out="some")
    assert some == all_counts[3:5]


def test_question_without_indexed_words_has_no_passages(ranked: RankCorpus, tmp_path: Path) -> None:
    question = Question(id="q", document_id="lighthouse", text="Xyzzy?", choices=["the", "of"], answer=0, group="all")
    counts, (ranking,) = ranked(questions=[question])
    assert ranking.passages == [] and counts["without_passages"] == 1
    assert counts["recall"]["article"] == {"questions": 1, "at": dict.fromkeys(counts["recall"]["article"]["at"], 0.0)}
    context = RetrievalContext(EmbeddingCache(tmp_path / "vectors.sqlite"), None)
    assert list(BM25(depth=3).rank(["the", ""], ["the", "lamp"], context)) == [[], []]


def test_duplicate_passages_count_once(tmp_path: Path) -> None:
    twins = [Document(id=item, title="Twin", text="The door of the lighthouse was green.") for item in ("a", "b")]
    write_jsonl(tmp_path / "documents.jsonl", twins)
    questions = [
        Question(id=item, document_id=item, text="Which door was green?", choices=["x", "y"], answer=0, group="all",
                 evidence=["The door of the lighthouse was green."])
        for item in ("a", "b", "c")
    ]  # fmt: skip
    counts = stage.run(
        tmp_path / "documents.jsonl",
        questions,
        tmp_path,
        retriever=BM25(),
        embedding_cache=tmp_path / "v",
        response_cache=tmp_path / "j",
    )
    assert (counts["passages"], counts["duplicates"]) == (2, 1)
    rankings = list(read_jsonl(tmp_path / "rankings.jsonl", Ranking))
    assert [list(ranking.passages) for ranking in rankings] == [[0], [0], [0]]
    assert [ranking.article for ranking in rankings] == [[0], [0], None], "c is not in this corpus"
    assert counts["recall"]["evidence"]["questions"] == 2 and counts["evidence_not_found"] == 1


def test_empty_documents_raise_data_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "documents.jsonl", [Document(id="a", title="A", text=" ")])
    with pytest.raises(DataError, match="no passage"):
        stage.run(
            tmp_path / "documents.jsonl",
            [],
            tmp_path,
            retriever=BM25(),
            embedding_cache=tmp_path / "v",
            response_cache=tmp_path / "j",
        )


def test_dense_ranking_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = {f"t{n}": rng.normal(size=8).astype(np.float32) * (1 + n % 3) for n in range(40)}

    class Known:
        identity, counts = "known", {}

        def embed(self, texts, queries):  # type: ignore[no-untyped-def]
            yield {number: table[text] for number, text in enumerate(texts)}

    texts, queries = [f"t{n}" for n in range(30)], [f"t{n}" for n in range(30, 40)]
    for query, results in zip(queries, nearest(texts, queries, 5, Known(), tmp_path), strict=True):
        distances = {text: float(((table[query] - table[text]) ** 2).sum()) for text in texts}
        assert [texts[index] for index, _ in results] == sorted(distances, key=distances.__getitem__)[:5]
        assert [-score for _, score in results] == pytest.approx(sorted(distances.values())[:5], rel=1e-4)


def test_endpoint_embeds_each_text_once(ranked: RankCorpus, endpoint: Handle, tmp_path: Path) -> None:
    counts, rankings = ranked(dense(endpoint))
    assert counts["recall"]["evidence"]["at"]["4"] == 1.0 and counts["embedded"] > 30
    stats = endpoint.stats()
    assert stats["embedded_texts"] == counts["embedded"] == len({*texts_of(tmp_path / "out")}) + 8, (
        "8 different queries"
    )
    assert stats["embeddings_requests"] < stats["embedded_texts"] / 3, "in batches"
    rerun, same = ranked(dense(endpoint, depth=4), out="again")
    assert rerun["embedded"] == 0 and endpoint.stats()["embedded_texts"] == stats["embedded_texts"]
    assert [list(ranking.passages) for ranking in same] == [list(ranking.passages)[:4] for ranking in rankings]
    ranked(dense(endpoint, model="another"), out="other")
    assert endpoint.stats()["embedded_texts"] == 2 * stats["embedded_texts"], "another model has its own vectors"


def texts_of(out: Path) -> list[str]:
    return [passage.text for passage in read_jsonl(out / "passages.jsonl", Passage)]


def test_endpoint_retries_and_errors(ranked: RankCorpus, endpoint: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.configure(retrieval_failing=2)
    counts, _ = ranked(dense(endpoint, concurrency=1))
    assert counts["recall"]["article"]["at"]["8"] == 1.0
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    endpoint.configure(retrieval_failing=1_000_000)
    with pytest.raises(LLMError, match="retriever.base_url: .* failed") as raised:
        ranked(dense(endpoint, model="fresh", attempts=1, api_key_env="OPENAI_API_KEY"))
    assert "sk-secret" not in str(raised.value)


def test_embeddings_computed_before_a_failure_are_kept(tmp_path: Path) -> None:
    asked: list[str] = []

    class Ending:
        identity, counts, left = "ending", {}, 2

        def embed(self, texts, queries):  # type: ignore[no-untyped-def]
            for number, text in enumerate(texts):
                if not self.left:
                    raise LLMError("down")
                self.left -= 1
                asked.append(text)
                yield {number: np.full(2, number, dtype=np.float32)}

    texts = ["one", "two", "three"]
    with pytest.raises(LLMError, match="down"):
        list(nearest(texts, ["query"], 1, Ending(), tmp_path))
    patient = Ending()
    patient.left = 9
    list(nearest(texts, ["query"], 1, patient, tmp_path))
    assert asked == ["one", "two", "three", "query"]


def test_reranker_results_are_cached(ranked: RankCorpus, endpoint: Handle) -> None:
    settings = {"reranker": "words", "reranker_url": endpoint.base_url, "depth": 6}
    counts, rankings = ranked(dense(endpoint, **settings))
    assert counts["reranked"] == 8 and endpoint.stats()["rerank_requests"] == 8, "two questions share a query"
    assert all(list(ranking.scores) == sorted(ranking.scores, reverse=True) for ranking in rankings)
    assert counts["recall"]["evidence"]["at"]["1"] == 1.0
    rerun, same = ranked(dense(endpoint, **settings), out="again")
    assert rerun["reranked"] == 0 and endpoint.stats()["rerank_requests"] == 8 and same == rankings
    mixed, _ = ranked(BM25(characters=256, **settings), out="words")  # type: ignore[arg-type]
    assert mixed["reranked"] == 8, "any retriever can be reranked"


def test_spending_limit(ranked: RankCorpus, endpoint: Handle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(retrieval_endpoints, "is_private_address", lambda address: False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("CO_API_KEY", "co-none")
    with pytest.raises(
        LLMError, match=r"retriever.max_cost_usd: .* of about \$[\d.]+, could exceed the limit of \$1.00"
    ):
        ranked(dense(endpoint, price=1_000.0, max_cost_usd=1.0))
    assert endpoint.stats()["embedded_texts"] == 0
    prices = {"price": 1.0, "reranker": "words", "reranker_url": endpoint.base_url, "reranker_price": 100.0}
    monkeypatch.setenv("ENTIGRAPH_COMMAND", "one sweep")
    with pytest.raises(LLMError, match="retriever.max_cost_usd"):  # eight searches are 80 cents
        ranked(dense(endpoint, **prices, max_cost_usd=0.5, concurrency=1))
    assert endpoint.stats()["rerank_requests"] == 4, "plus the cost of embeddings"
    with pytest.raises(LLMError, match="retriever.max_cost_usd"):
        ranked(dense(endpoint, **prices, max_cost_usd=0.5), out="another job of the sweep")
    assert endpoint.stats()["rerank_requests"] == 4
    monkeypatch.setenv("ENTIGRAPH_COMMAND", "the next command")
    counts, _ = ranked(dense(endpoint, **prices, max_cost_usd=0.5))
    assert endpoint.stats()["rerank_requests"] == 8 and counts["reranked"] == 4, "earlier answers are cached"
    assert counts["rerank_searches"] == 4 and counts["rerank_dollars"] == pytest.approx(0.4)
    assert any("$0.40 paid" in line for line in stage.summary_lines(counts))


def test_pending_requests_are_kept_after_a_failure(ranked: RankCorpus, endpoint: Handle) -> None:
    endpoint.configure(retrieval_failing=1, latency_s=0.2)
    with pytest.raises(LLMError, match="request to .* failed"):
        ranked(dense(endpoint, attempts=1, concurrency=4))
    answered = endpoint.stats()["embedded_texts"]
    counts, _ = ranked(dense(endpoint))
    assert answered >= 5 and endpoint.stats()["embedded_texts"] == answered + counts["embedded"]


def test_paid_endpoint_needs_price_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="retriever.price: not set"):
        Dense(model="m", base_url="https://nowhere.example/v1")
    with pytest.raises(ConfigError, match="retriever.reranker_price: not set"):
        BM25(reranker="m", reranker_url="https://nowhere.example/v1")
    with pytest.raises(ConfigError, match="retriever.price must be dollars of at least 0, got -1.0"):
        Dense(model="m", base_url="https://nowhere.example/v1", price=-1.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(LLMError, match="OPENAI_API_KEY is not set"):
        Dense(model="m", base_url="https://nowhere.example/v1", price=1.0).check()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\n")
    with pytest.raises(LLMError, match="the value of OPENAI_API_KEY contains a line feed"):
        Dense(model="m", base_url="https://nowhere.example/v1", price=1.0).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"characters": 0}, "retriever.characters"),
        ({"depth": 0}, "retriever.depth"),
        ({"reranker_url": "http://localhost:1/v1"}, "retriever.reranker: not set"),
        ({"reranker": "m", "reranker_url": "http://me:key@localhost/v1"}, "retriever.reranker_url must be without"),
        ({"reranker_key_env": "hf_abc123"}, "retriever.reranker_key_env must be the name of an environment variable"),
    ],
)
def test_invalid_retriever_settings_raise_config_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        BM25(**options)  # type: ignore[arg-type]
    assert "abc123" not in str(raised.value)
    with pytest.raises(ConfigError, match="retriever.model: not set"):
        Dense()
    with pytest.raises(ConfigError, match="retriever.base_url must be without .* query"):
        Dense(model="m", base_url="http://localhost/v1?key=secret")


def test_mock_embeddings_reflect_shared_words() -> None:
    one, two, three = (np.array(bag_of_words(text)) for text in ("the green door", "a green door", "volcano ash"))
    assert one @ two > one @ three


def test_plan_estimates_endpoint_costs(configured: Callable[..., Run], quality_file: Path) -> None:
    public_url = "https://nowhere.example/v1"
    options = ["corpus=quality", f"corpus.path={quality_file}", "evaluation=open_book", "retriever=dense_rerank"]
    options += [
        "retriever.model=m",
        "retriever.reranker=r",
        f"retriever.reranker_url={public_url}",
        "retriever.depth=128",
    ]
    options += ["retriever.reranker_price=2", f"retriever.base_url={public_url}", "retriever.price=0.13"]
    run = configured(*options)
    (line,) = cost_estimate.retrieval_cost_lines(run)
    assert "unknown until the questions exist" in line
    execution.execute_step(next(run_steps(run)), SilentProgress(), Tracker)
    (line,) = cost_estimate.retrieval_cost_lines(run)
    assert "and 8 searches to rerank, $0.016; stopped at retriever.max_cost_usd = 5.0" in line, (
        "two searches for each of four questions"
    )
    tokens = int(line.split("about ")[1].split(" tokens")[0].replace(",", ""))
    assert 2 * len(ARTICLE) / 3 < tokens < 4 * len(ARTICLE) / 3, "both articles and the questions"
    local = [option.replace(public_url, "http://localhost:1/v1") for option in options]
    assert list(cost_estimate.retrieval_cost_lines(configured(*local))) == []


@dataclass(frozen=True, kw_only=True)
class SharedWords(Retriever):
    """The example in the documentation of `Retriever`."""

    def rank(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
        for query in queries:
            words = set(query.lower().split())
            scores = np.array([len(words & set(text.lower().split())) for text in texts], dtype=np.float32)
            yield [(index, float(scores[index])) for index in top_indices(scores, self.depth)]


def test_user_defined_retriever(ranked: RankCorpus, configured: Callable[..., Run]) -> None:
    counts, _ = ranked(SharedWords(characters=256))
    assert counts["recall"]["evidence"]["at"]["8"] == 1.0
    target = f"{SharedWords.__module__}.SharedWords"
    run = configured("~retriever", f"+retriever._target_={target}", "+retriever.depth=16", "evaluation=[open_book]")
    assert run.retriever == SharedWords(depth=16)
    assert "sharedwords" in str(run.artifacts.rankings["open_book"].folder)


def test_bm25_keeps_english_terms() -> None:
    texts = ["The lamps were burning; a café — naïve “quotes” of 1911, don't!"]
    plain = bm25s.tokenize(
        texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    assert tokenize(texts) == plain


@pytest.mark.parametrize(
    ("texts", "query", "answer"),
    [
        (["船长每天早晨喝咖啡，读报纸。", "陈岚在灰塔里保管着铜钟。"], "谁保管铜钟？", 1),
        (["船长喝茶。", "陈岚敲钟。"], "茶", 0),
        (["灯台は１９１０年に建った。", "灯台は２０２４年に消えた。"], "2024年", 1),
        (["彼は海で泳いだ。", "灯台守は古い手紙を読んだ。"], "手紙を読んだのは誰か", 1),
        (["ذهب التاجر إلى السوق.", "حفظ سالم المفتاح في البرج."], "أين حفظ مفتاح البرج", 1),
        (["선장은 차를 마셨다.", "등대지기는 편지를 읽었다."], "편지", 1),
        (["Капитан пил чай.", "Хранитель спрятал старые письма."], "старое письмо", 1),
        (["สุนัขนอนอยู่ที่บ้าน", "แมวกินปลาในครัว"], "แมวกินอะไร", 1),
    ],
)
def test_bm25_ranks_text_of_other_scripts(texts: list[str], query: str, answer: int, tmp_path: Path) -> None:
    context = RetrievalContext(EmbeddingCache(tmp_path / "vectors.sqlite"), None)
    (ranked,) = BM25().rank(texts, [query], context)
    assert ranked[0][0] == answer
