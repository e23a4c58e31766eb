//! Readers never panic, and what was written is read again.

use proptest::prelude::*;
use stdlib::cert::{self, Certificate, Key, pem};
use stdlib::cfssl::{Config, Request};

use crate::support::*;

/// Valid texts, to be damaged.
fn corpus() -> Vec<Vec<u8>> {
    let (ca, key) = new_ca();
    let (other, _) = new_ca();
    vec![
        format!("{}{}", ca.pem(), other.pem()).into_bytes(),
        format!("{}{}", ca.pem().trim_end(), other.pem()).into_bytes(),
        key.to_pem().unwrap().as_bytes().to_vec(),
        ca.der().to_vec(),
        CA_CSR.as_bytes().to_vec(),
        CA_CONFIG.as_bytes().to_vec(),
        PD.as_bytes().to_vec(),
        cert::SigningRequest::create(&request(PD).subject().unwrap(), &request(PD).hosts, &key)
            .unwrap()
            .into_bytes(),
    ]
}

fn read_all(bytes: &[u8]) {
    let _ = cert::parse(bytes, "x");
    let _ = cert::parse_any(bytes, "x");
    let _ = cert::SigningRequest::from_pem(bytes, "x");
    let _ = cert::SigningRequest::from_der(bytes);
    let _ = Key::from_pem(bytes, "x");
    let _ = Key::from_der(bytes);
    let _ = Certificate::from_der(bytes);
    let _ = Request::from_json(bytes, "x").and_then(|request| request.subject());
    let _ = Config::from_json(bytes, "x");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn damaged_texts_are_read_without_panic(
        which in 0usize..8,
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        thread_local!(static CORPUS: Vec<Vec<u8>> = corpus());
        let mut text = CORPUS.with(|all| all[which].clone());
        for (at, byte, how) in cuts {
            if text.is_empty() { break; }
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => { text.remove(at); }
                2 => text.insert(at, byte),
                _ => text.truncate(at),
            }
        }
        read_all(&text);
    }

    #[test]
    fn blocks_survive_encoding_and_joining(
        blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..6),
        newline in any::<bool>(),
    ) {
        let mut text = String::new();
        for block in &blocks {
            let one = pem::encode("CERTIFICATE", block);
            text.push_str(if newline { &one } else { one.trim_end() });
        }
        let scan = pem::scan(text.as_bytes(), "x").unwrap();
        let found: Vec<Vec<u8>> = scan.blocks.iter().map(|b| b.der.to_vec()).collect();
        prop_assert_eq!(found, blocks.clone());
        prop_assert_eq!(scan.notes.len(), if newline { 0 } else { blocks.len() - 1 });
    }

    #[test]
    fn subjects_are_certified_as_requested(cn in "[ -~]{1,40}", o in "\\PC{0,20}", hosts in proptest::collection::vec("[a-z]{1,8}(\\.[a-z]{1,8}){0,2}", 0..5)) {
        let json = serde_json::json!({ "CN": cn, "hosts": hosts, "names": [{ "O": o }] });
        let request = Request::from_value(&json, "x").unwrap();
        let key = Key::generate(cert::KeyKind::P256).unwrap();
        let at = now();
        let template = cert::Template::leaf(request.subject().unwrap(), key.spki(), at, at + time::Duration::hours(1));
        let made = cert::Template { sans: request.hosts.clone(), ..template }.self_sign(&key).unwrap();
        prop_assert_eq!(made.common_name(), cn);
        prop_assert_eq!(made.organizations().first().cloned().unwrap_or_default(), o);
        for host in &request.hosts {
            prop_assert!(made.sans().contains(host));
        }
        prop_assert!(made.check_signed_by(&made).is_ok());
    }
}
