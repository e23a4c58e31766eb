//! The files of one workflow: what is compiled, pinned and digested.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Name of the manifest in a workflow's folder.
pub const MANIFEST: &str = "workflow.yaml";
/// Name of the script in a workflow's folder.
pub const MAIN: &str = "main.rhai";
/// Imports that begin so come from the shared modules.
pub const SHARED: &str = "lib/";

/// A workflow's script, with everything that it imports, by the name that diagnostics and records use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Name of the file that is evaluated.
    pub main: String,
    /// All files: `workflow.yaml`, `main.rhai`, further ones of its folder, and `lib/….rhai`.
    pub files: BTreeMap<String, String>,
}

impl Sources {
    /// A script of one file, for tests and small tools.
    pub fn single(text: impl Into<String>) -> Self {
        Self { main: MAIN.to_owned(), files: BTreeMap::from([(MAIN.to_owned(), text.into())]) }
    }

    /// The same with one more file.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.insert(name.into(), text.into());
        self
    }

    /// The text of a file.
    pub fn text(&self, file: &str) -> Option<&str> {
        self.files.get(file).map(String::as_str)
    }

    /// `sha256:` digests of every file.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let digest = |text: &String| format!("sha256:{}", hex::encode(Sha256::digest(text.as_bytes())));
        self.files.iter().map(|(name, text)| (name.clone(), digest(text))).collect()
    }
}

/// The file that an import path names; `None` for a path that may not be imported (absolute, with `..`, a URL).
pub fn import_file(path: &str) -> Option<String> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    let path = path.strip_suffix(".rhai").unwrap_or(path);
    path.split('/').all(plain).then(|| format!("{path}.rhai"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_stays_in_the_folder_or_the_shared_modules() {
        assert_eq!(import_file("lib/rotation").as_deref(), Some("lib/rotation.rhai"));
        assert_eq!(import_file("parties.rhai").as_deref(), Some("parties.rhai"));
        for bad in ["../x", "/etc/passwd", "a//b", "", "lib/../../x", "http://x/y", "a\\b", "lib/.hidden"] {
            assert_eq!(import_file(bad), None, "{bad}");
        }
    }
}
