import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from entigraph.config.schema import Synthesis
from entigraph.corpus import stage as corpus_stage
from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, NearDuplicate, SyntheticText
from entigraph.storage.texts import read_texts, write_texts
from entigraph.synthesis import stage, synthesis_report
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.base import Augmenter
from tests.chromium import HOSTILE, needs_chromium, render_page

COST = {"requests": 12, "prompt_tokens": 90_000, "cached_tokens": 45_000, "completion_tokens": 8_000, "dollars": 1.25}
COUNTS: dict[str, Any] = {"near_duplicates": 0, "entities_left_out": 0, **COST}


class Page:
    def __init__(self, file: Path) -> None:
        self.source = file.read_text(encoding="utf-8")
        self.tree = html.fromstring(self.source)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.tree.xpath("//body//text()[not(parent::script)]")).split())

    def table(self, name: str) -> list[list[str]]:
        rows = self.tree.get_element_by_id(name).iter("tr")
        return [[" ".join(cell.text_content().split()) for cell in row] for row in rows]

    def texts(self, view: int) -> list[str]:
        return [item.text_content() for item in self.view(view).find_class("body") if item.getparent().tag == "article"]

    def view(self, number: int) -> Any:
        return self.tree.get_element_by_id(f"view-{number}")

    def entities(self, view: int) -> list[list[str]]:
        (table,) = self.view(view).xpath(".//details[@class='entities']//table")
        return [[cell.text_content() for cell in row] for row in list(table.iter("tr"))[1:]]

    def edges(self, view: int) -> dict[frozenset[str], int]:
        """As the script reads them."""
        counts: list[int] = []
        for run in map(int, self.view(view).get("data-edges").split()):
            counts += [run] if run > 0 else [0] * -run
        names = [row[0] for row in self.entities(view)]
        return {frozenset(pair): count for pair, count in zip(combinations(names, 2), counts, strict=True) if count}


def synthesized(tmp_path: Path, augmenter: Augmenter, budget: int | None) -> tuple[Page, list[SyntheticText], Any]:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    out.mkdir()
    corpus_stage.run(FictionalCorpus(documents=3), corpus)
    rules = Synthesis(token_budget=budget)
    counts = stage.run(
        corpus,
        out,
        augmenter=augmenter,
        llm=OfflineWriter(),
        count_tokens=lambda text: len(text.split()),
        rules=rules,
    )
    return (
        Page(synthesis_report.write(out, corpus, counts, name="fictional", rules=rules)),
        list(read_texts(out)),
        counts,
    )


def text(document: str, *about: str, body: str = "", part: str = "", sample: int = 0) -> SyntheticText:
    kind = {0: "rephrase_easy", 2: "pair", 3: "triple"}[len(about)]
    return SyntheticText(
        id="/".join((part or document, kind, *about, str(sample))),
        document_id=document,
        augmenter="entigraph",
        kind=kind,
        about=about,
        sample=sample,
        text=body or f"On {', '.join(about)}.",
        writer="w",
        prompt_hash="",
        tokens=10,
    )


def write_report(
    tmp_path: Path,
    documents: list[Document],
    graphs: list[EntityGraph],
    texts: Iterator[SyntheticText] | list[SyntheticText],
    failures: list[Failure] = [],  # noqa: B006
    counts: dict[str, Any] = COUNTS,
    **settings: Any,
) -> Page:
    write_jsonl(tmp_path / "documents.jsonl", documents)
    write_jsonl(tmp_path / "graphs.jsonl", graphs)
    write_jsonl(tmp_path / "failures.jsonl", failures)
    write_texts(tmp_path, texts)
    return Page(
        synthesis_report.write(tmp_path, tmp_path, counts, name="n", rules=Synthesis(token_budget=None, **settings))
    )


def test_report_counts_match_the_texts(tmp_path: Path) -> None:
    page, texts, counts = synthesized(tmp_path, EntiGraph(requests_in_a_row=4), 9_000)
    tokens = Counter[str]()
    for item in texts:
        tokens[item.kind] += item.tokens
    kinds = Counter(item.kind for item in texts)
    assert [row[:3] for row in page.table("kinds")[1:]] == [
        [kind, f"{kinds[kind]:,}", f"{tokens[kind]:,}"] for kind in kinds
    ]
    assert sum(tokens.values()) == counts["tokens"] and sum(kinds.values()) == counts["texts"]
    head, *rows, totals = page.table("documents")
    assert head == ["document", "entities", "pairs covered", "coverage", *kinds, "tokens"]
    covered = {
        number: Counter(
            frozenset(pair)
            for item in texts
            if item.document_id == f"chronicle-00{number}"
            for pair in combinations(item.about, 2)
        )
        for number in range(3)
    }
    for number, row in enumerate(rows):
        document_texts = [item for item in texts if item.document_id == f"chronicle-00{number}"]
        pairs = len(covered[number])
        assert 0 < pairs < 190, "the budget should end before all pairs, or this shows little"
        by_kind = [f"{sum(item.kind == kind for item in document_texts):,}" for kind in kinds]
        share = f"{100 * pairs / 190:.1f}%"
        assert row[1:] == ["20", f"{pairs} of 190", share, *by_kind, f"{sum(item.tokens for item in document_texts):,}"]
        assert page.edges(number) == covered[number]
        assert page.texts(number) == [item.text for item in document_texts]
        assert [row[1] for row in page.entities(number)] == [
            str(sum(name in item.about for item in document_texts)) for name, *_ in page.entities(number)
        ]
    assert totals[1:3] == ["60", f"{sum(map(len, covered.values()))} of 570"]


def test_triple_covers_three_edges(tmp_path: Path) -> None:
    graph = EntityGraph(document_id="d", summary="", entities=["Ada", "Bo", "Cy", "Di"])
    texts = [text("d", "Bo", "Ada"), text("d", "Di", "Ada", "Bo"), text("d", "Ada", "Bo", sample=1)]
    page = write_report(tmp_path, [Document(id="d", title="D", text="")], [graph], texts)
    assert page.edges(0) == {frozenset(("Ada", "Bo")): 3, frozenset(("Ada", "Di")): 1, frozenset(("Bo", "Di")): 1}
    assert page.entities(0) == [
        ["Ada", "3", "2 of 3"],
        ["Bo", "3", "2 of 3"],
        ["Cy", "0", "0 of 3"],
        ["Di", "1", "2 of 3"],
    ]
    assert [item.get("data-about") for item in page.tree.iter("article")] == ["0 1", "0 1 3", "0 1"]
    assert page.table("documents")[1] == ["D", "4", "3 of 6", "50.0%", "2", "1", "30"]


def test_report_has_a_graph_for_each_part(tmp_path: Path) -> None:
    graphs = [EntityGraph(document_id=f"d/e#{n}", summary="", entities=["Ada", f"Bo{n}", "Cy"]) for n in (1, 2)]
    texts = [text("d/e", "Ada", "Cy", part="d/e#2"), text("d/e", "Ada", "Bo1", part="d/e#1")]
    page = write_report(tmp_path, [Document(id="d/e", title="Long", text="")], graphs, texts)
    assert page.edges(0) == {frozenset(("Ada", "Bo1")): 1} and page.edges(1) == {frozenset(("Ada", "Cy")): 1}
    assert page.table("documents")[1][:4] == ["Long", "6", "2 of 6", "33.3%"]
    assert [item.text_content() for item in page.tree.iter("option")] == ["Long, part 1", "Long, part 2"]


def test_report_shows_failures_near_duplicates_and_cost(tmp_path: Path) -> None:
    failures = [Failure(document_id="d", kind="pair", about=("Ada", "Bo"), reason="finish_reason length")] * 2
    failures += [Failure(document_id="e", kind="entities", about=(), reason="an empty answer")]
    write_jsonl(
        tmp_path / "near_duplicates.jsonl",
        [NearDuplicate(id=f"t{n}", original_id="t0", similarity=0.8 + n / 100) for n in range(1, 16)],
    )
    graph = EntityGraph(document_id="d", summary="", entities=["Ada", "Bo"])
    documents = [Document(id="d", title="D", text=""), Document(id="e", title="E", text="")]
    counts = {**COUNTS, "near_duplicates": 15}
    page = write_report(tmp_path, documents, [graph], [text("d", "Ada", "Bo")] * 2, failures, counts)
    assert page.table("failures")[1:] == [["finish_reason length", "pair", "2"], ["an empty answer", "entities", "1"]]
    assert page.table("documents")[1:] == [
        ["D", "2", "1 of 1", "100%", "2", "20", "2"],
        ["E", "0", "0 of 0", "–", "0", "0", "1"],
        ["all", "2", "1 of 1", "100%", "2", "20", "3"],
    ]
    assert "1 without a text" in page.said
    cost = dict(page.table("cost"))
    assert cost["prompt tokens"] == "90,000" and cost["cached prompt tokens"] == "45,000 (50.0%)"
    assert cost["completion tokens"] == "8,000" and cost["dollars"] == "1.2500"
    assert cost["dollars per million text tokens"] == "62,500.00"
    assert page.table("near-duplicates")[1] == ["t15", "t0", "95%"] and len(page.table("near-duplicates")) == 11
    assert "15 texts share at least 80%" in page.said


def test_report_of_rephrasings(tmp_path: Path) -> None:
    page, texts, _ = synthesized(tmp_path, Rephrase(rounds=2), None)
    assert page.table("documents")[0] == ["document", "rephrase easy", "rephrase medium", "rephrase hard", "tokens"]
    assert [row[1:4] for row in page.table("documents")[1:]] == [["2", "2", "2"]] * 3 + [["6", "6", "6"]]
    assert page.texts(1) == [item.text for item in texts if item.document_id == "chronicle-001"]
    assert "entities" not in page.said and not page.tree.xpath("//@data-edges")


def hostile(tmp_path: Path) -> Page:
    other = HOSTILE + "2"
    graph = EntityGraph(document_id=HOSTILE, summary=HOSTILE, entities=[HOSTILE, other])
    failures = [Failure(document_id=HOSTILE, kind=HOSTILE, about=(), reason=HOSTILE, response=HOSTILE)]
    texts = [text(HOSTILE, HOSTILE, other, body=HOSTILE)]
    return write_report(tmp_path, [Document(id=HOSTILE, title=HOSTILE, text=HOSTILE)], [graph], texts, failures)


def test_report_escapes_documents_and_answers(tmp_path: Path) -> None:
    page = hostile(tmp_path)
    (script,) = page.tree.iter("script")
    digest = b64encode(sha256(script.text.encode()).digest()).decode()
    (policy,) = page.tree.xpath("//meta[@http-equiv]/@content")
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert "document.title" not in script.text
    assert not [*page.tree.iter("img", "link", "iframe")]
    assert not [name for item in page.tree.iter() for name in item.attrib if name.startswith("on") or name == "src"]
    assert page.texts(0) == [HOSTILE] and page.entities(0)[0][0] == HOSTILE
    assert page.table("documents")[1][0] == HOSTILE == page.table("failures")[1][0]


def test_report_is_self_contained_and_reproducible(tmp_path: Path) -> None:
    page, _, counts = synthesized(tmp_path, EntiGraph(triples_per_document=3), 3_000)
    rerun = synthesis_report.write(
        tmp_path / "out", tmp_path / "corpus", counts, name="fictional", rules=Synthesis(token_budget=3_000)
    )
    assert rerun.read_text(encoding="utf-8") == page.source
    assert str(tmp_path) not in page.source
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import", page.source)


def test_report_size_is_limited(tmp_path: Path) -> None:
    graphs = [EntityGraph(document_id=f"{n}", summary="", entities=[f"E{e}" for e in range(50)]) for n in range(20)]
    body = "<" * 1_000  # four times as long where it is escaped
    pairs = list(combinations(graphs[0].entities, 2))[:500]
    texts = (text(graph.document_id, *pair, body=body) for pair in pairs for graph in graphs)
    page = write_report(tmp_path, [Document(id=f"{n}", title=f"T{n}", text="") for n in range(20)], graphs, texts)
    assert len(page.source.encode()) < synthesis_report.TEXT_BYTES + 600_000
    embedded = [len(page.texts(number)) for number in range(20)]
    assert max(embedded) - min(embedded) <= 1 and 700 < sum(embedded) <= 750
    assert f"{sum(embedded)} of 10,000 texts are on this page" in page.said
    assert f"500 texts, {embedded[0]} of them on this page" in page.said
    assert f"{500 - embedded[0]} more of its texts are in texts-*.parquet" in page.said
    assert page.table("documents")[-1][1:3] == ["1,000", "10,000 of 24,500"]
    assert sum(page.edges(7).values()) == 500


def test_graphs_beyond_the_limits_are_counted_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis_report, "PAIRS_SHOWN", 7)
    monkeypatch.setattr(synthesis_report, "DOCUMENTS_SHOWN", 3)
    graphs = [EntityGraph(document_id=f"{n}", summary="", entities=["Ada", "Bo", "Cy"]) for n in range(5)]
    texts = [text(f"{n}", "Ada", "Bo") for n in range(5)] * 2
    page = write_report(tmp_path, [Document(id=f"{n}", title=f"T{n}", text="") for n in range(5)], graphs, texts)
    assert len(list(page.tree.iter("section"))) == 2 and "2 of 5 documents or parts are drawn" in page.said
    assert [row[:3] for row in page.table("documents")[3:]] == [
        ["T2", "3", "1 of 3"],
        ["2 more documents", "6", "2 of 6"],
        ["all", "15", "5 of 15"],
    ]


def test_every_written_synthesis_has_a_report(smoke: Path) -> None:
    folders = {folder.name.rsplit("-", 1)[0]: folder for folder in (smoke / "synthesis").iterdir() if folder.is_dir()}
    for name, folder in folders.items():
        files = json.loads((folder / "manifest.json").read_text())["files"]
        assert ("report.html" in files) == (folder / "report.html").exists() == (not name.endswith("raw")), name


@needs_chromium
def test_report_in_a_browser(tmp_path: Path) -> None:
    profile = tmp_path / "browser"
    page, _, _ = synthesized(tmp_path, EntiGraph(), 9_000)
    tree = render_page(tmp_path / "out" / "report.html", profile, "#view-1")
    assert [item.get("id") for item in tree.iter("section") if item.get("hidden") is None] == ["view-1"]
    lines = tree.xpath("//section[@id='view-1']//*[@class='rest']/path/@d")
    assert sum(item.count("M") for item in lines) == len(page.edges(1))
    nodes = tree.xpath("//section[@id='view-1']//*[@class='node']/@aria-label")
    assert nodes == [f"{name}, {count} text{'s' * (count != '1')}" for name, count, _ in page.entities(1)]
    (tmp_path / "hostile").mkdir()
    hostile(tmp_path / "hostile")
    tree = render_page(tmp_path / "hostile" / "report.html", profile)
    assert len(list(tree.iter("script"))) == 1 and not list(tree.iter("img"))
    assert tree.xpath("//*[@class='node']/title/text()")[0] == HOSTILE
