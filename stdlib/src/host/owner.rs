//! Who owns a file on a host, as it is asked for and as the record knows it. Pure.
//!
//! An owner that was asked for is part of a file's digest: a file that differs in nothing else is written, and gets its
//! earlier owner back. Without one the owner is none of our business, and stays.

use super::port::Found;

/// What stands between the digest of a content and an owner.
const MARK: &str = "+owner-";

/// Reads `user` or `user:group`.
pub(super) fn well_formed(owner: &str) -> bool {
    let plain = |name: &str| !name.is_empty() && !name.starts_with('-') && !name.contains(['\n', '\0', '+']);
    match owner.split_once(':') {
        Some((user, group)) => plain(user) && plain(group) && !group.contains(':'),
        None => plain(owner),
    }
}

/// Whether a file belongs to whom is asked for, by name or by number.
fn is(file: &Found, wanted: &str) -> bool {
    let (user, group) = wanted.split_once(':').map_or((wanted, None), |(user, group)| (user, Some(group)));
    let part = |owner: &str, wanted: &str, first: bool| {
        let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
        wanted == if first { user } else { group }
    };
    let either = |wanted: &str, first: bool| {
        part(&file.owner, wanted, first) || part(&file.owner_names, wanted, first)
    };
    either(user, true) && group.is_none_or(|group| either(group, false))
}

/// The digest of what lies there, with its owner where one is asked for: in the words in which it is, where it is so.
pub(super) fn of(digest: &str, file: &Found, wanted: Option<&str>) -> String {
    match wanted {
        Some(wanted) if is(file, wanted) => with(digest, Some(wanted)),
        Some(_) => with(digest, Some(&file.owner)),
        None => digest.to_owned(),
    }
}

/// The digest of what shall lie there.
pub(super) fn with(digest: &str, owner: Option<&str>) -> String {
    owner.map_or_else(|| digest.to_owned(), |owner| format!("{digest}{MARK}{owner}"))
}

/// The digest of a content alone, and the owner that a record knows beside it.
pub(super) fn apart(recorded: &str) -> (&str, Option<&str>) {
    recorded.split_once(MARK).map_or((recorded, None), |(digest, owner)| (digest, Some(owner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_by_name_and_by_number_and_only_where_it_is_asked_for() {
        let file = Found {
            bytes: Vec::new().into(),
            size: 0,
            mode: 0o600,
            owner: "998:0".into(),
            owner_names: "etcd:root".into(),
            real: "/x".into(),
        };
        for wanted in ["etcd", "998", "etcd:root", "998:root", "etcd:0"] {
            assert_eq!(of("sha256:a", &file, Some(wanted)), format!("sha256:a+owner-{wanted}"));
        }
        for other in ["root", "etcd:etcd", "0:998", "root:etcd"] {
            assert_eq!(of("sha256:a", &file, Some(other)), "sha256:a+owner-998:0", "{other}");
        }
        assert_eq!(of("sha256:a", &file, None), "sha256:a");
        assert_eq!(apart("sha256:a+mode-0640+owner-998:0"), ("sha256:a+mode-0640", Some("998:0")));
        assert_eq!(apart("sha256:a+mode-0640"), ("sha256:a+mode-0640", None));
        assert!(["etcd", "etcd:etcd", "998:0"].iter().all(|owner| well_formed(owner)));
        assert!(
            ["", ":", "etcd:", ":etcd", "-x", "a:-x", "a:b:c", "a+b"].iter().all(|owner| !well_formed(owner))
        );
    }
}
