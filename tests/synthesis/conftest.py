"""What the tests of augmenters share."""

from pathlib import Path

import pytest

from entigraph.corpus import stage as corpus_stage
from entigraph.corpus.readers.fictional_corpora import FictionalCorpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Returns the folder of a corpus of two fictional documents."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    corpus_stage.run(FictionalCorpus(documents=2), folder)
    return folder
