import random
from pathlib import Path

import numpy as np
import pytest

from entigraph.errors import ArtifactError, ConfigError
from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.storage.token_shards import TokenStore
from entigraph.tokenization import stage
from entigraph.tokenization.builders import ByteTokenizer, PretrainedTokenizer, TrainedTokenizer
from entigraph.tokenization.text_selection import TextSelection
from entigraph.tokenization.tokenizer import Tokenizer
from tests.conftest import write_shards


def make_text(number: int) -> SyntheticText:
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
    write_texts(folder, (make_text(number) for number in range(60)))
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "bytes"
    folder.mkdir()
    ByteTokenizer().build(folder)
    return folder


def tokenize(
    texts: Path, tokenizer: Path, out: Path, budget: int | None, seed: int = 0, repeat: bool = False
) -> TokenStore:
    out.mkdir()
    counts = stage.run(texts, tokenizer, out, TextSelection(budget, repeat, seed))
    store = TokenStore(out)
    assert counts["synthetic_tokens"] == len(store)
    return store


def test_smaller_budget_is_prefix_of_larger(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    full = tokenize(texts, tokenizer, tmp_path / "all", None)
    all_tokens = full.read(0, len(full))
    previous = 0
    for budget in (300, 1000, 2500):
        store = tokenize(texts, tokenizer, tmp_path / str(budget), budget)
        assert previous < len(store) <= budget
        assert (store.read(0, len(store)) == all_tokens[: len(store)]).all()
        ends = np.load(tmp_path / str(budget) / "document-ends.npy")
        assert ends[-1] == len(store) and (all_tokens[ends[:-1]] == 256).all(), "every text begins with the separator"
        previous = len(store)


def test_seed_determines_order(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    one, other = (tokenize(texts, tokenizer, tmp_path / str(seed), None, seed) for seed in (1, 2))
    assert len(one) == len(other)
    assert not (one.read(0, len(one)) == other.read(0, len(other))).all()
    assert sorted(one.read(0, len(one))) == sorted(other.read(0, len(other)))


def test_repeat_fills_budget(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    once = len(tokenize(texts, tokenizer, tmp_path / "once", None))
    store = tokenize(texts, tokenizer, tmp_path / "more", 3 * once, repeat=True)
    assert 2.9 * once < len(store) <= 3 * once


def test_impossible_budgets_raise(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"100,000 tokens asked for; .* holds 3,"):
        tokenize(texts, tokenizer, tmp_path / "many", 100_000)
    with pytest.raises(ConfigError, match="are fewer than the first text has"):
        tokenize(texts, tokenizer, tmp_path / "few", 3)


def test_shards_read_as_one_circular_sequence(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [[rng.randrange(1000) for _ in range(rng.randrange(1, 40))] for _ in range(50)]
    write_shards(tmp_path, texts, tokens_a_shard=100)
    flat = [token for ids in texts for token in ids]
    store = TokenStore(tmp_path)
    assert len(list(tmp_path.glob("shard-*.bin"))) > 5
    assert store.read(0, len(store)).tolist() == flat
    assert store.read(len(flat) - 7, 20).tolist() == flat[-7:] + flat[:13]
    assert store.read(95, 30).tolist() == flat[95:125]


def test_truncated_shard_raises_with_its_name(texts: Path, tokenizer: Path, tmp_path: Path) -> None:
    tokenize(texts, tokenizer, tmp_path / "out", None)
    shard = tmp_path / "out" / "shard-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"shard-00000.bin must have .* bytes"):
        TokenStore(tmp_path / "out")


@pytest.mark.parametrize(
    "source", [ByteTokenizer(), TrainedTokenizer(vocab_size=400, worlds=3)], ids=["bytes", "trained"]
)
def test_decode_inverts_encode(source: ByteTokenizer | TrainedTokenizer, tmp_path: Path) -> None:
    source.build(tmp_path)
    tokenizer = Tokenizer(tmp_path)
    for text in ("plain", "naïve café — “quoted”", "日本語 🙂", "tab\tnewline\n  spaces"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text.strip()
        assert tokenizer.count(text) == len(tokenizer.encode_batch([text]).ids)


def test_transformers_loads_saved_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    TrainedTokenizer(vocab_size=400, worlds=3).build(tmp_path)
    theirs, ours = AutoTokenizer.from_pretrained(str(tmp_path)), Tokenizer(tmp_path)
    text = "The Fonda Guild had its base in Yuda."
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
    assert len(theirs) == ours.vocab_size


def test_pretrained_tokenizer_uses_its_separators(tiny_model: Path, tmp_path: Path) -> None:
    for number, (bos, eos) in enumerate(((True, True), (True, False), (False, False))):
        (tmp_path / str(number)).mkdir()
        PretrainedTokenizer(path=str(tiny_model), add_bos=bos, add_eos=eos).build(tmp_path / str(number))
        ids = Tokenizer(tmp_path / str(number)).encode_batch(["the document"]).ids
        assert (ids[0] == 0, ids[-1] == 1) == (bos, eos)


def test_folder_without_tokenizer_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains no tokenizer"):
        PretrainedTokenizer(path=str(tmp_path)).sources()


def unigram_model(folder: Path) -> Path:
    """A tokenizer whose vocabulary contains its special tokens, as those of SentencePiece models do."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as FastTokenizer
    from transformers import PreTrainedTokenizerFast

    pieces = ["▁", *"abcdehinors<>/|_!"]
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((piece, -3.0) for piece in pieces)]
    fast = FastTokenizer(models.Unigram(vocabulary, 0, False))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    fast.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("encoder", ["auto", "tokenizers"])
@pytest.mark.parametrize("kind", ["trained", "bytes", "pretrained", "unigram"])
def test_special_tokens_in_texts_are_plain_text(kind: str, encoder: str, tiny_model: Path, tmp_path: Path) -> None:
    builders = {
        "trained": lambda: TrainedTokenizer(worlds=5, vocab_size=400),
        "bytes": ByteTokenizer,
        "pretrained": lambda: PretrainedTokenizer(path=str(tiny_model)),
        "unigram": lambda: PretrainedTokenizer(path=str(unigram_model(tmp_path / "unigram"))),
    }
    (tmp_path / "t").mkdir()
    builders[kind]().build(tmp_path / "t")  # type: ignore[operator]
    tokenizer = Tokenizer(tmp_path / "t", encoder)
    special = [token.content for token in tokenizer.fast.get_added_tokens_decoder().values()]
    assert special
    ids = {tokenizer.fast.token_to_id(token) for token in special} - {tokenizer.fast.token_to_id("<unk>")}
    clean = ["no marker here", "nor here"]
    texts = [clean[0], *(f"a{token} is here {token}" for token in special), clean[1]]
    encoded = tokenizer.encode_batch(texts)
    rows = [encoded.ids[start:end].tolist() for start, end in zip(encoded.offsets, encoded.offsets[1:], strict=False)]
    count = tokenizer.separators.count
    assert [sum(token in ids for token in row) for row in rows] == [count] * len(texts), "separators only"
    assert [tokenizer.count(text) for text in texts] == [len(row) for row in rows]
    if kind != "unigram":  # whose pieces each begin with a space
        assert all(text in tokenizer.decode(row) for text, row in zip(texts, rows, strict=True))
    assert [rows[0], rows[-1]] == [
        encoded.ids.tolist() for encoded in (tokenizer.encode_batch([text]) for text in clean)
    ]
