//! The audit sidecar as a process: its sockets, its devices beside a live OpenBao, and what becomes of it when
//! it is killed, when the disk is full, when somebody stalls.

mod devices;
mod end;
mod kills;
mod socket;
