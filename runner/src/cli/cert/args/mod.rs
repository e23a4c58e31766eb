//! The arguments of `rollover cert`. Texts here are the reference that people see first.

mod folder;
mod groups;
mod stores;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use folder::{Folder, Install, Leaf, Successor};
pub use groups::{Authority, By, Cluster, Dial, Lax, Making, Out, Passphrase, TextOut, Usage};
pub use stores::{Bundle, Pem};

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
    /// Print the cfssl request for an authority like one that is there: its subject, its kind of key and size
    #[command(after_help = "Examples:
  rollover cert ca-request ca.pem > ca-csr.json       for when the request is lost
  rollover cert ca-request ca.pem --cn 'etcd-ca 2' --expiry 87600h")]
    CaRequest(LikeAuthority),
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

`successor`, `leaf` and `install` take a folder through a rotation by hand. A run (`rollover describe tidb/cfssl-rotate`) does
the same and more, and can be taken back.")]
    Folder(Folder),
    /// Begin a rotation in a PKI folder: a CA that follows the one in force, and ca.pem with both
    #[command(after_help = "Examples:
  rollover cert successor /srv/pki
  rollover cert successor /srv/pki --csr next-csr.json

Leaves the folder as the TiDB page does after its first section: ca.new.pem, ca.old.pem and their keys, and ca.pem with both. A
CA that somebody has begun with is adopted; no second one is made. Where something fails, all is put back.")]
    Successor(Successor),
    /// Have a leaf in a PKI folder: keep the one in use where it is good, or issue one with all of its names
    #[command(after_help = "Examples:
  rollover cert leaf /srv/pki pd-server --profile internal
  rollover cert leaf /srv/pki pd-server --profile internal --in-use secret/tidb/basic-pd-cluster-secret --force

The successor signs, where there is one, and else the CA in force. Kept is what that CA signed, with its key, the request's CN,
names and usages, and more than half of its life before it. Writes NAME.pem and NAME-key.pem into the folder.")]
    Leaf(Leaf),
    /// End a rotation in a PKI folder: the successor as ca.pem and ca-key.pem, the old CA in retired/
    #[command(after_help = "Examples:
  rollover cert install /srv/pki
  rollover cert install /srv/pki --ca next.pem        a CA that lies elsewhere, with next-key.pem beside it

Only when nobody needs ca.pem with both any more. Where something fails, all is put back.")]
    Install(Install),
    /// Connect to an endpoint: what it serves, whether it asks for a certificate, whether the two accept each other
    #[command(after_help = "Examples:
  rollover cert probe 10.0.0.7:2379 --anchors ca.pem --cert client.pem
  rollover cert probe basic-tidb:4000 --mysql --anchors ca.pem
  rollover cert probe 10.0.0.7:20160 --name basic-tikv-0.basic-tikv-peer.tidb.svc --anchors both.pem --by openssl

Every answer comes from a new connection with a deadline; nobody is logged in. Exit code 0: accepted, or nothing to try; 42: one
of the two refuses; 19: nobody answers, or no TLS.")]
    Probe(Probe),
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

/// Arguments of `ca`.
#[derive(Debug, Clone, Args)]
pub struct MakeAuthority {
    /// The cfssl request, as ca-csr.json
    pub request: PathBuf,
    /// The key to certify, of any RSA size from 2048 to 8192 bits too (`cfssl gencert -initca -ca-key`); a new one when left out
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Passphrase
    #[command(flatten)]
    pub passphrase: Passphrase,
    /// How it is made
    #[command(flatten)]
    pub making: Making,
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
    /// How it is made
    #[command(flatten)]
    pub making: Making,
}

/// Arguments of `ca-request`.
#[derive(Debug, Clone, Args)]
pub struct LikeAuthority {
    /// The authority's certificate
    pub ca: PathBuf,
    /// Another common name
    #[arg(long, value_name = "NAME")]
    pub cn: Option<String>,
    /// How long an authority of this request is valid, as cfssl has it: `87600h` [default: 43800h, as with cfssl]
    #[arg(long, value_name = "DURATION")]
    pub expiry: Option<String>,
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
