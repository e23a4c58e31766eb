#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;
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
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = NOW - HOUR;
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

/// Certificates to draw random views from: made once, keys are slow.
struct Pool {
    chains: Vec<Certs>,
    anchors: Vec<Certs>,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let (one, two) = (ca("one"), ca("two"));
        let far = NOW + HOUR * 1000;
        Pool {
            chains: vec![
                one.leaf("TiDB", &["a", "b"], far),
                two.leaf("TiDB", &["a", "b"], far),
                one.leaf("TiDB", &["a"], NOW + Duration::from_secs(4)),
                two.leaf("Other", &["a", "b"], far),
                one.leaf("TiDB", &["b"], NOW - Duration::from_secs(30)),
                Certs::default(),
            ],
            anchors: vec![
                bundle(&[&one]),
                bundle(&[&two]),
                bundle(&[&one, &two]),
                bundle(&[&two, &one]),
                Certs::default(),
            ],
        }
    })
}

fn arb_party(index: usize) -> impl Strategy<Value = Party> {
    let chains = prop::collection::vec(0..6_usize, 1..3);
    let anchors = prop::collection::vec(0..5_usize, 1..3);
    (chains, anchors, 0..3_usize, 0..2_usize, 0..2_usize).prop_map(
        move |(chains, anchors, verifier, process, source)| Party {
            id: format!("p{index}"),
            group: format!("g{}", index % 2),
            process: format!("process-{process}"),
            verifier: [Verifier::Webpki, Verifier::Go, Verifier::Openssl][verifier],
            source: Place(format!("s{source}")),
            chains: chains.into_iter().map(|i| pool().chains[i].clone()).collect(),
            chain_evidence: Evidence::Unknown,
            anchors: anchors.into_iter().map(|i| pool().anchors[i].clone()).collect(),
            anchor_evidence: Evidence::Measured,
        },
    )
}

fn arb_view() -> impl Strategy<Value = View> {
    let parties = (arb_party(0), arb_party(1), arb_party(2)).prop_map(|(a, b, c)| vec![a, b, c]);
    let links =
        prop::collection::vec((0..3_usize, 0..3_usize, 1..4_usize, any::<bool>(), any::<bool>()), 1..4);
    (parties, links).prop_map(|(parties, links)| View {
        parties,
        links: links
            .into_iter()
            .map(|(client, server, names, mutual, cn)| Link {
                client: format!("p{client}"),
                server: format!("p{server}"),
                names: ["a", "b"]
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| names & (1 << i) != 0)
                    .map(|(_, n)| (*n).to_owned())
                    .collect(),
                mutual,
                client_cn: if cn { vec!["TiDB".into()] } else { Vec::new() },
                handshake: None,
            })
            .collect(),
    })
}

fn arb_writes() -> impl Strategy<Value = Vec<Write>> {
    let one = (0..2_usize, prop::option::of(0..6_usize), prop::option::of(0..5_usize)).prop_map(
        |(source, chain, anchors)| Write {
            place: Place(format!("s{source}")),
            chain: chain.map(|i| pool().chains[i].clone()),
            anchors: anchors.map(|i| pool().anchors[i].clone()),
        },
    );
    prop::collection::vec(one, 0..4)
}

type Found = BTreeSet<(String, String, Direction, Option<String>, String, String)>;

fn found(broken: &[Broken]) -> Found {
    broken
        .iter()
        .map(|broken| {
            (
                broken.client.clone(),
                broken.server.clone(),
                broken.direction,
                broken.name.clone(),
                broken.chain.as_ref().map(|leaf| leaf.fingerprint.clone()).unwrap_or_default(),
                broken.anchors.iter().map(|anchor| anchor.fingerprint.as_str()).collect::<Vec<_>>().join("+"),
            )
        })
        .collect()
}

/// Law 5 word by word: walk every state of the files, every second of the window, and ask the verifier each time.
fn oracle(view: &View, writes: &[Write], window: std::ops::RangeInclusive<i64>) -> (Found, Found) {
    let states = |party: &Party| {
        let (mut chains, mut anchors) = (party.chains.clone(), party.anchors.clone());
        let mut all = vec![(chains.clone(), anchors.clone())];
        for write in writes.iter().filter(|write| write.place == party.source) {
            chains = write.chain.clone().map_or(chains, |chain| vec![chain]);
            anchors = write.anchors.clone().map_or(anchors, |set| vec![set]);
            all.push((chains.clone(), anchors.clone()));
        }
        all
    };
    let (mut broken, mut already) = (Vec::new(), Vec::new());
    let get = |id: &str| view.parties.iter().find(|party| party.id == id).unwrap();
    for link in &view.links {
        let (client, server) = (get(&link.client), get(&link.server));
        let mut sides: Vec<(Direction, &Party, &Party, Option<&str>)> =
            link.names.iter().map(|name| (Direction::Server, server, client, Some(name.as_str()))).collect();
        if link.mutual {
            sides.push((Direction::Client, client, server, None));
        }
        let ask = |side: &(Direction, &Party, &Party, Option<&str>),
                   chain: &Certs,
                   anchors: &Certs,
                   at: i64| {
            let (usage, cn): (Usage, &[String]) = match side.0 {
                Direction::Server => (Usage::Server, &[]),
                Direction::Client => (Usage::Client, &link.client_cn),
            };
            let at = NOW + time::Duration::seconds(at);
            verify(side.2.verifier, &chain.0, &anchors.0, &Ask { usage, name: side.3, allowed_cn: cn, at })
        };
        let lives: Vec<bool> = sides
            .iter()
            .map(|side| {
                side.1
                    .chains
                    .iter()
                    .any(|chain| side.2.anchors.iter().any(|anchors| ask(side, chain, anchors, 0).is_ok()))
            })
            .collect();
        let any = |direction: Direction| {
            !sides.iter().any(|side| side.0 == direction)
                || sides.iter().zip(&lives).any(|(side, lives)| side.0 == direction && *lives)
        };
        for (side, lives) in sides.iter().zip(&lives) {
            let alive = *lives && any(Direction::Server) && any(Direction::Client);
            let together = client.process == server.process && client.source == server.source;
            for (i, (chains, _)) in states(side.1).iter().enumerate() {
                for (j, (_, sets)) in states(side.2).iter().enumerate() {
                    if together && i < j {
                        continue;
                    }
                    for (chain, anchors) in chains.iter().flat_map(|c| sets.iter().map(move |a| (c, a))) {
                        let Some(rejection) =
                            window.clone().find_map(|at| ask(side, chain, anchors, at).err())
                        else {
                            continue;
                        };
                        let present = side.1.chains.contains(chain) && side.2.anchors.contains(anchors);
                        let blameless = !alive || (present && ask(side, chain, anchors, 0).is_err());
                        let list = if blameless { &mut already } else { &mut broken };
                        list.push(Broken {
                            client: client.id.clone(),
                            client_group: String::new(),
                            server: server.id.clone(),
                            server_group: String::new(),
                            direction: side.0,
                            name: side.3.map(str::to_owned),
                            verifier: side.2.verifier,
                            chain: chain.0.first().map(describe),
                            anchors: anchors.0.iter().map(describe).collect(),
                            at: NOW,
                            rejection,
                        });
                    }
                }
            }
        }
    }
    (found(&broken), found(&already))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_forecast_is_what_brute_force_finds(view in arb_view(), writes in arb_writes()) {
        let forecast = forecast(&view, &writes, NOW, NOW + Duration::from_secs(5), Duration::from_secs(2));
        let (broken, already) = oracle(&view, &writes, -2..=7);
        prop_assert_eq!(found(&forecast.broken), broken);
        prop_assert_eq!(found(&forecast.already_broken), already);
        prop_assert!(forecast.verifications <= forecast.combinations * 8 + 8);
    }

    #[test]
    fn more_writes_never_break_less(view in arb_view(), writes in arb_writes(), more in arb_writes()) {
        let (until, skew) = (NOW + Duration::from_secs(5), Duration::from_secs(2));
        let few = found(&forecast(&view, &writes, NOW, until, skew).broken);
        let all: Vec<Write> = writes.iter().chain(&more).cloned().collect();
        let many = found(&forecast(&view, &all, NOW, until, skew).broken);
        prop_assert!(many.is_superset(&few));
    }

    #[test]
    fn a_forecast_without_writes_and_time_is_the_matrix(view in arb_view()) {
        let forecast = forecast(&view, &[], NOW, NOW, Duration::ZERO);
        prop_assert!(forecast.broken.is_empty());
        prop_assert_eq!(forecast.already_broken.is_empty(), matrix(&view, NOW).holds());
    }
}
