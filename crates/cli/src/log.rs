//! `keytrail log`.

use std::process::ExitCode;

use keytrail_model::Fatal;

use crate::args::LogCommand;
use crate::folder::Folder;
use crate::print;

/// Shows the log's keys or head, or rotates its key.
pub fn log(command: LogCommand) -> Result<ExitCode, Fatal> {
    match command {
        LogCommand::Key(args) => {
            let folder = Folder::open_for_reading(&args.data.data, None)?;
            let keys = folder.log_keys()?;
            match keys.keys().last() {
                Some(newest) if !args.all => print(&format!("{}\n", newest.key)),
                _ => print(&keys.to_string()),
            }
        }
        LogCommand::Checkpoint(args) => {
            let folder = Folder::open_for_reading(&args.data, None)?;
            print(&String::from_utf8_lossy(&folder.head()?.1));
        }
        LogCommand::RotateKey(args) => {
            let mut folder = Folder::open_for_writing(&args.data.data, args.keys.key_dir.as_deref())?;
            let keys = folder.rotate_key(args.finish)?;
            print(&format!("{keys}"));
            crate::tell("give these lines to whoever verifies this trail");
        }
    }
    Ok(ExitCode::SUCCESS)
}
