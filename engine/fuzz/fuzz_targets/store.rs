//! Operations on a shard, drawn from the input, beside the reference model: see `strata_store::testkit`.
//!
//! The first bytes choose what kind of shard it is; the rest are the operations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_store::Eviction;
use strata_store::testkit::{FromBytes, Rig, Rules, Source};

/// More operations than any input has bytes for.
const OPERATIONS_MAX: u64 = 1 << 20;

/// What kind of shard it is. `None` when the input is too short to say.
fn rules(source: &mut impl Source) -> Option<Rules> {
    let policies = [Eviction::None, Eviction::Merge, Eviction::S3Fifo, Eviction::Fifo];
    let eviction = policies[source.below(policies.len() as u32)? as usize];
    Some(Rules {
        memory_bytes: (1 << 20) + source.below(1 << 16)? as usize,
        item_max_bytes: 1024 << source.below(10)?,
        eviction,
        keys: [3, 40, 500, 5000][source.below(4)? as usize],
        value_bytes: [20, 300, 4000][source.below(3)? as usize],
        large_one_in: [0, 2, 20][source.below(3)? as usize],
        may_forget: eviction != Eviction::None,
        may_refuse: true,
        audit_every: 64,
        lasting_of_four: source.below(5)?,
        flushes: source.below(2)? == 0,
        grow_times: source.below(4)? + 1,
    })
}

fuzz_target!(|input: &[u8]| {
    let mut source = FromBytes(input);
    let Some(rules) = rules(&mut source) else { return };
    let mut rig = Rig::new(rules, u64::from(rules.keys) + 1);
    rig.run(&mut source, OPERATIONS_MAX);
    rig.end_loans();
});
