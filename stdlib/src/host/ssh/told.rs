//! What OpenSSH says when it does not connect, in the operator's words: which host refused, the host itself or one on the
//! way to it. Pure.

use super::super::inventory::Entry;
use super::way::Resolved;
use crate::error::{Code, PrimError};

/// Printed by an `ssh` whose jump host's `ssh` has ended.
const CUT_OFF: &str = "UNKNOWN port 65535";

/// Where it went wrong.
struct At<'a> {
    entry: &'a Entry,
    /// The host as OpenSSH reaches it; a jump host where it is one.
    host: Option<&'a Resolved>,
    jump: bool,
    /// Whether we reach it without another in between.
    near: bool,
    /// Its name in known_hosts, where it is neither the host nor a jump host that we know: an `ssh` of a ProxyCommand's.
    other: Option<&'a str>,
}

impl At<'_> {
    /// `its`, or the jump host's.
    fn whose(&self, what: &str) -> String {
        match (self.host.filter(|_| self.jump), self.other) {
            (Some(hop), _) => format!("the {what} of the jump host {}", hop.title()),
            (None, Some(name)) => format!("the {what} of {name}, by which it is reached,"),
            (None, None) => format!("its {what}"),
        }
    }

    /// `-p 2222 host`, as `ssh` and `ssh-keyscan` take it.
    fn words(&self) -> String {
        let port = |port: &str| if port == "22" { String::new() } else { format!("-p {port} ") };
        match (self.host, self.near) {
            (Some(host), true) => format!("{}{}", port(&host.port), host.host),
            (Some(host), false) if self.jump => host.asked.clone(),
            _ => {
                let mut words: Vec<String> =
                    self.entry.port.iter().map(|port| format!("-p {port}")).collect();
                words.extend(
                    self.entry
                        .args
                        .iter()
                        .map(|word| shlex::try_quote(word).map_or_else(|_| word.clone(), Into::into)),
                );
                words.push(self.entry.address.clone());
                words.join(" ")
            }
        }
    }
}

/// Which host ssh speaks of: by the name that it has in known_hosts.
fn at<'a>(
    entry: &'a Entry,
    target: Option<&'a Resolved>,
    hops: &'a [Resolved],
    is: impl Fn(&Resolved) -> bool,
) -> At<'a> {
    let proxied = !hops.is_empty() || target.is_some_and(|target| target.command.is_some());
    match hops.iter().position(is) {
        Some(n) => {
            let near = n == 0 && hops.first().is_some_and(|hop| hop.command.is_none());
            At { entry, host: hops.get(n), jump: true, near, other: None }
        }
        None => At { entry, host: target, jump: false, near: !proxied, other: None },
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split(before).skip(1).find_map(|rest| rest.split_once(after)).map(|(found, _)| found)
}

/// The host whose key ssh did not accept, as known_hosts would name it.
pub(super) fn keyed(said: &str) -> Option<&str> {
    between(said, "host key is known for ", " and you have requested")
        .or_else(|| between(said, "Host key for ", " has changed and you have requested"))
}

/// The host whose key it was, which may be one that nobody but a ProxyCommand knows of.
fn of_key<'a>(entry: &'a Entry, target: Option<&'a Resolved>, hops: &'a [Resolved], said: &'a str) -> At<'a> {
    let name = keyed(said);
    let found = at(entry, target, hops, |host| name.is_some_and(|name| name == host.known_as()));
    let by_command = target.is_some_and(|target| target.command.is_some());
    let other = name.filter(|name| by_command && target.is_some_and(|target| target.known_as() != *name));
    At { other: other.filter(|_| !found.jump), ..found }
}

/// Whether it ended for a key of a host.
pub(super) fn wants_key(said: &str) -> bool {
    !said.contains("HOST IDENTIFICATION HAS CHANGED")
        && (said.contains("Host key verification failed") || said.contains("host key is known for"))
}

/// Why it did not connect. `shown` is the key that was shown last, where it was asked for.
pub(super) fn refused(
    entry: &Entry,
    target: Option<&Resolved>,
    hops: &[Resolved],
    said: &str,
    shown: Option<String>,
) -> PrimError {
    if said.contains("HOST IDENTIFICATION HAS CHANGED") {
        let at = of_key(entry, target, hops, said);
        let shown =
            said.lines().skip_while(|line| !line.contains("fingerprint for")).nth(1).unwrap_or_default();
        let known = keyed(said).unwrap_or("its name");
        return PrimError::new(Code::Forbidden, format!("{} is another than the one that is known", at.whose("host key")))
            .on(entry.title())
            .expected("the key in known_hosts", shown.trim().trim_end_matches('.'))
            .hint(format!("find out why before anything else; if the host was set up anew, `ssh-keygen -R '{known}'` and add the new key"));
    }
    if wants_key(said) {
        let at = of_key(entry, target, hops, said);
        let add = if at.other.is_some() {
            "connect to it once by hand, and say yes to it".to_owned()
        } else if at.near {
            format!("`ssh-keyscan {} >> ~/.ssh/known_hosts`", at.words())
        } else {
            format!("`ssh {}` once by hand, and say yes to it", at.words())
        };
        let there = if at.jump || at.other.is_some() { " there" } else { " on the host" };
        return PrimError::new(Code::Forbidden, format!("{} is not known", at.whose("host key")))
            .on(entry.title())
            .expected("a key in known_hosts", shown.unwrap_or_else(|| "a key that could not be read".into()))
            .hint(format!("compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`{there}; if it is the same, {add}"));
    }
    let cut_off = said.contains(CUT_OFF);
    let lines = || said.lines().map(str::trim);
    // What an `ssh` says whose jump host's `ssh` has ended tells nothing of why.
    let follows = |line: &str| {
        [CUT_OFF, "stdio forwarding failed", "kex_exchange_identification"]
            .iter()
            .any(|word| line.contains(word))
    };
    let last = lines().rfind(|line| !(line.is_empty() || cut_off && follows(line))).unwrap_or("ssh failed");
    if let Some(last) = lines().rfind(|line| line.contains("Permission denied")) {
        let at = at(entry, target, hops, |hop| {
            cut_off && last.starts_with(&format!("{}@{}:", hop.user, hop.host))
        });
        let who = match at.host.filter(|_| at.jump) {
            Some(hop) => format!("the jump host {} refuses us: {last}", hop.title()),
            None => format!("refuses us: {last}"),
        };
        let name = if at.jump {
            "`IdentityFile` for it in `~/.ssh/config`"
        } else {
            "`ansible_ssh_private_key_file`"
        };
        return PrimError::new(Code::Forbidden, who)
            .on(entry.title())
            .hint(format!("try `ssh {}`; name the key with {name}, or add it to your agent", at.words()));
    }
    unreachable(
        entry,
        &match hops {
            [] => last.to_owned(),
            // The last one could not go on, or an earlier one was not reached: ssh names that itself.
            [.., before] if cut_off && last.contains("open failed") => {
                format!("the jump host {} cannot go on to it: {last}", before.title())
            }
            _ if cut_off => {
                let spoken = |hop: &&Resolved| last.contains(&format!("{} port {}", hop.host, hop.port));
                match hops.iter().find(spoken) {
                    Some(hop) => format!("the jump host {} does not answer: {last}", hop.title()),
                    None => format!(
                        "on the way by {}: {last}",
                        hops.iter().map(Resolved::title).collect::<Vec<_>>().join(", ")
                    ),
                }
            }
            _ => last.to_owned(),
        },
    )
}

/// It cannot be reached, for this reason.
pub(super) fn unreachable(entry: &Entry, why: &str) -> PrimError {
    PrimError::new(Code::Unavailable, format!("cannot be reached: {why}")).on(entry.title())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn m1() -> Entry {
        serde_json::from_value(json!({ "name": "m1", "address": "10.0.0.1" })).unwrap()
    }

    fn host(asked: &str, rest: &str) -> Resolved {
        Resolved::parse(asked, &format!("user op\nport 22\n{rest}"))
    }

    fn told(said: &str) -> PrimError {
        let target = host("10.0.0.1", "hostname 10.0.0.1\nproxyjump outer,inner\n");
        let hops = [host("outer", "hostname 192.0.2.1\n"), host("inner", "hostname 10.9.9.9\n")];
        refused(&m1(), Some(&target), &hops, said, Some("ssh-ed25519 SHA256:shown".into()))
    }

    const CUT: &str = "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535\n";

    #[test]
    fn who_refuses_is_named_whichever_host_on_the_way_it_is() {
        let key = |host: &str| {
            format!(
                "No ED25519 host key is known for {host} and you have requested strict checking.\nHost key verification failed.\n"
            )
        };
        for (said, message, hint) in [
            (
                key("192.0.2.1") + CUT,
                "the host key of the jump host outer (192.0.2.1) is not known",
                "ssh-keyscan 192.0.2.1 >> ",
            ),
            // From here it cannot be asked: only by the one before it.
            (
                key("10.9.9.9") + CUT,
                "the host key of the jump host inner (10.9.9.9) is not known",
                "`ssh inner` once by hand",
            ),
            (key("10.0.0.1"), "its host key is not known", "`ssh 10.0.0.1` once by hand"),
            (
                "op@10.9.9.9: Permission denied (publickey).\n".to_owned() + CUT,
                "the jump host inner (10.9.9.9) refuses us: op@10.9.9.9: Permission denied (publickey).",
                "`IdentityFile` for it",
            ),
            (
                "op@10.0.0.1: Permission denied (publickey).\n".to_owned(),
                "refuses us: op@10.0.0.1: Permission denied (publickey).",
                "ansible_ssh_private_key_file",
            ),
        ] {
            let error = told(&said);
            assert_eq!((error.code, error.message.as_str()), (Code::Forbidden, message));
            assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
            assert_eq!(error.object, "m1 (10.0.0.1)");
        }
        for (said, message) in [
            (
                "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n"
                    .to_owned()
                    + CUT,
                "cannot be reached: the jump host inner (10.9.9.9) cannot go on to it: channel 0: open failed: connect failed: Connection refused",
            ),
            (
                "ssh: connect to host 192.0.2.1 port 22: Connection timed out\n".to_owned() + CUT,
                "cannot be reached: the jump host outer (192.0.2.1) does not answer: ssh: connect to host 192.0.2.1 port 22: Connection timed out",
            ),
            (
                CUT.to_owned(),
                "cannot be reached: on the way by outer (192.0.2.1), inner (10.9.9.9): ssh failed",
            ),
        ] {
            let error = told(&said);
            assert_eq!((error.code, error.message.as_str()), (Code::Unavailable, message));
        }
    }
}
