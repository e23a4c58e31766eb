"""What the benchmarks share: clocks, a work folder, the program."""

import os
import subprocess
import time
from pathlib import Path

here = Path(__file__).resolve().parent
work = Path(os.environ["BENCH_WORK"])
binary = os.environ.get("BENCH_ROLLOVER", "")


def timed(command, **options):
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, **options)
    return time.perf_counter() - start, done.stdout


def median(times):
    return sorted(times)[len(times) // 2]


def rollover(*args):
    return [binary, "--state", str(work / "state"), "--workflows", str(here / "workflows"), *args]


def newest_run():
    return max((work / "state" / "runs").iterdir(), key=lambda run: run.name)
