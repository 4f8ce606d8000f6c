"""A study as a W&B report: one for each study, refreshed with its curve. Offline, report.html is the same page.

What it shows of single runs W&B draws itself, from the runs of the study's group.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Curve = Mapping[str, Any]


def publish(study: str, curve: Curve, project: str, entity: str | None) -> str:
    """Make or refresh it; returns a line that says where it is. What W&B refuses is told, and stops nothing."""
    import wandb
    import wandb_workspaces.reports.v2 as wr

    try:
        api = wandb.Api()
        page = report(study, curve, project, entity or str(api.default_entity))
        for known in api.reports(f"{page.entity}/{project}"):
            if known.display_name == study:
                blocks, page = page.blocks, wr.Report.from_url(known.url)  # with the comments that it has
                page.blocks = blocks
                break
        page.save()
    except Exception as error:  # wandb-workspaces raises whatever its parts do
        return f"W&B report: not published ({type(error).__name__}: {error}); entigraph analyze tries again"
    return f"W&B report  {page.url}"


def report(study: str, curve: Curve, project: str, entity: str) -> Any:
    """The report before it is saved: text and tables of the curve, and panels over the study's runs."""
    import wandb_workspaces.reports.v2 as wr

    def runs(name: str, job_type: str) -> Any:
        chosen = f"Metric('group') = '{study}' and Metric('jobType') = '{job_type}'"
        return wr.Runset(entity=entity, project=project, name=name, filters=chosen)

    drawn = wr.PanelGrid(
        runsets=[runs("analysis", "analysis")],
        panels=[
            wr.MediaBrowser(media_keys=["scaling_curve", "forecast"], num_columns=1, layout=wr.Layout(w=24, h=14)),
        ],
    )
    trained = wr.PanelGrid(
        runsets=[runs("jobs", "train")],
        panels=[
            wr.ScatterPlot(
                title="each run",
                x=wr.SummaryMetric("synthetic_tokens"),
                y=wr.SummaryMetric("accuracy"),
                log_x=True,
            ),
            wr.LinePlot(title="loss", x="training/step", y=["training/loss"], groupby=wr.Config("augmenter")),
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
            drawn,
            wr.MarkdownBlock(table(("", "tokens", "accuracy", "± s.e.", "seeds"), points(curve))),
            wr.H1("Fits and forecasts"),
            wr.MarkdownBlock("\n".join(f"- {line}" for line in fits(curve)) or "none"),
            wr.H1("Notes"),
            wr.MarkdownBlock("\n".join(f"- {note}" for note in curve["notes"]) or "none"),
            wr.H1("Runs"),
            trained,
        ],
    )


def table(headings: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def points(curve: Curve) -> Iterator[Sequence[str]]:
    """The base, other models, and each point of each line."""
    others = [{"augmenter": "base", "synthetic_tokens": 0, **curve["base"]}] if curve["base"] else []
    others += [{"augmenter": each["name"], **each} for each in curve["baselines"]]
    for each in (*others, *curve["points"]):
        tokens, seeds = each.get("synthetic_tokens"), each.get("seeds")
        yield (
            str(each["augmenter"]),
            f"{tokens:,}" if tokens is not None else "",
            f"{each['accuracy']:.3f}",
            f"{each['stderr']:.3f}",
            f"{seeds}" if seeds is not None else "",
        )


def fits(curve: Curve) -> Iterator[str]:
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
    for told in curve["forecasts"]:
        for target in told.get("targets", ()):
            reached = f"{target['tokens']:,} tokens" if target["tokens"] else f"not up to {target['up_to']:,} tokens"
            yield f"{told['augmenter']}, {told['chosen']}: {target['accuracy']:g} at {reached}"
