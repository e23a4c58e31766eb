//! Name constraints, for people.

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::extensions::{GeneralName, NameConstraints};

use super::name;

/// As `permitted DNS:.example`, `excluded IP:10.0.0.0/255.0.0.0`.
pub(super) fn texts(constraints: &NameConstraints<'_>) -> Vec<String> {
    let side = |word: &'static str, trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
        trees.iter().flatten().map(|tree| format!("{word} {}", text(&tree.base))).collect::<Vec<_>>()
    };
    let mut all = side("permitted", &constraints.permitted_subtrees);
    all.extend(side("excluded", &constraints.excluded_subtrees));
    all
}

fn text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{}", name.escape_debug()),
        GeneralName::RFC822Name(name) => format!("email:{}", name.escape_debug()),
        GeneralName::URI(uri) => format!("URI:{}", uri.escape_debug()),
        GeneralName::IPAddress(bytes) => format!("IP:{}", network(bytes)),
        GeneralName::DirectoryName(directory) => format!("name:{}", name::text(directory)),
        _ => "a name of another kind".to_owned(),
    }
}

/// An address with its mask, as constraints hold them.
fn network(bytes: &[u8]) -> String {
    let (address, mask) = bytes.split_at(bytes.len() / 2);
    if let (Ok(address), Ok(mask)) = (<[u8; 4]>::try_from(address), <[u8; 4]>::try_from(mask)) {
        return format!("{}/{}", Ipv4Addr::from(address), Ipv4Addr::from(mask));
    }
    if let (Ok(address), Ok(mask)) = (<[u8; 16]>::try_from(address), <[u8; 16]>::try_from(mask)) {
        return format!("{}/{}", Ipv6Addr::from(address), Ipv6Addr::from(mask));
    }
    hex::encode(bytes)
}
