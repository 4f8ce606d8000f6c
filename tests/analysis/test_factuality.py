"""Judged sentences: by rules on fictional documents, and by a mock server that fails in every way."""

import csv
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entigraph.analysis.factuality.factuality import Factuality, measure_factuality, summarize_verdicts
from entigraph.analysis.factuality.judge_agreement import measure_agreement
from entigraph.analysis.factuality.sentences import sample_sentences, split_sentences
from entigraph.analysis.factuality.verdicts import Verdict, parse_verdict, read_judgment
from entigraph.analysis.written_corpus import WrittenCorpus
from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.fictional.reading import comprehend
from entigraph.fictional.world import NamePool, worlds
from entigraph.fictional.writing import ask_and_answer, relate, restate, source_document
from entigraph.llm.base import Completion
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.tokenization.builders import ByteTokenizer
from tests.analysis.corpora import make_corpus, texts_about
from tests.analysis.studies import make_context
from tests.conftest import Command
from tests.mock_llm_server import Config, running

OFFLINE = OfflineWriter()
PAID = {"mock-llm": {"prompt": 1000.0, "completion": 1000.0}}


def mock_judge(server: Any, **options: Any) -> OpenAIWriter:
    given: dict[str, Any] = {
        "model": "mock-llm",
        "timeout_s": 60.0,
        "attempts": 2,
        **options,
    }
    return OpenAIWriter(base_url=server.base_url, **given)


def write_fictional(folder: Path, wrong: float = 0.0, count: int = 3) -> WrittenCorpus:
    """Writes texts of the offline writer's grammar; in a share of them two names are swapped."""
    rng = random.Random(0)
    documents, texts = {}, []
    for number, world in enumerate(worlds(count, NamePool.target, 0)):
        documents[f"d{number}"] = source_document(world, rng)
        reading = comprehend(documents[f"d{number}"])
        assert reading
        for _ in range(20):
            one, other = rng.sample(world.people, 2)
            new_texts = [relate(reading.facts, rng.sample(world.entities, 3), rng), restate(reading, rng, (0, 1, 2, 3))]
            for text in [*new_texts, ask_and_answer(reading, rng)]:
                if rng.random() < wrong:
                    text = text.replace(one, "*").replace(other, one).replace("*", other)
                texts.append((f"d{number}", "triple", text))
    folder.mkdir()
    ByteTokenizer().build(folder)
    return make_corpus(folder / "c", documents, texts_about(texts, about=("a", "b", "c")), folder)


@pytest.fixture
def corpus(tmp_path: Path) -> WrittenCorpus:
    return write_fictional(tmp_path / "fictional")


@pytest.fixture
def server() -> Iterator[Any]:
    with running(Config(latency_s=0.0, output_tokens=40)) as server:
        yield server


def judge(settings: Factuality, corpus: WrittenCorpus, out: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    measure_factuality(settings, [corpus], make_context(out), out)
    result: dict[str, Any] = json.loads((out / "factuality.json").read_text())
    return result


def first_row(result: dict[str, Any], judge: str = "judge") -> dict[str, Any]:
    row: dict[str, Any] = result["judges"][judge]["rows"][0]
    return row


def test_offline_judge_supports_every_sentence_of_the_grammar(corpus: WrittenCorpus, tmp_path: Path) -> None:
    row = first_row(judge(Factuality(judge=OFFLINE, sentences=5000), corpus, tmp_path / "out"))
    assert row["no_verdict"] == 0 and row["sentences"] > 3000
    assert row["supported"]["value"] == 1.0 and 0 < row["subjective"]["value"] < 0.5


def test_offline_judge_rejects_swapped_names(tmp_path: Path) -> None:
    row = first_row(
        judge(Factuality(judge=OFFLINE, sentences=5000), write_fictional(tmp_path / "f", 1.0), tmp_path / "o")
    )
    assert row["no_verdict"] == 0 and 0.5 < row["supported"]["value"] < 0.9, "sentences about others stay true"


def test_offline_judge_has_no_verdict_on_other_english(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    ByteTokenizer().build(folder)
    documents = {"d": "The moon is a stone. It was never cheese."}
    other = make_corpus(folder / "c", documents, texts_about([("d", "pair", "The moon is made of stone.")]), folder)
    result = judge(Factuality(judge=OFFLINE), other, tmp_path / "out")
    assert result["judges"]["judge"]["no_verdict"] == {"unreadable": 1}
    assert first_row(result)["supported"]["value"] is None and first_row(result)["supported_bounds"] == [0.0, 1.0]


def test_sample_is_seeded_and_uniform(corpus: WrittenCorpus) -> None:
    one, total = sample_sentences([corpus], 200, 0)
    assert sample_sentences([corpus], 200, 0)[0] == one and sample_sentences([corpus], 200, 1)[0] != one
    assert {item.id for item in sample_sentences([corpus], 50, 0)[0]} < {item.id for item in one}, (
        "a smaller sample is part of a larger one"
    )
    assert len({item.id for item in one}) == 200 < total
    shares_drawn = Counter(item.document_id for item in one)
    assert min(shares_drawn.values()) > 40, "three documents of about a third each"


def test_sentence_boundaries() -> None:
    text = 'Dr. A. Lee met "Bob." He left the town at 5.30 p.m. sharp!\n\n## A title\n1. It was late; nobody saw him.'
    assert [sentence for _, sentence in split_sentences(text)] == [
        'Dr. A. Lee met "Bob."',
        "He left the town at 5.30 p.m. sharp!",
        "## A title",
        "It was late; nobody saw him.",
    ]
    assert all(text[start:].startswith(sentence) for start, sentence in split_sentences(text))


@pytest.mark.parametrize(
    "text, verdict",
    [
        ('{"reason": "x", "verdict": "supported"}', Verdict.supported),
        ('```json\n{"verdict": " Unsupported "}\n```', Verdict.unsupported),
        ("supported", None),
        ('{"verdict": "maybe"}', None),
        ('{"verdict": ["supported"]}', None),
        ('{"verdict"', None),
        ("[]", None),
    ],
)
def test_parse_verdict(text: str, verdict: Verdict | None) -> None:
    assert parse_verdict(text) is verdict


@pytest.mark.parametrize(
    "fault, reason",
    [("refusal", "refused"), ("baditem", "unreadable"), ("length", "cut off"), ("poison", "error: HTTP 400")],
)
def test_missing_verdicts_are_counted_by_reason(
    corpus: WrittenCorpus, server: Any, tmp_path: Path, fault: str, reason: str
) -> None:
    server.configure(**{f"rate_{fault}": 0.5, "output_tokens": 12})
    result = judge(Factuality(judge=mock_judge(server), sentences=40), corpus, tmp_path / "out")
    missing, row = result["judges"]["judge"]["no_verdict"], first_row(result)
    assert set(missing) == {reason} and 5 < missing[reason] == row["no_verdict"]
    assert row["sentences"] == 40 == row["no_verdict"] + row["subjective"]["of"]
    low, high = row["supported_bounds"]
    assert low < row["supported"]["value"] < high
    answers = [json.loads(line) for line in (tmp_path / "out" / "judgments-judge.jsonl").open()]
    assert sum(item["missing"] == reason and item["verdict"] is None for item in answers) == missing[reason]


def test_unavailable_judge_stops_the_analysis_and_answers_are_cached(
    corpus: WrittenCorpus, server: Any, tmp_path: Path
) -> None:
    settings = Factuality(judge=mock_judge(server, max_cost_usd=None, concurrency=4), sentences=30)
    server.configure(rate_500=0.6)
    with pytest.raises(LLMError, match="without an answer|stopped answering"):
        judge(settings, corpus, tmp_path / "out")
    assert not (tmp_path / "out" / "factuality.json").exists()
    server.configure(rate_500=0.0)
    assert first_row(judge(settings, corpus, tmp_path / "out"))["no_verdict"] == 0
    assert server.stats()["duplicates"] == 0 and server.stats()["ok"] == 30


def test_cost_limit_stops_the_judge_and_a_higher_limit_continues(
    corpus: WrittenCorpus, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marked-0123456789abcdef")

    def limited(dollars: float) -> Factuality:
        key = {"api_key_env": "OPENAI_API_KEY"}
        options = mock_judge(server, max_cost_usd=dollars, concurrency=1, prices=PAID, **key)
        return Factuality(judge=options, sentences=12)

    with pytest.raises(LLMError, match="max_cost_usd"):
        judge(limited(8.0), corpus, tmp_path / "out")
    before = server.stats()["ok"]
    assert 0 < before < 12
    judge(limited(1000.0), corpus, tmp_path / "out")
    assert server.stats()["ok"] == 12 and server.stats()["duplicates"] == 0
    assert limited(1.0).cache_key == limited(2.0).cache_key
    assert all("sk-marked" not in file.read_text() for file in (tmp_path / "out").glob("*.json*"))


def test_labels_of_a_person_and_two_judges_are_compared(corpus: WrittenCorpus, server: Any, tmp_path: Path) -> None:
    settings = Factuality(judge=OFFLINE, second=mock_judge(server), sentences=60)
    judge(settings, corpus, tmp_path / "out")
    with (tmp_path / "out" / "to_label.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    judgments = [json.loads(line) for line in (tmp_path / "out" / "judgments-judge.jsonl").open()]
    verdicts = {judgment["sentence_id"]: judgment["verdict"] for judgment in judgments}
    labeled = tmp_path / "labeled.csv"
    with labeled.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        for number, line in enumerate(lines):
            verdict = verdicts[line["id"]] if number else "unsupported"
            writer.writerow({**line, "verdict": verdict.upper() if number < 50 else ""})
    result = judge(Factuality(**{**vars(settings), "labels": str(labeled)}), corpus, tmp_path / "out")
    assert first_row(result, "person")["no_verdict"] == 10
    pairs = {(one["one"], one["other"]): one for one in result["agreement"]}
    assert pairs["judge", "person"]["compared"] == 50 and pairs["judge", "person"]["agreed"] == 0.98
    assert 0.9 < pairs["judge", "person"]["kappa"] < 1 and abs(pairs["judge", "second"]["kappa"]) < 0.3
    assert server.stats()["ok"] == 60, "the answers of the second judge are cached"
    for text, message in (("id,verdict\nnobody,supported\n", "not of this sample"),
                          (f"id,verdict\n{lines[0]['id']},perhaps\n", "got 'perhaps'"),
                          (f"id,verdict\n{lines[0]['id']},\n{lines[0]['id']},\n", "labeled twice")):  # fmt: skip
        labeled.write_text(text)
        with pytest.raises(DataError, match=message):
            judge(Factuality(**{**vars(settings), "labels": str(labeled)}), corpus, tmp_path / "out")


def test_kappa_matches_manual_calculation() -> None:
    yes, no = Verdict.supported, Verdict.unsupported
    first = [yes] * 25 + [no] * 25 + [None]
    second = [yes] * 20 + [no] * 5 + [yes] * 10 + [no] * 15 + [yes]
    agreement = measure_agreement("a", "b", first, second)
    assert agreement["compared"] == 50 and agreement["agreed"] == 0.7
    assert agreement["kappa"] == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert (
        measure_agreement("a", "b", [yes], [yes])["kappa"] is None
        and measure_agreement("a", "b", [None], [yes])["agreed"] is None
    )


def test_interval_has_its_stated_coverage() -> None:
    rng = random.Random(0)
    held = 0
    for _ in range(1000):
        verdicts = [Verdict.supported if rng.random() < 0.944 else Verdict.unsupported for _ in range(70)]
        low, high = summarize_verdicts(verdicts, 0.95)["supported"]["interval"]
        held += low <= 0.944 <= high
    assert 0.93 < held / 1000 < 0.98


def test_invalid_options_are_errors(tmp_path: Path) -> None:
    for wrong in ({"judge": {}}, {"sentences": 0}, {"confidence": 1.0}, {"labels": str(tmp_path / "none.csv")}):
        with pytest.raises(ConfigError, match="analysis"):
            Factuality(**{"judge": OFFLINE, **wrong})
    with pytest.raises(ConfigError, match="analysis.second"):
        Factuality(judge=OFFLINE, second="nowhere")


def test_empty_answer_states_its_reason(corpus: WrittenCorpus) -> None:
    (sentence,), _ = sample_sentences([corpus], 1, 0)
    judgment = read_judgment(sentence, "j", Completion(text=" ", model="m"))
    assert (judgment.verdict, judgment.missing) == (None, "empty")


def test_command_judges_a_finished_study_with_two_judges(
    smoke: Path, command: Command, server: Any, tmp_path: Path
) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    process = command(
        "analyze", "experiments=smoke", "analysis=factuality", f"paths.root={root}", "logger=none",
        "analysis.sentences=20", "llm@analysis.second=openai", "analysis.second.model=mock-llm",
        f"analysis.second.base_url={server.base_url}",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    (folder,) = (root / "analysis").glob("factuality-*")
    result = json.loads((folder / "factuality.json").read_text())
    assert "simulated" in result["judges"]["judge"]["name"] and result["judges"]["second"]["name"] == "mock-llm"
    assert server.stats()["ok"] == 40 and "Cohen's kappa" in process.stdout


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("陈岚在春天点亮了灯塔。她每天晚上都守着它！", ["陈岚在春天点亮了灯塔。", "她每天晚上都守着它！"]),
        ("Она зажгла маяк весной. она хранила его до зимы.", ["Она зажгла маяк весной.", "она хранила его до зимы."]),
        ("أشعلت المنارة في الربيع. وحرستها كل ليلة؟", ["أشعلت المنارة في الربيع.", "وحرستها كل ليلة؟"]),
        ("She lit it in 1901. Mr. Vale kept it.", ["She lit it in 1901.", "Mr. Vale kept it."]),
    ],
)
def test_sentences_of_any_script(text: str, sentences: list[str]) -> None:
    found = list(split_sentences(text))
    assert [sentence for _, sentence in found] == sentences
    assert all(text[start:].lstrip().startswith(sentence) for start, sentence in found)
