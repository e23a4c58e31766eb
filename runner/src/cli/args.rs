//! The command line, as clap reads it. Texts here are the reference that people see first.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Replace a certificate authority on a system that must not go down.
///
/// Rollover runs workflows: scripted step files that say beforehand what they will do, never break trust without leave,
/// survive being killed anywhere, can go back, and leave proof.
#[derive(Debug, Parser)]
#[command(
    name = "rollover",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:
  rollover run tidb/cfssl-rotate --sandbox      try the main job in a sandbox
  rollover describe tidb/cfssl-rotate           what a workflow does, and its parameters
  rollover plan tidb/cfssl-rotate --set cluster=basic --set namespace=tidb --set pki=./pki
  rollover status                               every run, and what each waits for
  rollover resume 20261122                      go on with a run that was stopped or killed
  rollover rollback 20261122                    take a run back, phase by phase
  rollover audit verify 20261122                prove that its record was not altered

Exit codes are listed by `rollover help-exit-codes`."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder of runs and keys [default: $XDG_STATE_HOME/rollover, else ~/.local/state/rollover]
    #[arg(
        long = "state",
        value_name = "DIR",
        env = "ROLLOVER_STATE",
        global = true,
        help_heading = "Global options"
    )]
    pub state: Option<PathBuf>,
    /// A folder of workflows of your own, searched before the shipped ones; may be given more than once
    #[arg(
        long,
        value_name = "DIR",
        env = "ROLLOVER_WORKFLOWS",
        value_delimiter = ':',
        global = true,
        help_heading = "Global options"
    )]
    pub workflows: Vec<PathBuf>,
    /// How results are printed
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "human",
        global = true,
        help_heading = "Global options"
    )]
    pub output: Format,
    /// When to use colour; `NO_COLOR` is respected
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true, help_heading = "Global options")]
    pub color: ColorChoice,
    /// Say more on stderr; twice for debugging
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Global options")]
    pub verbose: u8,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// For programs: JSON, one event a line while a run goes on.
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Which cluster.
#[derive(Debug, Clone, Default, Args)]
pub struct Reach {
    /// The kubeconfig to use [default: as kubectl finds it; on a recorded run, as recorded]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// How pods are dialled.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Dialling {
    /// How proofs reach pods [default: direct; on a recorded run, as recorded]
    #[arg(long, value_name = "WAY")]
    pub pods: Option<Pods>,
}

/// The way to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pods {
    /// By their addresses, which must be reachable from here.
    Direct,
    /// Through the API server, as `kubectl port-forward` does: needs the right to `pods/portforward`.
    Forward,
}

/// How the cluster is reached.
#[derive(Debug, Clone, Default, Args)]
pub struct Connection {
    /// Which cluster
    #[command(flatten)]
    pub reach: Reach,
    /// How pods are dialled
    #[command(flatten)]
    pub dialling: Dialling,
    /// Work in a sandbox instead: a small world of what the workflow works on, started for this run
    #[arg(long, conflicts_with_all = ["context", "kubeconfig"])]
    pub sandbox: bool,
    /// Use a sandbox that runs already: its folder, as `rollover sandbox list` shows it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["context", "kubeconfig", "sandbox"])]
    pub sandbox_dir: Option<PathBuf>,
    /// Seed of the sandbox's lags, leaders and spontaneous restarts
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Parameters of a workflow.
#[derive(Debug, Clone, Default, Args)]
pub struct Parameters {
    /// A parameter; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Parameters from a YAML file; `--set` wins over it
    #[arg(long, value_name = "FILE")]
    pub params: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the workflows that can be run
    #[command(after_help = "Example:\n  rollover list --output json")]
    List,
    /// Tell what a workflow does: phases, parameters, what it may touch, its point of no return
    #[command(after_help = "Example:\n  rollover describe tidb/cfssl-rotate")]
    Describe {
        /// The workflow, as `rollover list` names it
        workflow: String,
    },
    /// Read the world and show what a run would do, changing nothing
    #[command(
        after_help = "Examples:\n  rollover plan tidb/cfssl-ca --sandbox\n  rollover plan tidb/cfssl-ca --set pki=/srv/pki --output json"
    )]
    Plan {
        /// The workflow
        workflow: String,
        /// Where
        #[command(flatten)]
        connection: Connection,
        /// With what
        #[command(flatten)]
        parameters: Parameters,
    },
    /// Print the least Kubernetes rights with which a workflow runs, as Roles to apply
    #[command(
        after_help = "Examples:\n  rollover rbac tidb/cfssl-rotate --set pki=/srv/pki | kubectl apply -f -\n  rollover rbac tidb/cfssl-ca --sandbox --subject system:serviceaccount:ops:rollover"
    )]
    Rbac {
        /// The workflow
        workflow: String,
        /// Where
        #[command(flatten)]
        connection: Connection,
        /// With what
        #[command(flatten)]
        parameters: Parameters,
        /// Bind the rights to this user, or to this service account (system:serviceaccount:NAMESPACE:NAME)
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
    },
    /// Run a workflow
    #[command(
        after_help = "Examples:\n  rollover run tidb/cfssl-rotate --sandbox\n  rollover run tidb/cfssl-rotate --set pki=/srv/pki --set remove_old_ca=true\n  rollover run tidb/cfssl-rotate --sandbox --yes --output json > events.jsonl"
    )]
    Run {
        /// The workflow
        workflow: String,
        /// Where
        #[command(flatten)]
        connection: Connection,
        /// With what
        #[command(flatten)]
        parameters: Parameters,
        /// Do not ask before the start
        #[arg(long, short)]
        yes: bool,
        /// Also pass points of no return without asking
        #[arg(long)]
        yes_final: bool,
        /// Accept the outage that the workflow declares
        #[arg(long)]
        accept_outage: bool,
        /// Show the plan and stop there
        #[arg(long)]
        plan_only: bool,
        /// Go back by itself when a step fails
        #[arg(long)]
        rollback_on_failure: bool,
    },
    /// Show every run, or one run step by step
    #[command(after_help = "Examples:\n  rollover status\n  rollover status 20261122-0615")]
    Status {
        /// A run, or as much of its id as is unique
        run: Option<String>,
    },
    /// Go on with a run that was stopped or killed, in the direction in which it was going
    #[command(after_help = "Example:\n  rollover resume 20261122-0615")]
    Resume {
        /// The run
        run: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Also pass points of no return without asking
        #[arg(long)]
        yes_final: bool,
        /// Accept that links fail on the way, where the workflow declares an outage
        #[arg(long)]
        accept_outage: bool,
        /// Where, if not as recorded
        #[command(flatten)]
        reach: Reach,
        /// How pods are dialled, if not as recorded
        #[command(flatten)]
        dialling: Dialling,
    },
    /// Take a run back: phase by phase, with the same settles and proofs as on the way forward
    #[command(after_help = "Example:\n  rollover rollback 20261122-0615")]
    Rollback {
        /// The run
        run: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Accept that links fail on the way, where the workflow declares an outage
        #[arg(long)]
        accept_outage: bool,
        /// Why, for the record
        #[arg(long, default_value = "asked by the operator")]
        why: String,
        /// Where, if not as recorded
        #[command(flatten)]
        reach: Reach,
        /// How pods are dialled, if not as recorded
        #[command(flatten)]
        dialling: Dialling,
    },
    /// Stop working on a run for good, where it stands; its record stays
    #[command(after_help = "Example:\n  rollover abort 20261122-0615 --leave-mixed")]
    Abort {
        /// The run
        run: String,
        /// Leave what is mixed as it is and take the mark off the target, so that other runs may begin
        #[arg(long)]
        leave_mixed: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Where, if not as recorded
        #[command(flatten)]
        reach: Reach,
    },
    /// Read and verify the records of runs
    #[command(subcommand)]
    Audit(Audit),
    /// Look at certificates, keys, bundles and endpoints; make, sign, renew and compare them
    #[command(subcommand)]
    Cert(super::cert::args::Cert),
    /// Make a workflow of your own that runs in the sandbox at once
    #[command(
        after_help = "Examples:\n  rollover new my-site/look\n  rollover run workflows/my-site/look --sandbox"
    )]
    New {
        /// Its name, as FOLDER/NAME
        name: String,
        /// The folder of workflows to put it in
        #[arg(long, value_name = "DIR", default_value = "workflows")]
        dir: PathBuf,
    },
    /// Check a workflow without running it: manifest, syntax, names and counts of arguments
    #[command(
        after_help = "Examples:\n  rollover check tidb/cfssl-rotate\n  rollover check workflows/my-site/look"
    )]
    Check {
        /// The workflow, or the path of its folder; all of them when left out
        workflow: Option<String>,
    },
    /// Start, look at and stop sandboxes
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// List the exit codes and what each asks of you
    HelpExitCodes,
    /// Print shell completions
    #[command(after_help = "Example:\n  rollover completions bash > /etc/bash_completion.d/rollover")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// Reading and verifying records.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List the recorded runs
    List,
    /// Tell a run for a person: who changed what, when, from which fingerprint to which
    #[command(after_help = "Example:\n  rollover audit show 20261122-0615")]
    Show {
        /// The run, or the path of its folder
        run: String,
    },
    /// Verify a record, offline: integrity, completeness, authenticity
    #[command(
        after_help = "Examples:\n  rollover audit verify 20261122-0615\n  rollover audit verify ./runs/20261122-061503-k7qd --key 'rollover+…' --expect-head 214:9f2c…"
    )]
    Verify {
        /// The run, or the path of its folder
        run: String,
        /// The public key of whoever ran it, or a file that holds it; may be given more than once [default: this machine's]
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
        /// The head that left the machine, as SIZE:HASH
        #[arg(long, value_name = "SIZE:HASH")]
        expect_head: Option<String>,
    },
}

/// Sandboxes.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Start a sandbox and stay in the foreground
    Serve {
        /// Its folder: kubeconfig or hosts, PKI, log
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Seed of its lags, leaders and spontaneous restarts
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// End after this many seconds without a request
        #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
        idle: u64,
    },
    /// Start a sandbox in the background and print how to reach it
    Start {
        /// With what this workflow works on [default: a TiDB cluster]
        #[arg(long, value_name = "WORKFLOW")]
        workflow: Option<String>,
        /// Seed of its lags, leaders and spontaneous restarts
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// List the sandboxes that run
    List,
    /// Stop one, or all
    Stop {
        /// Its folder; all when left out
        dir: Option<PathBuf>,
    },
}
