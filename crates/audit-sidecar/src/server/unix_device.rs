//! An audit device of OpenBao or Vault, over a Unix socket: lines, and no answers.
//!
//! A line that was not recorded cannot be refused by an answer: the connection is closed, with whatever it still
//! holds, and the writer finds out at its next line. What the writer believes to be written may so be lost
//! with the sidecar's process; who cannot accept that takes the device over HTTP.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::journal::{Entry, Journal, MAX_LINE_BYTES, Refusal};

use super::{Guarded, Stop};

/// Takes connections until the sidecar stops; ends once every line that came is recorded.
pub async fn serve(listener: Guarded, journal: Journal, stop: Stop) {
    let mut connections = tokio::task::JoinSet::new();
    let end = stop.clone().wait();
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            stream = listener.next() => {
                connections.spawn(connection(stream, journal.clone(), stop.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(mut stream: UnixStream, journal: Journal, stop: Stop) {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let end = stop.wait();
    tokio::pin!(end);
    let mut stops = false;
    loop {
        if let Err(refusal) = lines(&mut buffer, &journal).await {
            tracing::warn!(code = refusal.code(), "a line was not recorded, its connection is closed");
            return;
        }
        if buffer.len() > MAX_LINE_BYTES {
            tracing::warn!(code = "Rejected.TooLarge", "a line is too long, its connection is closed");
            return;
        }
        let read = if stops {
            // What is on its way still counts; who goes on writing is cut off.
            tokio::time::timeout(Duration::from_millis(200), stream.read_buf(&mut buffer)).await
        } else {
            tokio::select! {
                read = stream.read_buf(&mut buffer) => Ok(read),
                () = &mut end => { stops = true; continue }
            }
        };
        match read {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) | Err(_) => break,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a connection broke");
                break;
            }
        }
    }
    if !buffer.is_empty() {
        tracing::warn!(bytes = buffer.len(), "a connection ended inside a line, which was not recorded");
    }
}

/// Records all whole lines; waits for the last, and so for all of them.
async fn lines(buffer: &mut BytesMut, journal: &Journal) -> Result<(), Refusal> {
    let mut waiting = Vec::new();
    while let Some(end) = memchr::memchr(b'\n', buffer) {
        let line: Bytes = buffer.split_to(end).freeze();
        buffer.advance(1);
        if line.is_empty() {
            continue;
        }
        waiting.push(journal.submit_when_free(Entry::Foreign(line)).await?);
    }
    for pending in waiting {
        pending.durable().await?;
    }
    Ok(())
}
