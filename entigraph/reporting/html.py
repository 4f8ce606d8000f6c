"""Self-contained HTML reports from Jinja templates."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup


def template_environment(package: str) -> Environment:
    """Returns a Jinja environment for the templates in a package's folder. All values are escaped, because documents,
    questions and answers are untrusted text.
    """
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    return environment


def write_page(
    file: Path, package: str, page: str, filters: Mapping[str, Callable[..., str]] | None = None, **values: Any
) -> Path:
    """Renders PAGE.html.j2 of a package with PAGE.js, the only script allowed by the page's Content-Security-Policy."""
    environment = template_environment(package)
    environment.filters.update(filters or {})
    script = resources.files(package).joinpath(f"{page}.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    stream = environment.get_template(f"{page}.html.j2").stream(**values, script=Markup(script), script_digest=digest)
    stream.enable_buffering()
    stream.dump(str(file), encoding="utf-8", errors="replace")
    return file


def write_static_page(file: Path, package: str, template: str, **values: Any) -> None:
    """Renders a template of a package to `file`; the page has no scripts or external resources."""
    page = template_environment(package).get_template(template).render(**values)
    file.write_text(page, encoding="utf-8")


def embed_svg(file: Path) -> str:
    """Returns an SVG as a data URL, because ids of inline SVGs would clash; empty if the file does not exist."""
    return f"data:image/svg+xml;base64,{b64encode(file.read_bytes()).decode()}" if file.exists() else ""
