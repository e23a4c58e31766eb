//! What a member's database holds. Pure.

use std::collections::BTreeMap;

/// A value with its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub value: Vec<u8>,
    pub created: u64,
    pub modified: u64,
    pub version: u64,
}

/// Keys with their values, and the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    pub revision: u64,
    keys: BTreeMap<Vec<u8>, Kept>,
}

impl Default for Store {
    fn default() -> Self {
        Self { revision: 1, keys: BTreeMap::new() }
    }
}

impl Store {
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.revision += 1;
        let revision = self.revision;
        let kept = self.keys.entry(key.to_vec()).or_insert_with(|| Kept {
            value: Vec::new(),
            created: revision,
            modified: revision,
            version: 0,
        });
        kept.value = value.to_vec();
        kept.modified = revision;
        kept.version += 1;
    }

    /// A key, or those from it up to an end; an end of one zero byte is behind all.
    pub(crate) fn range<'a>(
        &'a self,
        key: &'a [u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Kept)> {
        self.keys.range(key.to_vec()..).take_while(move |(found, _)| match end {
            [] => found.as_slice() == key,
            [0] => true,
            end => found.as_slice() < end,
        })
    }

    /// Bytes that it takes, roughly.
    pub(crate) fn size(&self) -> u64 {
        let bytes: usize = self.keys.iter().map(|(key, kept)| key.len() + kept.value.len() + 64).sum();
        16_384 + (bytes as u64).next_multiple_of(4096)
    }

    /// It all as bytes, for a snapshot.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let mut bytes = format!("rollover sandbox etcd, revision {}\n", self.revision).into_bytes();
        for (key, kept) in &self.keys {
            let line = format!(
                "{} {} {} {} {}\n",
                hex::encode(key),
                kept.created,
                kept.modified,
                kept.version,
                hex::encode(&kept.value)
            );
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(4096).max(16_384), 0);
        bytes
    }
}
