"""A thousand steps: the whole run, the same records written raw, and Ansible."""

import json
import os
import time
from pathlib import Path

from common import median, newest_run, rollover, timed, work

ansible = Path(os.environ["BENCH_ANSIBLE"])
STEPS = 1000


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
