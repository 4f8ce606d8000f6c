import pytest


@pytest.fixture(autouse=True)
def short_waits_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fractions of a second, instead of up to half a minute."""
    monkeypatch.setattr("entigraph.llm.openai.online_transport.MAX_BACKOFF_S", 0.2)
