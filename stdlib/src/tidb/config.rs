//! What a component's own configuration says about the certificates that it accepts.

use serde_json::Value;

use crate::k8s::object::at;

/// The common names that a component allows of its clients; empty where it allows all.
///
/// `cert-allowed-cn` of PD, TiKV and their kin, `cluster-verify-cn` of TiDB, in `spec.COMPONENT.config`: TOML text, or
/// (older clusters) the same as a map. TiFlash has two such, `config` and `proxy`, and its own writes `cert_allowed_cn`.
pub fn allowed_cn(cluster: &Value, component: &str) -> Vec<String> {
    let Some(config) = at(cluster, &["spec", component, "config"]) else { return Vec::new() };
    let parts = ["config", "proxy"].iter().filter_map(|part| config.get(part));
    parts.chain([config]).flat_map(allowed_in).collect()
}

fn allowed_in(config: &Value) -> Vec<String> {
    ["cert-allowed-cn", "cert_allowed_cn", "cluster-verify-cn"]
        .iter()
        .flat_map(|key| match config {
            Value::String(toml) => from_toml(toml, key),
            map => at(map, &["security", key]).map(from_value).unwrap_or_default(),
        })
        .collect()
}

/// The same of a configuration text alone.
pub fn of_text(toml: &str) -> Vec<String> {
    ["cert-allowed-cn", "cluster-verify-cn"].iter().flat_map(|key| from_toml(toml, key)).collect()
}

fn from_value(value: &Value) -> Vec<String> {
    match value {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// The quoted texts after `key =`, up to the end of the line or of the list. The keys occur in one table only, so the
/// tables need not be told apart.
fn from_toml(text: &str, key: &str) -> Vec<String> {
    let mut lines = text.lines().map(str::trim);
    let Some(rest) = lines.find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('=')) else {
        return Vec::new();
    };
    let rest = rest.trim();
    let mut value = rest.to_owned();
    if rest.starts_with('[') {
        for line in lines {
            if value.contains(']') {
                break;
            }
            value.push(' ');
            value.push_str(line);
        }
        value = value.split(']').next().unwrap_or_default().to_owned();
    }
    let mut names = Vec::new();
    let mut rest = value.as_str();
    while let Some(start) = rest.find(['"', '\'']) {
        let quote = if rest[start..].starts_with('"') { '"' } else { '\'' };
        let tail = &rest[start + 1..];
        let Some(end) = tail.find(quote) else { break };
        names.push(tail[..end].to_owned());
        rest = &tail[end + 1..];
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn allowed_names_are_read_from_toml_and_from_maps() {
        let toml =
            "[log]\nlevel = \"info\"\n[security]\n  cert-allowed-cn = [\n    \"TiDB\",\n    'other',\n  ]\n";
        let cluster = json!({"spec": {
            "pd": {"config": toml},
            "tikv": {"config": "[security]\ncert-allowed-cn = [\"TiDB\"]\nredact = \"x\""},
            "tidb": {"config": {"security": {"cluster-verify-cn": ["TiDB"]}}},
            "tiflash": {"config": {"config": "[security]\ncert_allowed_cn = [\"own\"]\n", "proxy": "[security]\ncert-allowed-cn = \"proxy\"\n"}},
            "ticdc": {},
            "pump": {"config": "[security]\nssl-ca = \"a\""},
        }});
        assert_eq!(allowed_cn(&cluster, "pd"), ["TiDB", "other"]);
        assert_eq!(allowed_cn(&cluster, "tikv"), ["TiDB"]);
        assert_eq!(allowed_cn(&cluster, "tidb"), ["TiDB"]);
        assert_eq!(allowed_cn(&cluster, "tiflash"), ["own", "proxy"]);
        for component in ["ticdc", "pump", "absent"] {
            assert!(allowed_cn(&cluster, component).is_empty(), "{component}");
        }
    }
}
