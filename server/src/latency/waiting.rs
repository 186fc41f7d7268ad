//! Since when the requests of a session wait that are not answered in the tick that received them.
//!
//! ```text
//! input that had to wait:   [ receipt since t1 | receipt since t3 ]   oldest first, by bytes
//! requests that were begun: [ group since t1, answered with reply 7 | group since t2, with 12 ]
//! ```
//!
//! A [`Waiting`] holds this for all sessions of a worker, so that a session without waiting requests
//! holds nothing. Always true: a session keeps at most [`RECEIPTS_MAX`] receipts and
//! [`GROUPS_MAX`] groups; what comes beyond joins the last of them, and so counts from
//! earlier, never from later. Nothing is allocated once as many sessions wait as have ever waited
//! at once.

use arrayvec::ArrayVec;

use super::Tally;
use crate::config::{GROUPS_MAX, RECEIPTS_MAX};

/// Bytes that wait to be parsed.
#[derive(Clone, Copy, Debug)]
struct Receipt {
    since_ns: u64,
    bytes: usize,
}

/// Requests that were begun together.
#[derive(Clone, Copy, Debug)]
struct Group {
    since_ns: u64,
    /// They are answered when the replies before the slot of this number have left.
    slot_end: u32,
    tally: Tally,
}

#[derive(Clone, Debug, Default)]
struct Wait {
    receipts: ArrayVec<Receipt, RECEIPTS_MAX>,
    groups: ArrayVec<Group, GROUPS_MAX>,
}

/// Names what waits of one session; none while nothing does.
pub type WaitIndex = Option<u32>;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Waiting {
    waits: Vec<Wait>,
    free: Vec<u32>,
}

impl Waiting {
    fn of(&mut self, index: &mut WaitIndex) -> &mut Wait {
        let at = *index.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.waits.push(Wait::default());
                self.waits.len() as u32 - 1
            })
        });
        &mut self.waits[at as usize]
    }

    /// Whether input is waiting.
    #[must_use]
    pub fn has_input(&self, index: WaitIndex) -> bool {
        index.is_some_and(|at| !self.waits[at as usize].receipts.is_empty())
    }

    /// Notes that `bytes` of input, received at `since_ns`, have to wait.
    pub fn receive(&mut self, index: &mut WaitIndex, bytes: usize, since_ns: u64) {
        if bytes == 0 {
            return;
        }
        let receipts = &mut self.of(index).receipts;
        let full = receipts.is_full();
        match receipts.last_mut() {
            Some(last) if full || last.since_ns == since_ns => last.bytes += bytes,
            _ => receipts.push(Receipt { since_ns, bytes }),
        }
    }

    /// Since when the oldest input waits.
    #[must_use]
    pub fn oldest_ns(&self, index: WaitIndex) -> Option<u64> {
        let wait = &self.waits[index? as usize];
        wait.receipts.first().map(|receipt| receipt.since_ns)
    }

    /// Notes that `bytes` of the input that waited are used.
    pub fn used(&mut self, index: WaitIndex, mut bytes: usize) {
        let Some(at) = index else { return };
        let receipts = &mut self.waits[at as usize].receipts;
        while let Some(first) = receipts.first_mut() {
            if first.bytes > bytes {
                first.bytes -= bytes;
                return;
            }
            bytes -= first.bytes;
            receipts.remove(0);
        }
    }

    /// Notes that no input waits: what is left is the beginning of a request whose end is awaited.
    pub fn drained(&mut self, index: &mut WaitIndex) {
        if let Some(at) = *index {
            self.waits[at as usize].receipts.clear();
            self.tidy(index);
        }
    }

    /// Notes requests that are answered when the replies before the slot `slot_end` have left.
    pub fn begin(
        &mut self,
        index: &mut WaitIndex,
        since_ns: u64,
        slot_end: u32,
        tally: &mut Tally,
    ) {
        let groups = &mut self.of(index).groups;
        let full = groups.is_full();
        match groups.last_mut() {
            Some(last) if full || last.since_ns == since_ns => {
                last.slot_end = slot_end;
                last.tally.take_in(tally);
            }
            _ => groups.push(Group {
                since_ns,
                slot_end,
                tally: std::mem::take(tally),
            }),
        }
    }

    /// Takes what is answered now that all replies before the slot `front` have left.
    pub fn answered(&mut self, index: &mut WaitIndex, front: u32, done: &mut Vec<(u64, Tally)>) {
        let Some(at) = *index else { return };
        let groups = &mut self.waits[at as usize].groups;
        // The numbers of slots wrap; far fewer than half of them are ever in use.
        let left = |group: &Group| front.wrapping_sub(group.slot_end) as i32 >= 0;
        while groups.first().is_some_and(left) {
            let group = groups.remove(0);
            done.push((group.since_ns, group.tally));
        }
        self.tidy(index);
    }

    /// Forgets a session.
    pub fn forget(&mut self, index: &mut WaitIndex) {
        if let Some(at) = *index {
            self.waits[at as usize].groups.clear();
            self.drained(index);
        }
    }

    fn tidy(&mut self, index: &mut WaitIndex) {
        if let Some(at) = *index {
            let wait = &self.waits[at as usize];
            if wait.receipts.is_empty() && wait.groups.is_empty() {
                self.free.push(at);
                *index = None;
            }
        }
    }

    /// Sessions of which something waits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waits.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Class;
    use super::*;

    fn some(requests: u32) -> Tally {
        let mut tally = Tally::default();
        tally.count(Class::Get, requests);
        tally
    }

    #[test]
    fn requests_are_answered_in_order_and_once() {
        let (mut waiting, mut index, mut done) = (Waiting::default(), None, Vec::new());
        waiting.begin(&mut index, 10, u32::MAX, &mut some(3));
        waiting.begin(&mut index, 10, 0, &mut some(1));
        waiting.begin(&mut index, 20, 2, &mut some(2));
        waiting.answered(&mut index, u32::MAX, &mut done);
        assert_eq!(done, []);
        waiting.answered(&mut index, 1, &mut done);
        assert_eq!(done, [(10, some(4))]);
        waiting.answered(&mut index, 2, &mut done);
        assert_eq!(done[1..], [(20, some(2))]);
        assert_eq!((index, waiting.count()), (None, 0));
    }

    #[test]
    fn input_counts_from_its_receipt_until_it_is_used() {
        let (mut waiting, mut index) = (Waiting::default(), None);
        waiting.receive(&mut index, 100, 1);
        waiting.receive(&mut index, 50, 2);
        waiting.used(index, 99);
        assert_eq!(waiting.oldest_ns(index), Some(1));
        waiting.used(index, 1);
        assert_eq!(waiting.oldest_ns(index), Some(2));
        waiting.used(index, 50);
        assert!(!waiting.has_input(index));
        waiting.drained(&mut index);
        assert_eq!(index, None);
    }

    #[test]
    fn what_finds_no_room_counts_from_earlier() {
        let (mut waiting, mut index, mut done) = (Waiting::default(), None, Vec::new());
        for at in 0..100 {
            waiting.receive(&mut index, 10, at);
            waiting.begin(&mut index, at, at as u32 + 1, &mut some(1));
        }
        waiting.used(index, 10 * (RECEIPTS_MAX - 1));
        let last = RECEIPTS_MAX as u64 - 1;
        assert_eq!(waiting.oldest_ns(index), Some(last));
        waiting.answered(&mut index, 100, &mut done);
        assert_eq!(done.len(), GROUPS_MAX);
        let joined = 100 - (GROUPS_MAX as u32 - 1);
        assert_eq!(done.last(), Some(&(GROUPS_MAX as u64 - 1, some(joined))));
        waiting.forget(&mut index);
        assert_eq!(waiting.count(), 0);
    }
}
