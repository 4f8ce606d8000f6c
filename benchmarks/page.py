"""Measures how fast the report of an evaluation opens in headless Chromium at QuALITY's size; the limit is 2 seconds.

4,609 questions with 64 samples, four of them stored as text; eight passages of 1,000 characters per question; 265
documents with 200 synthetic texts each. Words are random, so the page compresses worse than natural text.

python benchmarks/page.py [--questions 4609] [--keep FOLDER]
"""

import argparse
import asyncio
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from entigraph.evaluation import evaluation_report
from entigraph.evaluation.base import Generation, RetrievedPassages, TaskInputs
from entigraph.evaluation.entity_mentions import TrainingTexts
from entigraph.evaluation.tasks.open_book import OpenBookCoT
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Document, EntityGraph, Question, SyntheticText

DOCUMENTS, SAMPLES, PASSAGES, SHOWN, TEXTS, ENTITIES = 265, 64, 30, 8, 200, 40
LIMIT = 2.0
TASK = OpenBookCoT(samples=SAMPLES)
OPENED = "Number(document.documentElement.dataset.ready) / 1000"
SEARCHED = """(async () => { const begun = performance.now(); document.getElementById("search").value = "q99";
await applyFilters(); await new Promise(requestAnimationFrame); return (performance.now() - begun) / 1000; })()"""
CHOSEN = """(async () => { document.getElementById("search").value = ""; await applyFilters();
const begun = performance.now(); await selectQuestion(visible.at(-1)); await new Promise(requestAnimationFrame);
return (performance.now() - begun) / 1000; })()"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--questions", type=int, default=4_609)
    arguments.add_argument("--keep", type=Path, help="folder in which to keep the page")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        page, seconds = write_page(folder, options.questions)
        print(f"{options.questions:,} questions of {SAMPLES} samples")
        print(f"written in   {seconds:6.2f} s   {page.stat().st_size / 1e6:.1f} MB, ", end="")
        print(f"answers.jsonl {(folder / 'answers-open.jsonl').stat().st_size / 1e6:.0f} MB")
        browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if browser is None:
            print("Chromium is not installed, so the page is not opened")
            return
        opened, searched, chosen = asyncio.run(measure_page(browser, page, Path(temporary) / "browser"))
        print(f"opened in    {opened:6.2f} s   limit {LIMIT:.0f} s, with the first question displayed")
        print(f"searched in  {searched:6.2f} s   all questions, options and titles")
        print(f"navigated in {chosen:6.2f} s   to the last question")


def write_page(folder: Path, count: int) -> tuple[Path, float]:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(20_000)]

    def prose(characters: int) -> str:
        return " ".join(rng.choices(words, k=characters // 7))

    names = [f"d{number}" for number in range(DOCUMENTS)]
    entities = {name: [prose(14).title() for _ in range(ENTITIES)] for name in names}
    passages = {name: [prose(1_000) for _ in range(PASSAGES)] for name in names}
    source = TaskInputs(folder / "questions.jsonl", folder / "documents.jsonl")
    write_jsonl(source.documents, (Document(id=name, title=prose(30), text="") for name in names))
    questions = [make_question(number, names[number % DOCUMENTS], entities, prose) for number in range(count)]
    write_jsonl(source.questions, questions)
    write_jsonl(folder / "answers-open.jsonl", (make_answer(question, passages, rng, prose) for question in questions))
    write_json(folder / "scores.json", {"open": TASK.score(list(read_jsonl(folder / "answers-open.jsonl", Answer)))})
    texts = [make_text(number, names[number % DOCUMENTS], entities, rng, prose) for number in range(DOCUMENTS * TEXTS)]
    graphs = [EntityGraph(document_id=name, summary="", entities=names) for name, names in entities.items()]
    started = time.perf_counter()
    page = evaluation_report.write(
        folder, {"open": source}, name="benchmark", training=TrainingTexts(lambda: iter(texts), graphs)
    )
    return page, time.perf_counter() - started


def make_question(number: int, document: str, entities: Any, prose: Any) -> Question:
    names = entities[document]
    return Question(
        id=f"q{number}",
        document_id=document,
        text=f"{prose(50)} {names[number % ENTITIES]}?",
        choices=[f"{prose(40)} {names[(number + offset) % ENTITIES]}" for offset in range(1, 5)],
        answer=number % 4,
        group="hard" if number % 2 else "easy",
    )


def make_answer(question: Question, passages: Any, rng: random.Random, prose: Any) -> Answer:
    texts = [Generation(f"{prose(500)}\nAnswer: {rng.choice('ABCDE')}.\n") for _ in range(TASK.texts_kept)]
    rest = [Generation(f"Answer: {rng.choice('ABCDE')}.\n") for _ in range(SAMPLES - len(texts))]
    retrieved = RetrievedPassages([rng.choice(passages[rng.choice(list(passages))]) for _ in range(SHOWN)], True)
    return TASK.build_answer(question, question.id, [*texts, *rest], retrieved)


def make_text(number: int, document: str, entities: Any, rng: random.Random, prose: Any) -> SyntheticText:
    about = rng.sample(entities[document], 2)
    text = f"{prose(900)} {about[0]} {prose(200)} {about[1]} {prose(900)}"
    fields = {"id": f"{number}", "document_id": document, "augmenter": "entigraph", "kind": "pair", "about": about}
    return SyntheticText(**fields, sample=0, text=text, writer="w", prompt_hash="", tokens=400)


async def measure_page(browser: str, page: Path, profile: Path) -> tuple[float, float, float]:
    """Returns the seconds to open, search and navigate, by the clock of the page, from the start of the navigation."""
    import aiohttp

    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    ports = ("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank")
    process = subprocess.Popen([browser, *options, *ports], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (profile / "DevToolsActivePort").exists():
            await asyncio.sleep(0.05)
        port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:
            (tab, *_) = await (await session.get(f"http://127.0.0.1:{port}/json/list")).json(content_type=None)
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                await send(socket, "Page.navigate", url=page.as_uri())
                while not (opened := await value(socket, OPENED)):
                    await asyncio.sleep(0.1)
                return opened, await value(socket, SEARCHED), await value(socket, CHOSEN)
    finally:
        process.terminate()
        process.wait()


async def value(socket: Any, expression: str) -> Any:
    answer = await send(socket, "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
    if "exceptionDetails" in answer:
        raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
    return answer["result"].get("value")


async def send(socket: Any, method: str, **parameters: Any) -> Any:
    await socket.send_json({"id": 1, "method": method, "params": parameters})
    while True:
        message = await socket.receive_json()
        if message.get("id") == 1:
            return message["result"]


if __name__ == "__main__":
    main()
