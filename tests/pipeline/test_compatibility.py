"""Components that do not fit each other are one error that names the keys."""

from collections.abc import Callable
from pathlib import Path

import pytest

from entigraph.errors import ConfigError
from entigraph.pipeline.run import Run
from tests.pipeline.finished_stages import finish

Configured = Callable[..., Run]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["tokens.block_length=64", "data.context_length=128"],
            "tokens.block_length must be data.context_length, which is 128, got 64",
        ),
        (["tokenizer=chat"], "corpus, augmenter, tokenizer: conversations and tokenizer=chat go together"),
        (["augmenter=spa", "synthesis.token_budget=null"], "augmenter=spa ends by a budget only"),
        (
            ["tokens.budget=9", "synthesis.token_budget=8"],
            "tokens.budget must be at most synthesis.token_budget, which is 8",
        ),
        (
            ["baselines=[openai]", "baselines.openai.model=m", "baselines.openai.base_url=http://localhost:1/v1"],
            "baselines.openai: an endpoint returns no likelihoods, which evaluation.closed_book needs",
        ),
        (["+baselines.mine._target_=entigraph.llm.offline.offline_writer.OfflineWriter"], "answers no questions"),
        (
            ["questions=generated", "questions.form=short_answer"],
            "questions.form=short_answer does not fit evaluation.closed_book, which is multiple choice",
        ),
        (["tokens.changed_since=/nowhere"], "tokens.changed_since must be a corpus folder, outputs/corpus/NAME"),
        (["data.replay=/nowhere", "data.replay_rate=0.1"], "data.replay: /nowhere does not exist; set it to"),
    ],
)
def test_misfits_are_errors(overrides: list[str], message: str, configured: Configured) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(*overrides)


@pytest.mark.parametrize("setting", ["trainer.devices=2", "trainer.cpu_offload=true"])
def test_qlora_is_not_sharded(setting: str, configured: Configured, tiny_model: Path) -> None:
    model = ["model=pretrained", f"model.path={tiny_model}", "tokenizer=pretrained", "model/adapter=qlora"]
    configured(*model)
    with pytest.raises(ConfigError, match=r"qlora trains on one device, without trainer\.cpu_offload; set trainer=gpu"):
        configured(*model, setting)


@pytest.mark.parametrize("other", ["evaluation=free_form", "stage=questions"])
def test_short_answers_fit_free_form_answers_and_the_stage_that_writes_them(other: str, configured: Configured) -> None:
    assert configured("questions=generated", "questions.form=short_answer", other).questions.needs_writer


def test_replay_tokens_must_be_tokens_of_the_same_tokenizer(configured: Configured) -> None:
    run = configured()
    finish(run, "corpus", "tokenizer", "synthesis", "tokens", vocabulary=512)
    corpus, tokens = run.artifacts.corpus.folder, run.artifacts.tokens.folder
    configured(f"data.replay={tokens}", "data.replay_rate=0.1")
    with pytest.raises(ConfigError, match=r"data.replay: .* is not a tokens folder"):
        configured(f"data.replay={corpus}", "data.replay_rate=0.1")
    with pytest.raises(ConfigError, match=r"data.replay: .* was written with the tokenizer trained-\w+, this run uses"):
        configured(f"data.replay={tokens}", "data.replay_rate=0.1", "tokenizer.vocab_size=600")


def test_budget_beyond_existing_texts_is_an_error(configured: Configured) -> None:
    finish(configured(), "corpus", "tokenizer", "synthesis", tokens=1000, vocabulary=512)
    configured("tokens.budget=1000")
    with pytest.raises(ConfigError, match=r"tokens.budget: 1,001 tokens requested; .* has 1,000. Lower"):
        configured("tokens.budget=1001")
