//! Hot keys: which requests of a batch are sampled, and what watchers are told.

use std::io::Write;

use super::*;
use crate::config::HOT_KEYS_TOLD;
use crate::hotkeys::ranking;

/// The least share of a worker's requests that makes a key one to tell watchers of, in percent.
const WATCHED_PERCENT: f64 = 1.0;

impl Worker {
    /// Takes those of a batch of requests whose turn it is to be sampled; `request` tells the key of the
    /// one at a place, if it has one, and whether it changes the item.
    #[cold]
    #[inline(never)]
    pub(super) fn sample_keys<'a>(
        &mut self,
        now: &Now,
        requests: usize,
        request: impl Fn(usize) -> (Option<&'a [u8]>, bool),
    ) {
        let Some(hot_keys) = &mut self.hot_keys else {
            return;
        };
        for at in hot_keys.picks(requests) {
            if let (Some(key), write) = request(usize::from(at)) {
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
