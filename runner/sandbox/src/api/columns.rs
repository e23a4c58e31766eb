//! The columns of the built-in resources in a table.

/// name, type, whether only wide output shows it
pub(crate) type Column = (&'static str, &'static str, bool);

/// The columns of a resource.
pub(crate) fn builtin_columns(plural: &str) -> Vec<Column> {
    let s = "string";
    let i = "integer";
    let mut columns = vec![("Name", s, false)];
    columns.extend_from_slice(match plural {
        "pods" => &[
            ("Ready", "string", false),
            ("Status", "string", false),
            ("Restarts", "string", false),
            ("Age", "string", false),
            ("IP", "string", true),
            ("Node", "string", true),
            ("Nominated Node", "string", true),
            ("Readiness Gates", "string", true),
        ] as &[Column],
        "secrets" => &[("Type", "string", false), ("Data", "integer", false), ("Age", "string", false)],
        "configmaps" => &[("Data", "integer", false), ("Age", "string", false)],
        "namespaces" => &[("Status", "string", false), ("Age", "string", false)],
        "nodes" => &[
            ("Status", "string", false),
            ("Roles", "string", false),
            ("Age", "string", false),
            ("Version", "string", false),
        ],
        "services" => &[
            ("Type", "string", false),
            ("Cluster-IP", "string", false),
            ("External-IP", "string", false),
            ("Port(s)", "string", false),
            ("Age", "string", false),
            ("Selector", "string", true),
        ],
        "serviceaccounts" => &[("Secrets", "string", false), ("Age", "string", false)],
        "statefulsets" => &[
            ("Ready", "string", false),
            ("Age", "string", false),
            ("Containers", "string", true),
            ("Images", "string", true),
        ],
        "deployments" => &[
            ("Ready", "string", false),
            ("Up-to-date", "string", false),
            ("Available", "string", false),
            ("Age", "string", false),
            ("Containers", "string", true),
            ("Images", "string", true),
            ("Selector", "string", true),
        ],
        "replicasets" => &[
            ("Desired", "integer", false),
            ("Current", "integer", false),
            ("Ready", "integer", false),
            ("Age", "string", false),
        ],
        "daemonsets" => &[
            ("Desired", "integer", false),
            ("Current", "integer", false),
            ("Ready", "integer", false),
            ("Up-to-date", "integer", false),
            ("Available", "integer", false),
            ("Node Selector", "string", false),
            ("Age", "string", false),
        ],
        "controllerrevisions" => {
            &[("Controller", "string", false), ("Revision", "string", false), ("Age", "date", false)]
        }
        "poddisruptionbudgets" => &[
            ("Min Available", "string", false),
            ("Max Unavailable", "string", false),
            ("Allowed Disruptions", "integer", false),
            ("Age", "string", false),
        ],
        "leases" => &[("Holder", "string", false), ("Age", "string", false)],
        "customresourcedefinitions" => &[("Created At", "date", false)],
        "persistentvolumeclaims" => &[
            ("Status", "string", false),
            ("Volume", "string", false),
            ("Capacity", "string", false),
            ("Access Modes", "string", false),
            ("StorageClass", "string", false),
            ("Age", "string", false),
        ],
        "rolebindings" | "clusterrolebindings" => &[("Role", "string", false), ("Age", "string", false)],
        "roles" | "clusterroles" => &[("Created At", "date", false)],
        "endpoints" => &[("Endpoints", "string", false), ("Age", "string", false)],
        _ => &[("Age", "string", false)],
    });
    if plural == "events" {
        return vec![
            ("Last Seen", s, false),
            ("Type", s, false),
            ("Reason", s, false),
            ("Object", s, false),
            ("Message", s, false),
            ("Name", s, true),
            ("Count", i, true),
        ];
    }
    columns
}
