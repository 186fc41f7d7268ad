//! Latencies of each connection by itself: whether any of them is served worse than the others.
//!
//! Always true: a connection takes [`CONNECTION_BYTES`], reserved before the first request; a
//! latency is told to within an eighth of its doubling, upwards.

/// Steps from a latency to twice that.
const STEPS: u32 = 8;

/// Latencies below this share the first bin.
const LEAST_NS: u64 = 1 << 10;

/// From a microsecond to above a minute.
const BINS: usize = 26 * STEPS as usize;

/// Memory of a connection.
pub const CONNECTION_BYTES: usize = BINS * size_of::<u32>();

const _: () = assert!(CONNECTION_BYTES <= 1024);

/// Latencies of the connections of a run. One of none records nothing.
#[derive(Clone, Default)]
pub struct Fairness {
    /// Number of the first connection among those of all threads.
    first: usize,
    connections: Vec<[u32; BINS]>,
}

/// The worst that any connection met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slowest {
    /// Connections.
    pub of: usize,
    /// The highest median of any, in nanoseconds.
    pub p50_ns: u64,
    /// The highest 99th percentile of any, in nanoseconds. Of fewer than a hundred requests it is
    /// the longest.
    pub p99_ns: u64,
    /// Requests of the connection that had fewest answered.
    pub fewest: u64,
    /// Requests of the one that had most.
    pub most: u64,
}

impl Fairness {
    /// For `count` connections from number `first` on.
    pub fn new(first: usize, count: usize) -> Self {
        Self {
            first,
            connections: vec![[0; BINS]; count],
        }
    }

    /// Records requests of a connection.
    #[inline]
    pub fn record(&mut self, connection: usize, latency_ns: u64, count: u64) {
        if self.connections.is_empty() {
            return;
        }
        let bins = &mut self.connections[connection - self.first];
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let bin = &mut bins[bin_of(latency_ns)];
        *bin = bin.saturating_add(count);
    }

    /// Adds the connections of another thread.
    pub fn merge(&mut self, mut other: Self) {
        self.connections.append(&mut other.connections);
    }

    /// The worst that any of them met, if there are any.
    pub fn slowest(&self) -> Option<Slowest> {
        let first = self.connections.first()?;
        let mut slowest = Slowest {
            of: self.connections.len(),
            p50_ns: 0,
            p99_ns: 0,
            fewest: total(first),
            most: 0,
        };
        for bins in &self.connections {
            let total = total(bins);
            slowest.p50_ns = slowest.p50_ns.max(quantile_ns(bins, total, 0.5));
            slowest.p99_ns = slowest.p99_ns.max(quantile_ns(bins, total, 0.99));
            slowest.fewest = slowest.fewest.min(total);
            slowest.most = slowest.most.max(total);
        }
        Some(slowest)
    }
}

fn total(bins: &[u32; BINS]) -> u64 {
    bins.iter().map(|&count| u64::from(count)).sum()
}

/// The bin of a latency: its doublings above the least, in steps of equal width within each.
#[inline]
fn bin_of(latency_ns: u64) -> usize {
    let latency_ns = latency_ns.max(LEAST_NS);
    let doublings = latency_ns.ilog2();
    let step = (latency_ns >> (doublings - STEPS.ilog2())) as u32 - STEPS;
    let bin = (doublings - LEAST_NS.ilog2()) * STEPS + step;
    (bin as usize).min(BINS - 1)
}

/// The latency at which a bin ends.
fn end_ns(bin: usize) -> u64 {
    let (doublings, step) = (bin as u32 / STEPS, bin as u32 % STEPS);
    (LEAST_NS << doublings) / u64::from(STEPS) * u64::from(STEPS + step + 1)
}

fn quantile_ns(bins: &[u32; BINS], total: u64, quantile: f64) -> u64 {
    let rank = (total as f64 * quantile).ceil() as u64;
    let mut seen = 0;
    for (bin, &count) in bins.iter().enumerate() {
        seen += u64::from(count);
        if count > 0 && seen >= rank {
            return end_ns(bin);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_told_to_within_an_eighth_and_never_as_shorter() {
        let mut latency_ns = LEAST_NS;
        while latency_ns < 60_000_000_000 {
            for latency_ns in [latency_ns, latency_ns + latency_ns / 3, 2 * latency_ns - 1] {
                let told_ns = end_ns(bin_of(latency_ns));
                assert!(told_ns > latency_ns, "{latency_ns}: {told_ns}");
                let eighth = latency_ns / 8 + 1;
                assert!(told_ns <= latency_ns + eighth, "{latency_ns}: {told_ns}");
            }
            latency_ns *= 2;
        }
        assert_eq!(bin_of(0), 0);
        assert_eq!(bin_of(u64::MAX), BINS - 1);
    }

    #[test]
    fn one_starved_connection_among_many_is_told() {
        let mut fairness = Fairness::new(100, 50);
        for connection in 100..150 {
            fairness.record(connection, 1_000_000, 1000);
        }
        let even = fairness.slowest().expect("connections");
        assert_eq!((even.fewest, even.most, even.of), (1000, 1000, 50));
        assert!(even.p99_ns < 1_200_000, "{even:?}");
        // One in a hundred of its requests, but of all only one in five thousand.
        fairness.record(117, 90_000_000, 11);
        let starved = fairness.slowest().expect("connections");
        assert!(starved.p99_ns > 90_000_000, "{starved:?}");
        assert_eq!(starved.p50_ns, even.p50_ns);
    }

    #[test]
    fn a_connection_without_an_answer_is_seen_by_its_count() {
        let mut of_one_thread = Fairness::new(0, 2);
        of_one_thread.record(1, 5000, 3);
        let mut of_all = Fairness::default();
        of_all.merge(of_one_thread);
        of_all.merge(Fairness::new(2, 2));
        let slowest = of_all.slowest().expect("connections");
        assert_eq!((slowest.fewest, slowest.most, slowest.of), (0, 3, 4));
        assert_eq!(Fairness::default().slowest(), None);
    }
}
