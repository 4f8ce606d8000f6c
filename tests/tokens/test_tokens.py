import random
from pathlib import Path

import numpy as np
import pytest

from entigraph.errors import ArtifactError, ConfigError
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization import stage
from entigraph.tokenization.tokenizer import Bytes, Pretrained, Tokenizer, Trained
from tests.conftest import write_shards


def a_text(number: int) -> SyntheticText:
    words = " ".join(f"word{number}" for _ in range(5 + number % 7))
    return SyntheticText(
        id=f"t{number}",
        document_id="d",
        augmenter="a",
        kind="pair",
        about=("x", "y"),
        sample=0,
        text=words,
        writer="w",
        prompt_hash="",
        tokens=len(words) + 2,  # in bytes, the space before and the separator
    )


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_texts(folder, (a_text(number) for number in range(60)))
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "bytes"
    folder.mkdir()
    Bytes().make(folder)
    return folder


def tokenize(
    texts: Path, tokenizer: Path, out: Path, budget: int | None, seed: int = 0, repeat: bool = False
) -> TokenStore:
    out.mkdir()
    counts = stage.run(texts, tokenizer, out, budget=budget, repeat=repeat, seed=seed, progress=SilentProgress())
    store = TokenStore(out)
    assert counts["synthetic_tokens"] == len(store)
    return store


def test_budgets_are_nested_prefixes_of_whole_texts(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    whole = tokenize(texts, tokenizer, tmp_path / "all", None)
    everything = whole.read(0, len(whole))
    previous = 0
    for budget in (300, 1000, 2500):
        store = tokenize(texts, tokenizer, tmp_path / str(budget), budget)
        assert previous < len(store) <= budget
        assert (store.read(0, len(store)) == everything[: len(store)]).all()
        ends = np.load(tmp_path / str(budget) / "document-ends.npy")
        assert ends[-1] == len(store) and (everything[ends[:-1]] == 256).all(), "every text begins with the separator"
        previous = len(store)


def test_the_seed_draws_the_order_without_replacement(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    one, other = (tokenize(texts, tokenizer, tmp_path / str(seed), None, seed) for seed in (1, 2))
    assert len(one) == len(other)
    assert not (one.read(0, len(one)) == other.read(0, len(other))).all()
    assert sorted(one.read(0, len(one))) == sorted(other.read(0, len(other)))


def test_raw_documents_repeat_up_to_the_budget(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    once = len(tokenize(texts, tokenizer, tmp_path / "once", None))
    store = tokenize(texts, tokenizer, tmp_path / "more", 3 * once, repeat=True)
    assert 2.9 * once < len(store) <= 3 * once


def test_a_budget_beyond_the_texts_or_below_the_first_is_refused(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"100,000 tokens asked for; .* holds 3,"):
        tokenize(texts, tokenizer, tmp_path / "many", 100_000)
    with pytest.raises(ConfigError, match="do not hold even the first text"):
        tokenize(texts, tokenizer, tmp_path / "few", 3)


def test_shards_read_as_one_sequence_in_a_circle(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [[rng.randrange(1000) for _ in range(rng.randrange(1, 40))] for _ in range(50)]
    write_shards(tmp_path, texts, tokens_a_shard=100)
    flat = [token for ids in texts for token in ids]
    store = TokenStore(tmp_path)
    assert len(list(tmp_path.glob("shard-*.bin"))) > 5
    assert store.read(0, len(store)).tolist() == flat
    assert store.read(len(flat) - 7, 20).tolist() == flat[-7:] + flat[:13]
    assert store.read(95, 30).tolist() == flat[95:125]


def test_a_truncated_shard_is_named(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    tokenize(texts, tokenizer, tmp_path / "out", None)
    shard = tmp_path / "out" / "shard-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"shard-00000.bin has .* bytes, not the"):
        TokenStore(tmp_path / "out")


@pytest.mark.parametrize("source", [Bytes(), Trained(vocabulary=400, worlds=3)], ids=["bytes", "trained"])
def test_any_text_survives_the_round_trip(source: Bytes | Trained, tmp_path: Path) -> None:
    source.make(tmp_path)
    tokenizer = Tokenizer(tmp_path)
    for text in ("plain", "naïve café — “quoted”", "日本語 🙂", "tab\tnewline\n  spaces"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text.strip()
        assert tokenizer.count(text) == len(tokenizer.batch([text]).ids)


def test_transformers_opens_what_we_write_and_agrees(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    Trained(vocabulary=400, worlds=3).make(tmp_path)
    theirs, ours = AutoTokenizer.from_pretrained(str(tmp_path)), Tokenizer(tmp_path)
    text = "The Fonda Guild had its base in Yuda."
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
    assert len(theirs) == ours.vocabulary


def test_a_pretrained_tokenizer_keeps_its_separators(tiny_model: Path, tmp_path: Path) -> None:
    for number, (bos, eos) in enumerate(((True, True), (True, False), (False, False))):
        (tmp_path / str(number)).mkdir()
        Pretrained(path=str(tiny_model), add_bos=bos, add_eos=eos).make(tmp_path / str(number))
        ids = Tokenizer(tmp_path / str(number)).batch(["the document"]).ids
        assert (ids[0] == 0, ids[-1] == 1) == (bos, eos)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        Pretrained(path=str(tmp_path)).sources()
