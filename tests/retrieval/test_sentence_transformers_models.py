"""Local embedding models and cross-encoders in sentence-transformers formats."""

from pathlib import Path

import pytest

from entigraph.errors import ConfigError
from entigraph.retrieval.bm25 import BM25
from entigraph.retrieval.dense import Dense
from tests.retrieval.small_corpus import RankCorpus, write_corpus

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random BERT with mean pooling and 32 dimensions, and a random cross-encoder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("sentence-transformers")
    documents = write_corpus(folder / "library")
    text = (folder / "library" / "documents.jsonl").read_text() + " ".join(item.text for item in documents)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        [text], trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    options = {
        "vocab_size": len(fast),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    for kind, name, more in ((BertModel, "plain", {}), (BertForSequenceClassification, "pairs", {"num_labels": 1})):
        kind(BertConfig(**options, **more)).save_pretrained(folder / name)
        fast.save_pretrained(folder / name)
    words = Transformer(str(folder / "plain"))
    SentenceTransformer(modules=[words, Pooling(32)], device="cpu").save(str(folder / "embeds"))
    return folder / "embeds", folder / "pairs"


def test_local_embedder_embeds_each_text_once(ranked: RankCorpus, models: tuple[Path, Path]) -> None:
    counts, rankings = ranked(Dense(model=str(models[0]), characters=256))
    assert counts["embedded"] > 30 and counts["truncated_by_model"] > 0, "it reads 64 tokens"
    assert counts["recall"]["article"]["at"]["128"] == 1.0
    rerun, same = ranked(Dense(model=str(models[0]), characters=256), out="again")
    assert rerun["embedded"] == 0 and same == rankings


def test_cross_encoder_scores_pairs_once(ranked: RankCorpus, models: tuple[Path, Path]) -> None:
    settings = BM25(depth=5, reranker=str(models[1]))
    counts, rankings = ranked(settings)
    assert counts["reranked"] == 8 and counts["truncated_by_reranker"] > 0, counts
    assert all(list(ranking.scores) == sorted(ranking.scores, reverse=True) for ranking in rankings)
    _, before = ranked(BM25(depth=5), out="before")
    for own, first in zip(rankings, before, strict=True):
        assert sorted(own.passages) == sorted(first.passages), "the same passages"
    assert [own.passages for own in rankings] != [first.passages for first in before], "in another order"
    rerun, same = ranked(settings, out="again")
    assert rerun["reranked"] == 0 and same == rankings


def test_invalid_model_folder_raises_config_error(ranked: RankCorpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="retriever.model: cannot load"):
        ranked(Dense(model=str(tmp_path / "nothing")))
