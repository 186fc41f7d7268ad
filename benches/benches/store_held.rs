//! How many items a store holds: it is filled far past its memory, then every item is read back.
//!
//! ```text
//! cargo bench -p strata-benches --bench store_held              # some minutes, 288 MiB
//! cargo bench -p strata-benches --bench store_held -- --quick   # a sixth of the memory
//! ```
//!
//! Both stores have the same memory in all, table and notes included. The peer's table has a fixed size, so several
//! are tried and the best counts. *Overhead* is all memory that is not key or value, for each item that was read back.
//! It is measured right after the filling, while eviction is under way.

mod common;

use common::peer::{self, Pages};
use common::{KEY_BYTES, MIB, fill, readable, strata};

/// Filled with this many times what the memory could hold if an item cost only its key and value.
const TIMES_OVER: usize = 3;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let (memory_bytes, powers) = if quick {
        (48 * MIB, 17..=20)
    } else {
        (288 * MIB, 20..=22)
    };
    println!(
        "{} MiB each, keys of {KEY_BYTES} bytes; overhead in bytes an item",
        memory_bytes / MIB
    );
    println!(
        "{:>8} {:>12} {:>10} {:>12} {:>10} {:>8}   where ours goes, bytes an item",
        "value", "strata", "overhead", "segcache", "overhead", "ratio"
    );
    for value_bytes in [32, 64, 128, 512] {
        let body_bytes = KEY_BYTES + value_bytes;
        let count = (TIMES_OVER * memory_bytes / body_bytes) as u64;
        let overhead =
            |all_bytes: usize, held: u64| all_bytes as f64 / held as f64 - body_bytes as f64;

        let mut ours = strata::new(memory_bytes);
        fill(&mut ours, count, value_bytes);
        let held = readable(&mut ours, 0..count);
        let usage = ours.shard.usage();
        assert_eq!(held, usage.items, "every item in the table can be read");
        let all_bytes = memory_bytes + usage.side_bytes;
        let each = |bytes: usize| bytes as f64 / held as f64;
        let segment_bytes = usage.pages_segment * usage.page_bytes;

        let (peer_held, peer_power) = powers
            .clone()
            .map(|power| {
                let table_bytes = 8usize << power;
                let mut peer = peer::new(memory_bytes - table_bytes, power, Pages::Huge);
                // A set that finds both its hash buckets full may be refused; what counts is what is held.
                common::fill_what_fits(&mut peer, count, value_bytes);
                (readable(&mut peer, 0..count), power)
            })
            .max()
            .expect("at least one size of table");

        println!(
            "{value_bytes:>8} {held:>12} {:>10.1} {peer_held:>12} {:>10.1} {:>8.2}   header {:.1}, table {:.1} (load {:.2}), \
             dead or unused {:.1}, free {:.1}, notes {:.2}; peer's best table 2^{peer_power}",
            overhead(all_bytes, held),
            overhead(memory_bytes, peer_held),
            held as f64 / peer_held as f64,
            usage.bytes as f64 / held as f64 - body_bytes as f64,
            each(usage.pages_table * usage.page_bytes),
            usage.table_load(),
            each(segment_bytes - usage.bytes as usize),
            each(usage.pages_free * usage.page_bytes),
            each(usage.side_bytes),
        );
    }
}
