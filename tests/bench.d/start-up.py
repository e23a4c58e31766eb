"""What a person waits for before anything happens."""

from common import binary, median, timed

for args in (["--version"], ["describe", "tidb/cfssl-rotate"]):
    times = [timed([binary, *args])[0] for _ in range(21)]
    print(f"start-up, `rollover {' '.join(args)}`: {median(times) * 1000:.1f} ms (median of 21)")
