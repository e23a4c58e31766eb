"""Hosts: all certificates of three etcd members renewed by us and by a playbook that does the same steps on the same hosts,
and commands a second on one host. The hosts are those of the tests: a real sshd and a real etcd each, on this machine."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from common import binary, median, timed, work

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
# Both rotations restart each of three members twice.
RESTARTS = 6
ansible = os.environ["BENCH_ANSIBLE"]


class Hosts:
    """The test's hosts, as long as this is open."""

    def __init__(self, name):
        self.folder = work / name
        self.folder.mkdir()
        # A person's state, which the harness does not share.
        self.log = open(self.folder / "log", "wb")
        arguments = ["--exact", "etcd::bench::hosts_for_the_benchmark", "--ignored", "--nocapture"]
        self.child = subprocess.Popen(
            [os.environ["BENCH_HARNESS"], *arguments],
            env={**os.environ, "BENCH_HOSTS": str(self.folder)},
            stdout=self.log,
            stderr=self.log,
        )
        while not (self.folder / "facts").exists():
            if self.child.poll() is not None:
                sys.exit((self.folder / "log").read_text())
            time.sleep(0.1)
        self.facts = dict(line.split("=", 1) for line in (self.folder / "facts").read_text().splitlines())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        (self.folder / "stop").touch()
        self.child.wait()

    def number(self, name):
        return float(self.facts[name])


def ours(hosts):
    sets = {"inventory": hosts.facts["inventory"], "clients": "apps", "folders": hosts.facts["folders"]}
    # As the playbook: no snapshot, and the CA's key with who made it.
    sets |= {"snapshot": "none", "ca_out": "none"}
    words = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    state = ["--state", str(hosts.folder / "state")]
    seconds, _ = timed([binary, *state, "run", "etcd/rotate-ca", "--yes", *words])
    return seconds


# As people write them: `copy` keeps a backup, members restart one after the other, each healthy before the next.
PLAYBOOK = """
- hosts: etcd:apps
  gather_facts: false
  tasks:
    - name: trust both
      copy: { src: "{{ new }}/both.pem", dest: "{{ etcd_client_ca | default(etcd_ca) }}", backup: true, mode: preserve }
- import_playbook: restart.yml
- hosts: etcd
  gather_facts: false
  tasks:
    - name: switch leaves
      copy: { src: "{{ new }}/{{ inventory_hostname }}/{{ item }}", dest: "{{ etcd_ca | dirname }}/{{ item }}", backup: true, mode: preserve }
      loop: [server.pem, server-key.pem, peer.pem, peer-key.pem, client.pem, client-key.pem]
- hosts: apps
  gather_facts: false
  tasks:
    - name: switch leaves
      copy: { src: "{{ new }}/app/{{ item }}", dest: "{{ etcd_client_ca | dirname }}/{{ item }}", backup: true, mode: preserve }
      loop: [client.pem, client-key.pem]
- hosts: etcd:apps
  gather_facts: false
  tasks:
    - name: distrust the old CA
      copy: { src: "{{ new }}/ca.pem", dest: "{{ etcd_client_ca | default(etcd_ca) }}", backup: true, mode: preserve }
- import_playbook: restart.yml
"""
RESTART = """
- hosts: etcd
  gather_facts: false
  serial: 1
  tasks:
    - command: systemctl restart -- etcd
    - uri:
        url: "https://{{ ansible_host }}:2379/health"
        ca_path: "{{ etcd_ca }}"
        client_cert: "{{ etcd_client_cert }}"
        client_key: "{{ etcd_client_key }}"
        return_content: true
      register: health
      until: health.status == 200 and '"true"' in health.content
      retries: 600
      delay: 0.2
"""


def playbook(hosts, name, text):
    path = hosts.folder / name
    path.write_text(text)
    return path


def by_ansible(hosts, path):
    # With what its documentation gives for speed: one connection a host, pipelining, all hosts at once.
    given = {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORKS": "8",
        "ANSIBLE_HOME": str(hosts.folder / "ansible"),
        # The path of a socket is short.
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/bench-{os.getpid()}",
    }
    more = ["-e", f"new={hosts.folder}/new", "-e", f"ansible_python_interpreter={sys.executable}"]
    command = [ansible, "-i", hosts.facts["inventory"], *more, str(path)]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def trusted(hosts):
    """The CA files of all, each with the only certificate that it must have now."""
    inventory = Path(hosts.facts["inventory"]).read_text()
    paths = set(re.findall(r"etcd_(?:client_)?ca: (\S+)", inventory))
    texts = {Path(path).read_text() for path in paths}
    assert len(paths) == 4 and len(texts) == 1 and texts.pop().count("BEGIN CERTIFICATE") == 1, paths


def ssh(hosts):
    """`ssh` to the first host as the inventory says."""
    root = hosts.facts["root"]
    return shlex.split(
        f"ssh -T -F none -o BatchMode=yes -o UserKnownHostsFile={root}/known_hosts -o GlobalKnownHostsFile=none"
        f" -i {root}/user_key -p 2222"
    )


def each(command, count):
    return sum(timed(command)[0] for _ in range(count)) / count


rows = {"ours": [], "ansible": []}
restarts, in_row, at_once, fresh, master, tasks = [], [], [], [], [], []
for number in range(ROUNDS):
    with Hosts(f"ours{number}") as hosts:
        restarts.append(hosts.number("restart"))
        in_row.append(hosts.number("row") / hosts.number("commands"))
        at_once.append(hosts.number("many") / hosts.number("commands"))
        rows["ours"].append(ours(hosts))
        trusted(hosts)
        address = hosts.facts["address"]
        fresh.append(each([*ssh(hosts), address, "true"], 20))
        control = ["-o", f"ControlPath={hosts.folder}/c", "-o", "ControlMaster=auto", "-o", "ControlPersist=20"]
        subprocess.run([*ssh(hosts), *control, address, "true"], check=True, stderr=subprocess.DEVNULL)
        master.append(each([*ssh(hosts), *control, address, "true"], 60))
        subprocess.run([*ssh(hosts), *control, "-O", "exit", address], capture_output=True)
    with Hosts(f"ansible{number}") as hosts:
        restarts.append(hosts.number("restart"))
        playbook(hosts, "restart.yml", RESTART)
        path = playbook(hosts, "rotate.yml", PLAYBOOK)
        begin = time.perf_counter()
        by_ansible(hosts, path)
        rows["ansible"].append(time.perf_counter() - begin)
        trusted(hosts)
        # What a command takes, without what the program takes to start.
        spent = []
        for count in (5, 45):
            lines = '    - command: "true"\n' * count
            path = playbook(hosts, "true.yml", f"- hosts: m1\n  gather_facts: false\n  tasks:\n{lines}")
            begin = time.perf_counter()
            by_ansible(hosts, path)
            spent.append(time.perf_counter() - begin)
        tasks.append((spent[1] - spent[0]) / 40)

own = median(restarts) * RESTARTS
mine, theirs = median(rows["ours"]), median(rows["ansible"])
build = "as packages hold it" if "/release/" in binary else "as tests build it"
print(f"three members' CA and all certificates renewed (median of {ROUNDS} rounds; ours built {build})")
print(f"{'':<44}{'seconds':>10}{'without':>12}   (the members' own restarts: {own:.1f} s)")
print(f"{'rollover run etcd/rotate-ca':<44}{mine:>10.1f}{mine - own:>12.1f}")
print(f"{'ansible-playbook, the same steps':<44}{theirs:>10.1f}{theirs - own:>12.1f}")
print(f"ansible / rollover: {theirs / mine:.1f} times; without the members' own restarts {(theirs - own) / (mine - own):.1f} times")
print()
print("commands a second on one host (`true`)")
for what, seconds in {
    "ours, one after the other": median(in_row),
    "ours, sixteen at once": median(at_once),
    "`ssh` with ControlMaster": median(master),
    "`ssh`, a connection each": median(fresh),
    "Ansible with pipelining, one task each": median(tasks),
}.items():
    print(f"  {what:<42}{1 / seconds:>10.1f}")
print(f"ours / Ansible: {median(tasks) / median(in_row):.0f} times")
