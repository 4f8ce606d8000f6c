from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.extending.examples import EXAMPLES, Project
from tests.mock_llm_server import spawned


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    paths = defaultdict(list)
    for example in EXAMPLES.values():
        for path, text in example.files.items():
            paths[path].append(example.title)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    assert not {path: titles for path, titles in paths.items() if len(titles) > 1}, "two examples write one file"
    (folder / "mylab" / "__init__.py").touch()
    with spawned(output_tokens=60) as server:
        yield Project(folder, server)
