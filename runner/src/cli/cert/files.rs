//! What `rollover cert` reads and writes: never over a private key unless asked, keys with mode 0600, each file as one
//! act.

use std::io::{ErrorKind, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use stdlib::cert::{self, Certificate, Key, Parsed};
use stdlib::files::SystemDisk;
use stdlib::world::Disk as _;
use stdlib::{PrimError, Secret};
use zeroize::Zeroizing;

use super::args::{Authority, Out, Passphrase, TextOut};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output;

/// A primitive's error as this command's failure: nothing was begun.
pub(super) fn failed(error: PrimError) -> Failure {
    Failure::of(ExitCode::before_start(&error), error)
}

fn io(error: &std::io::Error, path: &Path) -> Failure {
    let (exit, message) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            (ExitCode::ObjectMissing, "there is no such file".to_owned())
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            (ExitCode::Forbidden, error.to_string())
        }
        ErrorKind::IsADirectory => (ExitCode::Malformed, "is a folder, where a file belongs".to_owned()),
        _ => (ExitCode::Unavailable, error.to_string()),
    };
    Failure::new(exit, message).on(path.display().to_string())
}

/// A file's bytes; `-` is standard input. Bounded, since nothing here is larger.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    const MOST: u64 = (cert::pem::MAX_BYTES + 1) as u64;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut source: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        SystemDisk.open(path).map_err(|error| io(&error, path))?
    };
    source.by_ref().take(MOST).read_to_end(&mut bytes).map_err(|error| io(&error, path))?;
    Ok(bytes)
}

/// The certificates of a file, PEM or DER.
pub(super) fn parsed(path: &Path) -> Result<Parsed, Failure> {
    cert::parse_any(&read(path)?, &path.display().to_string()).map_err(failed)
}

/// As [`parsed`]; what was repaired in reading is told on stderr.
pub(super) fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let parsed = parsed(path)?;
    for note in &parsed.notes {
        warn(&format!("{}: {note}", path.display()));
    }
    Ok(parsed.certificates)
}

/// The certificates of several files, in order.
pub(super) fn all_certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>, Failure> {
    paths.iter().map(|path| certificates(path)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
}

/// The one certificate of a file.
pub(super) fn certificate(path: &Path) -> Result<Certificate, Failure> {
    let all = certificates(path)?;
    match <[Certificate; 1]>::try_from(all) {
        Ok([only]) => Ok(only),
        Err(all) => Err(Failure {
            expected: Some("one certificate".into()),
            found: Some(all.len().to_string()),
            ..Failure::new(ExitCode::Malformed, "holds several certificates")
                .on(path.display().to_string())
                .hint("`rollover cert pem split FILE` writes each into a file of its own")
        }),
    }
}

/// Says something that the operator should know, without stopping.
pub(super) fn warn(text: &str) {
    output::say(&format!("{} {text}", output::style::warn().for_stderr().apply_to("warning:")));
}

impl Passphrase {
    /// The passphrase of a file, where one is named.
    pub(super) fn named(&self) -> Result<Option<Secret>, Failure> {
        self.passphrase_file.as_ref().map(|path| Ok(cert::passphrase(&read(path)?))).transpose()
    }

    /// A private key of a file. An encrypted one is opened with the passphrase of the file that is named, or with one
    /// that is asked for on the terminal, without echo.
    pub(super) fn key(&self, path: &Path) -> Result<Key, Failure> {
        let bytes = read(path)?;
        let what = path.display().to_string();
        let mut passphrase = self.named()?;
        if passphrase.is_none() && Key::needs_passphrase(&bytes) {
            passphrase = ask(&what)?;
        }
        let key = Key::from_bytes(&bytes, &what, passphrase.as_ref()).map_err(failed)?;
        if path != Path::new("-")
            && let Ok(mode) = SystemDisk.mode(path)
            && mode & 0o077 != 0
        {
            warn(&format!("{what} may be read by others (mode {mode:04o}): `chmod 600 {what}`"));
        }
        Ok(key)
    }
}

/// Asks for a passphrase; nobody is asked where there is no terminal.
fn ask(what: &str) -> Result<Option<Secret>, Failure> {
    let term = console::Term::stderr();
    if !term.is_term() || !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let _ = term.write_str(&format!("Passphrase for {what}: "));
    let typed = term.read_secure_line().map_err(|error| {
        Failure::new(ExitCode::Declined, format!("no passphrase was given: {error}")).on(what)
    })?;
    Ok(Some(Secret::new(typed.into_bytes(), "hmac:passphrase")))
}

/// `NAME-key.pem` beside `NAME.pem`, as cfssljson names them; `ca-key.new.pem` beside `ca.new.pem`, as the TiDB page does.
pub(super) fn key_beside(certificate: &Path) -> PathBuf {
    let name = certificate.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let candidates = keys_beside(&name);
    let found = candidates.iter().map(|name| certificate.with_file_name(name)).find(|path| path.exists());
    found.unwrap_or_else(|| certificate.with_file_name(candidates.first().map_or("key.pem", String::as_str)))
}

/// The names that a key beside this certificate may have, the usual one first.
fn keys_beside(name: &str) -> Vec<String> {
    let stem = [".pem", ".crt", ".cer", ".csr", ".der"].iter().find_map(|end| name.strip_suffix(end));
    let stem = stem.unwrap_or(name);
    let mut names = vec![format!("{stem}-key.pem")];
    if let Some((first, rest)) = stem.split_once('.') {
        names.push(format!("{first}-key.{rest}.pem"));
    }
    names.push(format!("{stem}.key"));
    names
}

impl Authority {
    /// The authority's certificate and key.
    pub(super) fn read(&self) -> Result<(Certificate, Key), Failure> {
        let ca = certificate(&self.ca)?;
        let path = self.ca_key.clone().unwrap_or_else(|| key_beside(&self.ca));
        let key = self.passphrase.key(&path).map_err(|failure| {
            if failure.exit == ExitCode::ObjectMissing && failure.object == path.display().to_string() {
                Failure { exit: ExitCode::KeyMissing, ..failure }
                    .hint("name the CA's private key with `--ca-key FILE`")
            } else {
                failure
            }
        })?;
        key.check_matches(&ca, &path.display().to_string()).map_err(failed)?;
        Ok((ca, key))
    }
}

/// A file to be written.
pub(super) struct File {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
    mode: u32,
}

impl File {
    /// Something that anybody may read.
    pub(super) fn public(path: PathBuf, text: &str) -> Self {
        Self { path, bytes: Zeroizing::new(text.as_bytes().to_vec()), mode: 0o644 }
    }

    /// Something that only its owner may read.
    pub(super) fn private(path: PathBuf, text: &str) -> Self {
        Self { path, bytes: Zeroizing::new(text.as_bytes().to_vec()), mode: 0o600 }
    }

    /// A private key, as cfssl writes it.
    pub(super) fn key(path: PathBuf, key: &Key) -> Result<Self, Failure> {
        Ok(Self::private(path, &key.to_pem().map_err(failed)?))
    }

    fn lies_there(&self) -> bool {
        SystemDisk.read(&self.path).is_ok_and(|there| Zeroizing::new(there) == self.bytes)
    }
}

impl Out {
    /// Where a file of this ending is written: `--out`, or the name of the file given, in this folder.
    pub(super) fn path(&self, given: &Path, ending: &str) -> PathBuf {
        let base = self
            .out
            .clone()
            .unwrap_or_else(|| given.file_stem().map_or_else(|| PathBuf::from("out"), PathBuf::from));
        let mut name = base.into_os_string();
        name.push(ending);
        PathBuf::from(name)
    }

    /// Writes files, and tells their names.
    pub(super) fn write(&self, files: &[File]) -> Result<Vec<String>, Failure> {
        write(files, self.force)
    }

    /// Refuses early what [`Self::write`] would refuse late, after work was done.
    pub(super) fn check_free(&self, paths: &[&Path]) -> Result<(), Failure> {
        if self.force {
            return Ok(());
        }
        paths.iter().find(|path| path.exists()).map_or(Ok(()), |path| Err(taken(path)))
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new(ExitCode::Parameter, "is there already, and is not written over")
        .on(path.display().to_string())
        .hint("name others with `--out NAME`, move it away, or pass `--force`")
}

/// Writes files in order; what is there already stays, unless forced or the same. Keys come first in every list, so that
/// there is never a certificate whose key was lost.
fn write(files: &[File], force: bool) -> Result<Vec<String>, Failure> {
    if !force && let Some(file) = files.iter().find(|file| file.path.exists() && !file.lies_there()) {
        return Err(taken(&file.path));
    }
    let mut written = Vec::new();
    for file in files {
        let done = if force {
            SystemDisk.write_atomic(&file.path, &file.bytes, file.mode)
        } else if file.lies_there() {
            Ok(())
        } else {
            SystemDisk.write_new(&file.path, &file.bytes, file.mode)
        };
        done.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => taken(&file.path),
            ErrorKind::NotFound => io(&error, &file.path).hint("make the folder first"),
            _ => io(&error, &file.path),
        })?;
        written.push(file.path.display().to_string());
    }
    Ok(written)
}

impl TextOut {
    /// Writes public text to the file, or prints it.
    pub(super) fn write(&self, text: &str) -> Result<Option<String>, Failure> {
        let Some(path) = &self.out else {
            output::data(text.trim_end());
            return Ok(None);
        };
        let written = write(&[File::public(path.clone(), text)], self.force)?;
        Ok(written.into_iter().next())
    }

    /// Writes text with private keys in it: into a file of its owner's alone, never to standard output.
    pub(super) fn write_private(&self, text: &str) -> Result<Option<String>, Failure> {
        let Some(path) = &self.out else {
            return Err(Failure::new(
                ExitCode::Parameter,
                "there is a private key in it, which is not printed",
            )
            .hint("name a file with `--out FILE`; it gets mode 0600"));
        };
        let written = write(&[File::private(path.clone(), text)], self.force)?;
        Ok(written.into_iter().next())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_looked_for_under_the_names_that_people_give_it() {
        assert_eq!(keys_beside("pd-server.pem"), ["pd-server-key.pem", "pd-server.key"]);
        assert_eq!(keys_beside("ca.new.pem"), ["ca.new-key.pem", "ca-key.new.pem", "ca.new.key"]);
        assert_eq!(keys_beside("tls.crt"), ["tls-key.pem", "tls.key"]);
    }

    #[test]
    fn files_are_named_after_what_was_given() {
        let out = Out { out: None, force: false };
        assert_eq!(
            out.path(Path::new("/srv/pki/pd-server.json"), "-key.pem"),
            Path::new("pd-server-key.pem")
        );
        let out = Out { out: Some("/tmp/x.new".into()), force: false };
        assert_eq!(out.path(Path::new("pd.json"), ".pem"), Path::new("/tmp/x.new.pem"));
    }

    #[test]
    fn what_is_there_stays_unless_it_is_the_same_or_forced() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("a.pem"), folder.path().join("b-key.pem"));
        SystemDisk.write_atomic(&old, b"old", 0o644).unwrap();
        let files = || [File::private(new.clone(), "key"), File::public(old.clone(), "new")];
        let refusal = write(&files(), false).unwrap_err();
        assert_eq!((refusal.exit, refusal.object), (ExitCode::Parameter, old.display().to_string()));
        assert!(!new.exists(), "nothing is written where one file cannot be");
        write(&files(), true).unwrap();
        assert_eq!(
            (SystemDisk.read(&old).unwrap(), SystemDisk.mode(&new).unwrap()),
            (b"new".to_vec(), 0o600)
        );
        write(&files(), false).unwrap();
    }
}
