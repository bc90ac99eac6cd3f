//! `audit-sidecar`: arguments, configuration, and the order in which things start and stop.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keytrail_adapters::local::KeyFile;
use keytrail_audit_sidecar::config::Config;
use keytrail_audit_sidecar::keeper;
use keytrail_audit_sidecar::service::{self, Failure};
use keytrail_ledger::VerifierKey;
use keytrail_ports::Signer as _;

/// No key operation without a durable, chained record.
#[derive(Parser)]
#[command(name = "audit-sidecar", version, about, after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes entries, ships records, and frees what is sealed, until it is told to stop
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "audit-sidecar.toml")]
        config: PathBuf,
        /// Gets the connections of the Unix device on standard input
        #[arg(long, hide = true)]
        worker: bool,
    },
    /// Ships what the spool holds and waits until all of it is sealed; takes no entry
    Drain {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "audit-sidecar.toml")]
        config: PathBuf,
        /// Ends, with exit code 75, where it is not sealed after so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        within: u64,
    },
    /// Checks the configuration and says all that is wrong with it
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "audit-sidecar.toml")]
        config: PathBuf,
    },
    /// Prints the public half of the audit key, a line for `keytrail verify --keys`; makes the key if there is none
    Key {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "audit-sidecar.toml")]
        config: PathBuf,
    },
}

const EXAMPLES: &str = "\
Examples:
  audit-sidecar key --config audit-sidecar.toml >> log.keys   the key that auditors pin
  audit-sidecar run --config audit-sidecar.toml               until SIGTERM
  curl --unix-socket sidecar.sock -d @intent.json http://sidecar/v1/intent/op-1

Exit codes: 0 done, 64 usage, 70 the spool or the log failed, 75 not drained in time, 78 configuration.";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            let _closed = e.print();
            return ExitCode::from(if e.use_stderr() { 64 } else { 0 });
        }
    };
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_target(false).init();
    let done = match &arguments.command {
        Command::Run { config: path, worker } => match read(path).and_then(|c| run(path, &c, *worker)) {
            Ok(0) => Ok(()),
            Ok(code) => return ExitCode::from(code),
            Err(failure) => Err(failure),
        },
        Command::Drain { config, within } => {
            read(config).and_then(|c| service::drain(&c, std::time::Duration::from_secs(*within)))
        }
        Command::Check { config } => read(config).map(|_| println!("{}: good", config.display())),
        Command::Key { config } => read(config).and_then(|c| print_key(&c)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("audit-sidecar: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// With a Unix device the work is done by a process of its own, whose connections this one keeps.
fn run(path: &Path, config: &Config, is_worker: bool) -> Result<u8, Failure> {
    match &config.unix_device {
        Some(socket) if !is_worker => keeper::run(path, socket),
        Some(_) => {
            let input = std::io::stdin().as_fd().try_clone_to_owned();
            let keeper = input.map_err(|e| Failure::Fatal(format!("the keeper's socket: {e}")))?;
            service::run(config, Some(keeper)).map(|()| 0)
        }
        None => service::run(config, None).map(|()| 0),
    }
}

fn read(path: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::Configuration(format!("cannot read `{}`: {e}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Config::parse(&text, folder).map_err(|problems| {
        let lines = problems.iter().map(|p| format!("\n  {p}"));
        Failure::Configuration(format!("`{}`:{}", path.display(), lines.collect::<String>()))
    })
}

fn print_key(config: &Config) -> Result<(), Failure> {
    let name = config.key_name();
    let (key, _) = KeyFile::open_or_create(&config.audit_key, &name)
        .map_err(|e| Failure::Configuration(e.to_string()))?;
    let public = VerifierKey::new(key.name(), key.public_key()).map_err(Failure::Configuration)?;
    println!("{public}");
    Ok(())
}
