//! The audit sidecar as a process: its sockets, its devices beside a live OpenBao, and what becomes of it when
//! it is killed, when the disk is full, when somebody stalls, when the stream that it ships to is down.

mod devices;
mod end;
mod kills;
mod ship;
mod socket;
