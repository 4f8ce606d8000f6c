"""The shared style of all figures. Importing this module does not import matplotlib.

Series differ in marker as well as in color. Figures are saved as PNG, SVG and PDF, byte-identical for the same data.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ConfigError
from entigraph.storage.fingerprints import digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:
    Axes = Figure = Any

# The palette of Okabe and Ito.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
WINE, OLIVE, INDIGO = "#882255", "#999933", "#332288"  # from Tol's muted palette, for figures with many series
FIGURE_FORMATS = ("png", "svg", "pdf")  # PDF and SVG for print
NOTE_CHARACTERS = 16  # characters per inch in a note's font size
BLACK, GRAY, GRID_COLOR = "#000000", "#777777", "#dddddd"
STYLES: Mapping[str, tuple[str, str]] = {"entigraph": (BLUE, "o"), "rephrase": (VERMILION, "s"), "raw": (GREEN, "^")}
STYLE: ContextVar[str | None] = ContextVar("style", default=None)
COLORS, MARKERS = (PURPLE, ORANGE, SKY, WINE, OLIVE, INDIGO), ("D", "v", "P", "X", "*", "<", ">")
DISPLAY_NAMES: Mapping[str, str] = {
    "entigraph": "EntiGraph",
    "rephrase": "Rephrase",
    "raw": "Raw (documents repeated)",
    "qa": "QA pairs",
    "spa": "SPA",
    "active_reading": "Active Reading",
    "active_reading_task": "Active Reading (task)",
    "focal": "Focal rewriting",
    "focal_mixed": "Focal rewriting, QA",
    "summaries": "Summaries",
    "knowledge_instruct": "Knowledge-Instruct",
    "cross_document": "Cross-document",
    "mixed": "Mixed",
}


def create_figure(rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Returns a figure and its axes, an array of shape (rows, columns); `options` are passed to plt.subplots."""
    plt = load_pyplot()
    return plt.subplots(rows, columns, squeeze=False, layout="constrained", **options)  # type: ignore[no-any-return]


def load_pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"})
    plt.style.use(STYLE.get() or [])
    plt.rcParams.update({"svg.hashsalt": "entigraph", "pdf.fonttype": 42})  # 42: text of a PDF can be selected
    plt.rcParams.update({"text.parse_math": False})  # names of series and kinds of questions may contain "$"
    return plt


@contextmanager
def figure_style(style: str | None) -> Iterator[None]:
    """Applies a style of matplotlib, or a style file, to the figures that the body draws."""
    token = STYLE.set(style)
    try:
        yield
    finally:
        STYLE.reset(token)
        if style:
            import matplotlib

            matplotlib.rcdefaults()


def style_key(style: str | None) -> dict[str, str]:
    """Returns what a style adds to the cache key of an analysis. Raises ConfigError for one that does not exist."""
    if not style:
        return {}
    from matplotlib import rc_params_from_file
    from matplotlib.style import available

    if style in available:
        return {"style": style}
    file = Path(style).expanduser()
    if not file.is_file():
        raise ConfigError(f"style: {style!r} is no file; {did_you_mean(style, available)}")
    try:
        settings = rc_params_from_file(file, use_default_template=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"style: cannot read {file}: {str(error).splitlines()[0]}") from None
    if not settings:
        raise ConfigError(f"style: {file} must contain settings of matplotlib, such as `font.size: 8`, got none")
    return {"style": digest(file.read_text(encoding="utf-8"))}


def save_figure(figure: Figure, out: Path, name: str, note: str | None = None) -> None:
    """Writes NAME.png, NAME.svg and NAME.pdf, with `note` in gray below the axes, wrapped to the figure's width."""
    if note:
        width = int(figure.get_figwidth() * NOTE_CHARACTERS)
        lines = [textwrap.fill(line, width) for line in note.splitlines()]
        figure.supxlabel("\n".join(lines), fontsize=8, color=GRAY)
    figure.savefig(out / f"{name}.png", dpi=160)
    figure.savefig(out / f"{name}.svg", dpi=160, metadata={"Date": None})
    figure.savefig(out / f"{name}.pdf", metadata={"CreationDate": None})
    load_pyplot().close(figure)


def series_style(name: str, index: int) -> tuple[str, str]:
    """Returns color and marker. Series other than the known augmenters cycle through 42 pairs."""
    return STYLES.get(name, (COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]))


def plot_series(
    axes: Axes,
    name: str,
    index: int,
    points: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
    error: str | None = None,
    **style: Any,
) -> None:
    """Plots two fields of the points of a series, and its standard errors, in its color and marker.

    `style` replaces arguments of axes.errorbar.
    """
    color, marker = series_style(name, index)
    defaults = {"color": color, "marker": marker, "linestyle": "none", "capsize": 3, "label": display_name(name)}
    errors = [point[error] for point in points] if error else None
    axes.errorbar([point[x] for point in points], [point[y] for point in points], yerr=errors, **{**defaults, **style})


def display_name(name: str) -> str:
    """Returns the legend label of a series: its augmenter, then the settings that distinguish it from the others."""
    augmenter, _, settings = name.partition(" ")
    return f"{DISPLAY_NAMES.get(augmenter, augmenter)} {settings}".strip()


def format_token_axis(axes: Axes, budgets: Sequence[float], max_ticks: int = 6) -> None:
    """Sets a logarithmic x axis, with a tick at each budget if there are at most `max_ticks`."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if len(budgets) <= max_ticks:
        axes.set_xticks(sorted(budgets))
    if len({*budgets}) == 1:
        axes.set_xlim(budgets[0] / 2, budgets[0] * 2)
    format_count_axis(axes)


def format_count_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: abbreviate(value)))


def format_percent_axis(axes: Axes, which: Literal["x", "y"] = "y", grid: bool = True) -> None:
    from matplotlib.ticker import PercentFormatter

    (axes.yaxis if which == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1, decimals=0))
    if grid:
        add_grid(axes, which)


def add_grid(axes: Axes, which: Literal["x", "y", "both"]) -> None:
    axes.grid(axis=which, color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)


def abbreviate(count: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return f"{count:g}"
