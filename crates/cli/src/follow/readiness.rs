//! Tells the service manager how it is: the `NOTIFY_SOCKET` protocol of systemd (sd_notify(3)).

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where it is told; nowhere, unless a service manager asked for it.
pub struct Readiness(Option<UnixDatagram>);

impl Readiness {
    /// As the environment says: a path, or `@` and the name of an abstract socket.
    pub fn of_service() -> Self {
        Self(env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let name = name.as_bytes();
            let address = match name.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect_addr(&address.ok()?).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        }))
    }

    /// Tells it.
    pub fn tell(&self, state: &str) {
        if let Some(socket) = &self.0 {
            // A manager that does not listen is no reason to stop.
            let _unheard = socket.send(state.as_bytes());
        }
    }
}
