//! How members agree: a leader, its log on a majority, and nothing acknowledged before. Pure: who reaches whom and what
//! time it is are told from outside.
//!
//! Each member keeps its own log and its own database; an acknowledged write is on a majority of them, and only who has
//! it can be elected by one.

use std::time::Duration;

use time::OffsetDateTime;

use super::store::Store;

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// With what a leader begins its term.
    Nothing,
    Put(Vec<u8>, Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    term: u64,
    what: What,
}

/// What one member has on its disk, and whether it runs.
#[derive(Debug, Clone, Default)]
struct Replica {
    up: bool,
    log: Vec<Entry>,
    /// How much of the log is known to be on a majority.
    commit: usize,
    applied: usize,
    store: Store,
}

impl Replica {
    /// By which a voter judges a candidate.
    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }

    fn apply(&mut self) {
        while self.applied < self.commit {
            if let Some(Entry { what: What::Put(key, value), .. }) = self.log.get(self.applied) {
                self.store.put(key, value);
            }
            self.applied += 1;
        }
    }
}

/// All members.
#[derive(Debug)]
pub(crate) struct Raft {
    replicas: Vec<Replica>,
    /// Whether the last handshake from one to another held.
    reach: Vec<Vec<bool>>,
    term: u64,
    leader: Option<usize>,
    headless_since: Option<OffsetDateTime>,
    most_down: usize,
    /// Members at which there is no more space.
    full: std::collections::BTreeSet<usize>,
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub leader: Option<usize>,
    pub term: u64,
    pub index: u64,
    pub applied: u64,
}

impl Raft {
    pub(crate) fn new(members: usize) -> Self {
        Self {
            replicas: vec![Replica::default(); members],
            reach: vec![vec![false; members]; members],
            term: 1,
            leader: None,
            headless_since: None,
            most_down: 0,
            full: std::collections::BTreeSet::new(),
        }
    }

    /// Raises or lifts the alarm that a member has no more space.
    pub(crate) fn set_full(&mut self, member: usize, full: bool) {
        if full {
            self.full.insert(member)
        } else {
            self.full.remove(&member)
        };
    }

    /// Members at which there is no more space.
    pub(crate) fn full(&self) -> Vec<usize> {
        self.full.iter().copied().collect()
    }

    /// What all members hold before any of them is asked.
    pub(crate) fn held(&mut self, key: &[u8], value: &[u8]) {
        for replica in &mut self.replicas {
            replica.log.push(Entry { term: self.term, what: What::Put(key.to_vec(), value.to_vec()) });
            replica.commit = replica.log.len();
            replica.apply();
        }
    }

    fn majority(&self) -> usize {
        self.replicas.len() / 2 + 1
    }

    /// A member has started or stopped.
    pub(crate) fn set_up(&mut self, member: usize, up: bool) {
        if let Some(replica) = self.replicas.get_mut(member) {
            replica.up = up;
        }
        if let Some(row) = self.reach.get_mut(member) {
            row.fill(false);
        }
        for row in &mut self.reach {
            if let Some(cell) = row.get_mut(member) {
                *cell = false;
            }
        }
        self.count_down();
    }

    /// What came of a handshake.
    pub(crate) fn set_reach(&mut self, from: usize, to: usize, held: bool) {
        if let Some(cell) = self.reach.get_mut(from).and_then(|row| row.get_mut(to)) {
            *cell = held;
        }
    }

    fn is_up(&self, member: usize) -> bool {
        self.replicas.get(member).is_some_and(|replica| replica.up)
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.reach.get(from).and_then(|row| row.get(to)).copied().unwrap_or(false)
    }

    /// Whether two talk with each other: each must accept the other.
    fn linked(&self, a: usize, b: usize) -> bool {
        self.is_up(a) && self.is_up(b) && (a == b || (self.reaches(a, b) && self.reaches(b, a)))
    }

    fn circle(&self, of: usize) -> Vec<usize> {
        (0..self.replicas.len()).filter(|other| self.linked(of, *other)).collect()
    }

    /// The leader, where it has a majority.
    fn leads(&self) -> Option<usize> {
        self.leader.filter(|leader| self.circle(*leader).len() >= self.majority())
    }

    /// Whether all members run, talk with each other, follow one leader and have all that it has.
    pub(crate) fn is_whole(&self) -> bool {
        let all = 0..self.replicas.len();
        let meshed = all.clone().all(|a| all.clone().all(|b| self.linked(a, b)));
        let level = self.replicas.iter().all(|replica| replica.applied == self.replicas[0].applied);
        meshed && level && self.leads().is_some()
    }

    /// Gives a member the leader's log.
    fn bring(&mut self, leader: usize, member: usize) {
        if leader == member {
            return;
        }
        let Some(log) = self.replicas.get(leader).map(|replica| replica.log.clone()) else { return };
        if let Some(replica) = self.replicas.get_mut(member) {
            let same = replica.log.iter().zip(&log).take_while(|(a, b)| a == b).count();
            replica.log.truncate(same);
            replica.log.extend(log.into_iter().skip(same));
        }
    }

    fn advance(&mut self, member: usize, commit: usize) {
        if let Some(replica) = self.replicas.get_mut(member) {
            replica.commit = replica.commit.max(commit.min(replica.log.len()));
            replica.apply();
        }
    }

    /// One round from the leader: its log to all that it reaches; what a majority has is committed, which the others learn
    /// with the next round.
    fn replicate(&mut self, leader: usize) {
        let circle = self.circle(leader);
        let Some(known) = self.replicas.get(leader).map(|replica| replica.commit) else { return };
        for member in &circle {
            self.bring(leader, *member);
            self.advance(*member, known);
        }
        let (term, all) = self.replicas.get(leader).map(Replica::last).unwrap_or_default();
        if circle.len() >= self.majority() && term == self.term {
            self.advance(leader, all);
        }
    }

    /// What a leader does from time to time, and the others when there is none for a while.
    pub(crate) fn tick(&mut self, now: OffsetDateTime, patience: Duration) {
        self.count_down();
        if let Some(leader) = self.leads() {
            self.headless_since = None;
            return self.replicate(leader);
        }
        let since = *self.headless_since.get_or_insert(now);
        if now - since >= patience {
            self.headless_since = Some(now);
            self.elect();
        }
    }

    fn count_down(&mut self) {
        // Before the first election nothing is down: it is not there yet.
        if self.term > 1 {
            let down = self.replicas.iter().filter(|replica| !replica.up).count();
            self.most_down = self.most_down.max(down);
        }
    }

    fn elect(&mut self) {
        self.leader = None;
        let votes = |candidate: usize| {
            let own = self.replicas.get(candidate).map(Replica::last).unwrap_or_default();
            let grants =
                |voter: &usize| self.replicas.get(*voter).is_some_and(|replica| own >= replica.last());
            self.circle(candidate).iter().filter(|voter| grants(voter)).count()
        };
        let count = self.replicas.len();
        let first = usize::try_from(self.term).unwrap_or(0);
        let chosen =
            (0..count).map(|n| (n + first) % count).find(|candidate| votes(*candidate) >= self.majority());
        if let Some(leader) = chosen {
            self.begin_term(leader);
        }
    }

    fn begin_term(&mut self, leader: usize) {
        self.term += 1;
        self.leader = Some(leader);
        self.headless_since = None;
        let term = self.term;
        if let Some(replica) = self.replicas.get_mut(leader) {
            replica.log.push(Entry { term, what: What::Nothing });
        }
        self.replicate(leader);
    }

    /// A write asked of a member; acknowledged once it is on a majority, and applied where it was asked. Nothing where
    /// there is nobody to do so.
    pub(crate) fn put(&mut self, at: usize, key: &[u8], value: &[u8]) -> Option<u64> {
        let leader = self.leads().filter(|leader| self.linked(at, *leader))?;
        let entry = Entry { term: self.term, what: What::Put(key.to_vec(), value.to_vec()) };
        let replica = self.replicas.get_mut(leader)?;
        replica.log.push(entry);
        let index = replica.log.len();
        self.replicate(leader);
        self.catch_up(leader, at)?;
        let replica = self.replicas.get(at).filter(|replica| replica.applied >= index)?;
        Some(replica.store.revision)
    }

    /// A member's database with all that was acknowledged before. Nothing where no majority can vouch for that.
    pub(crate) fn read(&mut self, at: usize) -> Option<&Store> {
        let leader = self.leads().filter(|leader| self.linked(at, *leader))?;
        self.replicate(leader);
        self.catch_up(leader, at)?;
        self.replicas.get(at).map(|replica| &replica.store)
    }

    fn catch_up(&mut self, leader: usize, at: usize) -> Option<()> {
        let commit = self.replicas.get(leader)?.commit;
        self.bring(leader, at);
        self.advance(at, commit);
        Some(())
    }

    /// A member's database as it is.
    pub(crate) fn store(&self, at: usize) -> Option<&Store> {
        self.replicas.get(at).map(|replica| &replica.store)
    }

    /// Gives the leadership away.
    pub(crate) fn transfer(&mut self, at: usize, to: Option<usize>) -> Result<(), &'static str> {
        let Some(to) = to else { return Err("etcdserver: bad leader transferee") };
        if self.leads() != Some(at) {
            return Err("etcdserver: not leader");
        }
        if to == at {
            return Ok(());
        }
        if !self.linked(at, to) {
            return Err("etcdserver: request timed out, leader transfer took too long");
        }
        self.bring(at, to);
        self.begin_term(to);
        Ok(())
    }

    pub(crate) fn status(&self, at: usize) -> Status {
        let replica = self.replicas.get(at);
        Status {
            leader: self.leads().filter(|leader| self.linked(at, *leader)),
            term: self.term,
            index: replica.map_or(0, |replica| replica.commit as u64),
            applied: replica.map_or(0, |replica| replica.applied as u64),
        }
    }

    /// The most members that were down at one moment.
    pub(crate) fn most_down(&self) -> usize {
        self.most_down
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn whole(members: usize) -> Raft {
        let mut raft = Raft::new(members);
        for a in 0..members {
            raft.set_up(a, true);
        }
        for a in 0..members {
            reach(&mut raft, a, true);
        }
        settle(&mut raft, 1);
        raft
    }

    /// Both ways between one member and all others.
    fn reach(raft: &mut Raft, member: usize, held: bool) {
        for other in 0..raft.replicas.len() {
            raft.set_reach(member, other, held);
            raft.set_reach(other, member, held);
        }
    }

    fn settle(raft: &mut Raft, hour: i64) {
        let mut now = datetime!(2026-06-01 00:00 UTC) + time::Duration::hours(hour);
        for _ in 0..4 {
            raft.tick(now, PATIENCE);
            now += PATIENCE;
        }
    }

    #[test]
    fn a_write_needs_a_majority_that_accept_each_other() {
        let mut raft = whole(3);
        assert!(raft.is_whole());
        let leader = raft.leader.unwrap();
        let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
        assert!(raft.put(one, b"k", b"1").is_some());
        // One way is not enough: its peers refuse what it shows.
        raft.set_reach(one, leader, false);
        raft.set_reach(one, two, false);
        assert!(raft.put(one, b"k", b"2").is_none() && raft.read(one).is_none(), "it is outside");
        assert!(raft.put(two, b"k", b"2").is_some(), "the others go on");
        raft.set_up(two, false);
        assert!(raft.put(leader, b"k", b"3").is_none(), "one of three is no majority");
        settle(&mut raft, 2);
        assert_eq!(raft.status(leader).leader, None);
        raft.set_up(two, true);
        reach(&mut raft, two, true);
        reach(&mut raft, one, true);
        settle(&mut raft, 3);
        assert_eq!(raft.read(one).unwrap().range(b"k", b"").next().unwrap().1.value, b"2");
        assert_eq!(raft.most_down(), 1);
    }

    #[test]
    fn the_leadership_moves_only_from_the_leader_to_a_member_that_it_reaches() {
        let mut raft = whole(3);
        let leader = raft.leader.unwrap();
        let other = (leader + 1) % 3;
        assert_eq!(raft.transfer(other, Some(leader)), Err("etcdserver: not leader"));
        assert_eq!(raft.transfer(leader, None), Err("etcdserver: bad leader transferee"));
        raft.transfer(leader, Some(other)).unwrap();
        assert_eq!(raft.status(leader).leader, Some(other));
    }

    #[derive(Debug, Clone)]
    enum Act {
        Stop(usize),
        Start(usize),
        Cut(usize, usize),
        Join(usize, usize),
        Tick,
        Put(usize),
        Read(usize),
        Move(usize, usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let m = 0_usize..5;
        prop_oneof![
            1 => m.clone().prop_map(Act::Stop),
            2 => m.clone().prop_map(Act::Start),
            1 => (m.clone(), m.clone()).prop_map(|(a, b)| Act::Cut(a, b)),
            2 => (m.clone(), m.clone()).prop_map(|(a, b)| Act::Join(a, b)),
            3 => Just(Act::Tick),
            4 => m.clone().prop_map(Act::Put),
            3 => m.clone().prop_map(Act::Read),
            1 => (m.clone(), m).prop_map(|(a, b)| Act::Move(a, b)),
        ]
    }

    proptest! {
        /// Whatever stops, starts and is cut: what was acknowledged is never lost, and no read is stale.
        #[test]
        fn no_acknowledged_write_is_ever_lost_or_read_stale(five in any::<bool>(), acts in proptest::collection::vec(act(), 1..120)) {
            let members = if five { 5 } else { 3 };
            let mut raft = whole(members);
            let (mut written, mut acknowledged) = (0_u64, 0_u64);
            let mut now = datetime!(2026-06-01 13:00 UTC);
            for act in acts {
                match act {
                    Act::Stop(m) => raft.set_up(m % members, false),
                    Act::Start(m) if !raft.is_up(m % members) => { raft.set_up(m % members, true); reach(&mut raft, m % members, true); }
                    Act::Start(_) => {}
                    Act::Cut(a, b) => raft.set_reach(a % members, b % members, false),
                    Act::Join(a, b) => raft.set_reach(a % members, b % members, true),
                    Act::Tick => { now += PATIENCE; raft.tick(now, PATIENCE); }
                    Act::Put(m) => {
                        written += 1;
                        if raft.put(m % members, b"k", written.to_string().as_bytes()).is_some() { acknowledged = written; }
                    }
                    Act::Read(m) => {
                        let found = raft.read(m % members).map(|store| {
                            let kept = store.range(b"k", b"").next();
                            kept.map_or(0, |(_, kept)| String::from_utf8(kept.value.clone()).unwrap().parse::<u64>().unwrap())
                        });
                        if let Some(found) = found {
                            prop_assert!((acknowledged..=written).contains(&found), "{found} of {acknowledged}..={written}");
                        }
                    }
                    Act::Move(a, b) => drop(raft.transfer(a % members, Some(b % members))),
                }
            }
        }
    }
}
