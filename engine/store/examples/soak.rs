//! Random operations on one small shard after the other, beside the reference model, for as long as is wanted.
//!
//! ```text
//! soak SEED OPERATIONS
//! ```
//!
//! Each shard is of another kind (policy, memory, sizes, a limit that changes) and has a seed of its own, the next
//! number. A panic is preceded by the seed that repeats it as the first. After each shard the operations done are
//! printed, for whoever watches.

use strata_store::testkit::{Rig, Rules, Seeded};

/// Operations on one shard: enough to fill it many times.
const OPERATIONS_EACH: u64 = 50_000;

/// Says which seed repeats the run, if it ends in a panic.
struct Telling(u64);

impl Drop for Telling {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this run with the seed {}", self.0);
        }
    }
}

fn number(argument: Option<String>) -> u64 {
    argument
        .and_then(|text| text.parse().ok())
        .expect("soak SEED OPERATIONS, both numbers")
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (first_seed, operations) = (number(arguments.next()), number(arguments.next()));
    let (mut done, mut seed) = (0, first_seed);
    while done < operations {
        let _telling = Telling(seed);
        let mut source = Seeded::new(seed);
        let rules = Rules::draw(&mut source).expect("a seed never ends");
        let mut rig = Rig::new(rules, seed);
        rig.run(&mut source, OPERATIONS_EACH.min(operations - done));
        rig.end_loans();
        rig.audit();
        done += rig.operations();
        seed = seed.wrapping_add(1);
        println!("{done}");
    }
}
