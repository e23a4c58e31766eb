//! The least OpenAPI that clients accept: no definitions, so that they neither validate nor guess types themselves.

use bytes::Bytes;

/// `openapi.v2.Document{swagger: "2.0", info: {title, version}, paths: {}}`, as protobuf writes it.
const V2_PROTOBUF: &[u8] = b"\x0a\x032.0\x12\x14\x0a\x0aKubernetes\x12\x06v1.0.0\x42\x00";
const V2_JSON: &[u8] =
    br#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1.0.0"},"paths":{},"definitions":{}}"#;

/// The content type and body of an OpenAPI path, if it is one.
pub(crate) fn answer(path: &str, accept: &str) -> Option<(&'static str, Bytes)> {
    match path {
        "/openapi/v2" if accept.contains("protobuf") => {
            let kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
            Some((kind, Bytes::from_static(V2_PROTOBUF)))
        }
        "/openapi/v2" => Some(("application/json", Bytes::from_static(V2_JSON))),
        "/openapi/v3" => Some(("application/json", Bytes::from_static(br#"{"paths":{}}"#))),
        _ => None,
    }
}
