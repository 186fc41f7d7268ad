//! The floor of glommio's TCP streams: one task for each connection, on one executor.
//!
//! Always true: a task sends all it owes before it reads again.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use crate::{Debt, replies};

const READ_BYTES: usize = 16 * 1024;

/// Serves until the process is ended.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    // The caller has pinned the thread already, and the executor runs on this thread.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .map_err(|error| io::Error::other(error.to_string()))?;
    executor.run(async move {
        // SAFETY: `into_raw_fd` gives up the only owner, so the descriptor is open and now owned
        // by the new listener alone.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        let replies = replies();
        loop {
            let stream = listener
                .accept()
                .await
                .map_err(|error| io::Error::other(error.to_string()))?;
            glommio::spawn_local(async move {
                // The end of a connection is the client's affair.
                let _ = answer(stream, replies).await;
            })
            .detach();
        }
    })
}

async fn answer(mut stream: TcpStream, replies: &[u8]) -> io::Result<()> {
    let mut read = vec![0; READ_BYTES];
    let mut debt = Debt::default();
    loop {
        let count = stream.read(&mut read).await?;
        if count == 0 {
            return Ok(());
        }
        debt.add(&read[..count]);
        while debt.bytes > 0 {
            let bytes = debt.next(replies);
            stream.write_all(bytes).await?;
            debt.paid(bytes.len());
        }
    }
}
