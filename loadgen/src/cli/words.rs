//! Words of the command line into values.
//!
//! Always true: a word that cannot be read gives a sentence that names its option.

use std::time::Duration;

use crate::kind::Kind;
use crate::schedule::{RATE_MAX, RATE_MIN};
use crate::transport::Address;
use crate::trial::Objective;
use crate::workload::{Mix, Spread, Weighted};

/// Most keys on one retrieval.
const KEYS_PER_GET_MAX: u32 = 1 << 16;

/// Most steps of a sweep.
const SWEEP_STEPS_MAX: usize = 1000;

/// Longest time an option may give, about three years: far below what nanoseconds can count.
const SECONDS_MAX: f64 = 1e8;

/// Fails for 0.
pub fn above_zero(option: &str, value: usize) -> Result<(), String> {
    if value == 0 {
        return Err(format!("{option}: must be above 0"));
    }
    Ok(())
}

/// Fails for what is above `most`.
pub fn at_most(option: &str, value: usize, most: usize) -> Result<(), String> {
    if value > most {
        return Err(format!("{option}: {value} in all are above {most}"));
    }
    Ok(())
}

/// A number of seconds.
pub fn seconds(option: &str, value: f64) -> Result<Duration, String> {
    match Duration::try_from_secs_f64(value) {
        Ok(time) if value <= SECONDS_MAX => Ok(time),
        Ok(_) => Err(format!("{option}: {value} is above {SECONDS_MAX} seconds")),
        Err(_) => Err(format!("{option}: {value} is not a number of seconds")),
    }
}

/// A number above 0 of requests a second.
pub fn rate(option: &str, value: f64) -> Result<f64, String> {
    if !(RATE_MIN..=RATE_MAX).contains(&value) {
        return Err(format!(
            "{option}: {value} requests a second are not between {RATE_MIN} and {RATE_MAX}"
        ));
    }
    Ok(value)
}

/// Two numbers, `a:b` or `a-b`.
pub fn pair(option: &str, text: &str, between: char) -> Result<(u32, u32), String> {
    let numbers = text
        .split_once(between)
        .and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
    numbers.ok_or_else(|| {
        format!("{option}: {text:?} is not two numbers with {between:?} between them")
    })
}

/// Two numbers of which the first is not above the second.
pub fn range(option: &str, text: &str) -> Result<(u32, u32), String> {
    let (least, most) = pair(option, text, '-')?;
    if least > most {
        return Err(format!("{option}: {least} is above {most}"));
    }
    Ok((least, most))
}

/// Sizes and their weights, `size:weight,...`.
pub fn weighted_list(option: &str, text: &str) -> Result<Spread, String> {
    let list = text
        .split(',')
        .map(|word| pair(option, word.trim(), ':'))
        .collect::<Result<Vec<_>, _>>()?;
    if list.iter().all(|&(_, weight)| weight == 0) {
        return Err(format!("{option}: all weights are 0"));
    }
    Ok(Spread::weighted(&list))
}

/// Verbs and their weights, `get:80,set:15,mget10:5`.
pub fn ops(text: &str) -> Result<Mix, String> {
    let verbs = || {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("{} or mget with a number of keys", names.join(", "))
    };
    let list = text
        .split(',')
        .map(|word| {
            let bad = || format!("--ops: {word:?} is not a verb and its weight, such as get:80");
            let (verb, weight) = word.trim().split_once(':').ok_or_else(bad)?;
            let weight = weight.parse().map_err(|_| bad())?;
            let unknown = || format!("--ops: {verb:?} is not {}", verbs());
            let (kind, key_count) = match verb.strip_prefix("mget") {
                Some(count) => {
                    let count: u32 = count.parse().map_err(|_| unknown())?;
                    if count == 0 || count > KEYS_PER_GET_MAX {
                        return Err(format!(
                            "--ops: {verb:?} has not between 1 and {KEYS_PER_GET_MAX} keys"
                        ));
                    }
                    (Kind::Get, count)
                }
                None => {
                    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == verb);
                    (kind.ok_or_else(unknown)?, 1)
                }
            };
            Ok(Weighted {
                kind,
                key_count,
                weight,
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    if list.iter().all(|one| one.weight == 0) {
        return Err("--ops: all weights are 0".into());
    }
    Ok(Mix::Weights(list.into()))
}

/// Servers with a comma between them; each may have a port of its own.
pub fn servers(text: &str, port: u16) -> Result<Vec<Address>, String> {
    text.split(',')
        .map(|word| {
            let word = word.trim();
            if word.is_empty() {
                return Err(format!("--server: {text:?} has a server without a name"));
            }
            if let Some(rest) = word.strip_prefix('[') {
                let (host, rest) = rest
                    .split_once(']')
                    .ok_or_else(|| format!("--server: {word:?} has no closing bracket"))?;
                let port = match rest.strip_prefix(':') {
                    None if rest.is_empty() => Ok(port),
                    Some(port) => port.parse().map_err(|_| ()),
                    None => Err(()),
                };
                let port = port.map_err(|()| format!("--server: {word:?} has no port"))?;
                return Ok(Address::Tcp(host.into(), port));
            }
            match word.split_once(':') {
                // More than one colon: an address of version 6 without its port.
                Some((host, own)) if !own.contains(':') => {
                    let own = own
                        .parse()
                        .map_err(|_| format!("--server: {own:?} in {word:?} is no port"))?;
                    Ok(Address::Tcp(host.into(), own))
                }
                _ => Ok(Address::Tcp(word.into(), port)),
            }
        })
        .collect()
}

/// Rates of a sweep: `from:to:step`, or a list with commas.
pub fn sweep(text: &str) -> Result<Vec<f64>, String> {
    let bad = || format!("--sweep: {text:?} is neither from:to:step nor a list of rates");
    let number = |word: &str| match word.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => rate("--sweep", value),
        _ => Err(bad()),
    };
    let words: Vec<&str> = text.split(':').collect();
    let rates = match words[..] {
        [list] => list.split(',').map(number).collect::<Result<Vec<_>, _>>()?,
        [from, to, step] => {
            let (from, to, step) = (number(from)?, number(to)?, number(step)?);
            // A last step that rounding puts just beyond the end still counts.
            let count = ((to - from) / step + 1e-9).floor();
            if count < 0.0 {
                return Err(format!("--sweep: {from} is above {to}"));
            }
            if count >= SWEEP_STEPS_MAX as f64 {
                return Err(format!("--sweep: more than {SWEEP_STEPS_MAX} rates"));
            }
            (0..=count as usize)
                .map(|index| from + step * index as f64)
                .collect()
        }
        _ => return Err(bad()),
    };
    if rates.len() > SWEEP_STEPS_MAX {
        return Err(format!("--sweep: more than {SWEEP_STEPS_MAX} rates"));
    }
    Ok(rates)
}

/// What a search has to hold: `p99.9<1ms`.
pub fn objective(text: &str) -> Result<Objective, String> {
    let bad = || format!("--search: {text:?} is not a percentile and its limit, such as p99.9<1ms");
    let (percentile, limit) = text.split_once('<').ok_or_else(bad)?;
    let percentile = percentile.trim().strip_prefix('p').ok_or_else(bad)?;
    let percentile: f64 = percentile.parse().map_err(|_| bad())?;
    let limit = limit.trim();
    let digits = limit
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .ok_or_else(bad)?;
    let (number, unit) = limit.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let unit_ns = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(bad()),
    };
    let limit_ns = (number * unit_ns) as u64;
    if !(percentile > 0.0 && percentile < 100.0) || limit_ns == 0 {
        return Err(bad());
    }
    Ok(Objective {
        percentile,
        limit_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_may_have_ports_and_be_of_version_6() {
        let named = |text: &str| -> Vec<String> {
            let found = servers(text, 11211).unwrap();
            found.iter().map(Address::to_string).collect()
        };
        assert_eq!(named("localhost"), ["localhost:11211"]);
        assert_eq!(named("a,b:1"), ["a:11211", "b:1"]);
        assert_eq!(named("::1,[::1]:7"), ["::1:11211", "::1:7"]);
        for bad in ["a,,b", "a:x", "[::1", "[::1]x"] {
            assert!(
                servers(bad, 1).unwrap_err().starts_with("--server"),
                "{bad}"
            );
        }
    }

    #[test]
    fn objectives_are_percentiles_below_times() {
        let objective = |text| objective(text).map(|one| (one.percentile, one.limit_ns));
        assert_eq!(objective("p99.9<1ms"), Ok((99.9, 1_000_000)));
        assert_eq!(objective("p50 < 250us"), Ok((50.0, 250_000)));
        assert_eq!(objective("p99<0.5s"), Ok((99.0, 500_000_000)));
        for bad in [
            "p99", "99<1ms", "p100<1ms", "p99<1", "p99<0ms", "p99<1h", "p99<ms",
        ] {
            assert!(objective(bad).unwrap_err().starts_with("--search"), "{bad}");
        }
    }

    #[test]
    fn sweeps_are_steps_or_lists() {
        assert_eq!(sweep("10:30:10"), Ok(vec![10.0, 20.0, 30.0]));
        assert_eq!(sweep("0.1:0.3:0.1").unwrap().len(), 3);
        assert_eq!(sweep("5,7"), Ok(vec![5.0, 7.0]));
        for bad in ["", "1:2", "3:1:1", "1:2:0", "1,x", "1:1000000:1"] {
            assert!(sweep(bad).unwrap_err().starts_with("--sweep"), "{bad}");
        }
    }

    #[test]
    fn verbs_have_weights() {
        let Mix::Weights(list) = ops("get:80,set:15,mget10:5").unwrap() else {
            panic!()
        };
        let found: Vec<_> = list
            .iter()
            .map(|one| (one.kind, one.key_count, one.weight))
            .collect();
        let expected = [(Kind::Get, 1, 80), (Kind::Set, 1, 15), (Kind::Get, 10, 5)];
        assert_eq!(found, expected);
        for bad in ["get", "get:x", "fetch:1", "mget:1", "mget0:1", "get:0"] {
            assert!(ops(bad).unwrap_err().starts_with("--ops"), "{bad}");
        }
    }
}
