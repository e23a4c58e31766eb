"""The main job in the sandbox: time and memory."""

import os
import resource
import subprocess
from pathlib import Path

from common import rollover, timed, work

print("the main job in the sandbox:")
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
