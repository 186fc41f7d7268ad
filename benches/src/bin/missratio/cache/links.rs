//! Queues of objects through links kept by number, and queues of what dies in each second.
//!
//! Always true: an object is in one queue of a `Links` at most, and the caller knows in which.

/// No object.
const NONE: u32 = u32::MAX;

/// For each object the one before and the one behind it in its queue.
pub struct Links {
    newer: Vec<u32>,
    older: Vec<u32>,
}

impl Links {
    /// For objects below `count`.
    pub fn new(count: usize) -> Self {
        Self {
            newer: vec![NONE; count],
            older: vec![NONE; count],
        }
    }
}

/// A queue: enters at the new end, leaves at the old one or anywhere.
#[derive(Clone, Copy)]
pub struct Queue {
    newest: u32,
    oldest: u32,
    count: usize,
}

impl Queue {
    /// Nothing in it.
    pub const EMPTY: Self = Self {
        newest: NONE,
        oldest: NONE,
        count: 0,
    };

    /// Objects in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The next to leave.
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Enters an object that is in no queue of these links.
    pub fn push(&mut self, links: &mut Links, object: u32) {
        links.newer[object as usize] = NONE;
        links.older[object as usize] = self.newest;
        match self.newest {
            NONE => self.oldest = object,
            newest => links.newer[newest as usize] = object,
        }
        self.newest = object;
        self.count += 1;
    }

    /// Takes an object out of this queue, in which it is.
    pub fn remove(&mut self, links: &mut Links, object: u32) {
        let newer = links.newer[object as usize];
        let older = links.older[object as usize];
        match newer {
            NONE => self.newest = older,
            newer => links.older[newer as usize] = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => links.newer[older as usize] = newer,
        }
        self.count -= 1;
    }
}

/// Who dies when. Deadlines after the last second of the replay need no place.
pub struct Deadlines {
    /// For each second.
    queues: Vec<Queue>,
    links: Links,
    /// Second in which an object dies; 0 when it is in no queue.
    at: Vec<u32>,
    now: u32,
}

impl Deadlines {
    /// For objects below `count` and seconds up to `last`.
    pub fn new(count: usize, last: u32) -> Self {
        Self {
            queues: vec![Queue::EMPTY; last as usize + 2],
            links: Links::new(count),
            at: vec![0; count],
            now: 0,
        }
    }

    /// Gives an object `ttl` seconds from now; 0 is for ever.
    pub fn put(&mut self, object: u32, ttl: u32) {
        self.remove(object);
        let deadline = self.now.saturating_add(ttl);
        if ttl > 0 && (deadline as usize) < self.queues.len() {
            self.queues[deadline as usize].push(&mut self.links, object);
            self.at[object as usize] = deadline;
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, object: u32) {
        let at = std::mem::take(&mut self.at[object as usize]);
        if at > 0 {
            self.queues[at as usize].remove(&mut self.links, object);
        }
    }

    /// The next that dies up to and including second `now`; it is forgotten here.
    pub fn next_due(&mut self, now: u32) -> Option<u32> {
        loop {
            if let Some(object) = self.queues[self.now as usize].oldest() {
                self.remove(object);
                return Some(object);
            }
            if self.now >= now {
                return None;
            }
            self.now += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_keeps_its_order_when_one_leaves_from_the_middle() {
        let mut links = Links::new(5);
        let mut queue = Queue::EMPTY;
        for object in 0..5 {
            queue.push(&mut links, object);
        }
        for object in [2, 0, 4] {
            queue.remove(&mut links, object);
        }
        queue.push(&mut links, 2);
        let mut left = Vec::new();
        while let Some(object) = queue.oldest() {
            queue.remove(&mut links, object);
            left.push(object);
        }
        assert_eq!((left, queue.count()), (vec![1, 3, 2], 0));
    }

    #[test]
    fn objects_die_in_their_second_and_once() {
        let mut deadlines = Deadlines::new(4, 100);
        deadlines.put(0, 5);
        deadlines.put(1, 3);
        deadlines.put(2, 0);
        deadlines.put(3, 3);
        deadlines.put(3, 1000);
        assert_eq!(deadlines.next_due(2), None);
        assert_eq!(deadlines.next_due(3), Some(1));
        assert_eq!(deadlines.next_due(3), None);
        deadlines.put(1, 1);
        assert_eq!(deadlines.next_due(100), Some(1));
        assert_eq!(deadlines.next_due(100), Some(0));
        assert_eq!(deadlines.next_due(100), None);
    }
}
