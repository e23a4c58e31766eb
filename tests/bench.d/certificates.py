"""Certificates a second: ours in the process, beside the cryptography library's own key and signature, `openssl speed`,
and `cfssl gencert` and openssl as processes."""

import os
import re
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from common import median, timed, work

program = os.environ["BENCH_CERTIFICATES"]
CORES = os.cpu_count() or 1
ROUNDS = 5
NAMES = {"ecdsa": "P-256", "rsa": "RSA-2048"}
# How many are made in a round by us, and by processes.
OURS = {"ecdsa": 2000, "rsa": 40}
PROCESSES = {"ecdsa": 20, "rsa": 4}
KEY = {"ecdsa": '{"algo":"ecdsa","size":256}', "rsa": '{"algo":"rsa","size":2048}'}
HOSTS = ["127.0.0.1", "::1"] + [
    name + tail for name in ("basic-pd", "basic-pd-peer", "*.basic-pd-peer") for tail in ("", ".tidb", ".tidb.svc")
]


def ours(*args):
    """Seconds for one, by name."""
    _, out = timed([program, *map(str, args)])
    rows = (line.split("\t") for line in out.splitlines())
    return {name: float(seconds) / int(count) for name, count, seconds in rows}


def with_processor(name, algorithm, count, threads):
    """As `ours`, and the seconds of a processor for one."""
    used = lambda: resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used()
    times = ours(name, algorithm, count, threads)
    after = used()
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return times | {"processor": taken / count}


def prepare(algorithm):
    folder = work / algorithm
    folder.mkdir()
    names = '"names":[{"C":"US","L":"CA","O":"PingCAP","ST":"Beijing","OU":"TiDB"}]'
    (folder / "ca.json").write_text(f'{{"CN":"TiDB","CA":{{"expiry":"87600h"}},"key":{KEY[algorithm]},{names}}}')
    hosts = ",".join(f'"{host}"' for host in HOSTS)
    (folder / "pd.json").write_text(
        f'{{"CN":"TiDB","hosts":[{hosts}],"key":{KEY[algorithm]},"names":[{{"C":"US","L":"CA","ST":"San Francisco"}}]}}'
    )
    (folder / "config.json").write_text(
        '{"signing":{"profiles":{"internal":{"expiry":"8760h","usages":["signing","key encipherment","server auth","client auth"]}}}}'
    )
    shell(folder, "cfssl gencert -initca ca.json | cfssljson -bare ca")
    alternative = ",".join(("IP:" if re.match(r"[\d:.]+$", host) else "DNS:") + host for host in HOSTS)
    (folder / "ext").write_text(
        f"subjectAltName={alternative}\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
        "extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n"
    )
    return folder


def shell(folder, script):
    seconds, _ = timed(["sh", "-ec", script], cwd=folder)
    return seconds


def by_cfssl(folder, name):
    return shell(
        folder,
        "cfssl gencert -loglevel=5 -ca=ca.pem -ca-key=ca-key.pem -config=config.json -profile=internal pd.json"
        f" | cfssljson -bare {name}",
    )


def by_openssl(folder, name):
    kind = "rsa -pkeyopt rsa_keygen_bits:2048" if folder.name == "rsa" else "ec -pkeyopt ec_paramgen_curve:P-256"
    return shell(
        folder,
        f"openssl genpkey -quiet -algorithm {kind} -out {name}-key.pem\n"
        f"openssl req -new -key {name}-key.pem -subj '/C=US/ST=San Francisco/L=CA/CN=TiDB' -out {name}.csr\n"
        f"openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -days 365 -extfile ext -out {name}.pem",
    )


def each(make, folder, count):
    return sum(make(folder, "one") for _ in range(count)) / count


def both(make, folder, count):
    """Seconds for one, where as many processes run beside each other as there are cores."""
    from time import perf_counter

    begin = perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda number: make(folder, f"many{number}"), range(count)))
    return (perf_counter() - begin) / count


def speed(algorithm):
    """Seconds for one signature, as `openssl speed` says."""
    name = {"ecdsa": "ecdsap256", "rsa": "rsa2048"}[algorithm]
    _, out = timed(["openssl", "speed", "-mr", "-seconds", "1", name])
    line = next(line for line in out.splitlines() if line.startswith(("+F2:", "+F4:")))
    # +F4:INDEX:BITS:SIGN:VERIFY, in seconds for one, or, from 3.0 on, in operations a second.
    value = float(line.split(":")[3])
    return 1 / value if value > 1 else value


def row(what, seconds, note=""):
    print(f"  {what:<58}{seconds * 1e3:>12.3f} ms{1 / seconds:>12,.0f}/s  {note}")


def aim(what, reached, most=None, least=None):
    """Says what was reached, and whether that is what was aimed at."""
    text = f"  {what}: {reached:,.2f}" if reached < 10 else f"  {what}: {reached:,.0f}"
    if most is not None:
        text += f"; aim: {most} or less: {'reached' if round(reached, 2) <= most else 'missed'}"
    if least is not None:
        text += f"; aim: {least:,} or more: {'reached' if reached >= least else 'missed'}"
    print(text)


for tool in ("cfssl", "cfssljson", "openssl"):
    if not shutil.which(tool):
        sys.exit(f"{tool} is not there: apt-get install golang-cfssl openssl")

for algorithm, label in NAMES.items():
    folder = prepare(algorithm)
    rounds = []
    for _ in range(ROUNDS):
        rounds.append(
            ours("single", algorithm, OURS[algorithm])
            | {
                "speed": speed(algorithm),
                "cfssl": each(by_cfssl, folder, PROCESSES[algorithm]),
                "openssl": each(by_openssl, folder, PROCESSES[algorithm]),
            }
        )
    of = lambda *names: median([sum(one[name] for name in names) for one in rounds])
    # Round by round: what ran beside one slowed all of it.
    ratio = lambda above, below: median([sum(one[n] for n in above) / sum(one[n] for n in below) for one in rounds])
    ours_whole = ("key", "certificate")
    print(f"{label}, one at a time (median of {ROUNDS} rounds, ours and the library's in turn)")
    row("ours: key and certificate", of(*ours_whole))
    row("the cryptography library's: key (PKCS#8) and signature", of("limit key", "limit signature"))
    row("  its key", of("limit key"))
    row("  its signature", of("limit signature"))
    row("a signature, `openssl speed`", of("speed"))
    row("`cfssl gencert | cfssljson`", of("cfssl"))
    row("`openssl genpkey`, `req`, `x509`", of("openssl"))
    aim("ours / the library's key and signature", ratio(ours_whole, ("limit key", "limit signature")), most=1.1)
    aim("ours / the library's key and `openssl speed`'s signature", ratio(ours_whole, ("limit key", "speed")), most=1.1)
    aim("the library's signature / `openssl speed`'s", ratio(("limit signature",), ("speed",)))
    aim("cfssl / ours", ratio(("cfssl",), ours_whole), least=10 if algorithm == "ecdsa" else None)
    aim("openssl / ours", ratio(("openssl",), ours_whole))

    count = 1000
    mine = ours("many", algorithm, count, CORES)["many"]
    # A thousand RSA keys by processes take minutes and say no more than fifty.
    others = int(os.environ.get("BENCH_PROCESSES", count)) if algorithm == "ecdsa" else 50
    theirs, third = both(by_cfssl, folder, others), both(by_openssl, folder, others)
    print(f"{label}, {count:,} on {CORES} cores ({others:,} by processes)")
    row("ours", mine)
    row("`cfssl gencert | cfssljson`", theirs)
    row("`openssl genpkey`, `req`, `x509`", third)
    aim("cfssl / ours", theirs / mine, least=10 if algorithm == "ecdsa" else None)
    aim("openssl / ours", third / mine)

print("a bundle of two read from PEM, and a leaf verified against it for its name and use")
for algorithm, label in NAMES.items():
    for threads in sorted({1, CORES}):
        runs = [with_processor("bundles", algorithm, 4000, threads) for _ in range(3)]
        row(f"{label} on {threads} of {CORES} cores", median([run["bundles"] for run in runs]))
        if threads == CORES:
            aim("bundles a second", 1 / median([run["bundles"] for run in runs]), least=10_000)
            # What else the machine does takes its share of the above, and not of this.
            free = CORES / median([run["processor"] for run in runs])
            aim("bundles a second by processor time, as on a machine that does nothing else", free, least=10_000)
