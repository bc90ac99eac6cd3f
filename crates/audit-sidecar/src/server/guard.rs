//! Unix sockets that only the sidecar's own user reaches, and the end of all servers.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Tells servers that the sidecar stops.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Whoever holds the sender says when.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the sidecar stops.
    pub async fn wait(mut self) {
        // An error says that the sender is gone, which is the end too.
        let _ended = self.0.wait_for(|stops| *stops).await;
    }
}

/// A socket of mode 0600 whose peers are this process's user or root.
pub struct Guarded {
    listener: UnixListener,
    uid: u32,
}

impl Guarded {
    /// Makes the socket; one that nobody listens on any more is replaced.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        if let Ok(found) = path.symlink_metadata() {
            if !found.file_type().is_socket() {
                return Err(io::Error::other("something else than a socket is there"));
            }
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
            }
            std::fs::remove_file(path)?;
        }
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, uid: rustix::process::geteuid().as_raw() })
    }

    /// The next peer that may talk.
    pub async fn next(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if self.is_allowed(&stream) => return stream,
                Ok((_, _)) => tracing::warn!(code = "Rejected.Peer", "a peer of another user was refused"),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn is_allowed(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == self.uid || peer.uid() == 0)
    }
}

impl Listener for Guarded {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let stream = self.next().await;
            if let Ok(addr) = stream.peer_addr() {
                return (stream, addr);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
