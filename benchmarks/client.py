"""Compares the LLM client with the bare SDK and the loop of the paper's code, in one run.

python benchmarks/client.py [--json FILE]        (make bench-client)

A loopback server in a separate process answers after 200 ms; each client runs in its own process (writers.py). Server
and clients share the machine, so only the ratios are meaningful.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import prose
from writers import KEY, PROMPT_BYTES

HERE = Path(__file__).resolve().parent
OURS, BARE = "entigraph", "openai_aiohttp"
CONCURRENCY, LATENCY_S, ANSWER_TOKENS, CHARACTERS_PER_TOKEN = 256, 0.2, 600, 4
STARTUP_REQUESTS = 400  # requests of the small run, which measures the CPU time of the start-up
# Share of the 5,000 requests that each client sends, and its concurrency.
SHARE = {OURS: (1.0, CONCURRENCY), BARE: (1.0, CONCURRENCY), "authors": (0.004, 1)}
CAP = {"rpm": 1200, "burst_s": 1.0}
CAP_CONCURRENCY, CAP_REQUESTS = 64, (100, 300)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run of one client: its own measurements, the counts of the server and the files it wrote."""

    client: str
    requests: int
    answered: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    server: dict[str, Any] = field(repr=False)
    files: dict[str, int] = field(repr=False)

    @property
    def rate(self) -> float:
        return self.answered / self.wall_s

    @property
    def disk_bytes(self) -> int:
        return sum(self.files.values())

    def bytes_with_prefix(self, prefix: str) -> int:
        return sum(size for name, size in self.files.items() if name.startswith(prefix))


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians of one client over the rounds. `cpu_ms` is client CPU time per request, without the start-up."""

    client: str
    requests: int
    overall: float
    steady: float
    cpu_ms: float
    connections: int
    open_at_most: int
    peak_mb: float
    disk_bytes: float


@dataclass(frozen=True, kw_only=True)
class Target:
    name: str
    limit: str
    value: float
    met: bool


def measure(client: str, requests: int, concurrency: int, planned: int | None = None, **server: Any) -> Measurement:
    """Runs one client in a new process against a new server. Raises RuntimeError with the output of a failed client."""
    sys.path.insert(0, str(HERE.parent))
    from tests.mock_llm_server import spawned

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = stack.enter_context(tempfile.TemporaryDirectory())
        mock = stack.enter_context(spawned(**{"latency_s": LATENCY_S, "output_tokens": ANSWER_TOKENS, **server}))
        command = [sys.executable, str(HERE / "writers.py"), client]
        command += [mock.base_url, str(folder), "--requests", str(requests), "--concurrency", str(concurrency)]
        command += ["--planned", str(planned or requests)]
        environment = {**os.environ, "HOME": home, "PYTHONPATH": str(HERE.parent), "OPENAI_API_KEY": KEY}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{client} exited with {result.returncode}:\n{result.stderr[-3000:]}")
        files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        report = json.loads(result.stdout.splitlines()[-1])
        return Measurement(client=client, requests=requests, server=mock.stats(), files=files, **report)


def speed(clients: Sequence[str], requests: int, rounds: int) -> tuple[list[Row], float, float]:
    """Returns rows, and the median ratio of our rate to the bare client's: over the whole run and in steady state."""
    small: dict[str, list[Measurement]] = {client: [] for client in clients}
    large: dict[str, list[Measurement]] = {client: [] for client in clients}
    for turn in range(rounds):
        for client in clients if turn % 2 == 0 else reversed(clients):
            share, concurrency = SHARE[client]
            count = max(10, int(share * requests))
            small[client].append(measure(client, min(STARTUP_REQUESTS, count // 5), concurrency))
            large[client].append(measure(client, count, concurrency))
            note(f"round {turn + 1} of {rounds}: {client}, {large[client][-1].rate:,.0f} requests/s")
    pairs = list(zip(large[OURS], large[BARE], strict=True))
    overall = median(ours.rate / bare.rate for ours, bare in pairs)
    steady = median(ours.server["steady_rps"] / bare.server["steady_rps"] for ours, bare in pairs)
    return [row(small[client], large[client]) for client in clients], overall, steady


def row(small: Sequence[Measurement], large: Sequence[Measurement]) -> Row:
    one = large[0]
    return Row(
        client=one.client,
        requests=one.requests,
        overall=median(run.rate for run in large),
        # One request at a time has no ramp-up, and too few requests for the server's steady rate.
        steady=median(run.server["steady_rps"] or run.rate for run in large),
        cpu_ms=median(
            1e3 * (big.cpu_s - few.cpu_s) / (big.requests - few.requests) for few, big in zip(small, large, strict=True)
        ),
        connections=max(run.server["connections"] - 1 for run in large),  # one of them reads the statistics
        open_at_most=max(run.server["max_connections"] for run in large),
        peak_mb=max(run.peak_bytes for run in large) / 1e6,
        disk_bytes=one.disk_bytes / one.answered,
    )


def memory() -> dict[str, float]:
    """Returns the peak memory of our client in MB, by the number of requests sent and planned."""
    sizes = {}
    for sent, planned in ((1_000, 10_000), (1_000, 1_000_000), (10_000, 1_000_000)):
        measurement = measure(OURS, sent, CONCURRENCY, planned=planned)
        sizes[f"{sent:,} sent of {planned:,} planned"] = measurement.peak_bytes / 1e6
        note(f"memory: {sent:,} sent of {planned:,} planned")
    return sizes


def disk() -> dict[str, float]:
    """Returns the bytes stored per byte of natural text, with each text used once."""
    texts = prose.texts(ANSWER_TOKENS * CHARACTERS_PER_TOKEN)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        measurement = measure(OURS, len(texts), CONCURRENCY, texts=file.name)
    size = sum(len(text.encode()) for text in texts)
    cache, parquet = measurement.bytes_with_prefix("cache"), measurement.bytes_with_prefix("texts-")
    return {
        "texts": len(texts),
        "response cache": cache / size,
        "parquet": parquet / size,
        "all": measurement.disk_bytes / size,
    }


def cap(clients: Iterable[str]) -> list[dict[str, Any]]:
    """Measures the effect of a rate limit that the clients do not know."""
    rows = []
    for client in clients:
        for requests in CAP_REQUESTS:
            measurement = measure(client, requests, CAP_CONCURRENCY, **CAP)
            per_second = CAP["rpm"] / 60
            ideal = (requests - per_second * CAP["burst_s"]) / per_second + LATENCY_S
            rows.append(
                {
                    "client": client,
                    "requests": requests,
                    "answered": measurement.answered,
                    "sent": measurement.server["requests"],
                    "refused": measurement.server["status"].get("429", 0),
                    "early": measurement.server["early_retries"],
                    "wall_s": measurement.wall_s,
                    "by_ideal": measurement.wall_s / ideal,
                }
            )
            note(f"cap: {client}, {requests} requests")
    return rows


def targets(
    rows: Sequence[Row], overall: float, sizes: dict[str, float], kept: dict[str, float], caps: Iterable[dict[str, Any]]
) -> list[Target]:
    ours = next(row for row in rows if row.client == OURS)
    capped = [row for row in caps if row["client"] == OURS]
    peaks = list(sizes.values())
    figures = (
        ("client CPU without start-up, ms per request", "<=", 1.25, ours.cpu_ms),
        ("rate relative to the bare openai[aiohttp]", ">=", 0.85, overall),
        ("connections beyond the concurrency", "<=", 8, max(ours.connections, ours.open_at_most) - CONCURRENCY),
        ("peak memory, MB", "<=", 200, max(*peaks, ours.peak_mb)),
        ("peak memory, largest by smallest", "<=", 1.1, max(peaks) / min(peaks)),
        ("response cache and Parquet relative to text", "<=", 1.3, kept["all"]),
        ("cap: requests without an answer", "<=", 0, sum(row["requests"] - row["answered"] for row in capped)),
        ("cap: 429s per request", "<=", 0.05, max(row["refused"] / row["requests"] for row in capped)),
        ("cap: wall time relative to the ideal", "<=", 1.2, max(row["by_ideal"] for row in capped)),
        ("cap: sent before Retry-After", "<=", 0, sum(row["early"] for row in capped)),
    )
    return [
        Target(
            name=name, limit=f"{sign} {limit:g}", value=value, met=value <= limit if sign == "<=" else value >= limit
        )
        for name, sign, limit, value in figures
    ]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    cells = [list(head), *map(list, lines)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    for first, *rest in cells:
        print("  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]))
    print()


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5_000, help="of the fast clients; slow ones send a share")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved; medians are printed")
    parser.add_argument("--json", type=Path, help="writes the results to this file")
    options = parser.parse_args()
    clients = list(SHARE)
    rows, overall, steady = speed(clients, options.requests, options.rounds)
    sizes, kept = memory(), disk()
    caps = cap([client for client in clients if client != "authors"])  # too slow to reach a limit
    checks = targets(rows, overall, sizes, kept, caps)

    print(
        f"{CONCURRENCY} at once (authors: 1), {1e3 * LATENCY_S:.0f} ms, prompts of {PROMPT_BYTES / 1e3:.0f} kB, "
        f"answers of {ANSWER_TOKENS} tokens; medians of {options.rounds} interleaved rounds"
    )
    table(
        ("client", "requests", "whole/s", "steady/s", "CPU ms", "connections", "open at most", "peak MB", "disk B"),
        (
            (r.client, f"{r.requests:,}", f"{r.overall:,.0f}", f"{r.steady:,.0f}", f"{r.cpu_ms:.2f}")
            + (f"{r.connections:,}", f"{r.open_at_most:,}", f"{r.peak_mb:.0f}", f"{r.disk_bytes:,.0f}")
            for r in rows
        ),
    )
    print(f"{OURS} relative to {BARE}, medians of the rounds: {overall:.2f} whole, {steady:.2f} steady\n")
    table(("peak memory of entigraph", "MB"), ((name, f"{size:.0f}") for name, size in sizes.items()))
    print(
        f"{kept['texts']:.0f} natural texts (docstrings of Python and NumPy) of "
        f"{ANSWER_TOKENS * CHARACTERS_PER_TOKEN:,} characters, bytes stored per byte of text: "
        f"response cache {kept['response cache']:.2f}, Parquet {kept['parquet']:.2f}, total {kept['all']:.2f}\n"
    )
    print(f"Rate limit of {CAP['rpm']:,} requests per minute unknown to the clients, {CAP_CONCURRENCY} at once")
    table(
        ("client", "requests", "answered", "sent", "429s", "early", "wall s", "of ideal"),
        (
            (r["client"], *(f"{r[key]}" for key in ("requests", "answered", "sent", "refused", "early")))
            + (f"{r['wall_s']:.1f}", f"{r['by_ideal']:.2f}")
            for r in caps
        ),
    )
    table(
        ("target", "limit", "value", ""),
        ((t.name, t.limit, f"{t.value:.3g}", "met" if t.met else "MISSED") for t in checks),
    )
    if options.json:
        figures = {"clients": [asdict(row) for row in rows], "by_bare": {"whole": overall, "steady": steady}}
        figures |= {"memory_mb": sizes, "disk_by_text": kept, "cap": caps, "targets": [asdict(t) for t in checks]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
