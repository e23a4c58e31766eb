//! The arguments of `rollover cert bundle` and `rollover cert pem`.

use std::path::PathBuf;

use clap::Subcommand;

use super::groups::{Cluster, Out, TextOut};

/// Trust stores.
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// List a bundle's certificates, and what somebody will trip over: expired ones, twins, intermediates, one name twice
    #[command(after_help = "Example:\n  rollover cert bundle list ca.pem")]
    List {
        /// The bundle
        bundle: PathBuf,
        /// At which time [default: now]
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Write one bundle with the certificates of several, in order, each once
    #[command(
        after_help = "Example:\n  rollover cert bundle merge ca.new.pem ca.old.pem --out both.pem\n\nFiles are parsed and written anew: no missing newline can lose a certificate, as with `cat`."
    )]
    Merge {
        /// The bundles
        #[arg(required = true)]
        bundles: Vec<PathBuf>,
        /// Where it is written
        #[command(flatten)]
        out: TextOut,
    },
    /// Write a bundle without some of its certificates
    #[command(
        after_help = "Examples:\n  rollover cert bundle remove both.pem --cert ca.old.pem --out ca.pem\n  rollover cert bundle remove both.pem --fingerprint sha256:9f86… --out ca.pem\n  rollover cert bundle remove both.pem --expired --out ca.pem\n\nRefused where nothing would be left: an empty trust store refuses everybody."
    )]
    Remove {
        /// The bundle
        bundle: PathBuf,
        /// Certificates to take out; may be given more than once
        #[arg(long, value_name = "FILE")]
        cert: Vec<PathBuf>,
        /// The beginning of a fingerprint to take out, `sha256:` or `spki:`; may be given more than once
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Vec<String>,
        /// Take out those that have expired
        #[arg(long)]
        expired: bool,
        /// Where it is written
        #[command(flatten)]
        out: TextOut,
    },
    /// Tell what one bundle has that another has not, by fingerprint and by key
    #[command(
        after_help = "Example:\n  rollover cert bundle compare ca.pem secret/tidb/basic-pd-cluster-secret\n\nExit code 0: both trust the same; 42: they differ."
    )]
    Compare {
        /// The first: a file, or secret/NAMESPACE/NAME, whose ca.crt is taken
        first: String,
        /// The second
        second: String,
        /// How a cluster is reached
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// Blocks of PEM files.
#[derive(Debug, Subcommand)]
pub enum Pem {
    /// List the blocks of a file, with their lines; of private keys, only that they are there
    #[command(after_help = "Example:\n  rollover cert pem list haproxy.pem")]
    List {
        /// The file
        file: PathBuf,
    },
    /// Write every block into a file of its own: NAME-1.pem, NAME-2.pem, NAME-key.pem, NAME.csr
    #[command(after_help = "Example:\n  rollover cert pem split haproxy.pem --out haproxy")]
    Split {
        /// The file
        file: PathBuf,
        /// Where files are written
        #[command(flatten)]
        out: Out,
    },
    /// Write a file anew, so that every program finds every block: line ends, line lengths, no text between
    #[command(after_help = "Example:\n  rollover cert pem normalise ca.pem --out ca.clean.pem")]
    Normalise {
        /// The file
        file: PathBuf,
        /// Where it is written
        #[command(flatten)]
        out: TextOut,
    },
    /// Join files block by block, in order, twins among them; for a leaf and its intermediates
    #[command(after_help = "Example:\n  rollover cert pem join leaf.pem bridge.pem --out chain.pem")]
    Join {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Where it is written
        #[command(flatten)]
        out: TextOut,
    },
}
