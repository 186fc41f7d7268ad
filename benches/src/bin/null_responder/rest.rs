//! A server that takes its time: what two clients measure of it differs by no more than their own part.
//!
//! Always true: what is received after a rest began is answered after a rest of its own.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::{Debt, replies};

const READ_BYTES: usize = 16 * 1024;

/// Serves until the process is ended.
pub fn serve(listener: &TcpListener, rest: Duration) -> io::Result<()> {
    let replies = replies();
    for stream in listener.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            // A connection that breaks is the client's affair.
            let _ = converse(&mut stream, replies, rest);
        });
    }
    Ok(())
}

fn converse(stream: &mut TcpStream, replies: &[u8], rest: Duration) -> io::Result<()> {
    let mut read = vec![0; READ_BYTES];
    let mut debt = Debt::default();
    loop {
        let count = stream.read(&mut read)?;
        if count == 0 {
            return Ok(());
        }
        debt.add(&read[..count]);
        std::thread::sleep(rest);
        while debt.bytes > 0 {
            let sent = stream.write(debt.next(replies))?;
            debt.paid(sent);
        }
    }
}
