"""Documents in Chinese, Japanese and Arabic, from synthesis and questions to mentions, duplicates and retrieval."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Synthesis
from entigraph.evaluation.entity_mentions import QuestionKey, TrainingTexts, count_mentions
from entigraph.llm.response_cache import response_cache_path
from entigraph.questions import stage as questions_stage
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.retrieval import stage as retrieval_stage
from entigraph.retrieval.bm25 import BM25
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, EntityGraph, NearDuplicate, Passage, Question, Ranking
from entigraph.storage.texts import read_texts
from entigraph.synthesis import stage as synthesis_stage
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.document_parts import split_document
from entigraph.text.languages import OWN_LANGUAGE
from tests.evaluation.scripted_server import scripted


@dataclass(frozen=True)
class Language:
    title: str
    sentences: list[str]
    entities: list[str]
    question: str
    options: list[str]  # the first is right
    evidence: str
    filler: list[str]  # sentences of different texts

    @property
    def text(self) -> str:
        return "\n\n".join("".join(f"{sentence} " for sentence in self.sentences).strip() for _ in range(4))


LANGUAGES = {
    "Chinese": Language(
        "奥斯克的灯",
        [
            "李明是奥斯克港的守灯人。",
            "每年冬天，他都住在蓝磨坊里。",
            "托比给他送来灯油和面包。",
            "一九三一年，白鹤号在礁石旁沉没。",
        ],
        ["李明", "蓝磨坊", "托比", "白鹤号"],
        "白鹤号在哪里沉没？",
        ["礁石旁", "蓝磨坊里", "河口", "港口外"],
        "白鹤号在礁石旁沉没",
        ["那年的雪下得很大。", "磨坊后来被卖掉了。", "人们记得那盏灯。", "渔夫们从不忘记他。"],
    ),
    "Japanese": Language(
        "オルスクの灯",
        [
            "李明はオルスク港の灯台守である。",
            "毎年の冬、彼は青い水車小屋に住んだ。",
            "トビは彼に油とパンを届けた。",
            "一九三一年、白鶴丸は岩礁のそばで沈んだ。",
        ],
        ["李明", "青い水車小屋", "トビ", "白鶴丸"],
        "白鶴丸はどこで沈んだか。",
        ["岩礁のそば", "水車小屋の中", "河口", "港の外"],
        "白鶴丸は岩礁のそばで沈んだ",
        ["その年は雪が多かった。", "小屋はのちに売られた。", "人々はその灯を覚えている。", "漁師は彼を忘れない。"],
    ),
    "Arabic": Language(
        "مصباح أورسك",
        [
            "كانت مريم حارسة المصباح في ميناء أورسك.",
            "في كل شتاء كانت تسكن في الطاحونة الزرقاء.",
            "حمل إليها طوبيا الزيت والخبز.",
            "في عام 1931 غرقت السفينة النورس قرب الصخور.",
        ],
        ["مريم", "الطاحونة الزرقاء", "طوبيا", "النورس"],
        "أين غرقت السفينة النورس؟",
        ["قرب الصخور", "في الطاحونة", "عند النهر", "في الميناء"],
        "غرقت السفينة النورس قرب الصخور",
        [
            "كان الثلج كثيرا في ذلك العام.",
            "بيعت الطاحونة بعد ذلك.",
            "ما زال الناس يذكرون المصباح.",
            "لم ينسها الصيادون.",
        ],
    ),
}


def answer(language: Language, body: dict[str, Any]) -> list[str]:
    """Answers each kind of request as a writer would: entities, texts, questions and checks."""
    system, user = (message["content"] for message in body["messages"])
    if "### Question" in user:
        right = re.search(rf"^([A-D])\. {re.escape(language.options[0])}$", user, re.MULTILINE)
        assert right
        return [json.dumps({"right": [right[1]]})]
    if "### Task" in user:
        draft = {"question": language.question, "right": language.options[0], "wrong": language.options[1:]}
        return [json.dumps({"questions": [{**draft, "kind": "stated", "evidence": language.evidence}]})]
    if system.startswith("List the entities"):
        entities = [*language.entities, f"- {language.entities[0]}"]
        return [json.dumps({"summary": language.sentences[0], "entities": entities}, ensure_ascii=False)]
    about = re.findall(r"^- (.+)$", user, re.MULTILINE)
    draw = int(hashlib.sha256(user.encode()).hexdigest(), 16) % 1_000_000  # makes the texts different
    return [
        "".join(f"{name} {draw + number}: {text} " for name in about for number, text in enumerate(language.filler))
    ]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_documents_in_other_languages(language: Language, tmp_path: Path) -> None:
    corpus, synthesis, questions, retrieval = (tmp_path / name for name in ("c", "s", "q", "r"))
    for folder in (corpus, synthesis, questions, retrieval):
        folder.mkdir()
    document = Document(id="d", title=language.title, text=language.text)
    decoy = Document(id="other", title="x", text=language.filler[0] * 3)
    write_jsonl(corpus / "documents.jsonl", [document])
    with scripted(lambda body: answer(language, body)) as server:
        writer = server.model(concurrency=1)
        with writer.connect(response_cache_path(tmp_path)) as llm:
            counts = synthesis_stage.run(
                corpus,
                synthesis,
                augmenter=EntiGraph(triples_per_document=0),
                llm=llm,
                count_tokens=len,
                rules=Synthesis(token_budget=None),
            )
            settings = GeneratedQuestions(per_document=1, unknown_to_writer=False, cite_document=True)
            questions_stage.generate(corpus, questions, settings=settings, llm=llm)
        texts_requests = [body["messages"] for _, body in server.requests]
    assert all(OWN_LANGUAGE in " ".join(message["content"] for message in messages) for messages in texts_requests)

    (graph,) = read_jsonl(synthesis / "graphs.jsonl", EntityGraph)
    assert graph.entities == language.entities and graph.merged == {language.entities[0]: [f"- {language.entities[0]}"]}
    texts = list(read_texts(synthesis))
    assert len(texts) == 6 and counts["entities_merged"] == 1 and counts["failures"] == {}
    assert list(read_jsonl(synthesis / "near_duplicates.jsonl", NearDuplicate)) == []

    (question,) = read_jsonl(questions / "questions.jsonl", Question)
    assert question.text == f"{language.title}: {language.question}", "no English words are added"
    key = QuestionKey("d", question.text, f"{language.entities[3]}")
    mentions = count_mentions([key], TrainingTexts(lambda: iter(texts), [graph]))[key]
    assert mentions.answer_mentions == sum(language.entities[3] in text.about for text in texts) == 3

    write_jsonl(corpus / "documents.jsonl", [decoy, document])
    asked = [Question(id="q", document_id="d", text=language.question, choices=language.options, answer=0, group="all")]
    retrieval_stage.run(
        corpus / "documents.jsonl",
        asked,
        retrieval,
        retriever=BM25(characters=60),
        embedding_cache=tmp_path / "vectors.sqlite",
        response_cache=response_cache_path(tmp_path),
    )
    (ranking,) = read_jsonl(retrieval / "rankings.jsonl", Ranking)
    passages = list(read_jsonl(retrieval / "passages.jsonl", Passage))
    assert language.evidence in passages[ranking.passages[0]].text

    parts = split_document(document, 100)
    assert len(parts) > 1 and all(part.text.rstrip()[-1] in "。.؟" for part in parts), "parts end with a sentence"


def test_near_duplicates_in_other_languages(tmp_path: Path) -> None:
    language = LANGUAGES["Chinese"]
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    out.mkdir()
    write_jsonl(corpus / "documents.jsonl", [Document(id="d", title=language.title, text=language.text)])
    with (
        scripted(lambda body: ["".join(language.sentences * 3) + str(body["seed"] % 7)]) as server,
        server.model().connect(response_cache_path(tmp_path)) as llm,
    ):
        counts = synthesis_stage.run(
            corpus,
            out,
            augmenter=Rephrase(styles=["medium"], rounds=4),
            llm=llm,
            count_tokens=len,
            rules=Synthesis(token_budget=None),
        )
    assert counts["near_duplicates"] == 3
