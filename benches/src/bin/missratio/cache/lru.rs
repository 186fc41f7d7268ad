//! An exact LRU: the item not used for longest goes.
//!
//! It is given the benefit of prompt removal: an item leaves in the second it expires, without cost, which no LRU with
//! a real clock and real memory does.
//!
//! Always true: the items held, each charged its key, value and overhead, are within the limit.

use std::sync::Arc;

use super::Cache;
use super::links::{Deadlines, Links, Queue};
use crate::trace::Trace;

/// The policy and what it holds.
pub struct Lru {
    trace: Arc<Trace>,
    limit_bytes: usize,
    overhead_bytes: usize,
    held_bytes: usize,
    held: Vec<bool>,
    queue: Queue,
    links: Links,
    deadlines: Deadlines,
}

impl Lru {
    /// An empty one of `limit_bytes`, of which each item takes `overhead_bytes` beside key and value.
    pub fn new(trace: &Arc<Trace>, limit_bytes: usize, overhead_bytes: usize) -> Self {
        let count = trace.catalogue.count();
        Self {
            limit_bytes,
            overhead_bytes,
            held_bytes: 0,
            held: vec![false; count],
            queue: Queue::EMPTY,
            links: Links::new(count),
            deadlines: Deadlines::new(count, trace.seconds),
            trace: Arc::clone(trace),
        }
    }

    fn charge(&self, object: u32) -> usize {
        self.trace.catalogue.body_bytes(object) + self.overhead_bytes
    }

    fn take_out(&mut self, object: u32) {
        self.queue.remove(&mut self.links, object);
        self.held[object as usize] = false;
        self.held_bytes -= self.charge(object);
    }

    fn remove(&mut self, object: u32) {
        self.take_out(object);
        self.deadlines.remove(object);
    }

    fn holds(&self, object: u32) -> bool {
        self.held[object as usize]
    }
}

impl Cache for Lru {
    fn begin_second(&mut self, now: u32) {
        while let Some(object) = self.deadlines.next_due(now) {
            self.take_out(object);
        }
    }

    fn get(&mut self, object: u32) -> bool {
        if self.holds(object) {
            self.queue.remove(&mut self.links, object);
            self.queue.push(&mut self.links, object);
        }
        self.holds(object)
    }

    fn set(&mut self, object: u32) {
        if self.holds(object) {
            self.remove(object);
        }
        let charge = self.charge(object);
        if charge > self.limit_bytes {
            return;
        }
        while self.held_bytes + charge > self.limit_bytes {
            let oldest = self.queue.oldest().expect("what is held is in the queue");
            self.remove(oldest);
        }
        self.queue.push(&mut self.links, object);
        self.held[object as usize] = true;
        self.held_bytes += charge;
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
            self.remove(object);
        }
    }

    fn items(&self) -> Option<u64> {
        Some(self.queue.count() as u64)
    }

    fn charged_bytes(&self) -> usize {
        self.held_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Catalogue;
    use crate::workload::Operation;

    fn lru(objects: &[(u8, u16, u32)], limit_bytes: usize) -> Lru {
        let requests = [(Operation::Get, 0); 100];
        Lru::new(
            &Arc::new(Trace::of(&requests, Catalogue::of(objects))),
            limit_bytes,
            72,
        )
    }

    fn held(cache: &Lru) -> Vec<u32> {
        (0..cache.held.len() as u32)
            .filter(|&object| cache.holds(object))
            .collect()
    }

    #[test]
    fn the_one_not_used_for_longest_goes() {
        // Each is charged 100 bytes.
        let mut cache = lru(&[(10, 18, 0); 5], 399);
        for object in 0..3 {
            cache.set(object);
        }
        assert!(cache.get(0));
        cache.set(3);
        assert_eq!(held(&cache), [0, 2, 3]);
        assert!(!cache.get(1));
        cache.set(2);
        cache.set(4);
        assert_eq!(held(&cache), [2, 3, 4]);
        cache.delete(3);
        cache.replace(3);
        cache.add(0);
        assert_eq!((held(&cache), cache.charged_bytes()), (vec![0, 2, 4], 300));
    }

    #[test]
    fn a_large_item_displaces_several_and_one_beyond_the_limit_none() {
        let mut cache = lru(
            &[
                (10, 18, 0),
                (10, 18, 0),
                (10, 18, 0),
                (10, 118, 0),
                (10, 400, 0),
            ],
            300,
        );
        for object in 0..5 {
            cache.set(object);
        }
        assert_eq!((held(&cache), cache.charged_bytes()), (vec![2, 3], 300));
    }

    #[test]
    fn items_leave_in_the_second_they_expire() {
        let mut cache = lru(&[(10, 18, 5), (10, 18, 9), (10, 18, 0)], 1000);
        for object in 0..3 {
            cache.set(object);
        }
        cache.begin_second(4);
        cache.set(0);
        cache.begin_second(8);
        assert_eq!(held(&cache), [0, 1, 2]);
        cache.begin_second(9);
        assert_eq!(held(&cache), [2]);
        assert_eq!(cache.charged_bytes(), 100);
    }
}
