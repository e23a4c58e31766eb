//! The arguments of the commands that work in a PKI folder of cfssl.

use std::path::PathBuf;

use clap::Args;

use super::groups::{Cluster, Lax};

/// A PKI folder, and how it is read.
#[derive(Debug, Clone, Args)]
pub struct Folder {
    /// The folder with ca.pem, ca-key.pem, ca-config.json and the requests
    pub folder: PathBuf,
    /// How requests and configurations are read
    #[command(flatten)]
    pub lax: Lax,
    /// A file whose first line is the passphrase of the folder's keys, where they are encrypted
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Arguments of `successor`.
#[derive(Debug, Clone, Args)]
pub struct Successor {
    /// Where
    #[command(flatten)]
    pub folder: Folder,
    /// The cfssl request for the new CA [default: ca-csr.json of the folder]
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
}

/// Arguments of `leaf`.
#[derive(Debug, Clone, Args)]
pub struct Leaf {
    /// Where
    #[command(flatten)]
    pub folder: Folder,
    /// The name of its request and its files, as `pd-server` for pd-server.json
    pub name: String,
    /// The profile of the configuration
    #[arg(long, short, value_name = "NAME")]
    pub profile: String,
    /// The leaf in use: secret/NAMESPACE/NAME [default: NAME.pem and NAME-key.pem of the folder]
    #[arg(long, value_name = "SECRET")]
    pub in_use: Option<String>,
    /// Write over a leaf that is there and is not kept
    #[arg(long)]
    pub force: bool,
    /// How a cluster is reached
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Arguments of `install`.
#[derive(Debug, Clone, Args)]
pub struct Install {
    /// Where
    #[command(flatten)]
    pub folder: Folder,
    /// The certificate of the new CA [default: the folder's successor]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Its private key [default: NAME-key.pem beside NAME.pem]
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub ca_key: Option<PathBuf>,
}
