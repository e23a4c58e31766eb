//! What may be wrong with a certificate.

use rand::Rng as _;
use time::Duration;

use crate::der::{Authority, General, Spec, name};
use crate::generate::{
    ANY, CERT_SIGN, CLIENT, CODE, DIGITAL_SIGNATURE, Generator, KEY_ENCIPHERMENT, Made, NOW, O, PRINTABLE,
    SERVER, SGC, UNKNOWN, UTF8, subject,
};

impl Generator<'_> {
    fn spoil_time(&mut self, spec: &mut Spec) {
        let second = Duration::SECOND;
        let (text, from, until) = match self.random.random_range(0..7) {
            0 => ("expired", NOW - Duration::days(9), NOW - Duration::days(1)),
            1 => ("future", NOW + Duration::days(1), NOW + Duration::days(9)),
            2 => ("ends now", NOW - Duration::days(9), NOW),
            3 => ("begins now", NOW, NOW + Duration::days(9)),
            4 => ("ended a second ago", NOW - Duration::days(9), NOW - second),
            5 => ("ends in a second", NOW - Duration::days(9), NOW + second),
            _ => ("ends in 2076", NOW - Duration::days(9), NOW + Duration::days(18_262)),
        };
        (spec.not_before, spec.not_after) = (from, until);
        self.note(text);
    }

    fn constraints(&mut self) -> (Vec<General>, Vec<General>) {
        let dns = |text: &str| General::Dns(text.into());
        let all = [
            (vec![dns("tidb.svc")], vec![]),
            (vec![dns(".tidb.svc")], vec![]),
            (vec![dns("example.com")], vec![]),
            (vec![dns("example.com"), dns("svc")], vec![]),
            (vec![], vec![dns("peer.tidb.svc")]),
            (vec![], vec![dns("example.com")]),
            (vec![dns("tidb.svc"), General::Ip(vec![127, 0, 0, 0, 255, 0, 0, 0])], vec![]),
            (vec![dns("tidb.svc"), General::Ip(vec![10, 0, 0, 0, 255, 0, 0, 0])], vec![]),
            (vec![], vec![General::Ip(vec![127, 0, 0, 0, 255, 0, 0, 0])]),
            (vec![General::Directory(name(&[(O, PRINTABLE, "PingCAP")]))], vec![]),
            (vec![], vec![General::Directory(name(&[(O, UTF8, "PINGCAP")]))]),
            (vec![General::Email("example.com".into())], vec![]),
            (vec![], vec![General::Uri(".svc".into())]),
        ];
        self.pick(&all)
    }

    pub(crate) fn spoil_authority(&mut self, spec: &mut Spec) {
        match self.random.random_range(0..12) {
            0 => self.spoil_time(spec),
            1 => {
                spec.basic = None;
                self.note("no constraints");
                if self.one_in(2) {
                    spec.key_usage = None;
                    self.note("no usage");
                }
            }
            2 => {
                spec.basic = Some((false, None));
                self.note("CA:FALSE");
            }
            3 | 4 => {
                let length = self.random.random_range(0..2);
                spec.basic = Some((true, Some(length)));
                self.note(format!("pathlen {length}"));
            }
            5 => {
                spec.key_usage = None;
                self.note("no usage");
            }
            6 => {
                spec.key_usage = Some(DIGITAL_SIGNATURE);
                self.note("usage without certSign");
            }
            7 => {
                let sets: [&[&'static str]; 8] = [
                    &[SERVER],
                    &[CLIENT],
                    &[SERVER, CLIENT],
                    &[ANY],
                    &[CODE],
                    &[SGC],
                    &[UNKNOWN],
                    &[ANY, CLIENT],
                ];
                let set = self.pick(&sets);
                spec.extended = Some(set.to_vec());
                self.note(format!("EKU {set:?}"));
            }
            8 => {
                spec.key_id = if self.one_in(2) { None } else { Some(vec![7; 20]) };
                self.note("SKI none or foreign");
            }
            9 => {
                spec.version = 1;
                self.note("v1");
            }
            10 => {
                let constraints = self.constraints();
                self.note(format!("NC {constraints:?}"));
                spec.constraints = Some(constraints);
                if self.one_in(3) {
                    spec.names = vec![General::Dns("ca.tidb.svc".into())];
                    self.note("CA with a SAN");
                }
            }
            _ => {
                let id = self.pick(&["1.3.6.1.4.1.99999.2", "2.5.29.54"]);
                spec.critical = Some(id);
                self.note(format!("critical {id}"));
            }
        }
    }

    pub(crate) fn spoil_leaf(&mut self, spec: &mut Spec, issuer: &Made) {
        match self.random.random_range(0..11) {
            0 => self.spoil_time(spec),
            1 => {
                spec.subject.clone_from(&issuer.spec.subject);
                spec.authority = None;
                self.note("leaf DN is CA DN, no AKI");
                if self.one_in(2) {
                    spec.key_usage = None;
                    self.note("no usage");
                }
            }
            2 => {
                spec.subject.clone_from(&issuer.spec.subject);
                self.note("leaf DN is CA DN");
            }
            3 => {
                let sets: [&[&'static str]; 8] =
                    [&[SERVER], &[CLIENT], &[ANY], &[CODE], &[UNKNOWN], &[SGC], &[], &[ANY, CODE]];
                let set = self.pick(&sets);
                spec.extended = Some(set.to_vec());
                self.note(format!("EKU {set:?}"));
            }
            4 => {
                spec.extended = None;
                self.note("no EKU");
            }
            5 => {
                spec.key_usage = self.pick(&[
                    None,
                    Some(DIGITAL_SIGNATURE),
                    Some(KEY_ENCIPHERMENT),
                    Some(1 << 4),
                    Some(1 << 3),
                    Some(CERT_SIGN),
                ]);
                self.note(format!("usage {:?}", spec.key_usage));
            }
            6 => {
                spec.basic = self.pick(&[None, Some((true, None)), Some((false, Some(0)))]);
                self.note(format!("basic {:?}", spec.basic));
            }
            7 => {
                let sets = [
                    vec![],
                    vec![General::Dns("*.peer.tidb.svc".into())],
                    vec![General::Dns("*.peer".into()), General::Dns("pd-0".into())],
                    vec![General::Dns("PD-0.Peer.TiDB.svc".into())],
                    vec![General::Ip(vec![10, 0, 0, 1])],
                    vec![
                        General::Email("root@example.com".into()),
                        General::Dns("pd-0.peer.tidb.svc".into()),
                    ],
                    vec![
                        General::Uri("spiffe://tidb.svc/pd".into()),
                        General::Dns("pd-0.peer.tidb.svc".into()),
                    ],
                    vec![General::Directory(subject(2)), General::Dns("pd-0.peer.tidb.svc".into())],
                    vec![General::Dns("pd*.peer.tidb.svc".into())],
                ];
                spec.names = self.pick(&sets);
                self.note(format!("SAN {:?}", spec.names));
            }
            8 => {
                let issuer_name = issuer.spec.subject.clone();
                spec.authority = self.pick(&[
                    None,
                    Some(Authority::KeyId(vec![9; 20])),
                    Some(Authority::IssuerAndSerial(issuer_name.clone(), issuer.spec.serial)),
                    Some(Authority::IssuerAndSerial(issuer_name, 999)),
                ]);
                self.note(format!("AKI {:?}", spec.authority));
            }
            9 => {
                spec.critical = Some("1.3.6.1.4.1.99999.2");
                self.note("critical leaf");
            }
            _ => {
                spec.subject = subject(self.random.random_range(3..7));
                self.note("odd leaf DN");
            }
        }
    }
}
