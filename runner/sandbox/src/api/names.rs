//! The syntax of names, labels and keys, with the messages of the real validation.

const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const DATA_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn label_shape(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| edge(*b))
        && bytes.last().is_some_and(|b| edge(*b))
        && bytes.iter().all(|b| edge(*b) || *b == b'-')
}

/// What is wrong with a DNS label (namespace names), if anything.
pub(crate) fn dns_label(text: &str) -> Option<&'static str> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    (!label_shape(text)).then_some(DNS_LABEL)
}

/// What is wrong with a DNS subdomain (most names).
pub(crate) fn dns_subdomain(text: &str) -> Option<&'static str> {
    if text.len() > 253 {
        return Some("must be no more than 253 characters");
    }
    (!text.split('.').all(label_shape)).then_some(DNS_SUBDOMAIN)
}

/// What is wrong with a DNS-1035 label (Service names).
pub(crate) fn dns_1035(text: &str) -> Option<&'static str> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    (!label_shape(text) || !text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())).then_some(DNS_1035)
}

/// What is wrong with a path segment (RBAC names).
pub(crate) fn path_segment(text: &str) -> Option<&'static str> {
    match text {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        _ if text.contains('/') => Some("may not contain '/'"),
        _ if text.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

fn word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// What is wrong with a label or annotation key.
pub(crate) fn qualified_name(text: &str) -> Option<&'static str> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Some("prefix part must be non-empty");
            }
            if let Some(wrong) = dns_subdomain(prefix) {
                return Some(wrong);
            }
            name
        }
        None => text,
    };
    if name.is_empty() {
        return Some("name part must be non-empty");
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters");
    }
    (!word(name)).then_some(QUALIFIED)
}

/// What is wrong with a label value.
pub(crate) fn label_value(text: &str) -> Option<&'static str> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    (!text.is_empty() && !word(text)).then_some(LABEL_VALUE)
}

/// What is wrong with a key of a Secret or ConfigMap.
pub(crate) fn data_key(text: &str) -> Option<&'static str> {
    if text.len() > 253 {
        return Some("must be no more than 253 characters");
    }
    match text {
        "." => return Some("must not be '.'"),
        ".." => return Some("must not be '..'"),
        _ => {}
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (text.is_empty() || !text.bytes().all(allowed)).then_some(DATA_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_server_takes_them() {
        assert_eq!(dns_subdomain("basic-pd-0.basic"), None);
        assert!(dns_subdomain("Basic").is_some());
        assert!(dns_subdomain("a..b").is_some());
        assert!(dns_label("a.b").is_some());
        assert!(dns_1035("0a").is_some());
        assert_eq!(qualified_name("rollover.dev/run"), None);
        assert!(qualified_name("/run").is_some());
        assert!(qualified_name("a b").is_some());
        assert_eq!(label_value(""), None);
        assert!(label_value("-a").is_some());
        assert!(data_key("a/b").is_some());
        assert_eq!(data_key("tls.crt"), None);
    }
}
