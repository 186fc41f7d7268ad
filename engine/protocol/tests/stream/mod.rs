//! Drives a [`Parser`] as a connection would: bytes arrive in pieces, what is consumed leaves, data blocks are skipped.
//!
//! Whatever the pieces are, a stream must give the same [`Outcome`]. Shared by the property tests and the fuzz targets.

use strata_protocol::{ClientError, INPUT_MIN_BYTES, Parser, Request, Step};

/// What a stream came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Each event with how many bytes of the stream were consumed when it happened, itself included.
    pub events: Vec<(usize, Event<'a>)>,
    /// How many bytes were consumed in all, skipped ones included.
    pub consumed: usize,
}

/// One answer of the parser.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request.
    Request(Request<'a>),
    /// A malformed command and how many bytes were to be skipped.
    Invalid(Option<ClientError>, u64),
    /// The end of the connection.
    Lost,
}

/// Feeds `stream` in pieces of the given sizes, and the rest in one piece.
///
/// # Panics
/// If the parser breaks its contract: consumes more than there is, or waits although it has been shown enough.
pub fn run(stream: &[u8], pieces: impl IntoIterator<Item = usize>) -> Outcome<'_> {
    let mut pieces = pieces.into_iter();
    let mut parser = Parser::new();
    let mut outcome = Outcome {
        events: Vec::new(),
        consumed: 0,
    };
    let mut skip = 0u64;
    let mut arrived = 0;
    while arrived < stream.len() {
        arrived += pieces
            .next()
            .map_or(usize::MAX, |bytes| bytes.max(1))
            .min(stream.len() - arrived);
        loop {
            let skipped = skip.min((arrived - outcome.consumed) as u64);
            outcome.consumed += skipped as usize;
            skip -= skipped;
            if skip > 0 {
                break;
            }
            let input = &stream[outcome.consumed..arrived];
            let (consumed, step) = parser.next(input);
            assert!(
                consumed <= input.len(),
                "consumed {consumed} of {} bytes",
                input.len()
            );
            outcome.consumed += consumed;
            let event = match step {
                Step::Incomplete => {
                    let held = input.len() - consumed;
                    assert!(
                        held < INPUT_MIN_BYTES,
                        "wants more although it holds {held} bytes"
                    );
                    break;
                }
                Step::Request(request) => {
                    if let Request::Store(store) = &request {
                        skip = store.block_bytes();
                    }
                    if let Request::Meta(meta) = &request {
                        skip = meta.block_bytes();
                    }
                    Event::Request(request)
                }
                Step::Invalid { error, skip: bytes } => {
                    skip = bytes;
                    Event::Invalid(error, bytes)
                }
                Step::Lost => Event::Lost,
            };
            let over = event == Event::Lost;
            outcome.events.push((outcome.consumed, event));
            if over {
                return outcome;
            }
        }
    }
    outcome
}
