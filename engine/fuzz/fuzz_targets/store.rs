//! Operations on a shard, drawn from the input, beside the reference model: see `strata_store::testkit`.
//!
//! The first bytes choose what kind of shard it is; the rest are the operations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_store::testkit::{FromBytes, Rig, Rules};

/// More operations than any input has bytes for.
const OPERATIONS_MAX: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let mut source = FromBytes(input);
    let Some(rules) = Rules::draw(&mut source) else { return };
    let mut rig = Rig::new(rules, u64::from(rules.keys) + 1);
    rig.run(&mut source, OPERATIONS_MAX);
    rig.end_loans();
});
