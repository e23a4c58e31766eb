//! The arguments of `rollover cert`. Texts here are the reference that people see first.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::Reach;

/// Certificates, keys and bundles.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Tell what a file, an endpoint or a Secret holds: whose, until when, who signed it, does the key match
    #[command(after_help = "Examples:
  rollover cert inspect pd-server.pem                 with pd-server-key.pem and ca.pem beside it
  rollover cert inspect ca.pem --long                 everything, with key ids, pins and extensions
  rollover cert inspect 10.0.0.7:2379                 what the endpoint serves
  rollover cert inspect basic-tidb:4000 --mysql       the same on a MySQL port
  rollover cert inspect secret/tidb/basic-pd-cluster-secret --context prod
  kubectl get cm kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}' | rollover cert inspect -

PEM and DER are read; so are signing requests and private keys, of which only the public half is shown.")]
    Inspect(Inspect),
    /// Ask whether a chain is accepted, which anchor it ends in, and where webpki, Go and OpenSSL differ
    #[command(after_help = "Examples:
  rollover cert verify pd-server.pem --anchors ca.pem --name basic-pd.tidb.svc
  rollover cert verify client.pem --anchors ca.pem --usage client --at 2030-01-01
  rollover cert verify leaf.pem --anchors both.pem --by openssl && echo 'TiKV will accept it'

The leaf comes first in the file, intermediates follow it. Exit code 0: all that were asked accept; 42: one refuses.")]
    Verify(Verify),
    /// Make a private key, or decrypt one
    #[command(after_help = "Examples:
  rollover cert key new-key.pem                       ECDSA P-256
  rollover cert key new-key.pem --kind 'rsa 4096'
  rollover cert key plain-key.pem --from sealed.pem --passphrase-file pass.txt

Written with mode 0600 and cfssl's headers; never over a file that is there, unless with --force.")]
    Key(MakeKey),
    /// Make a signing request from a cfssl request, with a new key or one that is there (`cfssl genkey`)
    #[command(after_help = "Examples:
  rollover cert csr pd-server.json                    writes pd-server.csr and pd-server-key.pem
  rollover cert csr pd-server.json --key old-key.pem  writes pd-server.csr")]
    Csr(MakeRequest),
    /// Make a certificate authority from a cfssl request (`cfssl gencert -initca`)
    #[command(after_help = "Examples:
  rollover cert ca ca-csr.json --out ca               writes ca.pem, ca-key.pem and ca.csr
  rollover cert ca ca-csr.json --cfssl-json | cfssljson -bare ca

Prefer a run (`rollover list`) for replacing a CA that is in use: two CAs with one name must be trusted together for a while.")]
    Ca(MakeAuthority),
    /// Issue a certificate from a cfssl request or a signing request, with a profile (`cfssl gencert`, `cfssl sign`)
    #[command(
        visible_alias = "gencert",
        after_help = "Examples:
  rollover cert sign pd-server.json --profile internal       writes pd-server.pem, -key.pem and .csr
  rollover cert sign node.csr --profile internal --out node  writes node.pem
  rollover cert sign client.json --profile client --ca /srv/pki/ca.pem --config /srv/pki/ca-config.json
  rollover cert sign pd-server.json --profile internal --cfssl-json | cfssljson -bare pd-server

A request is JSON as `cfssl gencert` takes it; a signing request is PEM as openssl and cfssl write it. Files are named as
`cfssljson -bare` names them. The certificate never ends after its CA, and always names its issuer by key id."
    )]
    Sign(Sign),
    /// Sign an authority anew with its own key: same name and key, new dates
    #[command(after_help = "Examples:
  rollover cert renew ca.pem --out ca.renewed
  rollover cert renew ca.pem --lifetime 3650d --out ca.renewed

What it issued stays valid, and nobody needs a bundle; it does not help against a stolen key. Writes OUT.pem only: the key
stays what it was.")]
    Renew(Renew),
    /// Sign another authority's name and key, so that who trusts only the one accepts the other's certificates
    #[command(after_help = "Example:
  rollover cert cross-sign ca.new.pem --ca ca.old.pem --ca-key ca-key.old.pem --out bridge

Servers send the cross certificate along after their own: `rollover cert pem join leaf.pem bridge.pem --out chain.pem`.")]
    CrossSign(CrossSign),
    /// Issue a certificate like one that is there: same names and usages, for when the request is lost
    #[command(after_help = "Examples:
  rollover cert reissue pd-server.pem --ca ca.new.pem --ca-key ca-key.new.pem --out pd-server.new
  rollover cert reissue pd-server.pem --key pd-server-key.pem --out pd-server.new     for the same key")]
    Reissue(Reissue),
    /// List, check, merge and compare trust stores
    #[command(subcommand)]
    Bundle(Bundle),
    /// List, split and join the blocks of PEM files
    #[command(subcommand)]
    Pem(Pem),
    /// Tell what a PKI folder of cfssl holds: the CA in force, its successor, profiles, requests
    #[command(after_help = "Example:
  rollover cert folder /srv/pki

Installing a new CA there is a step of a run (`rollover describe tidb/cfssl-rotate`), which can be taken back.")]
    Folder(Folder),
    /// Connect to an endpoint: what it serves, whether it asks for a certificate, whether the two accept each other
    #[command(after_help = "Examples:
  rollover cert probe 10.0.0.7:2379 --anchors ca.pem --cert client.pem
  rollover cert probe basic-tidb:4000 --mysql --anchors ca.pem
  rollover cert probe 10.0.0.7:20160 --name basic-tikv-0.basic-tikv-peer.tidb.svc --anchors both.pem --by openssl

Every answer comes from a new connection with a deadline; nobody is logged in. Exit code 0: accepted, or nothing to try; 42: one
of the two refuses; 19: nobody answers, or no TLS.")]
    Probe(Probe),
}

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

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// Files, HOST:PORT, secret/NAMESPACE/NAME, or - for standard input
    #[arg(required = true, value_name = "FILE|HOST:PORT|SECRET")]
    pub sources: Vec<String>,
    /// The private key to compare with [default: the one beside the file, if any]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Certificates among which the issuer is looked for [default: ca.pem beside the file, if any]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Tell everything
    #[arg(long, short)]
    pub long: bool,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
    /// How an endpoint is reached
    #[command(flatten)]
    pub dial: Dial,
    /// How a cluster is reached
    #[command(flatten)]
    pub cluster: Cluster,
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

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// What the peer presents: the leaf, then intermediates; further files are intermediates too
    #[arg(required = true, value_name = "FILE")]
    pub chain: Vec<PathBuf>,
    /// What is trusted
    #[arg(long, value_name = "FILE", required = true)]
    pub anchors: Vec<PathBuf>,
    /// A DNS name or address that is dialled; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// What the certificate is used for
    #[arg(long, default_value = "server")]
    pub usage: Usage,
    /// A common name that is allowed, as components with `cert-allowed-cn` ask; may be given more than once
    #[arg(long, value_name = "CN")]
    pub allowed_cn: Vec<String>,
    /// At which time [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Whose rules decide the exit code; all three are always told
    #[arg(long, default_value = "all")]
    pub by: By,
}

/// Arguments of `key`.
#[derive(Debug, Clone, Args)]
pub struct MakeKey {
    /// The file to write
    pub file: PathBuf,
    /// What kind of key: `rsa 2048`, `rsa 3072`, `rsa 4096`, `rsa 8192`, `ecdsa 256`, `ecdsa 384`, `ecdsa 521`, `ed25519`
    #[arg(long, value_name = "KIND", default_value = "ecdsa 256", conflicts_with = "from")]
    pub kind: String,
    /// Write this key instead: PKCS#8 (encrypted too), PKCS#1 or SEC1, PEM or DER
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
}

/// Arguments of `csr`.
#[derive(Debug, Clone, Args)]
pub struct MakeRequest {
    /// The cfssl request
    pub request: PathBuf,
    /// The key to ask for; a new one when left out
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How requests are read
    #[command(flatten)]
    pub lax: Lax,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
    /// Where files are written
    #[command(flatten)]
    pub out: Out,
}

/// The switch for cfssl's own behaviour.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Lax {
    /// Take what cfssl takes although it bites (an unknown profile, a misspelt usage, a negative expiry, …), with a warning
    #[arg(long)]
    pub cfssl_lax: bool,
}

/// Arguments of `ca`.
#[derive(Debug, Clone, Args)]
pub struct MakeAuthority {
    /// The cfssl request, as ca-csr.json
    pub request: PathBuf,
    /// How requests are read
    #[command(flatten)]
    pub lax: Lax,
    /// Print certificate, request and PRIVATE KEY as cfssl does, for `cfssljson -bare`; write no files
    #[arg(long, conflicts_with_all = ["out", "force"])]
    pub cfssl_json: bool,
    /// Where files are written
    #[command(flatten)]
    pub out: Out,
}

/// Arguments of `sign`.
#[derive(Debug, Clone, Args)]
pub struct Sign {
    /// A cfssl request (JSON) or a signing request (PEM)
    pub request: PathBuf,
    /// The profile of the configuration
    #[arg(long, short, value_name = "NAME")]
    pub profile: String,
    /// The configuration with the profiles
    #[arg(long, short, value_name = "FILE", default_value = "ca-config.json")]
    pub config: PathBuf,
    /// Host names in place of those in the request, separated by commas
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub hostname: Vec<String>,
    /// The key to certify, for a cfssl request; a new one when left out
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Who signs
    #[command(flatten)]
    pub authority: Authority,
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

/// Arguments of `renew`.
#[derive(Debug, Clone, Args)]
pub struct Renew {
    /// The CA's certificate
    pub ca: PathBuf,
    /// The CA's private key [default: NAME-key.pem beside NAME.pem]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How long the new certificate is valid, as `3650d` or `87600h` [default: as long as the old one was]
    #[arg(long, value_name = "DURATION", value_parser = stdlib::duration::parse)]
    pub lifetime: Option<std::time::Duration>,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
    /// Where files are written
    #[command(flatten)]
    pub out: Out,
}

/// Arguments of `cross-sign`.
#[derive(Debug, Clone, Args)]
pub struct CrossSign {
    /// The authority that is signed
    pub other: PathBuf,
    /// Who signs
    #[command(flatten)]
    pub authority: Authority,
    /// Where files are written
    #[command(flatten)]
    pub out: Out,
}

/// Arguments of `reissue`.
#[derive(Debug, Clone, Args)]
pub struct Reissue {
    /// The certificate to follow
    pub old: PathBuf,
    /// The key to certify; a new one of the same kind when left out
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Who signs
    #[command(flatten)]
    pub authority: Authority,
    /// Where files are written
    #[command(flatten)]
    pub out: Out,
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

/// Arguments of `folder`.
#[derive(Debug, Clone, Args)]
pub struct Folder {
    /// The folder with ca.pem, ca-key.pem, ca-config.json and the requests
    pub folder: PathBuf,
    /// How requests and configurations are read
    #[command(flatten)]
    pub lax: Lax,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
}

/// Arguments of `probe`.
#[derive(Debug, Clone, Args)]
pub struct Probe {
    /// Where to
    #[arg(value_name = "HOST:PORT")]
    pub endpoint: String,
    /// What is trusted; without it whatever is served is taken, and told
    #[arg(long, value_name = "FILE")]
    pub anchors: Vec<PathBuf>,
    /// The certificate to present, with its intermediates
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its private key [default: NAME-key.pem beside NAME.pem]
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Whose rules judge what is served
    #[arg(long, default_value = "go")]
    pub by: By,
    /// How it is dialled
    #[command(flatten)]
    pub dial: Dial,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
}
