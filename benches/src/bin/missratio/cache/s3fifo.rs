//! S3-FIFO over single items, as in the paper (SOSP '23): a small queue that new items have to get through, a main
//! queue in which used items get another round, and a ghost queue of what the small one has turned away.
//!
//! ```text
//! new --> small (10 % of the bytes) --fetched twice--> main --fetched--> main again, one count less
//!   \                 \--else--> ghost                   \--not--> out
//!    \--in ghost--> main
//! ```
//!
//! Counts stop at 3. The ghost has as many entries as the main queue, free of charge. Items leave in the second they
//! expire, also free of charge.
//!
//! Always true: the items held, each charged its key, value and overhead, are within the limit.

use std::sync::Arc;

use super::Cache;
use super::links::{Deadlines, Links, Queue};
use crate::trace::Trace;

/// The small queue has one in this many bytes.
const SMALL_ONE_IN: usize = 10;
/// Fetches that take an item from the small to the main queue.
const FETCHES_TO_MAIN: u8 = 2;
/// Fetches are counted up to this.
const FETCHES_MAX: u8 = 3;

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Small,
    Main,
    Ghost,
}

/// The policy and what it holds.
pub struct S3Fifo {
    trace: Arc<Trace>,
    limit_bytes: usize,
    overhead_bytes: usize,
    small_bytes: usize,
    main_bytes: usize,
    place: Vec<Place>,
    fetches: Vec<u8>,
    small: Queue,
    main: Queue,
    ghost: Queue,
    links: Links,
    deadlines: Deadlines,
}

impl S3Fifo {
    /// An empty one of `limit_bytes`, of which each item takes `overhead_bytes` beside key and value.
    pub fn new(trace: &Arc<Trace>, limit_bytes: usize, overhead_bytes: usize) -> Self {
        let count = trace.catalogue.count();
        Self {
            limit_bytes,
            overhead_bytes,
            small_bytes: 0,
            main_bytes: 0,
            place: vec![Place::Nowhere; count],
            fetches: vec![0; count],
            small: Queue::EMPTY,
            main: Queue::EMPTY,
            ghost: Queue::EMPTY,
            links: Links::new(count),
            deadlines: Deadlines::new(count, trace.seconds),
            trace: Arc::clone(trace),
        }
    }

    fn charge(&self, object: u32) -> usize {
        self.trace.catalogue.body_bytes(object) + self.overhead_bytes
    }

    fn holds(&self, object: u32) -> bool {
        matches!(self.place[object as usize], Place::Small | Place::Main)
    }

    fn put(&mut self, object: u32, place: Place) {
        let charge = self.charge(object);
        self.place[object as usize] = place;
        match place {
            Place::Nowhere => {}
            Place::Small => {
                self.small.push(&mut self.links, object);
                self.small_bytes += charge;
            }
            Place::Main => {
                self.main.push(&mut self.links, object);
                self.main_bytes += charge;
            }
            Place::Ghost => self.ghost.push(&mut self.links, object),
        }
    }

    /// Takes an object from where it is.
    fn take_out(&mut self, object: u32) {
        let charge = self.charge(object);
        match self.place[object as usize] {
            Place::Nowhere => {}
            Place::Small => {
                self.small.remove(&mut self.links, object);
                self.small_bytes -= charge;
            }
            Place::Main => {
                self.main.remove(&mut self.links, object);
                self.main_bytes -= charge;
            }
            Place::Ghost => self.ghost.remove(&mut self.links, object),
        }
        self.place[object as usize] = Place::Nowhere;
    }

    /// Evicts one item, after moving on those that earned it.
    fn evict(&mut self) {
        loop {
            let small_is_full = self.small_bytes >= self.limit_bytes / SMALL_ONE_IN;
            let from_small = self.main.count() == 0 || small_is_full && self.small.count() > 0;
            if from_small {
                let oldest = self.small.oldest().expect("one of the two holds something");
                self.take_out(oldest);
                if self.fetches[oldest as usize] >= FETCHES_TO_MAIN {
                    self.put(oldest, Place::Main);
                    continue;
                }
                self.deadlines.remove(oldest);
                self.put(oldest, Place::Ghost);
                self.trim_ghost();
                return;
            }
            let oldest = self.main.oldest().expect("the main queue was looked at");
            self.take_out(oldest);
            if self.fetches[oldest as usize] == 0 {
                self.deadlines.remove(oldest);
                return;
            }
            self.fetches[oldest as usize] -= 1;
            self.put(oldest, Place::Main);
        }
    }

    fn trim_ghost(&mut self) {
        while self.ghost.count() > self.main.count() {
            let oldest = self.ghost.oldest().expect("it holds something");
            self.take_out(oldest);
        }
    }
}

impl Cache for S3Fifo {
    fn begin_second(&mut self, now: u32) {
        while let Some(object) = self.deadlines.next_due(now) {
            self.take_out(object);
        }
    }

    fn get(&mut self, object: u32) -> bool {
        let held = self.holds(object);
        if held {
            let fetches = &mut self.fetches[object as usize];
            *fetches = (*fetches + 1).min(FETCHES_MAX);
        }
        held
    }

    /// Storing an item anew keeps its place and counts as a fetch.
    fn set(&mut self, object: u32) {
        if !self.get(object) {
            let charge = self.charge(object);
            if charge > self.limit_bytes {
                return;
            }
            let place = match self.place[object as usize] {
                Place::Ghost => Place::Main,
                _ => Place::Small,
            };
            self.take_out(object);
            while self.small_bytes + self.main_bytes + charge > self.limit_bytes {
                self.evict();
            }
            self.fetches[object as usize] = 0;
            self.put(object, place);
        }
        let ttl = self.trace.catalogue.ttl(object);
        self.deadlines.put(object, ttl);
    }

    fn replace(&mut self, object: u32) {
        if self.holds(object) {
            self.set(object);
        }
    }

    fn delete(&mut self, object: u32) {
        if self.holds(object) {
            self.take_out(object);
            self.deadlines.remove(object);
        }
    }

    fn items(&self) -> Option<u64> {
        Some((self.small.count() + self.main.count()) as u64)
    }

    fn charged_bytes(&self) -> usize {
        self.small_bytes + self.main_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Catalogue;
    use crate::workload::Operation;

    /// A thousand objects of 100 charged bytes, and room for ten of them: one in the small queue.
    fn ten() -> S3Fifo {
        let requests = [(Operation::Get, 0); 100];
        let catalogue = Catalogue::of(&[(10, 18, 0); 1000]);
        S3Fifo::new(&Arc::new(Trace::of(&requests, catalogue)), 1000, 72)
    }

    #[test]
    fn what_is_fetched_twice_stays_and_what_is_not_becomes_a_ghost() {
        let mut cache = ten();
        for object in 0..10 {
            cache.set(object);
        }
        // All ten wait in the small queue while there is room.
        assert_eq!((cache.small.count(), cache.main.count()), (10, 0));
        for object in [0, 1, 1, 2, 2, 2, 2] {
            assert!(cache.get(object));
        }
        // 0 was fetched once: it is turned away. There is no main queue yet, so no room for its ghost either.
        cache.set(10);
        assert_eq!(cache.place[0], Place::Nowhere);
        // 1 and 2 go on to the main queue, 3 becomes the ghost, then 4 does and 3 makes place since two fit.
        cache.set(11);
        assert_eq!((cache.place[1], cache.place[2]), (Place::Main, Place::Main));
        assert_eq!(cache.place[3], Place::Ghost);
        cache.set(12);
        cache.set(13);
        assert_eq!(
            (cache.place[3], cache.place[4], cache.place[5]),
            (Place::Nowhere, Place::Ghost, Place::Ghost)
        );
        // A ghost that comes back skips the small queue.
        cache.set(5);
        assert_eq!(cache.place[5], Place::Main);
        assert_eq!((cache.items(), cache.charged_bytes()), (Some(10), 1000));
    }

    #[test]
    fn the_main_queue_gives_another_round_for_each_fetch() {
        let mut cache = ten();
        for object in 0..10 {
            cache.put(object, Place::Main);
        }
        cache.fetches[0] = 2;
        cache.fetches[1] = 1;
        // The small queue is empty: 0 and 1 go round, 2 leaves.
        cache.set(10);
        assert_eq!((cache.place[0], cache.place[1]), (Place::Main, Place::Main));
        assert_eq!(cache.place[2], Place::Nowhere);
        assert_eq!((cache.fetches[0], cache.fetches[1]), (1, 0));
        // With one item the small queue has its share: that one is turned away before any more of the main queue.
        cache.set(11);
        assert_eq!(
            (cache.place[10], cache.place[3]),
            (Place::Ghost, Place::Main)
        );
    }

    #[test]
    fn it_never_holds_more_than_its_limit_and_forgets_the_expired() {
        let requests = [(Operation::Get, 0); 1000];
        let objects: Vec<(u8, u16, u32)> = (0..500)
            .map(|o| (10, 20 + o % 300, 7 + u32::from(o % 40)))
            .collect();
        let trace = Arc::new(Trace::of(&requests, Catalogue::of(&objects)));
        let mut cache = S3Fifo::new(&trace, 20_000, 72);
        let mut word = 1u64;
        for now in 0..900 {
            cache.begin_second(now);
            for _ in 0..20 {
                word = crate::draw::mix(word);
                let object = (word % 500) as u32;
                match word >> 60 {
                    0 => cache.delete(object),
                    1 => cache.add(object),
                    _ if cache.get(object) => {}
                    _ => cache.set(object),
                }
                assert!(cache.charged_bytes() <= 20_000);
            }
        }
        cache.begin_second(1000);
        assert_eq!((cache.items(), cache.charged_bytes()), (Some(0), 0));
    }
}
