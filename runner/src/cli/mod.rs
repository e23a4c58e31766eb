//! The command line: one file a command. Reads the environment; everything below gets what it needs handed in.

mod abort;
pub mod args;
mod audit;
pub mod cert;
mod check;
mod connect;
mod describe;
mod launch;
mod list;
mod new;
mod paths;
mod rbac;
mod records;
mod resume;
mod run;
mod sandboxes;
mod session;
mod signing;
mod status;
mod watch;
mod workflows;

use std::ffi::OsString;
use std::process::ExitCode as ProcessExit;

use clap::{CommandFactory as _, Parser as _};

use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, problem, style, table};
use args::{Cli, Command, Format};

/// What every command gets.
pub(crate) struct Context {
    /// Flags of every command.
    pub global: args::Global,
    /// Where state and configuration lie.
    pub paths: paths::Paths,
}

impl Context {
    /// Whether programs read the output.
    pub(crate) fn json(&self) -> bool {
        self.global.output == Format::Json
    }
}

/// The program: reads the arguments, does what they say, and returns the exit code.
pub fn main_impl(args: impl IntoIterator<Item = OsString>) -> ProcessExit {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.len() <= 1 {
        output::say(&Cli::command().render_help().to_string());
        return ProcessExit::from(ExitCode::Usage as u8);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok };
            let _ = error.print();
            return ProcessExit::from(code as u8);
        }
    };
    style::set_up(cli.global.color, paths::variable("NO_COLOR").is_some_and(|value| !value.is_empty()));
    trace(cli.global.verbose);
    let format = cli.global.output;
    let code = match paths::Paths::find(&cli.global).and_then(|paths| dispatch(cli, paths)) {
        Ok(code) => code,
        Err(failure) => {
            problem::print(&failure, format);
            failure.exit
        }
    };
    ProcessExit::from(code as u8)
}

fn trace(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "info",
        _ => "debug,hyper=info,h2=info,rustls=info,tower=info",
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .try_init();
}

fn dispatch(cli: Cli, paths: paths::Paths) -> Result<ExitCode, Failure> {
    let context = Context { global: cli.global, paths };
    workflows::folders(&context)?;
    match cli.command {
        Command::List => Ok(list::list(&context)),
        Command::Describe { workflow } => describe::describe(&context, &workflow),
        Command::Plan { workflow, connection, parameters } => {
            waits(run::plan(&context, &workflow, &connection, &parameters))
        }
        Command::Rbac { workflow, connection, parameters, subject } => {
            waits(rbac::rbac(&context, &workflow, &connection, &parameters, subject.as_deref()))
        }
        Command::Run {
            workflow,
            connection,
            parameters,
            yes,
            yes_final,
            accept_outage,
            plan_only,
            rollback_on_failure,
        } => {
            let asked = run::Asked { yes, yes_final, accept_outage, plan_only, rollback_on_failure };
            waits(run::run(&context, &workflow, &connection, &parameters, asked))
        }
        Command::Status { run } => status::status(&context, run.as_deref()),
        Command::Resume { run, yes, yes_final, accept_outage, reach, dialling } => {
            let agreed = session::Agreed { begin: yes, no_return: yes_final, outage: accept_outage };
            waits(resume::resume(&context, &run, (&reach, dialling), agreed))
        }
        Command::Rollback { run, yes, accept_outage, why, reach, dialling } => {
            waits(resume::rollback(&context, &run, (&reach, dialling), yes, accept_outage, &why))
        }
        Command::Abort { run, leave_mixed, yes, reach } => {
            waits(abort::abort(&context, &run, &reach, leave_mixed, yes))
        }
        Command::Audit(command) => audit::audit(&context, command),
        Command::Cert(command) => waits(cert::cert(&context, command)),
        Command::New { name, dir } => new::new(&context, &name, &dir),
        Command::Check { workflow } => check::check(&context, workflow.as_deref()),
        Command::Sandbox(command) => waits(sandboxes::sandboxes(&context, command)),
        Command::HelpExitCodes => Ok(exit_codes(&context)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "rollover", &mut std::io::stdout());
            Ok(ExitCode::Ok)
        }
    }
}

/// Runs a command that talks to the world to its end. Whatever still waits then is left behind: a question that nobody
/// answers would keep an interrupted program for ever.
fn waits(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// One runtime for a command that talks to the world. Two threads: what waits is the network.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Unknown, format!("cannot start: {error}")))
}

fn exit_codes(context: &Context) -> ExitCode {
    if context.json() {
        let rows: Vec<_> = ExitCode::ALL
            .iter()
            .map(|row| serde_json::json!({"code": row.code as u8, "name": row.code, "meaning": row.meaning, "what_to_do": row.what_to_do}))
            .collect();
        output::data(&serde_json::Value::from(rows).to_string());
    } else {
        let mut rows = table::plain(&["code", "meaning", "what to do"]);
        for row in ExitCode::ALL {
            rows.add_row([(row.code as u8).to_string(), row.meaning.into(), row.what_to_do.into()]);
        }
        output::data(&table::text(&rows));
    }
    ExitCode::Ok
}
