//! Hot keys: which requests of a batch are sampled, and what watchers are told.

use std::io::Write;

use super::requests::Planned;
use super::*;
use crate::config::HOT_KEYS_TOLD;
use crate::hotkeys::ranking;
use crate::latency::Class;

/// The least share of a worker's requests that makes a key one to tell watchers of, in percent.
const WATCHED_PERCENT: f64 = 1.0;

impl Worker {
    /// Takes those requests of a batch whose turn it is to be sampled.
    #[cold]
    #[inline(never)]
    pub(super) fn sample_keys(&mut self, now: &Now, plan: &[Planned<'_>]) {
        let Some(hot_keys) = &mut self.hot_keys else {
            return;
        };
        for at in hot_keys.picks(plan.len()) {
            let planned = &plan[usize::from(at)];
            let (key, write) = match planned {
                Planned::Get(get, _) | Planned::Away(get, ..) => (Some(get.key), false),
                Planned::Set(store, ..) => (Some(store.key), true),
                Planned::Other(intent, ..) => {
                    let class = Class::of(intent);
                    let write = matches!(class, Class::Set | Class::Delete | Class::Arith);
                    (requests::key_of(intent), write)
                }
            };
            if let Some(key) = key {
                hot_keys.sample(key, write, now.seconds);
            }
        }
    }

    /// Tells watchers once a second which keys the clients of this worker ask for most.
    pub(super) fn tell_hot_keys(&mut self, now: &Now) {
        let Some(hot_keys) = &self.hot_keys else {
            return;
        };
        if self.hot_told == now.seconds {
            return;
        }
        self.hot_told = now.seconds;
        let mut text = Vec::new();
        hot_keys.part(now.seconds, &mut text);
        for hot in ranking(&text, HOT_KEYS_TOLD).1 {
            if hot.percent < WATCHED_PERCENT {
                break;
            }
            let index = self.index;
            self.observer.log.line(now, WatchKinds::HOTKEYS, |line| {
                let _ = write!(
                    line,
                    "type=hot_key key={} worker={index} percent={:.2} writes_percent={:.0}",
                    hot.key, hot.percent, hot.writes_percent
                );
            });
        }
    }
}
