"""What share of the models of transformers and of timm can be traced, one process each; writes a table.

    python -m benchmarks.coverage hf --out docs/coverage-hf.md
    python -m benchmarks.coverage timm --out docs/coverage-timm.md --measurements timm_benchmark.csv.gz

Outcomes are appended to docs/coverage-LIBRARY.jsonl, so an interrupted run goes on where it stopped. hf:
every type of transformers' AutoModel mapping, its default config with each stack cut to the shortest depth
that has every kind of layer: further layers of a kind trace alike. timm: names of every transformer-like
family. A model counts as traced when batch and every length are symbolic or solved; the image side is held at
the model's own. Seconds are processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import coverage_models, coverage_table

LIMIT_BYTE = 16e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", choices=sorted(coverage_models.LIBRARIES))
    parser.add_argument("--out", type=Path, help="the table, in Markdown")
    parser.add_argument("--state", type=Path, help="outcomes so far, a line of JSON each")
    parser.add_argument("--only", nargs="*", help="these names alone, traced again")
    parser.add_argument("--again", help="trace again what has this outcome")
    parser.add_argument("--sample", type=int, help="so many names, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time a model may take")
    parser.add_argument("--flop", action="store_true", help="ask torch's FLOP counter, too")
    parser.add_argument("--measurements", type=Path, help="published multiply-adds of timm models")
    asked = parser.parse_args()
    state = asked.state or Path("docs") / f"coverage-{asked.source}.jsonl"
    known = read(state)
    library = coverage_models.LIBRARIES[asked.source]
    names = chosen(library.names(), asked.sample, asked.seed)
    wanted = (
        asked.only
        if asked.only is not None
        else [name for name in names if name not in known or known[name]["outcome"] == asked.again]
    )
    if wanted:
        library.prepare()
    outcome = partial(library.outcome, flop=asked.flop)
    gc.freeze()  # what is imported is never looked through again, in no child
    for place, name in enumerate(wanted):
        known[name] = outcome_of(outcome, name, asked.seconds)
        with state.open("a") as file:
            file.write(json.dumps(known[name]) + "\n")
        print(f"{place + 1}/{len(wanted)} {told(known[name])}", file=sys.stderr)
    rows = [known[name] for name in sorted(names) if name in known]
    text = coverage_table.document(asked.source, rows, len(names), asked.measurements)
    if asked.out is None:
        print(text)
    else:
        asked.out.write_text(text)


def told(row: dict[str, Any]) -> str:
    """One line of progress."""
    return f"{row['name']} ({row['seconds']} s): {row['outcome']} {row.get('reason', '')}"


def chosen(names: list[str], count: int | None, seed: int) -> list[str]:
    """The names in an order drawn with `seed`, so that a run stopped anywhere is a fair sample."""
    return random.Random(seed).sample(names, len(names))[:count]


def read(state: Path) -> dict[str, dict[str, Any]]:
    """The latest outcome of each name."""
    lines = state.read_text().splitlines() if state.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def outcome_of(run: Callable[[str], dict[str, Any]], name: str, seconds: float) -> dict[str, Any]:
    """What `run(name)` says in a process of its own, forked so that libraries are imported once."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(run, name, seconds, writer)
    os.close(writer)
    said = b"".join(_chunks(reader))
    os.close(reader)
    _, status, used = os.wait4(child, 0)
    base = {"name": name, "seconds": round(used.ru_utime + used.ru_stime, 1)}
    if said:
        return {**base, **json.loads(said)}
    end = os.waitstatus_to_exitcode(status)
    over = end == -signal.SIGXCPU
    why = f"more than {seconds:.0f} s of processor time" if over else f"the process ended with {end}"
    return {**base, "outcome": "miss", "reason": why}


def _in_child(run: Callable[[str], dict[str, Any]], name: str, seconds: float, writer: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    resource.setrlimit(resource.RLIMIT_AS, (int(LIMIT_BYTE), int(LIMIT_BYTE)))
    gc.disable()  # the child ends soon
    try:
        said = run(name)
    except BaseException as error:  # whatever ends the child is its outcome
        first = (str(error).strip().splitlines() or [""])[0]
        said = {"outcome": "miss", "reason": f"{type(error).__name__}: {first}"[:300]}
    os.write(writer, json.dumps(said).encode())
    os._exit(0)


def _chunks(reader: int) -> Iterator[bytes]:
    while True:
        select.select([reader], [], [])
        chunk = os.read(reader, 65536)
        if not chunk:
            return
        yield chunk


if __name__ == "__main__":
    main()
