//! The forecast against all that can happen, tried one by one.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

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
            anchors_source: None,
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
                        // A clock for which what is in use is not valid yet refuses it already.
                        let in_force = |certs: &Certs, at: i64| {
                            let at = NOW + time::Duration::seconds(at.min(0));
                            let valid = |der| {
                                crate::trust::verifier::validity(der).is_none_or(|(from, _)| from <= at)
                            };
                            at == NOW || certs.0.iter().all(valid)
                        };
                        let known = side.1.chains.contains(chain);
                        let met = known && side.2.anchors.contains(anchors);
                        let counts =
                            |at: &i64| (!known || in_force(chain, *at)) && (!met || in_force(anchors, *at));
                        let Some(rejection) =
                            window.clone().filter(counts).find_map(|at| ask(side, chain, anchors, at).err())
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
