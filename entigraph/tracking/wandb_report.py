"""A study as a W&B report: one per study, updated with its curve. Offline, report.html has the same content.

W&B itself draws the panels of single runs, from the runs of the study's group.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Curve = Mapping[str, Any]


def publish(study: str, curve: Curve, project: str, entity: str | None) -> str:
    """Creates or updates the report; returns a line with its address, or with the error, which stops nothing."""
    import wandb
    import wandb_workspaces.reports.v2 as wr

    try:
        api = wandb.Api()
        page = build_report(study, curve, project, entity or str(api.default_entity))
        for known in api.reports(f"{page.entity}/{project}"):
            if known.display_name == study:
                blocks, page = page.blocks, wr.Report.from_url(known.url)  # with the comments that it has
                page.blocks = blocks
                break
        page.save()
    except Exception as error:  # wandb-workspaces raises the errors of many libraries
        return f"W&B report: not published ({type(error).__name__}: {error}); entigraph analyze tries again"
    return f"W&B report  {page.url}"


def build_report(study: str, curve: Curve, project: str, entity: str) -> Any:
    """Returns the unsaved report: text and tables of the curve, and panels of the study's runs."""
    import wandb_workspaces.reports.v2 as wr

    def runs(name: str, job_type: str) -> Any:
        filters = f"Metric('group') = '{study}' and Metric('jobType') = '{job_type}'"
        return wr.Runset(entity=entity, project=project, name=name, filters=filters)

    figures = wr.PanelGrid(
        runsets=[runs("analysis", "analysis")],
        panels=[
            wr.MediaBrowser(media_keys=["scaling_curve", "forecast"], num_columns=1, layout=wr.Layout(w=24, h=14)),
        ],
    )
    training = wr.PanelGrid(
        runsets=[runs("jobs", "train")],
        panels=[
            wr.ScatterPlot(
                title="each run",
                x=wr.SummaryMetric("synthetic_tokens"),
                y=wr.SummaryMetric("accuracy"),
                log_x=True,
            ),
            wr.LinePlot(
                title="loss",
                x="training/step",
                y=["training/loss", "training/val_loss"],
                groupby=wr.Config("augmenter"),
            ),
            wr.RunComparer(diff_only=True),
        ],
    )
    return wr.Report(
        project=project,
        entity=entity,
        title=study,
        description="Written by entigraph analyze, and again by the next one: comments stay, other text goes.",
        width="fluid",
        blocks=[
            *([wr.MarkdownBlock(f"**{curve['label']}**")] if curve["label"] else []),
            wr.H1("Accuracy against synthetic tokens"),
            figures,
            wr.MarkdownBlock(render_table(("", "tokens", "accuracy", "± s.e.", "seeds"), point_rows(curve))),
            wr.H1("Fits and forecasts"),
            wr.MarkdownBlock("\n".join(f"- {line}" for line in fit_lines(curve)) or "none"),
            wr.H1("Notes"),
            wr.MarkdownBlock("\n".join(f"- {note}" for note in curve["notes"]) or "none"),
            wr.H1("Runs"),
            training,
        ],
    )


def render_table(headings: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def point_rows(curve: Curve) -> Iterator[Sequence[str]]:
    """Yields the rows of the base model, of other models, and of each point of each line."""
    others = [{"augmenter": "base", "synthetic_tokens": 0, **curve["base"]}] if curve["base"] else []
    others += [{"augmenter": each["name"], **each} for each in curve["baselines"]]
    for point in (*others, *curve["points"]):
        tokens, seeds = point.get("synthetic_tokens"), point.get("seeds")
        yield (
            str(point["augmenter"]),
            f"{tokens:,}" if tokens is not None else "",
            f"{point['accuracy']:.3f}",
            f"{point['stderr']:.3f}",
            f"{seeds}" if seeds is not None else "",
        )


def fit_lines(curve: Curve) -> Iterator[str]:
    for fit in curve["fits"]:
        if "missing" in fit:
            yield f"{fit['augmenter']}: no fit: {fit['missing']}"
            continue
        low, high = fit["interval"]["b"]
        yield (
            f"{fit['augmenter']}: accuracy = {fit['parameters']['a']:.3f} {fit['parameters']['b']:+.4f} ln(tokens), "
            f"R² {fit['r2']:.3f} over {fit['runs']} runs; slope {low:+.4f} to {high:+.4f} "
            f"({fit['interval']['confidence']:.0%})"
        )
    for forecast in curve["forecasts"]:
        for target in forecast.get("targets", ()):
            reached = f"{target['tokens']:,} tokens" if target["tokens"] else f"not up to {target['up_to']:,} tokens"
            yield f"{forecast['augmenter']}, {forecast['chosen']}: {target['accuracy']:g} at {reached}"
