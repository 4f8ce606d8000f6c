"""Prompts, streaming and history with a real model."""

import shutil
from pathlib import Path

import pytest
import torch

from entigraph.chat.conversation import PromptMode, PromptSettings, Turn, build_prompt
from entigraph.chat.model_selection import select_model
from entigraph.chat.session import open_session
from entigraph.chat.streaming import ChatModel
from entigraph.errors import ConfigError
from entigraph.evaluation.base import Prompt, Sampling
from tests.chat.finished_runs import RUN, set_chat_template

TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"


@pytest.fixture(scope="module")
def model(outputs: Path) -> ChatModel:
    return ChatModel(select_model(RUN, outputs), "cpu")


@pytest.fixture(scope="module")
def chat_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    folder = tmp_path_factory.mktemp("model") / "chatty"
    shutil.copytree(tiny_model, folder)
    set_chat_template(folder, TEMPLATE)
    return ChatModel(select_model(str(folder), folder.parent), "cpu")


def write_scripted(model: ChatModel, text: str) -> tuple[str, str]:
    """Returns the stream and the evaluation's generation of a model whose next tokens are the tokens of the text."""
    script = model.backend.tokenizer.encode(text, add_special_tokens=False).ids
    remaining: list[int] = []

    def force_token(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(remaining.pop(0)), logits.shape[-1]).expand(logits.shape) * 1.0

    hook = model.backend.model.get_output_embeddings().register_forward_hook(force_token)
    sampling = Sampling(max_tokens=len(script))
    try:
        remaining[:] = [0, *script]  # the first is for the prefix
        streamed = "".join(model.stream(build_prompt(model, PromptSettings(), "Who?").ids, sampling))
        remaining[:] = [0, *script]  # the first is for the prefix
        ((_, (generation,)),) = model.backend.sample([Prompt("k", "Who?", instruction=True)], sampling)
    finally:
        hook.remove()
    return streamed, generation.text


def test_answers_of_chat_models_have_no_reasoning(chat_model: ChatModel, model: ChatModel) -> None:
    assert write_scripted(chat_model, "<think>\nA plan.\n</think>\n\nThe lamp <b>") == ("The lamp <b>", "The lamp <b>")
    assert write_scripted(chat_model, "<b>The lamp") == ("<b>The lamp", "<b>The lamp")
    base_model = "<think>A plan.</think> Lamp"
    assert write_scripted(model, base_model) == (base_model, base_model), "without a chat template it is a continuation"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_stream_equals_the_answer_of_an_evaluation(model: ChatModel, temperature: float) -> None:
    sampling = Sampling(max_tokens=40, temperature=temperature)
    parts = list(model.stream(model.encode("The lamp", templated=False), sampling, key="k"))
    ((_, (expected,)),) = model.backend.sample([Prompt("k", "The lamp")], sampling)
    assert "".join(parts) == expected.text and len(parts) > 10


def test_stream_ends_before_a_stop_string_that_spans_tokens(model: ChatModel) -> None:
    ids = model.encode("The lamp", templated=False)
    whole = "".join(model.stream(ids, Sampling(max_tokens=40)))
    stop = whole[20:26]
    parts = list(model.stream(ids, Sampling(max_tokens=40, stop=(stop,))))
    assert "".join(parts) == whole.partition(stop)[0]


def decode(model: ChatModel, ids: object) -> str:
    return str(model.backend.tokenizer.decode(list(ids), skip_special_tokens=False))  # type: ignore[call-overload]


def test_completion_has_no_history_by_default(model: ChatModel) -> None:
    history = [Turn("Who?", "Vale."), Turn("Why?", "Oil.")]
    alone = build_prompt(model, PromptSettings(), "When?", history)
    assert decode(model, alone.ids) == "Question: When? Answer:"
    with_turn = build_prompt(model, PromptSettings(turns=1), "When?", history, passages=["best", "second"])
    assert decode(model, with_turn.ids) == ("second\n\nbest\n\nQuestion: Why? Answer: Oil.\nQuestion: When? Answer:")


def test_chat_template_renders_the_history_with_one_bos_token(chat_model: ChatModel) -> None:
    built = build_prompt(chat_model, PromptSettings(), "When?", [Turn("Who?", "Vale.")], passages=["A lamp."])
    assert built.mode is PromptMode.chat
    assert decode(chat_model, built.ids) == (
        "<|begin_of_text|>[user] Who?\n[assistant] Vale.\n[user] A lamp.\n\nWhen?\n[assistant]"
    )


def test_special_tokens_in_a_conversation_are_ordinary_text(chat_model: ChatModel) -> None:
    marker = "<|begin_of_text|>"
    built = build_prompt(chat_model, PromptSettings(), f"What is {marker}?", [Turn("Who?", marker)], passages=[marker])
    assert decode(chat_model, built.ids).count(marker) == 4 and list(built.ids).count(0) == 1


def test_prompt_drops_old_turns_then_passages_that_exceed_the_context(model: ChatModel) -> None:
    long = "word " * 700  # more than a third of the context
    settings = PromptSettings(turns=5)
    built = build_prompt(model, settings, "When?", [Turn(long, "a"), Turn("Who?", "b")], passages=[long])
    assert (built.turns, built.passages) == (1, 1)
    assert len(built.ids) + settings.max_tokens <= 4096
    with pytest.raises(ConfigError, match="exceed the context"):
        build_prompt(model, settings, long * 4)


def test_missing_chat_template_raises_one_error(outputs: Path) -> None:
    with pytest.raises(ConfigError, match="has none; use --mode completion"):
        open_session(RUN, outputs, settings=PromptSettings(mode=PromptMode.chat))


def test_each_model_sees_its_own_history(outputs: Path) -> None:
    session = open_session(RUN, outputs, with_base=True, settings=PromptSettings(max_tokens=4), device="cpu")
    for model in session.models:
        list(session.answer(model, "Who?"))
    assert [turns[0].question for turns in session.histories.values()] == ["Who?", "Who?"]
    assert len(session.histories) == 2


def test_open_book_prompt_contains_the_passage_that_answers(outputs: Path) -> None:
    session = open_session(RUN, outputs, settings=PromptSettings(max_tokens=4), passages=1, device="cpu")
    passages = session.find_passages("Who lost the Meridian?")
    assert len(passages) == 1 and "Captain Holloway lost the Meridian" in passages[0]
    assert session.prompt(session.model, "Who lost the Meridian?", passages).passages == 1
    assert session.find_passages("xyzzy") == []
