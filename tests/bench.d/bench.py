"""Runs the benchmarks and prints one table. Arguments: rollover binary, a work folder, ansible-playbook."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

binary, work, ansible = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
here = Path(__file__).resolve().parent
STEPS = 1000


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


def raw_fsync(lines, folder):
    """Appends the same records, one write and one fdatasync each."""
    handle = os.open(folder / "raw.jsonl", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
    start = time.perf_counter()
    for line in lines:
        os.write(handle, line)
        os.fdatasync(handle)
    seconds = time.perf_counter() - start
    os.close(handle)
    return seconds


def stamp(text):
    clock, _, rest = text.partition("T")[2].partition(".")
    h, m, s = clock.rstrip("Z").split(":")
    return int(h) * 3600 + int(m) * 60 + int(s) + float("0." + (rest.rstrip("Z") or "0"))


walls, spans, raws, ratios = [], [], [], []
for _ in range(5):
    wall, out = timed(rollover("run", "bench/thousand", "--yes", "--output", "json"))
    events = [json.loads(line) for line in out.splitlines()]
    first = next(e for e in events if e["event"] == "phase-started")
    last = next(e for e in events if e["event"] == "run-ended")
    span = stamp(last["at"]) - stamp(first["at"])
    lines = (newest_run() / "journal.jsonl").read_bytes().splitlines(keepends=True)
    raw = raw_fsync(lines, work)
    walls.append(wall)
    spans.append(span)
    raws.append(raw)
    ratios.append(span / raw)

playbook = work / "thousand.yml"
tasks = "".join(f'    - command: "true"\n' for _ in range(STEPS))
playbook.write_text(f"- hosts: localhost\n  connection: local\n  gather_facts: false\n  vars: {{ansible_python_interpreter: '{{{{ ansible_playbook_python }}}}'}}\n  tasks:\n{tasks}")
ansible_wall, _ = timed([ansible, "-i", "localhost,", str(playbook)], env={**os.environ, "ANSIBLE_NOCOLOR": "1"})

print(f"{'what':<58}{'seconds':>10}{'steps/s':>10}")
print(f"{'rollover, 1,000 steps, whole process (median of 5)':<58}{median(walls):>10.2f}{STEPS / median(walls):>10.0f}")
print(f"{'rollover, 1,000 steps, first phase to end':<58}{median(spans):>10.2f}{STEPS / median(spans):>10.0f}")
print(f"{'raw append + fdatasync of the same ' + str(len(lines)) + ' records':<58}{median(raws):>10.2f}{STEPS / median(raws):>10.0f}")
print(f"{'ansible-playbook, 1,000 x command: true':<58}{ansible_wall:>10.2f}{STEPS / ansible_wall:>10.0f}")
print(f"rollover / raw fsync: {median(ratios):.2f} times (pair by pair, median)")
print(f"ansible / rollover:   {ansible_wall / median(walls):.0f} times")

for args in (["--version"], ["describe", "tidb/cfssl-rotate"]):
    times = [timed([binary, *args])[0] for _ in range(21)]
    print(f"start-up, `rollover {' '.join(args)}`: {median(times) * 1000:.1f} ms (median of 21)")

print("\nthe main job in the sandbox:")
wall, out = timed(rollover("run", "tidb/cfssl-rotate", "--sandbox", "--yes", "--output", "json"))
print(f"  wall time {wall:.1f} s")
runner_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"  largest resident memory of the runner {runner_mb:.0f} MB")
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"serve" in command and str(work / "state").encode() in b" ".join(command):
            peak = next(l for l in Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("VmHWM"))
            print(f"  largest resident memory of the sandbox {int(peak.split()[1]) / 1024:.0f} MB")
    except OSError:
        pass
subprocess.run(rollover("sandbox", "stop"), check=False, capture_output=True)
