//! Known latencies through everything but sockets: what a report prints is what went in.

use strata_load::client::{Dialect, Pipeline, Terms, Verify};
use strata_load::kind::Kind;
use strata_load::report::files::spectrum;
use strata_load::tally::Tally;
use strata_load::workload::{Amount, KeySpace, Mix, Pattern, Requests, Workload};

fn workload() -> Workload {
    Workload {
        keys: KeySpace::new("k", 0, 9),
        set_pattern: Pattern::Uniform,
        get_pattern: Pattern::Uniform,
        mix: Mix::Ratio {
            sets: 1,
            gets: 0,
            keys_per_get: 1,
        },
        sizes: Amount::Fixed(32),
        lives: Amount::Fixed(0),
        fresh_share: 0.0,
        set_on_miss: false,
    }
}

/// Requests whose lag and service are known, through a pipeline with a clock of our own.
fn measured(parts_ns: impl Iterator<Item = (u64, u64)>) -> Tally {
    let workload = workload();
    let terms = Terms::new(&workload, Dialect::Classic, Verify::Everything);
    let mut requests = Requests::new(&workload, 1, 0, 1);
    let mut pipeline = Pipeline::new(0, 1, 1, false);
    let mut tally = Tally::new(0..u64::MAX, true);
    let mut out = Vec::new();
    let mut due_ns = 0;
    for (lag_ns, service_ns) in parts_ns {
        due_ns += 1000;
        let sent_ns = due_ns + lag_ns;
        let ask = requests.next_ask();
        pipeline.offer(&ask, &mut requests, &terms, due_ns, sent_ns, &mut out);
        out.clear();
        pipeline
            .receive(b"STORED\r\n", sent_ns + service_ns, &terms, &mut tally)
            .unwrap();
    }
    assert!(tally.faults.none());
    tally
}

/// The value at a quantile of a sorted list.
fn exact(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

const QUANTILES: [f64; 6] = [0.01, 0.5, 0.9, 0.99, 0.999, 0.9999];

#[test]
fn percentiles_of_known_latencies_are_exact_to_three_digits() {
    // From half a microsecond to two seconds, evenly in the logarithm, in no order.
    let count = 200_000_u64;
    let parts = |index: u64| {
        let place = (index * 7919 % count) as f64 / count as f64;
        let lag_ns = 250.0 * 4e6_f64.powf(place);
        let service_ns = 250.0 * 4e6_f64.powf(1.0 - place);
        (lag_ns as u64, service_ns as u64)
    };
    let mut tally = measured((0..count).map(parts));
    let sets = tally.of_mut(Kind::Set);
    type Part = fn((u64, u64)) -> u64;
    for (histogram, of) in [
        (
            sets.latency.histogram(),
            (|(lag, service)| lag + service) as Part,
        ),
        (sets.service.histogram(), |(_, service)| service),
        (sets.lag.histogram(), |(lag, _)| lag),
    ] {
        let mut sorted: Vec<u64> = (0..count).map(|index| of(parts(index))).collect();
        sorted.sort_unstable();
        for quantile in QUANTILES {
            let found = histogram.value_at_quantile(quantile) as f64;
            let right = exact(&sorted, quantile) as f64;
            assert!(
                (found / right - 1.0).abs() < 0.001,
                "{quantile}: {found} for {right}"
            );
        }
    }
}

#[test]
fn printed_percentiles_are_the_known_ones() {
    // Of 100 requests 90 take 1 ms, 9 take 20 ms and one takes 500 ms.
    let service_ms = |index: u64| match index % 100 {
        0 => 500,
        1..=9 => 20,
        _ => 1,
    };
    let mut tally = measured((0..10_000).map(|index| (0, service_ms(index) * 1_000_000)));
    let text = spectrum(tally.of_mut(Kind::Set).latency.histogram());
    let rows: Vec<(f64, f64)> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        })
        .collect();
    assert!(rows.len() > 10, "{text}");
    for (value_ms, quantile) in rows {
        let right = match quantile {
            // At a step itself the rounding of the quantile decides.
            0.899_99..0.900_01 | 0.989_99..0.990_01 => continue,
            quantile if quantile < 0.9 => 1.0,
            quantile if quantile < 0.99 => 20.0,
            _ => 500.0,
        };
        assert!(
            (value_ms / right - 1.0).abs() < 0.001,
            "{quantile}: {value_ms} ms"
        );
    }
}

#[test]
fn the_stall_of_a_server_shows_in_what_was_due_and_not_in_what_was_sent() {
    // One connection, a request due each millisecond, a server that answers at once but rests
    // for 100 ms of each second: what is due meanwhile waits for its turn to be sent.
    let mut free_ns = 0;
    let mut due_ns = 0;
    let mut parts = Vec::new();
    for _ in 0..10_000 {
        due_ns += 1_000_000;
        let sent_ns = due_ns.max(free_ns);
        let into_ns = sent_ns % 1_000_000_000;
        let rest_ns = 100_000_000_u64.saturating_sub(into_ns);
        free_ns = sent_ns + rest_ns + 10_000;
        parts.push((sent_ns - due_ns, free_ns - sent_ns));
    }
    let mut tally = measured(parts.into_iter());
    let sets = tally.of_mut(Kind::Set);
    let p99_ms =
        |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1e6;
    let due_ms = p99_ms(sets.latency.histogram());
    let sent_ms = p99_ms(sets.service.histogram());
    assert!((85.0..100.0).contains(&due_ms), "{due_ms}");
    assert!(sent_ms < 0.02, "{sent_ms}");
}
