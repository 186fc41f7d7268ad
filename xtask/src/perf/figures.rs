//! Figures of a run, from what the client's report says in its own words and the server's counters.
//!
//! Always true: what is not there is an error, and the client's own doubts about a run are kept with it.

use anyhow::Result;
use serde_json::Value;

use super::Pace;
use super::record::{PERCENTILES, Shot, Slowest, Windows};
use super::turns::Others;
use super::usage::Usage;
use crate::report::{number, reasons};

/// An open-loop client that has something to do for a larger share of its time measures itself.
const CLIENT_BUSY_MAX: f64 = 0.95;

/// How time and cores were shared out during a run.
struct Shares {
    seconds: f64,
    client_busy: f64,
    others: Others,
}

/// Of a run that had the machine to itself.
pub fn alone(ours: &Value, used: &Usage, pace: Pace) -> Result<Shot> {
    let generator = &ours["generator"];
    let cpu_share = number(generator, "cpu share")?;
    let shares = Shares {
        seconds: number(ours, "measured seconds")?,
        client_busy: number(generator, "busy share")?,
        // By the time between the readings: a client with thousands of connections says late that it has measured, and
        // what it and the server did until then would be that of others.
        others: Others {
            cores: ((used.machine_busy_s - used.cpu_s) / used.at_s - cpu_share).max(0.0),
            stolen: used.machine_stolen_s / used.at_s,
        },
    };
    let mut shot = shot(ours, used, &shares)?;
    if let Pace::Open { rate } = pace {
        add_latency(&mut shot, ours, rate)?;
    }
    Ok(shot)
}

/// Of a closed loop that ran for `ran_s`, by turns.
pub fn by_turns(ours: &Value, used: &Usage, ran_s: f64, others: Others) -> Result<Shot> {
    // To the client the others' turns were a part of its time.
    let client_s = number(&ours["generator"], "cpu share")? * number(ours, "measured seconds")?;
    let shares = Shares {
        seconds: ran_s,
        client_busy: client_s / ran_s,
        others,
    };
    shot(ours, used, &shares)
}

fn shot(ours: &Value, used: &Usage, shares: &Shares) -> Result<Shot> {
    let keys = number(ours, "keys")?;
    let (hits, misses) = (number(ours, "hits")?, number(ours, "misses")?);
    let per_key = 1e6 / keys.max(1.0);
    Ok(Shot {
        invalid: reasons(ours)?,
        ops_per_s: keys / shares.seconds,
        seconds: shares.seconds,
        user_us: used.user_s * per_key,
        system_us: used.system_s * per_key,
        server_share: used.cpu_s / shares.seconds,
        switches_per_thousand: used.switches as f64 * 1000.0 / keys.max(1.0),
        resident_mib: used.resident_kib as f64 / 1024.0,
        hit_ratio: (hits + misses > 0.0).then(|| hits / (hits + misses)),
        client_busy: shares.client_busy,
        others: shares.others.cores,
        stolen: shares.others.stolen,
        slowest: slowest_of(&ours["slowest connection"])?,
        ..Shot::default()
    })
}

fn add_latency(shot: &mut Shot, ours: &Value, rate: f64) -> Result<()> {
    let mut windows = windows_of(&ours["windows"])?;
    if shot.client_busy > CLIENT_BUSY_MAX {
        let saturated = format!(
            "The client was saturated: busy for {:.0} % of its time.",
            shot.client_busy * 100.0
        );
        windows.invalid.push(saturated.clone());
        shot.invalid.push(saturated);
    }
    shot.rate = Some(rate);
    shot.latency_ms = Some(percentiles(&ours["open"]["latency, due to done (msec)"])?);
    shot.lag_p99_ms = Some(number(&ours["open"]["lag, due to sent (msec)"], "p99.00")?);
    shot.windows = Some(windows);
    Ok(())
}

/// As many of the percentiles as are asked for.
fn percentiles<const COUNT: usize>(latency: &Value) -> Result<[f64; COUNT]> {
    let mut values = [0.0; COUNT];
    for (value, name) in values.iter_mut().zip(PERCENTILES) {
        *value = number(latency, name)?;
    }
    Ok(values)
}

fn windows_of(report: &Value) -> Result<Windows> {
    Ok(Windows {
        invalid: reasons(report)?,
        length_ms: number(report, "seconds")? * 1e3,
        counted: number(report, "counted")?,
        of: number(report, "of")?,
        middle_ms: percentiles(&report["middle window (msec)"])?,
        slow_ms: percentiles(&report["slowest tenth of windows (msec)"])?,
        lateness_ms: percentiles(&report["middle window's lateness (msec)"])?,
    })
}

fn slowest_of(report: &Value) -> Result<Option<Slowest>> {
    if report.is_null() {
        return Ok(None);
    }
    Ok(Some(Slowest {
        p50_ms: number(report, "p50.00")?,
        p99_ms: number(report, "p99.00")?,
        fewest: number(report, "fewest requests")?,
        most: number(report, "most requests")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(busy: f64, invalid: &[&str]) -> Value {
        let percentiles = serde_json::json!({
            "p50.00": 0.1, "p99.00": 0.2, "p99.90": 0.3, "p99.99": 0.4
        });
        serde_json::json!({
            "keys": 1000, "measured seconds": 2.0, "hits": 900, "misses": 100, "invalid": invalid,
            "generator": { "busy share": busy, "cpu share": 1.0 },
            "open": {
                "latency, due to done (msec)": percentiles,
                "lag, due to sent (msec)": percentiles,
            },
            "windows": {
                "seconds": 0.02, "of": 100, "counted": 70, "invalid": [],
                "middle window's lateness (msec)": percentiles,
                "middle window (msec)": percentiles,
                "slowest tenth of windows (msec)": percentiles,
            },
        })
    }

    fn used() -> Usage {
        Usage {
            at_s: 2.0,
            cpu_s: 2.0,
            user_s: 0.5,
            system_s: 1.5,
            switches: 7,
            resident_kib: 2048,
            machine_busy_s: 4.5,
            machine_stolen_s: 0.0,
        }
    }

    #[test]
    fn figures_are_per_key_and_per_second() {
        let shot = alone(&report(1.0, &[]), &used(), Pace::Closed).expect("figures");
        assert!(shot.invalid.is_empty());
        assert_eq!((shot.user_us, shot.system_us), (500.0, 1500.0));
        assert_eq!((shot.ops_per_s, shot.server_share), (500.0, 1.0));
        assert_eq!(shot.hit_ratio, Some(0.9));
        assert_eq!((shot.switches_per_thousand, shot.resident_mib), (7.0, 2.0));
        assert!((shot.others - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_saturated_client_makes_an_open_run_invalid_but_not_a_closed_one() {
        let open = Pace::Open { rate: 10.0 };
        let shot = alone(&report(0.96, &[]), &used(), open).expect("figures");
        assert!(shot.invalid[0].contains("saturated"), "{:?}", shot.invalid);
        assert_eq!(shot.windows.expect("windows").invalid, shot.invalid);
        let shot = alone(&report(0.94, &[]), &used(), open).expect("figures");
        assert!(shot.invalid.is_empty(), "{:?}", shot.invalid);
        assert_eq!(shot.latency_ms, Some([0.1, 0.2, 0.3, 0.4]));
        let shot = alone(&report(0.96, &[]), &used(), Pace::Closed).expect("figures");
        assert!(shot.invalid.is_empty(), "{:?}", shot.invalid);
    }

    #[test]
    fn the_clients_own_verdict_is_kept() {
        let shot = alone(&report(0.5, &["It lied."]), &used(), Pace::Closed).expect("figures");
        assert_eq!(shot.invalid, ["It lied."]);
    }

    #[test]
    fn windows_have_a_verdict_of_their_own() {
        let open = Pace::Open { rate: 10.0 };
        let shot = alone(&report(0.5, &["It was late."]), &used(), open).expect("figures");
        assert_eq!(shot.invalid, ["It was late."]);
        let windows = shot.windows.expect("windows");
        assert!(windows.invalid.is_empty(), "{:?}", windows.invalid);
        assert_eq!(windows.middle_ms, [0.1, 0.2, 0.3]);
        assert!(shot.slowest.is_none());
    }

    #[test]
    fn the_slowest_connection_is_taken_over() {
        let mut report = report(0.5, &[]);
        report["slowest connection"] = serde_json::json!({
            "connections": 9, "p50.00": 1.0, "p99.00": 2.0, "fewest requests": 3, "most requests": 4
        });
        let shot = alone(&report, &used(), Pace::Closed).expect("figures");
        let slowest = shot.slowest.expect("a slowest connection");
        assert_eq!((slowest.p50_ms, slowest.p99_ms), (1.0, 2.0));
        assert_eq!((slowest.fewest, slowest.most), (3.0, 4.0));
    }

    #[test]
    fn turns_of_others_are_no_time_of_the_run() {
        let others = Others {
            cores: 0.1,
            stolen: 0.2,
        };
        let shot = by_turns(&report(1.0, &[]), &used(), 2.5, others).expect("figures");
        assert_eq!((shot.ops_per_s, shot.server_share), (400.0, 0.8));
        assert_eq!((shot.user_us, shot.system_us), (500.0, 1500.0));
        // By the client's clock two seconds passed, and it was at work in all of them.
        assert_eq!(shot.client_busy, 0.8);
        assert_eq!((shot.others, shot.stolen), (0.1, 0.2));
    }
}
