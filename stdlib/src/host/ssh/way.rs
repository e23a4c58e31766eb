//! The way to a host: what always holds for it and for every host in between, and which those are. Pure.
//!
//! OpenSSH applies options of its command line to the host alone, but hands `-F` on to the `ssh` of each jump host. So what
//! always holds stands in a file too, before the operator's own configuration, of which OpenSSH takes the first value.

/// What always holds, before whatever the inventory and the operator's configuration say.
pub(super) const ALWAYS: [&str; 8] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "NoHostAuthenticationForLocalhost=no",
    "VerifyHostKeyDNS=no",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
];
/// Flags of ssh that take a value, by its manual page.
const VALUED: &str = "BbcDEeFIiJLlmOoPpQRSWw";
/// What ssh reads where no other file is named.
const USUAL: [&str; 2] = ["~/.ssh/config", "/etc/ssh/ssh_config"];
/// How many jump hosts are followed.
pub(super) const HOPS: usize = 8;

/// Takes `-F` out of arguments: the file that it names, the last one as ssh has it, and what is left.
pub(super) fn without_config(args: &[String]) -> (Option<String>, Vec<String>) {
    let (mut file, mut rest) = (None, Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let flags = word.strip_prefix('-').filter(|flags| !flags.starts_with('-')).unwrap_or_default();
        let Some((at, flag)) = flags.char_indices().find(|(_, flag)| VALUED.contains(*flag)) else {
            rest.push(word.clone());
            continue;
        };
        let attached = flags.get(at + 1..).filter(|value| !value.is_empty());
        let next = if attached.is_none() { words.next() } else { None };
        if flag != 'F' {
            rest.push(word.clone());
            rest.extend(next.cloned());
            continue;
        }
        file = attached.or(next.map(String::as_str)).map(str::to_owned);
        rest.extend(flags.get(..at).filter(|others| !others.is_empty()).map(|others| format!("-{others}")));
    }
    (file, rest)
}

/// The configuration for a host and all on the way to it. `given` is an absolute path, or `none`; without it what ssh reads
/// is read.
pub(super) fn config(given: Option<&str>) -> String {
    let mut text: String = ALWAYS.iter().map(|option| option.replace('=', " ") + "\n").collect();
    let files: Vec<&str> = match given {
        Some("none") => Vec::new(),
        Some(file) => vec![file],
        None => USUAL.to_vec(),
    };
    for file in files {
        text.push_str(&format!("Include \"{file}\"\n"));
    }
    text
}

/// Whether `Include` takes a path as it is.
pub(super) fn plain(path: &str) -> bool {
    !path.contains(['*', '?', '[', '"', '\\', '\n', '%', '$'])
}

/// A ProxyCommand that is an `ssh`, held to the same; nothing where it is something else.
pub(super) fn held(command: &str, config: &str) -> Option<String> {
    let command = command.trim_start();
    let command = command.strip_prefix("exec ").unwrap_or(command).trim_start();
    let (program, rest) = command.split_once(char::is_whitespace)?;
    if program.rsplit('/').next() != Some("ssh") {
        return None;
    }
    let always: Vec<String> = ALWAYS.iter().map(|option| format!("-o {option}")).collect();
    Some(format!("{program} -F {config} {} {rest}", always.join(" ")))
}

/// A host as OpenSSH reaches it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// What was asked for.
    pub(super) asked: String,
    pub(super) host: String,
    pub(super) port: String,
    pub(super) user: String,
    /// `HostKeyAlias`, where there is one.
    alias: Option<String>,
    /// Jump hosts, the nearest to us first.
    pub(super) jumps: Vec<Hop>,
    /// `ProxyCommand`, where there is one.
    pub(super) command: Option<String>,
}

impl Resolved {
    /// Reads what `ssh -G` prints.
    pub(super) fn parse(asked: &str, text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let value = lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned());
            value.filter(|value| value != "none")
        };
        Self {
            asked: asked.to_owned(),
            host: field("hostname").unwrap_or_else(|| asked.to_owned()),
            port: field("port").unwrap_or_else(|| "22".into()),
            user: field("user").unwrap_or_default(),
            alias: field("hostkeyalias"),
            jumps: field("proxyjump")
                .map(|jumps| jumps.split(',').map(Hop::of).collect())
                .unwrap_or_default(),
            command: field("proxycommand"),
        }
    }

    /// Its name in known_hosts.
    pub(super) fn known_as(&self) -> String {
        match &self.alias {
            Some(alias) => alias.clone(),
            None if self.port == "22" => self.host.clone(),
            None => format!("[{}]:{}", self.host, self.port),
        }
    }

    /// For people.
    pub(super) fn title(&self) -> String {
        let known = self.known_as();
        if self.asked == known { known } else { format!("{} ({known})", self.asked) }
    }
}

/// A jump host as it is named: `user@host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<String>,
}

impl Hop {
    fn of(word: &str) -> Self {
        let word = word.trim();
        let word = word.strip_prefix("ssh://").unwrap_or(word).trim_end_matches('/');
        let (user, rest) = match word.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, word),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match rest.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (rest, None),
            },
        };
        Self { user, host: host.to_owned(), port: port.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn a_configuration_file_is_found_as_ssh_finds_it() {
        for (args, file, rest) in [
            ("", None, ""),
            ("-F a -o X=y", Some("a"), "-o X=y"),
            ("-o -F -J b", None, "-o -F -J b"),
            ("-Fa -4", Some("a"), "-4"),
            ("-4Fa -F b -oX=F", Some("b"), "-4 -oX=F"),
            ("-4J b -F none", Some("none"), "-4J b"),
            ("-i -Fx -F", None, "-i -Fx"),
        ] {
            assert_eq!(without_config(&words(args)), (file.map(str::to_owned), words(rest)), "{args}");
        }
    }

    #[test]
    fn an_ssh_in_a_proxy_command_is_held_to_the_same_and_nothing_else_is() {
        let held = held("exec /usr/bin/ssh -W %h:%p bastion", "/c").unwrap();
        assert!(
            held.starts_with("/usr/bin/ssh -F /c -o BatchMode=yes -o StrictHostKeyChecking=yes "),
            "{held}"
        );
        assert!(held.ends_with(" -W %h:%p bastion"), "{held}");
        for other in ["nc %h %p", "ssh-proxy %h", "ssh", "corkscrew ssh %h"] {
            assert_eq!(super::held(other, "/c"), None, "{other}");
        }
    }

    #[test]
    fn jump_hosts_are_read_in_each_form_that_they_have() {
        let text = "user root\nhostname 10.0.0.1\nport 2222\nhostkeyalias none\nproxyjump a@b:23,[::1]:24,ssh://c@d:25,2001:db8::1\n";
        let found = Resolved::parse("m1", text);
        assert_eq!(
            (found.known_as().as_str(), found.title().as_str()),
            ("[10.0.0.1]:2222", "m1 ([10.0.0.1]:2222)")
        );
        let hop = |user: Option<&str>, host: &str, port: Option<&str>| Hop {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port: port.map(str::to_owned),
        };
        let expected = [
            hop(Some("a"), "b", Some("23")),
            hop(None, "::1", Some("24")),
            hop(Some("c"), "d", Some("25")),
            hop(None, "2001:db8::1", None),
        ];
        assert_eq!(found.jumps, expected);
        assert_eq!(
            Resolved::parse("m1", "proxyjump none\nproxycommand none\nhostkeyalias k\n").known_as(),
            "k"
        );
    }
}
