//! Where workflows are found: folders of the user's own, then those shipped in the binary.

mod condition;
mod outline;
mod scaffold;
#[cfg(test)]
mod shipped_tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
pub use outline::Outlined;
pub use scaffold::{Scaffold, ScaffoldError, is_name as scaffold_name, scaffold};
use stdlib::world::Disk;

use crate::diagnostic::{Diagnostic, nearest};
use crate::manifest::Manifest;
use crate::script::{MAIN, MANIFEST, SHARED, Sources, import_file};

static SHIPPED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../workflows");

/// Where a workflow comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is part of the program.
    Shipped,
    /// Its folder.
    Folder(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shipped => f.write_str("shipped"),
            Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A workflow that can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `tidb/cfssl-rotate`.
    pub name: String,
    /// Where it lies.
    pub origin: Origin,
}

/// A workflow that was read.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// `tidb/cfssl-rotate`.
    pub name: String,
    /// Where it lies.
    pub origin: Origin,
    /// Its manifest.
    pub manifest: Manifest,
    /// Script, manifest and everything that they import.
    pub sources: Sources,
}

impl Workflow {
    /// What a run pins: every file by name.
    pub fn pinned(&self) -> BTreeMap<String, Vec<u8>> {
        self.sources.files.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())).collect()
    }

    /// The phases, in the order in which the script declares them, as far as its text tells.
    pub fn phases(&self) -> Vec<Outlined> {
        outline::phases(&self.sources)
    }
}

/// There is no workflow of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no workflow `{name}`{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct NotFound {
    /// What was asked for.
    pub name: String,
    /// The nearest name that there is.
    pub near: Option<String>,
}

/// Finds workflows. Earlier folders win over later ones, all of them over what is shipped.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    folders: Vec<PathBuf>,
}

impl Catalog {
    /// A catalog of these folders and of what is shipped.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// The user's own folder, `$XDG_CONFIG_HOME/rollover/workflows`, in the given environment.
    pub fn user_folder(env: &BTreeMap<String, String>) -> Option<PathBuf> {
        let set = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let config = config.or_else(|| Some(set("HOME")?.join(".config")))?;
        Some(config.join("rollover").join("workflows"))
    }

    /// Every workflow, by name.
    pub fn list(&self, disk: &dyn Disk) -> Vec<Entry> {
        let mut found: BTreeMap<String, Origin> = BTreeMap::new();
        for name in shipped_names() {
            found.insert(name, Origin::Shipped);
        }
        for folder in self.folders.iter().rev() {
            for (name, path) in names_below(disk, folder) {
                found.insert(name, Origin::Folder(path));
            }
        }
        found.into_iter().map(|(name, origin)| Entry { name, origin }).collect()
    }

    /// Reads a workflow, by name or by the path of its folder.
    ///
    /// # Errors
    /// Outside: there is none. Inside: what is wrong with its manifest or its imports.
    pub fn load(&self, disk: &dyn Disk, name: &str) -> Result<Result<Workflow, Vec<Diagnostic>>, NotFound> {
        let name = name.trim_end_matches('/');
        let path = Path::new(name);
        if disk.exists(&path.join(MANIFEST)) {
            let short: Vec<&str> =
                name.rsplit('/').take(2).filter(|part| !matches!(*part, "" | "." | "..")).collect();
            let short: Vec<&str> = short.into_iter().rev().collect();
            return Ok(self.read(disk, &short.join("/"), Origin::Folder(path.to_owned())));
        }
        let entries = self.list(disk);
        match entries.iter().find(|entry| entry.name == name) {
            Some(entry) => Ok(self.read(disk, name, entry.origin.clone())),
            None => {
                let near = nearest(name, entries.iter().map(|entry| entry.name.as_str())).map(str::to_owned);
                Err(NotFound { name: name.to_owned(), near })
            }
        }
    }

    fn read(&self, disk: &dyn Disk, name: &str, origin: Origin) -> Result<Workflow, Vec<Diagnostic>> {
        let own = |file: &str| match &origin {
            Origin::Shipped => shipped_text(&format!("{name}/{file}")),
            Origin::Folder(path) => text(disk, &path.join(file)),
        };
        // What is shipped cannot be replaced: a shipped module means the same in every workflow.
        let shared = |file: &str| {
            shipped_text(file).or_else(|| match &origin {
                Origin::Shipped => None,
                Origin::Folder(path) => {
                    let near = path.ancestors().skip(1).take(2).map(Path::to_owned);
                    near.chain(self.folders.iter().cloned()).find_map(|folder| text(disk, &folder.join(file)))
                }
            })
        };
        let missing = |file: &str| {
            vec![
                Diagnostic::error("workflow::missing", format!("workflow `{name}` has no `{file}`"))
                    .hint("`rollover new NAME` makes a whole one"),
            ]
        };
        let manifest_text = own(MANIFEST).ok_or_else(|| missing(MANIFEST))?;
        let main = own(MAIN).ok_or_else(|| missing(MAIN))?;
        let manifest = Manifest::parse(&manifest_text)?;
        let mut files =
            BTreeMap::from([(MANIFEST.to_owned(), manifest_text), (MAIN.to_owned(), main.clone())]);
        let mut open = vec![main];
        while let Some(script) = open.pop() {
            for file in imports(&script) {
                if files.contains_key(&file) {
                    continue;
                }
                // An import that is not there is reported by `check` and by the evaluation, at its place.
                let found = if file.starts_with(SHARED) { shared(&file) } else { own(&file) };
                if let Some(found) = found {
                    open.push(found.clone());
                    files.insert(file, found);
                }
            }
        }
        Ok(Workflow {
            name: name.to_owned(),
            origin,
            manifest,
            sources: Sources { main: MAIN.to_owned(), files },
        })
    }
}

fn text(disk: &dyn Disk, path: &Path) -> Option<String> {
    disk.read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn shipped_text(path: &str) -> Option<String> {
    SHIPPED.get_file(path)?.contents_utf8().map(str::to_owned)
}

fn shipped_names() -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![&SHIPPED];
    while let Some(dir) = open.pop() {
        if dir.get_file(dir.path().join(MANIFEST)).is_some() {
            names.push(dir.path().display().to_string());
        }
        open.extend(dir.dirs());
    }
    names
}

/// Workflows at most two folders down: `NAME` or `GROUP/NAME`.
fn names_below(disk: &dyn Disk, folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for first in disk.list(folder).unwrap_or_default() {
        let path = folder.join(&first);
        if disk.exists(&path.join(MANIFEST)) {
            found.push((first.clone(), path.clone()));
        }
        for second in disk.list(&path).unwrap_or_default() {
            let path = path.join(&second);
            if disk.exists(&path.join(MANIFEST)) {
                found.push((format!("{first}/{second}"), path));
            }
        }
    }
    found
}

/// The files that a script imports, as far as its text tells.
fn imports(script: &str) -> Vec<String> {
    script
        .lines()
        .filter_map(|line| {
            line.trim_start().strip_prefix("import")?.trim_start().strip_prefix('"')?.split('"').next()
        })
        .filter_map(import_file)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use stdlib::files::SimDisk;

    use super::*;

    fn disk_with(files: &[(&str, &str)]) -> SimDisk {
        let disk = SimDisk::default();
        for (path, text) in files {
            let path = Path::new(path);
            disk.make_dir(path.parent().unwrap(), 0o755).unwrap();
            disk.write_atomic(path, text.as_bytes(), 0o644).unwrap();
        }
        disk
    }

    #[test]
    fn shipped_workflows_are_in_the_binary_with_the_modules_that_they_import() {
        let disk = SimDisk::default();
        let catalog = Catalog::default();
        let names: Vec<String> = catalog.list(&disk).into_iter().map(|entry| entry.name).collect();
        for name in [
            "tidb/cert-manager-ca",
            "tidb/cert-manager-ca-gapless",
            "tidb/cert-manager-components",
            "tidb/cfssl-ca",
            "tidb/cfssl-components",
            "tidb/cfssl-expired",
            "tidb/cfssl-remove-old-ca",
            "tidb/cfssl-rotate",
        ] {
            assert!(names.iter().any(|known| known == name), "{names:?}");
        }
        let rotate = catalog.load(&disk, "tidb/cfssl-rotate").unwrap().unwrap();
        assert!(rotate.sources.files.contains_key("lib/tidb.rhai"));
        let phases = rotate.phases();
        let shown: Vec<_> = phases
            .iter()
            .map(|phase| (phase.name.as_str(), phase.only.as_deref().unwrap_or("always")))
            .collect();
        let asked = "only with remove_old_ca=true or reason=compromise";
        assert_eq!(
            shown,
            [
                ("inventory", "always"),
                ("pause-managers", "only with managed=pause"),
                ("trust-both", "always"),
                ("switch-leaves", "always"),
                ("old-leaves-gone", asked),
                ("distrust-old", asked),
                ("finish", "always"),
                ("resume-managers", "only with managed=pause"),
            ]
        );
    }

    #[test]
    fn a_workflow_of_ones_own_is_found_by_name_and_by_path() {
        let disk = disk_with(&[
            ("/w/site/renew/workflow.yaml", "title: Renew\n"),
            ("/w/site/renew/main.rhai", "import \"lib/tidb\" as t;\n"),
        ]);
        let catalog = Catalog::new(vec!["/w".into()]);
        let by_name = catalog.load(&disk, "site/renew").unwrap().unwrap();
        let by_path = Catalog::default().load(&disk, "/w/site/renew/").unwrap().unwrap();
        assert_eq!((by_name.name.as_str(), by_path.name.as_str()), ("site/renew", "site/renew"));
        assert_eq!(by_name.sources, by_path.sources);
        assert!(
            by_name.sources.files.contains_key("lib/tidb.rhai"),
            "shared modules are there for everybody"
        );
    }

    #[test]
    fn a_misspelt_name_is_told_the_right_one() {
        let missing = Catalog::default().load(&SimDisk::default(), "tidb/cfsl-rotate").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "there is no workflow `tidb/cfsl-rotate`; did you mean `tidb/cfssl-rotate`?"
        );
    }
}
