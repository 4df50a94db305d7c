"""Runs the methods of a suite in turn, each in its own process."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.benchmark.case import Case, Options
from experiments.benchmark.worker import suite_cases

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]
PAUSE = 0.1  # seconds, until the threads of the last method have stopped to wait busily


class Process:
    """A worker at the other end of two pipes."""

    def __init__(self, suite: str, options: Options) -> None:
        command = [sys.executable, "-m", "experiments.benchmark.worker", suite]
        self.process = subprocess.Popen(
            [*command, json.dumps(options._asdict())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: object) -> dict[str, Any]:
        """Send a line, wait for the answer; a process that died skips its method."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(*words, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return {"skipped": "failed: its process ended"}
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"skipped": "failed: its process ended"}

    def close(self) -> None:
        """End it."""
        self.process.communicate()


def run_suite(
    suite: str, options: Options, only: str = "", say: Callable[[str], object] = print
) -> Iterator[list[Row]]:
    """Run the cases of a suite, one after the other.

    Args:
        suite: Its name.
        options: What the user asked for.
        only: Cases whose name contains this.
        say: Told the state.

    Yields:
        For each case a row for each method: its times in seconds, their median, the memory in
        bytes, what the case's judge found; or why it was skipped.
    """
    processes: dict[str, Process] = {}
    try:
        for number, case in enumerate(suite_cases(suite, options)):
            if only not in case.name:
                continue
            mine = {}
            for method in case.methods:
                name = case.name if case.together else method
                if name not in processes:
                    processes[name] = Process(suite, options)
                mine[method] = processes[name]
            say(f"{suite}: {case.name}")
            if options.quick:
                case = case._replace(most=case.least)
            yield _run_case(suite, number, case, mine)
    finally:
        for process in processes.values():
            process.close()


def _run_case(suite: str, number: int, case: Case, processes: dict[str, Process]) -> list[Row]:
    rows: dict[str, Row] = {}
    places = {method: place for place, method in enumerate(case.methods)}
    for method in case.methods:
        rows[method] = {"suite": suite, "case": case.name, "method": method, **case.labels}
        rows[method] |= {"points": case.points, "times": []}
        rows[method] |= {"target": case.targets.get(method), "limit": case.limits.get(method)}
        rows[method] |= processes[method].ask("prepare", number, places[method])
        if "skipped" not in rows[method] and not case.once:
            rows[method] |= processes[method].ask("memory", places[method])
    waiting = [method for method in case.methods if "skipped" not in rows[method]]
    while waiting:
        for method in list(waiting):
            row = rows[method]
            time.sleep(PAUSE)
            answer = processes[method].ask("time", places[method])
            row["times"] += [answer.pop("seconds")] if "seconds" in answer else []
            row |= answer
            times = row["times"]
            enough = sum(times) > case.budget and len(times) >= case.least
            if "skipped" in row or enough or len(times) == case.most:
                waiting.remove(method)
    for method, row in rows.items():
        if "skipped" not in row:
            row |= {"seconds": statistics.median(row["times"])}
            row |= processes[method].ask("judge", places[method])
    return list(rows.values())
