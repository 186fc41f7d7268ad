//! A replay: one trace through one store, and what it missed.
//!
//! Always true: every store sees the same requests at the same seconds; only gets after the warm-up are counted.

use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::trace::Trace;
use crate::workload::Operation;

/// Requests a server answers in one tick, as a rule.
const TICK_REQUESTS: usize = 16;
/// Requests between two reports of progress.
const REPORT_REQUESTS: usize = 1 << 16;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Gets counted.
    pub gets: u64,
    /// Of these, misses.
    pub misses: u64,
    /// Items held at the end, if the store tells.
    pub items: Option<u64>,
    /// Bytes charged, on average over the counted part.
    pub charged_bytes: f64,
}

impl Outcome {
    /// Misses to a get.
    pub fn miss_ratio(&self) -> f64 {
        self.misses as f64 / self.gets.max(1) as f64
    }
}

/// Replays; `progress` hears of requests done.
pub fn replay(trace: &Trace, cache: &mut dyn Cache, progress: &dyn Fn(usize)) -> Outcome {
    let count = trace.len();
    let (mut gets, mut misses) = (0, 0);
    let (mut charged, mut samples) = (0.0, 0.0);
    // Second 0 is for what happened before; the first request is in second 1.
    let mut second = 0;
    for index in 0..count {
        if index % TICK_REQUESTS == 0 {
            cache.tick();
            let now = 1 + (index as u64 * u64::from(trace.seconds) / count as u64) as u32;
            if second < now {
                second = now;
                cache.begin_second(now);
            }
            if index % REPORT_REQUESTS == 0 {
                progress(REPORT_REQUESTS.min(count - index));
                if index >= trace.warm_up {
                    charged += cache.charged_bytes() as f64;
                    samples += 1.0;
                }
            }
        }
        let (operation, object) = trace.request(index);
        match operation {
            Operation::Get | Operation::LoneGet => {
                let hit = cache.get(object);
                if index >= trace.warm_up {
                    gets += 1;
                    misses += u64::from(!hit);
                }
                if !hit && operation == Operation::Get {
                    cache.set(object);
                }
            }
            Operation::Set => cache.set(object),
            Operation::Add => cache.add(object),
            Operation::Cas => cache.replace(object),
            Operation::Incr => {
                cache.get(object);
            }
            Operation::Delete => cache.delete(object),
        }
    }
    charged += cache.charged_bytes() as f64;
    samples += 1.0;
    Outcome {
        gets,
        misses,
        items: cache.items(),
        charged_bytes: charged / samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{POLICIES, Policy};
    use crate::workload::ALL;
    use std::sync::Arc;

    #[test]
    fn the_same_seed_gives_the_same_misses() {
        let workload = ALL.iter().find(|workload| workload.name == "cluster29");
        let workload = workload.expect("a workload");
        let outcomes = |seed| {
            let trace = Arc::new(Trace::draw(workload, 0.05, 60_000, seed));
            // The peer seeds its hash and its sampling from the system.
            let repeatable = POLICIES
                .iter()
                .filter(|(_, policy)| *policy != Policy::Segcache);
            let outcomes = repeatable.map(|(_, policy)| {
                let mut cache = policy.open(&trace, 4 << 20, 0);
                replay(&trace, &mut *cache, &|_| {})
            });
            outcomes.collect::<Vec<Outcome>>()
        };
        assert_eq!(outcomes(1), outcomes(1));
        assert_ne!(outcomes(1), outcomes(2));
    }

    #[test]
    fn no_store_is_charged_more_than_it_was_given() {
        let workload = ALL.iter().find(|workload| workload.name == "ycsb");
        let trace = Arc::new(Trace::draw(workload.expect("a workload"), 0.0, 60_000, 1));
        for (name, policy) in POLICIES {
            let limit_bytes = 6 << 20;
            let mut cache = policy.open(&trace, limit_bytes, 0);
            let outcome = replay(&trace, &mut *cache, &|_| {});
            assert!(cache.charged_bytes() <= limit_bytes, "{name}");
            assert!(outcome.charged_bytes > 0.9 * limit_bytes as f64, "{name}");
            assert!(
                outcome.items.is_none_or(|items| items > 500),
                "{name}: {outcome:?}"
            );
        }
    }

    #[test]
    fn what_nobody_may_keep_is_a_miss_and_what_everybody_can_is_not() {
        // Two objects in turn: within its ttl each is missed once, and again after it.
        let catalogue = crate::trace::Catalogue::of(&[(10, 50, 30), (10, 50, 0)]);
        let requests: Vec<_> = (0..100).map(|i| (Operation::Get, i % 2)).collect();
        let trace = Arc::new(Trace::of(&requests, catalogue));
        for (name, policy) in POLICIES {
            let mut cache = policy.open(&trace, 4 << 20, 0);
            let outcome = replay(&trace, &mut *cache, &|_| {});
            assert_eq!(outcome.gets, 100, "{name}");
            // The peer may end a lifetime early, by the width of its ttl bucket.
            assert!((5..=6).contains(&outcome.misses), "{name}: {outcome:?}");
        }
    }
}
