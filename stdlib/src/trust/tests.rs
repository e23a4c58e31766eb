//! Trust among a few parties, told as stories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod brute;

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

/// An authority that signs leaves.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
}

fn ca(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = NOW - HOUR * 24;
    params.not_after = NOW + HOUR * 24 * 3650;
    let cert = params.self_signed(&key).unwrap().der().clone();
    Ca { issuer: Issuer::new(params, key), cert }
}

impl Ca {
    fn leaf(&self, cn: &str, names: &[&str], not_after: OffsetDateTime) -> Certs {
        self.leaf_since(NOW - HOUR, cn, names, not_after)
    }

    fn leaf_since(
        &self,
        not_before: OffsetDateTime,
        cn: &str,
        names: &[&str],
        not_after: OffsetDateTime,
    ) -> Certs {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = not_before;
        params.not_after = not_after;
        Certs(vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()])
    }
}

fn bundle(cas: &[&Ca]) -> Certs {
    Certs(cas.iter().map(|ca| ca.cert.clone()).collect())
}

fn party(id: &str, verifier: Verifier, chain: &Certs, anchors: &Certs) -> Party {
    Party {
        id: id.into(),
        group: id.split('-').next().unwrap().into(),
        process: id.into(),
        verifier,
        source: Place(format!("secret/{id}")),
        anchors_source: None,
        chains: vec![chain.clone()],
        chain_evidence: Evidence::Measured,
        anchors: vec![anchors.clone()],
        anchor_evidence: Evidence::Measured,
    }
}

fn link(client: &str, server: &str, names: &[&str]) -> Link {
    Link {
        client: client.into(),
        server: server.into(),
        names: names.iter().map(|name| (*name).into()).collect(),
        mutual: true,
        client_cn: Vec::new(),
        handshake: None,
    }
}

fn write(id: &str, chain: Option<&Certs>, anchors: Option<&Certs>) -> Write {
    Write { place: Place(format!("secret/{id}")), chain: chain.cloned(), anchors: anchors.cloned() }
}

/// Two components that dial each other, all on the old authority.
struct Cluster {
    old: Ca,
    new: Ca,
    view: View,
}

const IDS: [&str; 2] = ["pd-0", "tikv-0"];

fn cluster() -> Cluster {
    let (old, new) = (ca("old"), ca("new"));
    let (leaf, anchors) = (old.leaf("TiDB", &["pd-0", "tikv-0"], NOW + HOUR * 1000), bundle(&[&old]));
    let view = View {
        parties: vec![
            party("pd-0", Verifier::Go, &leaf, &anchors),
            party("tikv-0", Verifier::Openssl, &leaf, &anchors),
        ],
        links: vec![link("pd-0", "tikv-0", &["tikv-0"]), link("tikv-0", "pd-0", &["pd-0"])],
    };
    Cluster { old, new, view }
}

fn forecast_hour(view: &View, writes: &[Write]) -> Forecast {
    forecast(view, writes, NOW, NOW + HOUR, Duration::from_secs(300))
}

#[test]
fn the_documented_order_has_no_gap_and_every_shortcut_has_one() {
    let Cluster { old, new, mut view } = cluster();
    let new_leaf = new.leaf("TiDB", &["pd-0", "tikv-0"], NOW + HOUR * 1000);
    let both = bundle(&[&new, &old]);
    let only_new = bundle(&[&new]);
    let all = |chain: Option<&Certs>, anchors: Option<&Certs>| IDS.map(|id| write(id, chain, anchors));

    let early_leaves = forecast_hour(&view, &all(Some(&new_leaf), None));
    assert!(!early_leaves.gap_free());
    let sentence = early_leaves.broken[0].to_string();
    assert!(sentence.contains("tikv-0 would refuse") || sentence.contains("pd-0 would refuse"), "{sentence}");
    assert!(sentence.contains("CN=new, which is not trusted") || sentence.contains("CN=new`"), "{sentence}");
    assert!(!forecast_hour(&view, &all(Some(&new_leaf), Some(&only_new))).gap_free(), "both at once");
    assert!(!forecast_hour(&view, &all(None, Some(&only_new))).gap_free(), "distrust first");

    let trust_both = forecast_hour(&view, &all(None, Some(&both)));
    assert!(trust_both.gap_free(), "{:?}", trust_both.broken);
    assert_eq!(
        (trust_both.links, trust_both.combinations),
        (2, 8),
        "one chain, two anchor sets, two directions each"
    );

    for party in &mut view.parties {
        party.anchors = vec![both.clone()];
    }
    assert!(forecast_hour(&view, &all(Some(&new_leaf), None)).gap_free());
    assert!(!forecast_hour(&view, &all(None, Some(&only_new))).gap_free(), "old leaves are still served");

    for party in &mut view.parties {
        party.chains = vec![new_leaf.clone()];
    }
    assert!(forecast_hour(&view, &all(None, Some(&only_new))).gap_free());
}

#[test]
fn a_party_that_was_not_restarted_still_counts_as_old() {
    let Cluster { old, new, mut view } = cluster();
    let new_leaf = new.leaf("TiDB", &["pd-0", "tikv-0"], NOW + HOUR * 1000);
    let both = bundle(&[&new, &old]);
    for party in &mut view.parties {
        // The bundle lies on the disk, and nobody has proved that anybody has loaded it.
        party.anchors.push(both.clone());
        party.anchor_evidence = Evidence::Unknown;
    }
    let forecast = forecast_hour(&view, &IDS.map(|id| write(id, Some(&new_leaf), None)));
    assert!(!forecast.gap_free());
    assert_eq!(forecast.counterexamples().len(), 4, "two links in two directions");
    let table = matrix(&view, NOW);
    assert!(table.holds());
    assert_eq!(table.cell("pd", "tikv").unwrap().evidence, Evidence::Unknown);
}

#[test]
fn a_leaf_that_expires_inside_the_window_breaks_the_phase() {
    let Cluster { old, mut view, .. } = cluster();
    view.parties[0].chains = vec![old.leaf("TiDB", &["pd-0"], NOW + HOUR / 2)];
    let forecast = forecast_hour(&view, &[]);
    assert!(forecast.broken.iter().all(|broken| broken.rejection.code == "expired"));
    assert_eq!(forecast.broken.len(), 2, "as server before TiKV and as client before it");

    view.parties[0].chains = vec![old.leaf("TiDB", &["pd-0"], NOW + HOUR + Duration::from_secs(200))];
    assert!(!forecast_hour(&view, &[]).gap_free(), "the skew counts");
    view.parties[0].chains = vec![old.leaf("TiDB", &["pd-0"], NOW + HOUR + Duration::from_secs(400))];
    assert!(forecast_hour(&view, &[]).gap_free());
}

#[test]
fn a_clock_that_goes_slow_is_told_of_before_a_young_leaf_is_used_and_not_after() {
    let Cluster { old, new, mut view } = cluster();
    let young = old.leaf_since(NOW - Duration::from_secs(60), "TiDB", &["pd-0", "tikv-0"], NOW + HOUR * 1000);
    let forecast = forecast_hour(&view, &[write("pd-0", Some(&young), None)]);
    assert!(
        forecast.broken.iter().all(|b| b.rejection.text.contains("not valid before")),
        "{:?}",
        forecast.broken
    );
    assert!(!forecast.gap_free(), "whoever lives five minutes ago refuses it");
    view.parties[0].chains = vec![young];
    let both = bundle(&[&new, &old]);
    let later = forecast_hour(&view, &[write("tikv-0", None, Some(&both))]);
    assert!(
        later.gap_free(),
        "that it is used already is not what this phase brings about: {:?}",
        later.broken
    );
}

#[test]
fn what_fails_already_is_not_blamed_on_the_phase() {
    let Cluster { old, new, mut view } = cluster();
    let stranger = new.leaf("TiDB", &["pd-0"], NOW + HOUR * 1000);
    view.parties[0].chains = vec![stranger];
    let forecast = forecast_hour(&view, &[write("tikv-0", None, Some(&bundle(&[&old])))]);
    assert!(forecast.gap_free(), "{:?}", forecast.broken);
    assert!(!forecast.already_broken.is_empty());
    let table = matrix(&view, NOW);
    assert_eq!(table.cell("pd", "tikv").unwrap().holds, Holds::None);
    assert!(table.cell("tikv", "pd").unwrap().reason.as_ref().unwrap().starts_with("tikv-0 refuses pd-0: "));
}

#[test]
fn a_process_that_dials_itself_cannot_be_younger_in_trust_than_in_chain() {
    let Cluster { old, new, .. } = cluster();
    let (old_leaf, new_leaf) =
        (old.leaf("TiDB", &["etcd-0"], NOW + HOUR * 1000), new.leaf("TiDB", &["etcd-0"], NOW + HOUR * 1000));
    let view = View {
        parties: vec![party("etcd-0", Verifier::Go, &old_leaf, &bundle(&[&old, &new]))],
        links: vec![link("etcd-0", "etcd-0", &["etcd-0"])],
    };
    // Chain first, then trust in the new authority alone: the old chain is gone before the old trust goes.
    let writes = [write("etcd-0", Some(&new_leaf), None), write("etcd-0", None, Some(&bundle(&[&new])))];
    assert!(forecast_hour(&view, &writes).gap_free());
    let mut two = view;
    two.parties.push(Party { id: "etcd-1".into(), process: "etcd-1".into(), ..two.parties[0].clone() });
    two.links.push(link("etcd-0", "etcd-1", &["etcd-0"]));
    assert!(!forecast_hour(&two, &writes).gap_free(), "another process may still serve the old chain");
}

#[test]
fn allowed_common_names_count() {
    let Cluster { old, mut view, .. } = cluster();
    view.links[0].client_cn = vec!["TiDB".into()];
    assert!(forecast_hour(&view, &[]).gap_free());
    let renamed = old.leaf("PD", &["pd-0"], NOW + HOUR * 1000);
    let forecast = forecast_hour(&view, &[write("pd-0", Some(&renamed), None)]);
    assert_eq!(forecast.broken.len(), 1);
    assert_eq!(forecast.broken[0].rejection.code, "cn-not-allowed");
}

#[test]
fn a_link_to_nobody_known_is_broken() {
    let Cluster { mut view, .. } = cluster();
    view.links.push(link("pd-0", "monitor", &["monitor"]));
    assert_eq!(forecast_hour(&view, &[]).broken[0].rejection.code, "unknown-party");
    assert!(!matrix(&view, NOW).holds());
}

#[test]
fn a_handshake_that_was_made_says_how_its_link_is_and_forecasts_nothing() {
    let Cluster { new, mut view, .. } = cluster();
    view.parties[0].chain_evidence = Evidence::Unknown;
    assert_eq!(matrix(&view, NOW).cell("pd", "tikv").unwrap().evidence, Evidence::Unknown);
    view.links[0].handshake = Some(Handshake::Accepted);
    let cell = matrix(&view, NOW).cell("pd", "tikv").unwrap().clone();
    assert_eq!((cell.evidence, cell.holds), (Evidence::Measured, Holds::All));

    view.links[0].handshake =
        Some(Handshake::Refused("it refuses our certificate: alert `unknown_ca`".into()));
    let cell = matrix(&view, NOW).cell("pd", "tikv").unwrap().clone();
    assert_eq!((cell.evidence, cell.holds), (Evidence::Measured, Holds::None));
    assert_eq!(cell.reason.unwrap(), "pd-0 dialled tikv-0: it refuses our certificate: alert `unknown_ca`");

    // Accepted now says nothing of what a server will accept once the client changes.
    view.links[0].handshake = Some(Handshake::Accepted);
    let stranger = new.leaf("TiDB", &["pd-0"], NOW + HOUR * 1000);
    assert!(!forecast_hour(&view, &[write("pd-0", Some(&stranger), None)]).gap_free());
}

#[test]
fn views_forecasts_and_matrices_cross_json() {
    let Cluster { view, new, .. } = cluster();
    let text = serde_json::to_string(&view).unwrap();
    let back: View = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let table = matrix(&back, NOW);
    let again: Matrix = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(again, table);
    let forecast = forecast_hour(&view, &[write("pd-0", None, Some(&bundle(&[&new])))]);
    let again: Forecast = serde_json::from_str(&serde_json::to_string(&forecast).unwrap()).unwrap();
    assert_eq!(again.broken, forecast.broken);
}

#[test]
fn nothing_that_a_peer_may_send_is_a_panic() {
    let Cluster { old, .. } = cluster();
    let leaf = old.leaf("TiDB", &["pd-0"], NOW + HOUR).0.remove(0);
    let ask = Ask { usage: Usage::Server, name: Some("pd-0"), allowed_cn: &[], at: NOW };
    for verifier in [Verifier::Webpki, Verifier::Go, Verifier::Openssl] {
        assert_eq!(verify(verifier, &[], &[], &ask).unwrap_err().code, "empty-chain");
        for cut in 0..leaf.len() {
            let torn = CertificateDer::from(&leaf[..cut]);
            let verdict =
                verify(verifier, std::slice::from_ref(&torn), std::slice::from_ref(&old.cert), &ask);
            assert_eq!(verdict.unwrap_err().code, "malformed", "{verifier:?} cut at {cut}");
            let anchored = verify(verifier, std::slice::from_ref(&leaf), &[torn, old.cert.clone()], &ask);
            assert_eq!(anchored.is_ok(), verifier != Verifier::Openssl, "OpenSSL does not load a torn file");
        }
    }
}

#[test]
fn no_flipped_bit_is_a_panic_and_none_is_accepted() {
    let Cluster { old, .. } = cluster();
    let leaf = old.leaf("TiDB", &["pd-0"], NOW + HOUR).0.remove(0);
    let ask = Ask { usage: Usage::Server, name: Some("pd-0"), allowed_cn: &[], at: NOW };
    for verifier in [Verifier::Webpki, Verifier::Go, Verifier::Openssl] {
        for at in 0..leaf.len() {
            let mut bytes = leaf.to_vec();
            bytes[at] ^= 1 << (at % 8);
            let flipped = CertificateDer::from(bytes);
            let verdict =
                verify(verifier, std::slice::from_ref(&flipped), std::slice::from_ref(&old.cert), &ask);
            assert!(
                verdict.is_err(),
                "{verifier:?} accepts a certificate with a flipped bit in byte {at}: {:02x?}",
                &leaf[at - 12..at + 6]
            );
            let _ = verify(verifier, std::slice::from_ref(&leaf), &[flipped], &ask);
        }
    }
}
