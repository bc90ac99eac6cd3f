//! An audit device of OpenBao or Vault, over a Unix socket: lines, and no answers.
//!
//! Connections come from the [keeper](crate::keeper), which has them too. A line is looked at in the socket's
//! buffer and taken out of it once its record is durable: if this process is killed, its successor finds the line
//! there again, and the journal knows a line that comes twice. A line cannot be refused by an answer: while no
//! operation is taken on, nothing is read, and the writer finds out when the buffer is full.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::journal::{Entry, Journal, MAX_LINE_BYTES, Refusal};

use super::Stop;

/// More than the buffer of a socket holds.
const LOOK_BYTES: usize = 512 << 10;

/// How long a piece of a line may lie in the buffer without growing before it is taken out: longer lines than
/// the buffer holds come only so.
const STUCK: Duration = Duration::from_millis(20);

/// How long nothing is read while no operation is taken on.
const PAUSE: Duration = Duration::from_millis(50);

/// How long what is on its way may take, when the sidecar stops.
const LAST: Duration = Duration::from_millis(200);

/// Serves connections until the sidecar stops, or the keeper is gone; ends once every line that came is recorded.
pub async fn serve(keeper: OwnedFd, journal: Journal, stop: Stop) -> io::Result<()> {
    let keeper = StdStream::from(keeper);
    keeper.set_nonblocking(true)?;
    let keeper = Arc::new(UnixStream::from_std(keeper)?);
    let mut connections = JoinSet::new();
    let end = stop.clone().wait();
    tokio::pin!(end);
    loop {
        let next = tokio::select! {
            () = &mut end => break,
            next = next(&keeper) => next?,
            Some(_) = connections.join_next() => continue,
        };
        let Some((id, stream)) = next else { break };
        let (keeper, journal, stop) = (Arc::clone(&keeper), journal.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, &journal, stop).await {
                tracing::warn!(%error, "a connection of the device broke");
            }
            // One that is gone keeps nothing.
            let _gone = send(keeper.as_fd(), &u64::to_le_bytes(id), SendFlags::NOSIGNAL);
        });
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// The next connection; none where the keeper is gone.
async fn next(keeper: &UnixStream) -> io::Result<Option<(u64, UnixStream)>> {
    loop {
        keeper.readable().await?;
        match keeper.try_io(Interest::READABLE, || receive(keeper)) {
            Ok(Some((id, descriptor))) => {
                let stream = StdStream::from(descriptor);
                stream.set_nonblocking(true)?;
                return Ok(Some((id, UnixStream::from_std(stream)?)));
            }
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

fn receive(keeper: &UnixStream) -> io::Result<Option<(u64, OwnedFd)>> {
    let mut id = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(keeper, &mut [IoSliceMut::new(&mut id)], &mut control, flags)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    match descriptors.flatten().next() {
        Some(descriptor) => Ok(Some((u64::from_le_bytes(id), descriptor))),
        None => Err(io::Error::other("the keeper sent no descriptor")),
    }
}

async fn connection(stream: UnixStream, journal: &Journal, stop: Stop) -> io::Result<()> {
    let mut look = vec![0; LOOK_BYTES];
    // What was taken out of the buffer of a line that is longer than it.
    let mut begun = Vec::new();
    let mut seen = 0;
    let end = stop.wait();
    tokio::pin!(end);
    let mut stops = false;
    loop {
        let readable = if stops {
            tokio::time::timeout(LAST, stream.readable()).await.ok()
        } else {
            tokio::select! {
                readable = stream.readable() => Some(readable),
                () = &mut end => { stops = true; continue }
            }
        };
        let Some(readable) = readable else { break };
        readable?;
        if !stops && matches!(journal.refusal(), Some(Refusal::Full | Refusal::Unsealed)) {
            // What is in the buffer has happened, and stays there. Once it is full, its writer is refused.
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let there = match peek(&stream, &mut look) {
            Ok(0) => break,
            Ok(there) => there,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        };
        if let Some(last) = memchr::memrchr(b'\n', &look[..there]) {
            if let Err(refusal) = record(&mut begun, &look[..last], journal).await {
                return Err(io::Error::other(format!(
                    "a line was not recorded, {}: {refusal}",
                    refusal.code()
                )));
            }
            take(&stream, &mut look[..=last])?;
            seen = 0;
        } else if there == LOOK_BYTES || (there == seen && !stops) {
            take(&stream, &mut look[..there])?;
            begun.extend_from_slice(&look[..there]);
            seen = 0;
            if begun.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("a line is too long"));
            }
        } else if there == seen {
            break;
        } else {
            seen = there;
            tokio::time::sleep(STUCK).await;
        }
    }
    if !begun.is_empty() || seen > 0 {
        tracing::warn!(
            bytes = begun.len() + seen,
            "a connection ended inside a line, which was not recorded"
        );
    }
    Ok(())
}

fn peek(stream: &UnixStream, look: &mut [u8]) -> io::Result<usize> {
    stream.try_io(Interest::READABLE, || {
        let (_, there) = recv(stream.as_fd(), look, RecvFlags::PEEK)?;
        Ok(there)
    })
}

/// Takes out of the buffer what was seen there, at once: half of a line is nothing that a successor could use.
fn take(stream: &UnixStream, seen: &mut [u8]) -> io::Result<()> {
    let (_, taken) = recv(stream.as_fd(), &mut *seen, RecvFlags::empty())?;
    if taken == seen.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Records lines, the last one without its line feed; waits until all of them are durable.
async fn record(begun: &mut Vec<u8>, lines: &[u8], journal: &Journal) -> Result<(), Refusal> {
    let mut waiting = Vec::new();
    for line in lines.split(|b| *b == b'\n') {
        let line = if begun.is_empty() {
            Bytes::copy_from_slice(line)
        } else {
            begun.extend_from_slice(line);
            Bytes::from(std::mem::take(begun))
        };
        if !line.is_empty() {
            waiting.push(journal.submit_when_free(Entry::Written(line)).await?);
        }
    }
    for pending in waiting {
        pending.durable().await?;
    }
    Ok(())
}
