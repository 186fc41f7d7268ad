//! A plan out of the options: where, how fast, how long, and how replies are looked at.
//!
//! Always true: a plan that is made can be carried out on this machine's memory, because every
//! number that decides how much is held at once is checked against its bound here.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::words::{self, above_zero, at_most, rate, seconds};
use super::{Args, ArrivalArg, IoArg, VerifyArg, WaitArg};
use crate::client::{Dialect, Verify};
use crate::kind::Kind;
use crate::placement::Distribution;
use crate::plan::{
    CONNECTIONS_MAX, Io, Length, OPEN_DEPTH, OUTSTANDING_MAX, Pace, Plan, SILENCE, THREADS_MAX,
};
use crate::schedule::Arrival;
use crate::transport::{Address, Family, tls};
use crate::windows::WINDOWS_MAX;
use crate::workload::preset::{self, Preset};
use crate::workload::{Pattern, Trace, Workload};

/// Requests of each client when neither a number nor a time is given, as memtier does.
const REQUESTS_DEFAULT: u64 = 10_000;

impl Args {
    /// Checks everything and makes the plan; the error is a sentence naming the option.
    pub fn plan(&self) -> Result<Plan, String> {
        let preset = self.preset()?;
        let dialect = match self.protocol.as_str() {
            "memcache_text" => Dialect::Classic,
            "memcache_meta" => Dialect::Meta,
            other => {
                return Err(format!(
                    "--protocol: {other} is not spoken here; there are memcache_text and memcache_meta"
                ));
            }
        };
        let distribution = Distribution::named(&self.distribution).ok_or_else(|| {
            format!(
                "--distribution: {:?} is neither ketama nor modula",
                self.distribution
            )
        })?;
        let addresses = match &self.unix_socket {
            Some(path) => vec![Address::Unix(path.clone())],
            None => words::servers(&self.server, self.port)?,
        };
        let tls = self.tls(&addresses)?;
        let threads = self.threads.or(preset.threads).unwrap_or(4);
        let connections = self.clients.or(preset.clients).unwrap_or(50);
        above_zero("--threads", threads)?;
        above_zero("--clients", connections)?;
        at_most("--threads", threads, THREADS_MAX)?;
        let client_count = threads.saturating_mul(connections);
        let connection_count = client_count.saturating_mul(addresses.len());
        at_most("--clients", connection_count, CONNECTIONS_MAX)?;
        let trace = match &self.trace {
            None => None,
            Some(path) => {
                let trace = Trace::open(path).map_err(|sentence| format!("--trace: {sentence}"))?;
                Some(Arc::new(trace))
            }
        };
        let workload = self.workload(&preset, trace.as_ref())?;
        let keys_per_get = workload.mix.keys_per_get() as usize;
        let depth_max = OUTSTANDING_MAX / keys_per_get / connection_count;
        if depth_max == 0 {
            return Err(format!(
                "--multi-key-get: {keys_per_get} keys on each of {connection_count} connections \
                 are more than {OUTSTANDING_MAX}"
            ));
        }
        let (length, pace) =
            self.length_and_pace(&preset, &workload, trace.as_ref(), client_count, depth_max)?;
        let warmup = seconds("--warmup", self.warmup)?;
        if !warmup.is_zero() && !matches!(length, Length::Time(_)) {
            return Err(
                "--warmup: needs --test-time, because a number of requests has no warm part".into(),
            );
        }
        let window = self.window(length, pace)?;
        let expect_hits = self.expect_hits.or(preset.expect_hits);
        if let Some(ratio) = expect_hits
            && !(0.0..=1.0).contains(&ratio)
        {
            return Err(format!("--expect-hits: {ratio} is not between 0 and 1"));
        }
        let reads = |kind: &Kind| kind.reads() && workload.occurs(*kind);
        if self.expect_hits.is_some() && !Kind::ALL.iter().any(reads) {
            return Err("--expect-hits: nothing is read, so nothing can be hit".into());
        }
        let verify = match (self.data_verify, self.verify) {
            (true, VerifyArg::Nothing) => {
                return Err("--data-verify: contradicts --verify nothing".into());
            }
            (true, _) | (_, VerifyArg::All) => Verify::Everything,
            (_, VerifyArg::Sampled) => Verify::Sampled,
            (_, VerifyArg::Nothing) => Verify::Nothing,
        };
        // As memtier has it, 0 is no limit.
        let connect_timeout = match self.connection_timeout {
            None | Some(0.0) => None,
            Some(time) => Some(seconds("--connection-timeout", time)?),
        };
        let silence = match self.silence {
            None => SILENCE,
            Some(0.0) => return Err("--silence: must be above 0".into()),
            Some(time) => seconds("--silence", time)?,
        };
        Ok(Plan {
            addresses,
            distribution,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Family::V4,
                (_, true) => Family::V6,
                _ => Family::Any,
            },
            tls,
            connect_timeout,
            // As memtier has it, 0 is never.
            reconnect_interval: self.reconnect_interval.filter(|&interval| interval > 0),
            dialect,
            threads,
            connections,
            pace,
            length,
            warmup,
            window,
            per_connection: self.per_connection || preset.per_connection,
            workload,
            trace_speed: self.trace_speed.unwrap_or(1.0),
            seed: if self.randomize {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.unwrap_or(Duration::ZERO).as_nanos() as u64
            } else {
                self.seed
            },
            distinct_seeds: self.distinct_client_seed,
            fill: self.fill,
            expect_hits,
            verify,
            pin: self.pin,
            io: match self.io {
                IoArg::Auto => Io::Auto,
                IoArg::Uring => Io::Uring,
                IoArg::Epoll => Io::Epoll,
            },
            looks: matches!(self.wait, WaitArg::Look),
            silence,
        })
    }

    fn window(&self, length: Length, pace: Pace) -> Result<Option<Duration>, String> {
        let Some(window) = self.window else {
            return Ok(None);
        };
        let window = seconds("--window", window)?;
        let (Length::Time(time), Pace::Open { .. }) = (length, pace) else {
            return Err("--window: needs an open loop; see --rate".into());
        };
        let most = WINDOWS_MAX as u128;
        match time.as_nanos().checked_div(window.as_nanos()) {
            Some(count) if (1..=most).contains(&count) => Ok(Some(window)),
            _ => Err(format!(
                "--window: {window:?} does not go into {time:?} once to {most} times"
            )),
        }
    }

    fn tls(&self, addresses: &[Address]) -> Result<Option<tls::Setup>, String> {
        let wanted = tls::Wanted {
            cert: self.cert.clone(),
            key: self.key.clone(),
            cacert: self.cacert.clone(),
            skip_verify: self.tls_skip_verify,
            protocols: self.tls_protocols.clone(),
            sni: self.sni.clone(),
        };
        if !self.tls {
            return match wanted == tls::Wanted::default() {
                true => Ok(None),
                false => Err("--tls: has to be given for --cert, --key, --cacert, --tls-skip-verify, --tls-protocols or --sni to mean anything".into()),
            };
        }
        let host = |address: &'_ Address| match address {
            Address::Tcp(host, _) => Ok(host.clone()),
            Address::Unix(_) => Err("--tls: is not for a unix socket".to_owned()),
        };
        let hosts: Vec<String> = addresses.iter().map(host).collect::<Result<_, _>>()?;
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        tls::Setup::new(&wanted, &hosts).map(Some)
    }

    fn preset(&self) -> Result<Preset, String> {
        if let Some(name) = &self.preset {
            return preset::named(name).ok_or_else(|| {
                format!(
                    "--preset: there is no {name:?}; there are {}",
                    preset::names()
                )
            });
        }
        if let Some(path) = &self.workload {
            let name = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("--workload: {name}: {error}"))?;
            return preset::file(&text).map_err(|error| format!("--workload: {name}: {error}"));
        }
        Ok(Preset::default())
    }

    fn length_and_pace(
        &self,
        preset: &Preset,
        workload: &Workload,
        trace: Option<&Arc<Trace>>,
        client_count: usize,
        depth_max: usize,
    ) -> Result<(Length, Pace), String> {
        let length = self.length(workload, trace.is_some(), client_count)?;
        let paced_by = [
            ("--rate", self.rate.is_some()),
            ("--rate-limiting", self.rate_limiting.is_some()),
            ("--trace-speed", self.trace_speed.is_some()),
            ("--sweep", self.sweep.is_some()),
            ("--search", self.search.is_some()),
        ];
        let paced_by = paced_by.into_iter().find(|(_, given)| *given);
        let open = paced_by.is_some();
        if self.trace_speed.is_some() && trace.is_none() {
            return Err("--trace-speed: needs --trace, whose speed it is".into());
        }
        let depth = match (self.pipeline, open) {
            (Some(depth), _) => depth,
            (None, true) => OPEN_DEPTH.min(depth_max),
            (None, false) => preset.depth.unwrap_or(1),
        };
        above_zero("--pipeline", depth)?;
        if depth > depth_max {
            return Err(format!(
                "--pipeline: {depth} is above {depth_max}, beyond which all connections together \
                 would have more than {OUTSTANDING_MAX} keys outstanding"
            ));
        }
        if !open {
            if self.arrival.is_some() {
                return Err(
                    "--arrival: a closed loop sends when it has a reply; see --rate".into(),
                );
            }
            return Ok((length, Pace::Closed { depth }));
        }
        if let (Some(speed), Some(trace)) = (self.trace_speed, trace) {
            if !(speed.is_finite() && speed > 0.0) {
                return Err(format!("--trace-speed: {speed} is not above 0"));
            }
            return Ok((
                length,
                Pace::Open {
                    rate: trace.rate() * speed,
                    depth,
                    arrival: Arrival::Recorded,
                },
            ));
        }
        let arrival = match (self.arrival, self.rate_limiting) {
            (Some(ArrivalArg::Constant), _) | (None, Some(_)) => Arrival::Constant,
            _ => Arrival::Poisson,
        };
        let all = match (self.rate, self.rate_limiting) {
            (Some(_), Some(_)) => {
                return Err("--rate: contradicts --rate-limiting, which is per connection".into());
            }
            (Some(all), None) => rate("--rate", all)?,
            (None, Some(each)) => {
                rate("--rate-limiting", each)?;
                rate("--rate-limiting", each * client_count as f64)?
            }
            // A sweep or a search sets the rate of each of its runs.
            (None, None) => 1.0,
        };
        let length = match length {
            // As long as that many requests of each client take at their rate.
            Length::Requests(requests) if self.rate_limiting.is_some() => {
                let time = requests as f64 * client_count as f64 / all;
                Length::Time(seconds("--rate-limiting", time)?)
            }
            Length::Requests(_) => {
                let option = paced_by.map_or("--rate", |(option, _)| option);
                return Err(format!("{option}: needs --test-time, for how long to send"));
            }
            length => length,
        };
        Ok((
            length,
            Pace::Open {
                rate: all,
                depth,
                arrival,
            },
        ))
    }

    fn length(
        &self,
        workload: &Workload,
        traced: bool,
        client_count: usize,
    ) -> Result<Length, String> {
        if let Some(time) = self.test_time {
            let time = seconds("--test-time", time)?;
            if time.is_zero() {
                return Err("--test-time: must be above 0".into());
            }
            return Ok(Length::Time(time));
        }
        let requests = match self.requests.as_deref() {
            None if traced => return Ok(Length::Trace),
            None => REQUESTS_DEFAULT,
            // Together once: as many as the longest part of the range has.
            Some("allkeys") if workload.set_pattern == Pattern::Parallel => {
                workload.keys.count().div_ceil(client_count as u64)
            }
            Some("allkeys") => workload.keys.count(),
            Some(number) => number
                .parse()
                .map_err(|_| format!("--requests: {number:?} is neither a number nor allkeys"))?,
        };
        if requests == 0 {
            return Err("--requests: must be above 0".into());
        }
        Ok(Length::Requests(requests))
    }
}
