"""The command line: invalid input is one error without a traceback, and nothing is written."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from entigraph import __version__
from entigraph.cli import hydra_arguments
from entigraph.errors import ConfigError
from tests.commands import RunningCommand
from tests.conftest import ARTICLE, TINY, Command
from tests.polling import wait_for


def error_output(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr and "Traceback" not in result.stdout
    assert result.stderr.count("error:") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["augmentor=entigraph"], "augmentor"),
        (["augmenter=entigraf"], "entigraph"),
        (["stage=tokenz"], "tokens"),
        (["analyse"], "analyse: unknown command; did you mean analyze?"),
        (["plan", "run"], "give one command, got plan and run"),
        (["experiments=smoky"], "smoke"),
        (["synthesis.token_budgett=5"], "token_budgett"),
        (["data.context_length=long"], "data.context_length must be an integer, got 'long'"),
        (["+data.contxt_length=64"], "data.contxt_length: unknown to DataConfig; did you mean context_length"),
        (["data.replay_rate=1.5"], "data.replay_rate must be at least 0 and below 1, got 1.5"),
        (["data.replay_rate=0.1"], "set data.replay"),
        (
            ["tokens.budget=300000"],
            "tokens.budget must be at most synthesis.token_budget, which is 200,000, got 300,000",
        ),
        (["augmenter=rephrase", "synthesis.token_budget=null"], "ends by a budget only"),
        (["corpus=quality"], "corpus.path: nothing given"),
        (["corpus=text_files", f"corpus.path={__file__}"], "test_cli.py is a file; give a folder of documents"),
        (["corpus=quality", "corpus.path=/nowhere"], "/nowhere does not exist"),
        (["model=pretrained"], "model.path: not set"),
        (["model=pretrained", "model.path=./nowhere"], "./nowhere does not exist"),
        (["model=pretrained", "model.path=."], "no config.json"),
        (
            ["data.context_length=4096"],
            "data.context_length must be at most max_position_embeddings, which is 512, got 4,096",
        ),
        (["seed=-1"], "seed must be at least 0, got -1"),
        (["optim._partial_=false"], "optim"),
        (["run", "experiments=smoke", "paths.root=/proc/nowhere"], "cannot"),
        (["plan", "experiments=smoke", "evaluation=closed_book"], "choose an option of evaluation"),
        (["trainer.micro_batch_size=3"], "does not divide data.batch_size 8"),
        (["corpus.documents=1000"], "fictional worlds need"),
        (["evaluation=none", "stage=evaluation"], "no such stage"),
        (["stage=training"], "run the stage that makes it"),
        (["llm.concurency=3"], "llm.concurency: unknown to OfflineWriter"),
        (["trainer.devics=2"], "did you mean devices?"),
        (
            ["hydra/sweeper=nevergrad", "-m", "seed=0,1"],
            "nevergrad: not installed; pip install hydra-nevergrad-sweeper",
        ),
        (["-m", "optim.lr=interval(0.1,0.2)"], "for sweepers that sample, such as hydra/sweeper=optuna"),
        (["hydra/launcher=ray", "-m", "seed=0,1"], "hydra/launcher=ray: not installed"),
        (["--nonsense"], "--nonsense: unknown option; expected one of --config-dir"),
        (["run", "--mutlirun", "seed=0,1"], "--mutlirun: unknown option; did you mean --multirun or --run?"),
        (["plan", "-x"], "-x: unknown option; expected one of"),
        (["clean", "smoke"], "smoke: clean takes only options and key=value, such as paths.root=outputs"),
        (["list", "paths.root=/nowhere"], "paths.root: /nowhere is not a folder; set it to the outputs of your runs"),
        (["clean"], "outputs is not a folder"),
    ],
)
def test_invalid_arguments_raise_one_error(
    arguments: list[str], message: str, command_here: Command, tmp_path: Path
) -> None:
    if "corpus.documents=1000" in arguments:
        arguments = [*arguments, "stage=corpus"]
    assert message in error_output(command_here(*arguments))
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and ".locks" not in path.parts}
    assert left == set()


@pytest.mark.parametrize("words", ["", "run ", "plan --why ", "run -m "])
def test_tab_completion_after_a_command(words: str, command_here: Command) -> None:
    completed = command_here("-sc", "query=bash", COMP_LINE=f"entigraph {words}trainer=c", COMP_POINT="0")
    assert completed.stdout.split() == ["trainer=cpu"], completed.stderr


def test_version_is_that_of_the_package(command_here: Command) -> None:
    assert command_here("--version").stdout == f"entigraph {__version__}\n"
    assert command_here("plan", "--version").stdout == f"entigraph {__version__}\n"


def test_error_ends_the_process_with_status_one(command: Command) -> None:
    assert "seed must be at least 0, got -1" in error_output(command("seed=-1"))


def test_control_characters_of_documents_do_not_reach_the_terminal(command_here: Command, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "lamp\x1b]0;x\x07.txt").write_text(f"{ARTICLE}\x1b[2J")
    options = ["corpus=text_files", f"corpus.path={documents}", "augmenter=rephrase", "preview.texts=1"]
    shown = command_here("preview", *options)
    assert shown.returncode == 0 and "Captain Holloway" in shown.stdout and not re.search("[\x1b\x07]", shown.stdout)
    (documents / "loom\x1b]0;x\x07.txt").write_bytes(b"\xff")
    failed = error_output(command_here("run", "stage=corpus", *options))
    assert "loom]0;x.txt" in failed and not re.search("[\x1b\x07]", failed)


def test_all_problems_are_reported_together(command_here: Command, tmp_path: Path) -> None:
    problems = {
        "+foo=1": "foo: unknown",
        "+synthesis.token_buget=5": "synthesis.token_buget: unknown; did you mean token_budget?",
        "tokens.budget=0": "tokens.budget must be at least 1, got 0",
        "data.batch_size=0": "data.batch_size must be at least 1, got 0",
        "tokenizer.vocab_size=5": "tokenizer.vocab_size must be at least",
        "corpus._target_=nowhere.Reader": "corpus._target_: nowhere.Reader cannot be imported: no module nowhere is",
        "model.num_attention_heads=3": "each must divide the preceding one",
        "trainer.accelerator=tpu": "trainer.accelerator must be one of auto, cpu, cuda, gpu",
        "evaluation.closed_book.prompt='{question} {foo}'": "an unknown placeholder: 'foo'",
        "module._target_=torch.nn.Linear": "module._target_: torch.nn.Linear is not a CausalLMModule",
        "+callbacks.throughput.window=1": "callbacks.throughput.window: unknown to Throughput",
        "+callbacks.one._target_=builtins.dict": "callbacks.one._target_: builtins.dict is not a Callback",
        "+callbacks.two=3": "callbacks.two must have a _target_",
        "+callbacks.three._target_=no.such.Callback": "callbacks.three._target_: ",
        "optim.lr=-1": "optim.lr must be positive, got -1.0",
        "+optim.betas=[0.9,1.5]": "optim.betas must be two numbers in [0, 1), got [0.9, 1.5]",
        "scheduler.warmup_ratio=2": "scheduler.warmup_ratio must be between 0 and 1, got 2.0",
    }
    errors = error_output(command_here(*problems))
    assert [problem for problem in problems.values() if problem not in errors] == []
    assert not list(tmp_path.iterdir())


def text_folder(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "contains no document"),
        ({"a_txt": b"\xff\xfa"}, "a.txt: not UTF-8 text at byte 0"),
        ({"a_txt": b"a\0b"}, "a.txt: a binary file"),
        ({"a_txt": b"  \n"}, "none of the 1 files or records contains text\n  - a.txt: no text in it"),
    ],
)
def test_invalid_files_raise_one_error(
    files: dict[str, bytes], message: str, command_here: Command, tmp_path: Path
) -> None:
    folder = text_folder(tmp_path / "texts", **files)
    result = command_here("corpus=text_files", f"corpus.path={folder}", "evaluation=none", "stage=corpus")
    assert message in error_output(result)
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 1: not JSON"),
        ('{"question": "Why?"}', "line 1: missing document"),
        (
            '{"document": "b.txt", "question": "?", "choices": ["x", "y"], "answer": 0}',
            "document must be a document of this corpus (a.txt, ...), got 'b.txt'",
        ),
        (
            '{"document": "a.txt", "question": "?", "choices": ["x", "y"], "answer": 2}',
            "answer must be between 0 and 1, got 2",
        ),
        (
            '{"document": "a.txt", "question": "?", "choices": ["x", " "], "answer": 0}',
            "choices must be at least two non-empty strings or numbers, got ['x', ' ']",
        ),
    ],
)
def test_invalid_questions_raise_one_error(line: str, message: str, command_here: Command, tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "texts", a_txt=b"Some text.")
    (tmp_path / "questions.jsonl").write_text(line + "\n")
    result = command_here(
        "corpus=text_files", f"corpus.path={folder}", f"corpus.questions={tmp_path}/questions.jsonl", "stage=corpus"
    )
    assert message in error_output(result)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda line: line[:50], "not JSON"),
        (lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "article"}), "lacks article"),
        (lambda line: line.replace('"gold_label": 3', '"gold_label": 9'), "gold_label must be between 1 and 4, got 9"),
        (lambda line: line.replace('"gold_label"', '"gold"'), "lacks gold_label"),
    ],
)
def test_invalid_quality_lines_raise_one_error(
    spoil: Callable[[str], str], message: str, command_here: Command, quality_file: Path
) -> None:
    lines = quality_file.read_text().splitlines()
    quality_file.write_text("\n".join([*lines[:2], spoil(lines[2])]))
    errors = error_output(command_here("corpus=quality", f"corpus.path={quality_file}", "stage=corpus"))
    assert message in errors and f"{quality_file}:3" in errors


def test_unwritable_output_folder_raises_one_error(command_here: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write under" in error_output(command_here("stage=corpus", f"paths.root={tmp_path}/file/outputs"))


def test_plan_and_help_write_nothing_and_import_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom entigraph.cli import main\n"
        "for arguments in ([], ['--help'], ['plan', 'experiments=smoke']):\n"
        "    sys.argv[1:] = arguments\n"
        "    try: main()\n    except SystemExit as leaving: print('status', leaving.code)\n"
        "print(sys.modules.keys() & {'torch', 'lightning', 'wandb', 'transformers', 'pandas', 'matplotlib', 'openai'})"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.count("status 0\n") == 3 and result.stdout.endswith("set()\n"), result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


def test_finished_pipeline_has_nothing_to_do(command: Command, tmp_path: Path) -> None:
    first = command("run", *TINY)
    assert first.returncode == 0, first.stderr
    manifests = {path: path.read_text() for path in (tmp_path / "outputs").rglob("manifest.json")}
    assert len(manifests) == 6 and not list((tmp_path / "outputs").rglob("checkpoints"))
    (tmp_path / "elsewhere").mkdir()
    second = command("run", f"paths.root={tmp_path}/outputs", *TINY, cwd=tmp_path / "elsewhere")
    assert second.returncode == 0 and "nothing to do" in second.stdout
    assert manifests == {path: path.read_text() for path in (tmp_path / "outputs").rglob("manifest.json")}


def test_each_stage_runs_by_itself(command_here: Command) -> None:
    for stage in ("corpus", "synthesis", "tokens", "training", "evaluation"):
        result = command_here(f"stage={stage}", *TINY)
        assert result.returncode == 0, (stage, result.stderr)


def test_interrupt_message_explains_how_to_continue(tmp_path: Path) -> None:
    arguments = [argument for argument in TINY if not argument.startswith("trainer.max_steps")]
    running = RunningCommand("run", *arguments, "trainer.max_steps=100000", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.rglob("metrics.jsonl")), process=running, timeout_s=600)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=600)
    assert running.returncode == 130 and "run the same command to continue" in errors


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("1 / 0", 1, r"error: ZeroDivisionError in your code, .*mine/__init__\.py:8: division by zero"),
        ("sorted('', key=0, reverse=[])", 1, r"error: TypeError in your code, .*mine/__init__\.py:8: "),
        ("5", 70, "error: an unexpected AttributeError, an internal error of entigraph"),
    ],
)
def test_unexpected_errors_keep_their_traceback(
    body: str, status: int, message: str, command: Command, tmp_path: Path
) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Broken:\n    name: str = 'broken'\n"
        "    fictional = False\n    has_questions = True\n"
        f"    def sources(self): return []\n    def read(self): return {body}\n"
    )
    result = command(
        "stage=corpus", "corpus._target_=mine.Broken", "~corpus.documents", "~corpus.changed", "~corpus.seed"
    )
    assert result.returncode == status and "Traceback" in result.stderr
    assert re.match(message, result.stderr.splitlines()[-1])


def test_experiment_in_config_dir(command_here: Command, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "experiments"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\ncorpus:\n  documents: 3\n")
    for key in ("experiments", "experiment"):
        result = command_here(f"{key}=mine", "--config-dir", str(tmp_path / "own"))
        assert result.returncode == 0 and "to do" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "augmenter.temperature",
            "augmenter.temperature: Rephrase takes it, but the chosen option does not set it; write ",
        ),
        ("augmenter.temprature", "augmenter.temprature: unknown to Rephrase; did you mean temperature?"),
    ],
)
def test_key_of_an_option_in_config_dir(key: str, message: str, command_here: Command, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "augmenter"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: entigraph.synthesis.augmenters.rephrase.Rephrase\n")
    result = command_here("plan", f"--config-dir={tmp_path}/own", "augmenter=mine", f"{key}=1")
    assert result.returncode == 1 and result.stderr.startswith(f"error: {message}"), result.stderr


@pytest.mark.parametrize("name", ["base/smoke", "base/fictional_reader", "open_book/fictional", "summaries/fictional"])
def test_experiment_extends_one_in_a_folder(name: str, command_here: Command, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "experiments"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"# @package _global_\ndefaults:\n  - /experiments/{name}\nseed: 3\n")
    result = command_here("--cfg", "job", "experiments=mine", "--config-dir", str(tmp_path / "own"))
    assert result.returncode == 0 and "seed: 3" in result.stdout, result.stderr


def test_broken_pipe_exits_zero(tmp_path: Path) -> None:
    shell = f"{sys.executable} -m entigraph plan experiments=smoke | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine may have what is asked for")
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("trainer=gpu", "trainer.accelerator=cuda needs a CUDA device"),
        ("launcher=slurm", "launcher: a cluster launcher runs the jobs of a sweep, and this is a single run; add -m"),
    ],
)
def test_missing_hardware_is_reported_before_work_starts(
    asked: str, message: str, command_here: Command, tmp_path: Path
) -> None:
    assert message in error_output(command_here("run", asked, "logger=none"))
    assert not list((tmp_path / "outputs").glob("*/*/manifest.json"))


def test_plan_explains_differences_from_finished_artifacts(command_here: Command, smoke: Path) -> None:
    root = f"paths.root={smoke}"
    result = command_here("plan", "--why", "experiments=smoke", root, "sweep.augmenters=[raw]", "optim.lr=0.5")
    assert result.returncode == 0 and "nearest finished: fictional-raw-" in result.stdout, result.stderr
    assert any("lr" in line and "→ 0.5" in line for line in result.stdout.splitlines())
    assert "nearest finished" not in command_here("plan", "experiments=smoke", root, "optim.lr=0.5").stdout


def test_plan_ends_with_the_command_that_executes_it(command_here: Command, tmp_path: Path) -> None:
    arguments = ["evaluation=[]", f"paths.root={tmp_path}/my outputs"]
    result = command_here("plan", *arguments)
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    assert shlex.split(last.removeprefix("to run the remaining stages: ")) == ["entigraph", "run", *arguments]


@pytest.mark.parametrize("option", ["--experiment=smoke", "--config-name=mine", "-cn"])
def test_options_that_would_do_something_else_are_errors(option: str) -> None:
    with pytest.raises(ConfigError, match=option.partition("=")[0]):
        hydra_arguments([option])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "experiment=smoke"], ["experiments=smoke", "command=run"]),
        (["a=1", "plan", "--config-dir", "run", "b=2"], ["--config-dir", "run", "a=1", "b=2", "command=plan"]),
        (["a=1,2", "-m", "~c", "--why"], ["-m", "a=1,2", "~c", "why=true"]),
        (["--config-dir=conf", "--multi", "-cjob", "a=1"], ["--config-dir=conf", "--multi", "-cjob", "a=1"]),
    ],
)
def test_arguments_for_hydra(arguments: list[str], expected: list[str]) -> None:
    assert hydra_arguments(arguments) == expected
