"""What no component of a run can see alone: parts that do not fit each other, found before anything is built."""

from typing import TYPE_CHECKING

from entigraph.config.schema import problem_of, refuse
from entigraph.evaluation.models_under_test import PretrainedBaseline
from entigraph.huggingface.models import check_model_path
from entigraph.storage import artifact

if TYPE_CHECKING:
    from entigraph.pipeline.run import Run


def refuse_contradictions(run: "Run") -> None:
    """Raises ConfigError listing every problem."""
    problems = [problem for part in (run.corpus, run.questions, run.augmenter) for problem in problem_of(part.sources)]
    if not run.ours(getattr(run.tokenizer, "path", "")):
        problems += problem_of(run.tokenizer.sources)
    problems += problem_of(lambda: run.stated_rules)
    if run.seed < 0:
        problems.append(f"seed: {run.seed} found, 0 or more expected")
    problems += problem_of(run.trainer.accumulation, run.data.batch_size)
    if run.model.path and not run.ours(run.model.path):
        problems += problem_of(check_model_path, run.model.path)
    own = any(task.corpus is None and task.uses_questions for task in run.tasks.values())
    if own and not run.corpus.questions_known and not run.questions_folder:
        problems.append(
            "evaluation: the corpus has no questions; give some (corpus.questions=file.jsonl), have some written "
            "(questions=generated), or evaluation=none"
        )
    problems += [
        f"engine: evaluation.{name} uses the Hugging Face model itself; choose engine=transformers for it"
        for name, task in run.tasks.items()
        if task.needs_transformers and not run.engine.holds_model
    ]
    problems += baseline_problems(run)
    positions = getattr(run.model, "max_position_embeddings", None)
    if positions and run.data.context_length > positions:
        length = run.data.context_length
        problems.append(f"data.context_length: {length:,} found; the model has {positions:,} positions")
    refuse(problems + packing_problems(run) + budget_problems(run) + replay_problems(run))
    refuse(known_shortage(run))
    run.varied()


def packing_problems(run: "Run") -> list[str]:
    tokens, length = run.config.tokens, run.data.context_length
    problems = [
        f"tokens.{key}: {tokens[key]!r} found, {' or '.join(known)} expected"
        for key, known in (("too_long", ("skip", "cut")), ("encoder", ("auto", "tokenizers")))
        if tokens[key] not in known
    ]
    if tokens.block_length not in (None, length):
        problems.append(f"tokens.block_length: {tokens.block_length} found; blocks are of data.context_length {length}")
    if getattr(run.corpus, "conversations", False) != getattr(run.tokenizer, "conversations", False):
        problems.append("corpus, tokenizer: a corpus of conversations and tokenizer=chat go together")
    return problems


def baseline_problems(run: "Run") -> list[str]:
    problems = []
    for name, found in run.baselines.items():
        if isinstance(found, PretrainedBaseline):
            problems += [] if run.ours(found.path) else problem_of(check_model_path, found.path)
            continue
        if not hasattr(found, "body"):
            problems.append(f"baselines.{name}: {type(found).__name__} answers no questions; choose an endpoint")
        problems += [
            f"baselines.{name}: an endpoint tells no likelihoods, which evaluation.{task} needs; "
            "ask by samples: evaluation=closed_book_cot"
            for task, asked in run.tasks.items()
            if asked.needs_likelihoods
        ]
    return problems


def budget_problems(run: "Run") -> list[str]:
    budget, written = run.config.tokens.budget, run.config.synthesis.token_budget
    problems = []
    if budget is not None and budget < 1:
        problems.append(f"tokens.budget: {budget} found, at least 1 token or null expected")
    if not run.augmenter.needs_writer:
        return problems
    if written is None and run.augmenter.endless:
        problems.append(f"synthesis.token_budget: not set; augmenter={run.augmenter.name} ends by a budget only")
    if written is not None and budget is not None and budget > written:
        problems.append(
            f"tokens.budget: {budget:,} found; synthesis.token_budget writes only {written:,}. "
            "Raise that, or lower this"
        )
    return problems


def replay_problems(run: "Run") -> list[str]:
    """Replay tokens are numbers: they mean something else in another tokenizer."""
    if not run.data.replay_rate or (run.ours(run.data.replay) and not artifact.is_complete(run.replay_folder)):
        return []
    problems = problem_of(artifact.read_manifest, run.replay_folder)
    if not problems and artifact.read_manifest(run.replay_folder)["stage"] != "tokens":
        problems = [f"{run.replay_folder} is no tokens folder"]
    if problems:
        return [f"data.replay: {problem}" for problem in problems]
    made_with = artifact.read_manifest(run.replay_folder)["inputs"].get("tokenizer", {}).get("folder")
    if made_with == run.tokenizer_files.folder.name:
        return []
    return [
        f"data.replay: {run.replay_folder} was written with the tokenizer {made_with}, "
        f"this run uses {run.tokenizer_files.folder.name}; make the replay tokens with this one"
    ]


def known_shortage(run: "Run") -> list[str]:
    """A budget beyond texts that are already written fails before the first stage."""
    budget, folder = run.config.tokens.budget, run.synthesis.folder
    if budget is None or not run.augmenter.needs_writer or not artifact.is_complete(folder):
        return []
    tokens = artifact.read_manifest(folder)["counts"]["tokens"]
    if tokens >= budget:
        return []
    return [f"tokens.budget: {budget:,} tokens asked for; {folder} holds {tokens:,}. Lower tokens.budget"]
