//! Groups of arguments that several commands of `rollover cert` share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::Reach;

/// What opens encrypted keys.
#[derive(Debug, Clone, Default, Args)]
pub struct Passphrase {
    /// A file whose first line is the passphrase of an encrypted key; asked for on the terminal when left out
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Where files are written.
#[derive(Debug, Clone, Args)]
pub struct Out {
    /// The files' name without ending: NAME.pem, NAME-key.pem, NAME.csr [default: that of the file given, in this folder]
    #[arg(long, short, value_name = "NAME")]
    pub out: Option<PathBuf>,
    /// Write over files that are there, private keys too
    #[arg(long)]
    pub force: bool,
}

/// Where public text is written.
#[derive(Debug, Clone, Args)]
pub struct TextOut {
    /// The file to write; standard output when left out
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
}

/// How what is made is read and written.
#[derive(Debug, Clone, Args)]
pub struct Making {
    /// How requests and configurations are read
    #[command(flatten)]
    pub lax: Lax,
    /// Print certificate, request and PRIVATE KEY as cfssl does, for `cfssljson -bare`; write no files
    #[arg(long, conflicts_with_all = ["out", "force"])]
    pub cfssl_json: bool,
    /// Where files are written
    #[command(flatten)]
    pub out: Out,
}

/// The authority that signs.
#[derive(Debug, Clone, Args)]
pub struct Authority {
    /// The CA's certificate
    #[arg(long, value_name = "FILE", default_value = "ca.pem")]
    pub ca: PathBuf,
    /// The CA's private key [default: NAME-key.pem beside NAME.pem]
    #[arg(long, value_name = "FILE")]
    pub ca_key: Option<PathBuf>,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
}

/// How an endpoint is dialled.
#[derive(Debug, Clone, Args)]
pub struct Dial {
    /// The name to ask for and to judge by, where it is not the host
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A MySQL port: TLS begins after the server's greeting
    #[arg(long)]
    pub mysql: bool,
    /// The deadline of each connection
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = stdlib::duration::parse)]
    pub timeout: std::time::Duration,
}

/// How a cluster is reached.
#[derive(Debug, Clone, Args)]
pub struct Cluster {
    /// Which cluster
    #[command(flatten)]
    pub reach: Reach,
    /// Use a sandbox that runs: its folder, as `rollover sandbox list` shows it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["context", "kubeconfig"])]
    pub sandbox_dir: Option<PathBuf>,
}

/// The switch for cfssl's own behaviour.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Lax {
    /// Take what cfssl takes although it bites (an unknown profile, a misspelt usage, a negative expiry, …), with a warning
    #[arg(long)]
    pub cfssl_lax: bool,
}

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Usage {
    /// By a server before its clients.
    Server,
    /// By a client before its server.
    Client,
}

/// Whose rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// All three of them.
    All,
    /// Programs on rustls.
    Webpki,
    /// PD, TiDB, TiCDC, TiProxy, Kubernetes, etcd.
    Go,
    /// TiKV, TiFlash, MySQL clients, curl.
    Openssl,
}
