"""Checks of a composed config, and the suggestions for misspelled keys and options."""

from collections.abc import Callable, Sequence

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from entigraph.config.resolvers import absolute, choices, cores, jobs_at_once, largest
from entigraph.config.schema import Synthesis, Tokens
from entigraph.config.suggestions import did_you_mean
from entigraph.config.validation import explain_override_error, suggest_key, validate
from entigraph.errors import ConfigError

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augmenter=entigraf", "augmenter=entigraf: no such option; did you mean entigraph?"),
        ("evaluation=[closd_book]", "evaluation=closd_book: no such option; did you mean closed_book"),
        ("experiments=smoek", "experiments=smoek: no such option; did you mean smoke?"),
        (
            "experiments=scaling/fictionl",
            "experiments=scaling/fictionl: no such option; did you mean scaling/f",
        ),
        ("llm.concurency=3", "llm.concurency: unknown to OpenAIWriter; did you mean concurrency?"),
        ("augmenter.layuot=x", "augmenter.layuot: unknown to EntiGraph; did you mean layout?"),
        ("evaluation.closed_book.limt=3", "evaluation.closed_book.limt: unknown to ClosedBook; did you mean limit"),
        ("synthesis.token_bugdet=3", "synthesis.token_bugdet: unknown to synthesis; did you mean token_budget?"),
        ("llm.poll_interval_s=9", "llm.poll_interval_s: unknown to OpenAIWriter; choose llm=openai_batch"),
        ("stage=trainin", "stage: invalid value 'trainin'; did you mean training?"),
        (
            "synthesis.near_duplicates=x",
            "synthesis.near_duplicates: invalid value 'x'; expected one of ignore, report, remove",
        ),
        ("seed=x", "seed must be an integer, got 'x'"),
        ("augmentor=entigraph", "augmentor: unknown; did you mean augmenter?"),
        ("needs=[{experiment: smoke, overides: []}]", "needs[0].overides: unknown; did you mean overrides?"),
        ("study={nme: x}", "study.nme: unknown; did you mean name?"),
        ("corpus=?", "options of corpus: conversations, fictional, fictional_background, fictional_conversations, fin"),
        (
            "model/adapter=lora",  # of tiny_llama, the default
            "model/adapter: not available for this model; choose one of model=gemma3_270m, model=llama3_2_1b, "
            "model=llama3_8b, model=pretrained, model=qwen3_0_6b",
        ),
    ],
)
def test_a_misspelled_key_or_option_has_a_suggestion(override: str, message: str, composed: Compose) -> None:
    overrides = ["llm=openai", override]
    with pytest.raises(HydraException) as raised:
        composed(*overrides)
    message_of_cause = str(raised.value.__cause__ if "merging" in str(raised.value) else raised.value)
    explanation = explain_override_error(message_of_cause, overrides, lambda others: composed(*others))
    assert explanation is not None and explanation.startswith(message)


def test_a_misspelled_option_of_a_nested_group_has_a_suggestion(composed: Compose) -> None:
    overrides = ["model=llama3_2_1b", "model/adapter=loar"]
    with pytest.raises(HydraException) as raised:
        composed(*overrides)
    explanation = explain_override_error(str(raised.value), overrides, lambda others: composed(*others))
    assert explanation == "model/adapter=loar: no such option; did you mean lora or qlora?"


def test_a_misspelled_key_beside_another_error_still_has_a_message() -> None:
    def fail(overrides: Sequence[str]) -> DictConfig:
        raise ConfigError("another problem")

    message = explain_override_error("Could not override 'augmentor'.", ["augmentor=1"], fail)
    assert message == "augmentor: unknown; did you mean augmenter?"
    assert explain_override_error("Something else happened", [], fail) is None


def test_a_target_that_cannot_be_imported_does_not_hide_the_suggestion() -> None:
    config = OmegaConf.create({"llm": {"_target_": "nowhere.Writer", "model": "m"}})
    assert suggest_key("llm.modle", config) == "llm.modle: unknown to Writer; did you mean model?"


def test_added_keys_that_nothing_reads_are_reported_with_all_other_problems(composed: Compose) -> None:
    config = composed("+foo=1", "+synthesis.token_bugdet=5", "tokens.too_long=split", "+augmenter.layuot=1")
    with pytest.raises(ConfigError) as raised:
        validate(config)
    for line in (
        "foo: unknown; expected one of command, stage, ",
        "synthesis.token_bugdet: unknown; did you mean token_budget?",
        "tokens.too_long must be skip or truncate, got 'split'",
        "augmenter.layuot: unknown to EntiGraph; did you mean layout?",
    ):
        assert line in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        (Synthesis, {"token_budget": 0}, "synthesis.token_budget must be at least 1, got 0"),
        (Synthesis, {"max_retries": -1}, "synthesis.max_retries must be at least 0, got -1"),
        (Synthesis, {"max_failure_rate": 1.5}, "synthesis.max_failure_rate must be between 0 and 1, got 1.5"),
        (Synthesis, {"similarity": 0.0}, "synthesis.similarity must be above 0 and at most 1, got 0.0"),
        (Tokens, {"budget": 0}, "tokens.budget must be at least 1, got 0"),
        (Tokens, {"encoder": "fast"}, "tokens.encoder must be auto or tokenizers, got 'fast'"),
    ],
)
def test_settings_check_their_values(kind: type, values: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        kind(**values)


def test_suggestions_list_close_names_or_all() -> None:
    assert did_you_mean("sede", ["seed", "name"]) == "did you mean seed?"
    assert did_you_mean("x", ["seed", "name"]) == "expected one of seed, name"
    assert did_you_mean("x", ["seed"]) == "expected seed"
    assert did_you_mean("zzz", [f"a{n}" for n in range(30)]).endswith(", a11 and 18 more")
    assert did_you_mean("x", []) == "it takes no keys"


def test_resolvers() -> None:
    assert absolute("a").endswith("/a") and choices([1, "b"]) == "1,b" and cores() >= 1
    assert jobs_at_once("cpu") == jobs_at_once("auto") == cores() and jobs_at_once("cuda") == 1
    assert largest([1, 3], None) == 3 and largest([1, 3], 5) == 5
