//! Whatever happens to a search server or on the way to it costs delay alone: after each fault the index holds what
//! the archive holds, nothing lost, nothing doubled, each dead letter explained.
//!
//! The long form: `KEYTRAIL_KILLS=100` kills keytrail that often (default 10), `KEYTRAIL_FAULT_EVENTS=20000` sends so
//! many documents through each fault (default 600) and has the parts that take a minute, too. Run with
//! `--no-capture` for the tables.

mod followed;
mod killed;
mod on_the_way;
mod own_server;
mod refused;
mod target;
