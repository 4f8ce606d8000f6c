"""Closed-book summaries from a local model, with and without a chat template, and from an endpoint."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.evaluation import stage
from entigraph.evaluation.backends.local_backend import ChatTemplate, load_chat_template
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Prompt, TaskInputs
from entigraph.evaluation.models_under_test import EndpointModel, LocalModel
from entigraph.evaluation.tasks.base import TaskContext
from entigraph.evaluation.tasks.summaries import TOO_LONG, ClosedBookSummaries
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, Summary
from entigraph.tokenization.base import built_in_templates
from tests.evaluation.scripted_server import Scripted, scripted

DOCUMENTS = [
    Document(id="d0", title="The document", text="Some text.", meta={"author": "Laumer, Keith", "year": "1961"}),
    Document(id="d1", title="The answer", text="Another.", meta={"author": "Plato"}),
    Document(id="d2", title="The question", text="A third."),
]
SHORT = {"text": "Summary of {document}:", "max_tokens": 6}
LONG = {"text": "All about {title}:", "max_tokens": 12}


def write_inputs(folder: Path, documents: Sequence[Document] = DOCUMENTS) -> TaskInputs:
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "documents.jsonl", documents)
    return TaskInputs(folder / "questions.jsonl", folder / "documents.jsonl")


def written(candidate: Any, folder: Path, task: ClosedBookSummaries, source: TaskInputs) -> list[Summary]:
    stage.run(candidate, folder, tasks={"s": task}, inputs={"s": source})
    return list(read_jsonl(folder / "summaries-s.jsonl", Summary))


def test_every_document_and_prompt_has_a_summary(tiny_model: Path, tmp_path: Path) -> None:
    candidate, source = LocalModel(str(tiny_model), "cpu", 1), write_inputs(tmp_path)
    task = ClosedBookSummaries(prompts={"short": SHORT, "long": LONG}, samples=2, temperature=1.0)
    results = written(candidate, tmp_path / "out", task, source)
    assert [item.id for item in results] == [
        f"d{document}/{prompt}/{sample}" for prompt in ("short", "long") for document in range(3) for sample in (0, 1)
    ]
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["s"]
    assert (scores["summaries"], scores["documents"], scores["empty"]) == (
        12,
        3,
        sum(not item.text for item in results),
    )
    assert scores["prompts"]["short"]["summaries"] == 6 and "accuracy" not in scores
    cut = [item for item in results if item.finish_reason == "length"]
    assert scores["unfinished"] == ({"length": len(cut)} if cut else {})
    alone = written(candidate, tmp_path / "alone", ClosedBookSummaries(prompts={"long": LONG}, temperature=1.0), source)
    assert [item.text for item in alone] == [item.text for item in results if item.prompt == "long" and not item.sample]


def test_killed_evaluation_writes_missing_summaries(tiny_model: Path, tmp_path: Path) -> None:
    source, out = write_inputs(tmp_path), tmp_path / "out"
    (out / CHECKPOINTS).mkdir(parents=True)
    marked = Summary(
        id="d1/short/0", document_id="d1", prompt="short", sample=0, text="From before.", finish_reason="stop",
        prompt_hash="",
    )  # fmt: skip
    half = json.dumps({**vars(marked), "id": "d2/short/0"})[:-9]
    (out / CHECKPOINTS / "summaries-s.jsonl").write_text(json.dumps(vars(marked)) + "\n" + half)
    results = written(LocalModel(str(tiny_model), "cpu", 1), out, ClosedBookSummaries(prompts={"short": SHORT}), source)
    assert [item.document_id for item in results] == ["d0", "d1", "d2"] and results[1] == marked
    assert results[2].text != "From before." and results[2].prompt_hash


def test_overflowing_prompt_is_counted(backend: TransformersBackend, tmp_path: Path) -> None:
    long = Document(id="d9", title="The document " * 200, text="x")
    kept, backend.max_length = backend.max_length, 80
    task = ClosedBookSummaries(prompts={"short": SHORT})
    try:
        out = tmp_path / "out"
        (out / CHECKPOINTS).mkdir(parents=True)
        scores = task.evaluate(
            TaskContext("s", write_inputs(tmp_path, [*DOCUMENTS, long]), lambda: backend, out, SilentProgress())
        )
    finally:
        backend.max_length = kept
    assert scores["summaries"] == 4 and scores["empty"] >= 1 and scores["unfinished"][TOO_LONG] == 1
    last = list(read_jsonl(out / "summaries-s.jsonl", Summary))[-1]
    assert (last.document_id, last.text, last.finish_reason) == ("d9", "", TOO_LONG)


def test_citation_format() -> None:
    assert [document.citation for document in DOCUMENTS] == [
        '"The document" by Keith Laumer (1961)',
        '"The answer" by Plato',
        '"The question"',
    ]


def test_prompts_without_a_placeholder_raise_config_error(tmp_path: Path) -> None:
    for prompts, message in (
        ({}, "add at least one prompt"),
        ({"short": {"text": "Summarize.", "max_tokens": 5}}, "has no placeholder for the document"),
        ({"short": {"text": "{document", "max_tokens": 5}}, "{document"),
        ({"short": {"text": "{document}", "max_tokens": 0}}, "max_tokens must be at least 1, got 0"),
        ({"short": {"text": "{document}"}}, "short must have the keys text and max_tokens only"),
        ({"short": {"text": "{document}", "max_tokens": 5, "tokens": 5}}, "text and max_tokens only"),
    ):
        with pytest.raises(ConfigError, match=message):
            ClosedBookSummaries(prompts=prompts)
    task = ClosedBookSummaries(prompts={"short": {"text": "By {author}:", "max_tokens": 5}})
    with pytest.raises(DataError, match="d2 has no 'author', which the prompt 'short'"):
        task.load_documents(write_inputs(tmp_path))
    assert len(task.load_documents(write_inputs(tmp_path, DOCUMENTS[:2]))) == 2
    with pytest.raises(DataError, match="contains no documents"):
        task.load_documents(write_inputs(tmp_path, []))


def make_chat_tokenizer(folder: Path, template: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.chat_template = built_in_templates()[template]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


def test_instructions_use_the_chat_template(tiny_model: Path) -> None:
    tokenizer = make_chat_tokenizer(tiny_model, "chatml")
    chat = ChatTemplate(tokenizer)
    assert chat.ends == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    backend = TransformersBackend(str(tiny_model), tokenizer.backend_tokenizer, 0, "cpu", False, 1, chat)
    ids = backend.encode_prompt(Prompt("a", "Summarize it.", instruction=True))
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Summarize it."}], add_generation_prompt=True, return_dict=False
    )
    assert ids == expected and ids.count(backend.bos[0]) <= 1
    assert backend.encode_prompt(Prompt("a", "Go on")) == backend.encode("Go on"), "continuations do not use it"
    assert backend.ends >= {*chat.ends, 0}


def test_special_tokens_in_texts_are_ordinary_text(tiny_model: Path) -> None:
    tokenizer = make_chat_tokenizer(tiny_model, "chatml")
    chat, fast = ChatTemplate(tokenizer), tokenizer.backend_tokenizer
    backend = TransformersBackend(str(tiny_model), fast, 0, "cpu", False, 1, chat)
    text = "before<|im_end|>\n<|begin_of_text|>after"
    special = set(tokenizer.all_special_ids)
    ids = backend.encode(text)
    assert ids[0] == 0 and special.isdisjoint(ids[1:]) and fast.decode(ids[1:]) == text
    assert special.isdisjoint(backend.encode_pair(text, text).ids[1:])
    in_template = backend.encode_prompt(Prompt("a", text, instruction=True))
    clean = backend.encode_prompt(Prompt("a", "before", instruction=True))
    assert [token for token in in_template if token in special] == [token for token in clean if token in special]
    assert text in fast.decode(in_template, skip_special_tokens=False)


def test_reasoning_of_a_chat_model_is_removed(tiny_model: Path) -> None:
    tokenizer = make_chat_tokenizer(tiny_model, "chatml")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    chat, fast = ChatTemplate(tokenizer), tokenizer.backend_tokenizer
    backend = TransformersBackend(str(tiny_model), fast, 0, "cpu", False, 1, chat)
    (text,) = backend.decode([fast.encode("[THINK]A plan.[/THINK]A lamp.<|im_end|>", add_special_tokens=False).ids])
    assert text == "[THINK]A plan.[/THINK]A lamp.", "reasoning tags are kept, other special tokens are not"
    prompt = backend.encode("Summarize it.")
    assert backend.remove_reasoning(prompt, text) == "A lamp."
    prompt_with_tag = fast.encode("<|im_start|>assistant\n<think>\n", add_special_tokens=False).ids
    assert backend.remove_reasoning(prompt_with_tag, "A plan.</think>\nA lamp.") == "A lamp."
    assert backend.remove_reasoning(prompt_with_tag, "A plan without an end") == ""


def test_chat_template_without_end_token(tiny_model: Path) -> None:
    tokenizer = make_chat_tokenizer(tiny_model, "chatml")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    assert ChatTemplate(tokenizer).ends == [] and load_chat_template(str(tiny_model)) is None


def retold(body: dict[str, Any]) -> list[str] | int:
    """The endpoint rejects the second document and returns nothing for the third."""
    prompt = body["messages"][1]["content"]
    if "The answer" in prompt:
        return 400
    return ["" if "The question" in prompt else "  It is about a document.\n"]


def through(server: Scripted, folder: Path, task: ClosedBookSummaries, **options: Any) -> list[Summary]:
    candidate = EndpointModel(server.model(**options), folder / "cache")
    return written(candidate, folder / "out", task, write_inputs(folder))


def test_endpoint_summaries(tmp_path: Path) -> None:
    task = ClosedBookSummaries(prompts={"short": SHORT})
    with scripted(retold) as server:
        results = through(server, tmp_path, task)
        body = next(body for _, body in server.requests if "Laumer" in str(body))
        assert [message["content"] for message in body["messages"]] == [
            "", 'Summary of "The document" by Keith Laumer (1961):',
        ]  # fmt: skip
        assert body["max_completion_tokens"] == 6
        request_count = len(server.requests)
        through(server, tmp_path, ClosedBookSummaries(prompts={"short": SHORT}))
        assert len(server.requests) == request_count, "answers come from the response cache"
    assert [item.text for item in results] == ["It is about a document.", "", ""]
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["s"]
    assert scores["empty"] == 2 and scores["unfinished"] == {"error: HTTP 400": 1}
    assert scores["data_losses"] == {"summaries are refused or rejected": {"count": 1, "total": 3}}


def test_failed_summaries_are_retried_by_the_next_run(tmp_path: Path) -> None:
    down = [True]
    task = ClosedBookSummaries(prompts={"short": SHORT})

    def answers(body: dict[str, Any]) -> list[str] | int:
        return 500 if down and "The question" in str(body) else ["Known."]

    with scripted(answers) as server:
        with pytest.raises(LLMError, match="1 of 3 prompts were not answered"):
            through(server, tmp_path, task, attempts=1)
        down.clear()
        before = len(server.requests)
        assert [item.text for item in through(server, tmp_path, task, attempts=1)] == ["Known."] * 3
        assert len(server.requests) == before + 1


def test_samples_depend_on_the_seed(backend: TransformersBackend) -> None:
    def texts(seed: int) -> list[str]:
        task = ClosedBookSummaries(prompts={"long": LONG}, samples=3, temperature=1.5, seed=seed)
        return [item.text for item in task.write_summaries(DOCUMENTS[:1], "long", lambda: backend)]

    assert texts(0) == texts(0) != texts(1) and len({*texts(0)}) > 1
