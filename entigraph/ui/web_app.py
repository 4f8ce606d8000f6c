"""The Gradio app: studies, running sweeps, conversations, comparisons of two runs, texts and entity graphs.

Documents and answers are shown in text boxes and in tables of plain text only, so that they never run as HTML.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "0"  # read when gradio is imported

import gradio as gr  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: E402

from entigraph.errors import EntigraphError  # noqa: E402
from entigraph.ui import views  # noqa: E402
from entigraph.ui.browser_sessions import BASE_MODEL, NO_MODEL, BrowserSessions, Histories  # noqa: E402

SECONDS_BETWEEN_READS = 2.0
COLUMN = {"min_width": 260}  # pixels; narrower columns are stacked
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # no downloaded fonts


def launch(root: Path, host: str, port: int, device: str, in_browser: bool) -> None:
    """Serves the app until it is interrupted."""
    app = build_app(root, device)
    print(f"serving {root} on http://{host}:{port} (Ctrl-C ends it)")
    app.launch(
        server_name=host,
        server_port=port,
        share=False,
        inbrowser=in_browser,
        footer_links=[],
        ssr_mode=False,
        run_history=False,
        theme=gr.themes.Default(**FONTS),
        quiet=True,
        max_file_size=1,  # the app has no uploads, but Gradio serves a route for them
        app_kwargs={"middleware": trusted_hosts(host)},
    )


def trusted_hosts(host: str) -> list[Middleware]:
    """Returns the check of the Host header for an app that only this machine reaches. Without it, a web page could read
    the documents through its own name that resolves to this address (DNS rebinding).
    """
    if host != "localhost" and not host.startswith("127."):
        return []
    return [Middleware(TrustedHostMiddleware, allowed_hosts=[host, "127.0.0.1", "localhost"])]


def build_app(root: Path, device: str = "auto") -> gr.Blocks:
    with gr.Blocks(title=f"EntiGraph: {root.name}", analytics_enabled=False) as app:
        gr.Markdown("# EntiGraph")
        with gr.Tab("Studies"):
            add_studies(app, root)
        with gr.Tab("Sweeps"):
            add_sweeps(app, root)
        with gr.Tab("Ask"):
            add_conversation(app, root, device)
        with gr.Tab("Compare"):
            add_comparison(app, root)
        with gr.Tab("Texts"):
            add_texts(app, root)
        with gr.Tab("Entities"):
            add_graphs(app, root)
    return app


def explain_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Shows user errors as a message of the page."""

    @wraps(function)
    def wrapper(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except EntigraphError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None

    return wrapper


def selector(label: str, **options: Any) -> gr.Dropdown:
    """Returns an empty drop-down list, which is filled when the page is loaded. Gradio would reject names that were
    added later, so it accepts any name; `views` rejects those that it does not list.
    """
    return gr.Dropdown([], label=label, allow_custom_value=True, **options)


def choices(names: Sequence[str], selected: int = 0) -> gr.Dropdown:
    """Returns the update that fills a drop-down list."""
    return gr.Dropdown(choices=list(names), value=names[selected] if selected < len(names) else None)


def add_studies(app: gr.Blocks, root: Path) -> None:
    name = selector("Study")
    summary = gr.Textbox(label="Summary", lines=6, interactive=False)
    curve = gr.HTML(visible=False)
    table = gr.Dataframe(label="Accuracy", datatype="str", interactive=False, visible=False)
    report = gr.Textbox(label="Report, a page on this machine", interactive=False, visible=False, buttons=["copy"])

    @explain_errors
    def show(name: str | None) -> tuple[Any, ...]:
        if not name:
            return "There is no study yet.", *[gr.update(visible=False)] * 3
        view = views.view_study(root, name)
        rows = {"headers": list(view.headings), "data": [list(row) for row in view.rows]}
        has_curve = bool(view.curve)
        return view.summary, *(gr.update(value=value, visible=has_curve) for value in (view.curve, rows, view.report))

    outputs = [summary, curve, table, report]
    app.load(lambda: choices(views.list_studies(root)), None, name, api_visibility="private").then(
        show, name, outputs, api_visibility="private"
    )
    name.change(show, name, outputs, api_name="study")


def add_sweeps(app: gr.Blocks, root: Path) -> None:
    gr.Markdown("A sweep that finished without failures is not listed.")
    jobs = gr.Dataframe(label="Jobs of sweeps", headers=views.SWEEP_HEADINGS, datatype="str", interactive=False)

    def show() -> list[list[str]]:
        return [list(row) for row in views.list_jobs(root)]

    gr.Timer(SECONDS_BETWEEN_READS).tick(show, None, jobs, api_name="sweeps", show_progress="hidden")
    app.load(show, None, jobs, api_visibility="private")


def add_conversation(app: gr.Blocks, root: Path, device: str) -> None:
    sessions = BrowserSessions(root, device)
    with gr.Row():
        model, other = selector("Model", **COLUMN), selector("Second model", **COLUMN)
    with gr.Row():
        labels = ("Answers of the model", "Answers of the second model")
        transcripts = [gr.Textbox(label=label, lines=8, interactive=False, **COLUMN) for label in labels]
    question = gr.Textbox(label="Question", submit_btn="Ask")
    open_book = gr.Checkbox(label="Open book: add passages of the documents to the prompt")
    max_tokens = gr.Number(100, label="Maximum tokens per answer", precision=0, minimum=1, maximum=1000)
    with gr.Row():
        why = gr.Button("Why? Texts that mention the names in the answer", **COLUMN)
        reset = gr.Button("New conversation", **COLUMN)
    evidence = gr.Textbox(label="Why", lines=12, interactive=False)
    histories = gr.State({})

    def list_models() -> tuple[gr.Dropdown, gr.Dropdown]:
        models = views.list_models(root)
        return choices(models), choices([BASE_MODEL, NO_MODEL, *models])

    def ask(*arguments: Any) -> Iterator[Any]:
        if not arguments[2].strip():
            return
        try:
            yield from sessions.ask(*arguments)
        except EntigraphError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None

    @explain_errors
    def explain(model: str, other: str, histories: Histories) -> str:
        return sessions.explain(model, other, histories)

    app.load(list_models, None, [model, other], api_visibility="private")
    question.submit(
        ask, [model, other, question, open_book, max_tokens, histories], [*transcripts, histories], api_name="ask"
    )
    why.click(explain, [model, other, histories], evidence, api_name="why")
    reset.click(lambda: ("", "", "", {}), None, [*transcripts, evidence, histories], api_name="reset")
    for chosen in (model, other):
        chosen.change(lambda: ("", "", "", {}), None, [*transcripts, evidence, histories], api_visibility="private")


def add_texts(app: gr.Blocks, root: Path) -> None:
    with gr.Row():
        name = selector("Synthetic texts", **COLUMN)
        query = gr.Textbox(label="Containing", submit_btn="Search", **COLUMN)
        page = gr.Number(1, label="Page", precision=0, minimum=1, **COLUMN)
    table = gr.Dataframe(label="Texts", headers=views.TEXT_HEADINGS, datatype="str", interactive=False)
    number = gr.Number(1, label="Show text number", precision=0, minimum=1)
    with gr.Row():
        text = gr.Textbox(label="Text", lines=16, interactive=False, **COLUMN)
        source = gr.Textbox(label="Source document", lines=16, interactive=False, **COLUMN)

    @explain_errors
    def search(name: str | None, query: str, page: int) -> list[list[str]]:
        return [list(row) for row in views.list_texts(root, name, query, page)] if name else []

    @explain_errors
    def show(name: str | None, number: int) -> tuple[str, str]:
        return views.show_text(root, name, number) if name else ("", "")

    app.load(lambda: choices(views.list_corpora(root)), None, name, api_visibility="private")
    query.submit(search, [name, query, page], table, api_name="texts")
    for changed in (name, page):
        changed.change(search, [name, query, page], table, api_visibility="private")
    number.change(show, [name, number], [text, source], api_name="text")


def add_comparison(app: gr.Blocks, root: Path) -> None:
    with gr.Row():
        chosen = [selector(label, **COLUMN) for label in ("Evaluation", "Reference")]
    compare = gr.Button("Compare")
    summary = gr.Textbox(label="Difference from the reference", lines=5, interactive=False)
    changed = gr.Dataframe(
        headers=views.CHANGE_HEADINGS, label="Questions gained and lost", datatype="str", interactive=False, wrap=True
    )

    @explain_errors
    def show(one: str | None, other: str | None) -> tuple[str, list[list[str]]]:
        if not one or not other:
            return "choose two evaluations", []
        text, rows = views.compare_evaluations(root, one, other)
        return text, [list(row) for row in rows]

    def list_evaluations() -> list[gr.Dropdown]:
        names = views.list_evaluations(root)
        return [choices(names), choices(names, selected=1)]

    app.load(list_evaluations, None, chosen, api_visibility="private")
    compare.click(show, chosen, [summary, changed], api_name="compare")


def add_graphs(app: gr.Blocks, root: Path) -> None:
    with gr.Row():
        name, document = selector("Synthetic texts", **COLUMN), selector("Document", **COLUMN)
    description = gr.Textbox(label="Graph", interactive=False)
    graph = gr.HTML()
    pairs = gr.Dataframe(label="Pairs of entities", headers=views.GRAPH_HEADINGS, datatype="str", interactive=False)

    @explain_errors
    def list_documents(name: str | None) -> gr.Dropdown:
        return choices(views.list_graphs(root, name) if name else [])

    @explain_errors
    def show(name: str | None, document: str | None) -> tuple[str, str, list[list[str]]]:
        if not name or not document:
            return "these texts have no entity graphs", "", []
        view = views.view_graph(root, name, document)
        return view.description, view.image, [list(row) for row in view.rows]

    app.load(lambda: choices(views.list_corpora(root)), None, name, api_visibility="private")
    name.change(list_documents, name, document, api_visibility="private")
    document.change(show, [name, document], [description, graph, pairs], api_name="graph")
