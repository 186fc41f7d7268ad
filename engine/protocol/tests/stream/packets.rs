//! Drives the packet parser as a connection would: bytes arrive in pieces, what is consumed leaves, values are skipped.
//!
//! Whatever the pieces are, a stream must give the same [`Outcome`]. Shared by the property tests and the fuzz target.

use strata_protocol::INPUT_MIN_BYTES;
use strata_protocol::binary::{self, Command, Step};

/// What a stream came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Each step with how many bytes of the stream were consumed when it happened, itself included.
    pub steps: Vec<(usize, Step<'a>)>,
    /// How many bytes were consumed in all, skipped ones included.
    pub consumed: usize,
}

/// Feeds `stream` in pieces of the given sizes, and the rest in one piece.
///
/// # Panics
/// If the parser breaks its contract: consumes more than there is, or waits although it has been shown enough.
pub fn run(stream: &[u8], pieces: impl IntoIterator<Item = usize>) -> Outcome<'_> {
    let mut pieces = pieces.into_iter();
    let mut outcome = Outcome {
        steps: Vec::new(),
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
            let (consumed, step) = binary::read(input);
            assert!(
                consumed <= input.len(),
                "consumed {consumed} of {} bytes",
                input.len()
            );
            outcome.consumed += consumed;
            let over = match step {
                Step::Incomplete => {
                    assert!(consumed == 0 && input.len() < INPUT_MIN_BYTES);
                    break;
                }
                Step::Request(request) => {
                    skip = u64::from(request.value_bytes);
                    request.command == Command::Quit
                }
                Step::Refused {
                    skip: bytes, last, ..
                } => {
                    skip = bytes;
                    last
                }
                Step::Lost => true,
            };
            outcome.steps.push((outcome.consumed, step));
            if over {
                return outcome;
            }
        }
    }
    outcome
}
