//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what the system allows without a right: the soft limit (1,024 by default) is for programs that
/// call `select`. One that stays as it is is no error.
pub fn raise_limit() {
    let now = getrlimit(Resource::Nofile);
    let _stays = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, ..now });
}
