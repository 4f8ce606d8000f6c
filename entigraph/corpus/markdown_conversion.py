"""Converts HTML to Markdown with markdownify. Importing this module needs the extra `documents`."""

from typing import Any

from bs4 import BeautifulSoup, Tag
from markdownify import MarkdownConverter

CONVERTER = MarkdownConverter(
    heading_style="ATX", strip=["a", "img"], escape_asterisks=False, escape_underscores=False, escape_misc=False
)


class ElementWithFastParents(Tag):
    """markdownify looks for a `pre` above every element, for which bs4's general search takes a quarter of the time."""

    def find_parent(self, name: Any = None, attrs: Any = None, **conditions: Any) -> Any:
        if not isinstance(name, str) or attrs or conditions:
            return super().find_parent(name, attrs, **conditions)
        parent = self.parent
        while parent is not None and parent.name != name:
            parent = parent.parent
        return parent


def markdown(html: str) -> str:
    """Returns HTML as Markdown without links."""
    page = BeautifulSoup(html, "lxml", element_classes={Tag: ElementWithFastParents})
    return str(CONVERTER.convert_soup(page))
