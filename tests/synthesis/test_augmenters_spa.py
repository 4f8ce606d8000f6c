"""SPA: options, the texts of the offline writer, and the augmenter as a package outside the source tree."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from entigraph.corpus import stage as corpus_stage
from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.errors import ConfigError
from entigraph.fictional.fact_checking import Truth, check_truth
from entigraph.fictional.reading import comprehend
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters import spa
from entigraph.synthesis.augmenters.spa import KINDS, SPA
from entigraph.synthesis.base import BUILT_IN_PROMPTS
from tests.conftest import Command
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    corpus_stage.run(FictionalCorpus(documents=3), folder)
    return folder


def test_each_round_has_every_kind_of_every_document(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    texts, _ = synthesize(corpus, tmp_path / "out", SPA(rounds=2), writer)
    assert len(texts) == len(writer.requests) == 2 * 3 * 7
    assert [len({text.document_id for text in texts[start : start + 3]}) for start in range(0, 42, 3)] == [3] * 14
    assert Counter(text.kind for text in texts) == dict.fromkeys(KINDS, 6)
    assert len({text.text for text in texts}) == 42, "samples differ"


def test_offline_texts_state_only_facts_of_the_document(corpus: Path, tmp_path: Path) -> None:
    texts, _ = synthesize(corpus, tmp_path / "out", SPA(rounds=1), OfflineWriter())
    documents = {document.id: document for document in read_jsonl(corpus / "documents.jsonl", Document)}
    stated = Counter[Truth | None]()
    for text in texts:
        reading = comprehend(documents[text.document_id].text)
        assert reading
        for line in text.text.splitlines():
            for sentence in line.removeprefix("  - ").replace(". ", ".\n").splitlines():
                stated[check_truth(sentence, "", reading)] += 1
    assert stated[Truth.false] == 0 and stated[Truth.true] > 500


def test_unknown_and_repeated_kinds_raise() -> None:
    for kinds in (["spa_poem"], [], ["spa_lesson", "spa_lesson"]):
        with pytest.raises(ConfigError, match=r"augmenter.kinds must be some of spa_concepts"):
            SPA(kinds=kinds)
    with pytest.raises(ConfigError, match=r"augmenter.rounds must be at least 1, got 0"):
        SPA(rounds=0)


def test_augmenter_works_as_a_package_outside_the_tree(command: Command, tmp_path: Path) -> None:
    """The module is moved as it is, with its prompts; the offline writer finds its tasks there."""
    package = tmp_path / "mylab"
    (package / "prompts").mkdir(parents=True)
    (package / "__init__.py").touch()
    source = Path(spa.__file__).read_text(encoding="utf-8").replace("Explain the key concepts", "List the main ideas")
    (package / "moved.py").write_text(source.replace('"explain the key concepts"', '"list the main ideas"'))
    for kind in KINDS:
        shutil.copy(BUILT_IN_PROMPTS / f"{kind}.txt", package / "prompts")
    prompt = package / "prompts" / "spa_concepts.txt"
    prompt.write_text(prompt.read_text().replace("Explain the key concepts", "List the main ideas"))
    options = ["augmenter=spa", "augmenter._target_=mylab.moved.SPA", "corpus.documents=1", "logger=none"]
    for stage in ("corpus", "synthesis"):
        result = command(*options, f"stage={stage}", "synthesis.token_budget=3000", "tokenizer=bytes")
        assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("outputs/synthesis/fictional-spa-*/texts-*.parquet"))
