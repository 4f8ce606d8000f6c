"""The experiments for real data and Llama 3 8B, with a small model of that architecture and a small QuALITY file."""

import json
from pathlib import Path

from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Question
from entigraph.storage.texts import read_texts
from tests.conftest import Command
from tests.mock_llm_server import Config, running

SMALL = [
    "model.path={model}",
    "corpus.path={corpus}",
    "needs=[{{experiment: replay_tokens, overrides: "
    "['tokenizer.path={model}', 'corpus.path={replay}', 'tokens.budget=3000']}}]",
    "synthesis.token_budget=20000",
    "tokens.budget=15000",
    "llm.base_url={server}",
    "llm.model=mock-llm",
    "evaluation.closed_book_cot.samples=2",
    "evaluation.closed_book_cot.max_tokens=8",
    "run",
]


def test_quality_entigraph_from_articles_to_scores(
    command: Command, tiny_model: Path, quality_file: Path, tmp_path: Path
) -> None:
    replay = tmp_path / "replay.jsonl"
    replay.write_text("".join(json.dumps({"text": f"General text number {n}. " * 9}) + "\n" for n in range(60)))
    with running(Config(latency_s=0.01, output_tokens=150)) as server:
        paths = {"model": tiny_model, "corpus": quality_file, "replay": replay, "server": server.base_url}
        result = command("experiments=quality_entigraph", *(argument.format(**paths) for argument in SMALL))
    assert result.returncode == 0, result.stderr
    outputs = tmp_path / "outputs"

    (corpus,) = outputs.glob("corpus/quality-*")
    assert len(list(read_jsonl(corpus / "questions.jsonl", Question))) == 4
    (synthesis,) = outputs.glob("synthesis/quality-entigraph-*")
    texts = list(read_texts(synthesis))
    assert {text.kind for text in texts} >= {"pair"} and sum(text.tokens for text in texts) >= 20_000
    (tokens,) = outputs.glob("tokens/quality-*")
    counts = json.loads((tokens / "manifest.json").read_text())["counts"]
    assert 14_000 < counts["synthetic_tokens"] <= 15_000
    (training,) = outputs.glob("training/quality-*")
    plan = json.loads((training / "data_schedule.json").read_text())
    assert plan["replay_samples"] / (plan["replay_samples"] + plan["synthetic_samples"]) > 0.05
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(str(training / "model")).config.num_key_value_heads == 2
    trained, base = sorted(outputs.glob("evaluation/quality-*"), key=lambda folder: "base" in folder.name)
    for folder in (trained, base):
        answers = list(read_jsonl(folder / "answers-closed_book.jsonl", Answer))
        assert len(answers) == 4 and all(len(answer.scores) == 4 for answer in answers)
        thoughts = list(read_jsonl(folder / "answers-closed_book_cot.jsonl", Answer))
        assert len(thoughts) == 4 and all(len(answer.samples) == 2 for answer in thoughts), (
            "no prompt exceeds the context length"
        )
    assert not list(outputs.glob("training/redpajama*")), "a need executes only the stages whose output is read"


def test_replay_tokens_of_another_tokenizer_are_an_error(command_here: Command, tmp_path: Path) -> None:
    for stage in ("corpus", "synthesis", "tokens"):
        made = command_here(f"stage={stage}", "corpus.documents=1", "augmenter=raw", "logger=none", "tokenizer=bytes")
        assert made.returncode == 0, made.stderr
    (replay,) = (tmp_path / "outputs" / "tokens").iterdir()
    result = command_here("data=packed_with_replay", f"data.replay={replay}")
    assert result.returncode == 1 and "was written with the tokenizer bytes-" in result.stderr


def test_folder_of_text_files_with_questions(command: Command, tmp_path: Path) -> None:
    from tests.conftest import ARTICLE

    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "lamp.md").write_text(ARTICLE)
    line = {
        "document": "lamp.md",
        "question": "Who kept the lamp?",
        "choices": ["Miriam", "Tobias"],
        "answer": 0,
    }
    (tmp_path / "questions.jsonl").write_text(json.dumps(line))
    options = ["run", "synthesis.token_budget=3000", "trainer.max_steps=4", "logger=none", "tokenizer=bytes"]
    options += ["model.hidden_size=32", "model.num_hidden_layers=1", "model.intermediate_size=64"]
    questions = f"corpus.questions={tmp_path}/questions.jsonl"
    result = command("corpus=text_files", f"corpus.path={folder}", questions, *options)
    assert result.returncode == 0 and "over 1 questions" in result.stdout, result.stderr
    analysis = command("analyze", "corpus=text_files", f"corpus.path={folder}", questions, *options[1:])
    assert analysis.returncode == 0 and "check of the pipeline, not a result" in analysis.stdout, analysis.stderr


def test_instruction_tuning_starts_from_the_model_of_another_run(command: Command, tmp_path: Path) -> None:
    """Runs quality_instruct on conversations; the resulting model has a chat template."""
    conversations = tmp_path / "conversations.jsonl"
    turns = [("user", "Who keeps the lamp of Orsk?"), ("assistant", "Miriam Vale does.")]
    conversation = [{"role": role, "content": content} for role, content in turns]
    too_long = [*conversation, {"role": "user", "content": "And then? " * 200}]
    lines = [[{"role": "system", "content": f"Sitting {number}."}, *conversation] for number in range(30)] + [too_long]
    conversations.write_text("".join(json.dumps({"messages": line}) + "\n" for line in lines))
    result = command(
        "experiments=quality_instruct",
        "needs=[{experiment: base/smoke, overrides: ['trainer.max_steps=2', 'corpus.worlds=2']}]",
        "model.path=${output:base/smoke,training}/model",
        f"corpus.path={conversations}",
        "corpus.files='*'",
        "tokenizer.template=chatml",
        "data.context_length=256",
        "data.batch_size=2",
        "logger=none",
        "run",
    )
    assert result.returncode == 0, result.stderr
    outputs = tmp_path / "outputs"
    (tokens,) = outputs.glob("tokens/ultrachat-raw-*")
    counts = json.loads((tokens / "manifest.json").read_text())["counts"]
    assert counts["texts"] == 30 and counts["too_long"] == 1
    assert json.loads((tokens / "packing.json").read_text())["block_length"] == 256
    (training,) = outputs.glob("training/ultrachat-*")
    assert json.loads((training / "data_schedule.json").read_text())["synthetic_passes"] >= 1
    from transformers import AutoTokenizer

    prompt = AutoTokenizer.from_pretrained(str(training / "model")).apply_chat_template(
        conversation[:1], tokenize=False, add_generation_prompt=True
    )
    assert prompt.endswith("<|im_start|>assistant\n")


def test_conversations_need_the_chat_tokenizer(command_here: Command, tmp_path: Path) -> None:
    result = command_here("corpus=conversations", f"corpus.path={tmp_path}")
    assert result.returncode == 1 and "conversations and tokenizer=chat go together" in result.stderr
