"""Pages as Chromium renders them, without a network."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lxml import html

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to render the page")

# Sets the title of the page if a part of it runs. The pages shorten longer names.
HOSTILE = "</script></title><script>document.title=1</script>\"'><img src=x onerror=document.title=2>{{ 7 * 7 }}&amp;"


def render_page(file: Path, profile: Path, fragment: str = "") -> Any:
    """Returns the document after the scripts of the page have run, as an lxml tree."""
    result = subprocess.run(
        [
            str(CHROMIUM),
            *OPTIONS,
            f"--user-data-dir={profile}",
            "--virtual-time-budget=3000",
            "--dump-dom",
            f"{file.as_uri()}{fragment}",
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    return html.fromstring(result.stdout)
