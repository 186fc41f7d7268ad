//! A workload out of the options and the preset beneath them: keys, sizes, lives, mix, patterns.
//!
//! Always true: what an option says wins over the preset, and what neither says is as memtier has
//! it.

use std::sync::Arc;

use strata_protocol::KEY_MAX_BYTES;

use super::Args;
use super::words::{self, range};
use crate::workload::preset::Preset;
use crate::workload::{Amount, FRESH_DIGITS, KeySpace, Mix, Pattern, Spread, Trace, Workload};

/// Largest value a memcached can be told to take.
const VALUE_BYTES_MAX: u32 = 1 << 30;

/// Most keys on one get.
const KEYS_PER_GET_MAX: u32 = 1 << 16;

impl Args {
    pub(super) fn workload(
        &self,
        preset: &Preset,
        trace: Option<&Arc<Trace>>,
    ) -> Result<Workload, String> {
        if let Some(trace) = trace {
            return Ok(Workload {
                keys: KeySpace::listed(trace.texts()),
                set_pattern: Pattern::Uniform,
                get_pattern: Pattern::Uniform,
                mix: Mix::Recorded(Arc::clone(trace)),
                sizes: Amount::Fixed(0),
                lives: Amount::Fixed(0),
                fresh_share: 0.0,
                set_on_miss: self.set_on_miss,
            });
        }
        let keys = self.keys(preset)?;
        let sizes = self.sizes(preset, &keys)?;
        let (set_pattern, get_pattern) = self.patterns(preset, &keys)?;
        let lives = match &self.expiry_range {
            Some(text) => {
                let (least, most) = range("--expiry-range", text)?;
                if least == most {
                    Amount::Fixed(least)
                } else {
                    Amount::Drawn(Spread::Range(least, most))
                }
            }
            None => preset.lives.clone().unwrap_or(Amount::Fixed(0)),
        };
        Ok(Workload {
            keys,
            set_pattern,
            get_pattern,
            mix: self.mix(preset)?,
            sizes,
            lives,
            fresh_share: preset.fresh_share,
            set_on_miss: self.set_on_miss || preset.set_on_miss,
        })
    }

    fn keys(&self, preset: &Preset) -> Result<KeySpace, String> {
        let prefix = self
            .key_prefix
            .clone()
            .or_else(|| preset.key_prefix.clone());
        let prefix = prefix.unwrap_or_else(|| "memtier-".into());
        let minimum = self.key_minimum.or(preset.key_minimum).unwrap_or(0);
        let maximum = match (self.key_maximum, preset.key_maximum) {
            (Some(maximum), _) => maximum,
            (None, Some(maximum)) => maximum.max(minimum),
            (None, None) => 10_000_000,
        };
        if minimum > maximum && self.key_minimum.is_none() {
            return Err(format!(
                "--key-maximum: {maximum} is below {minimum}, where the keys of the preset begin; \
                 say --key-minimum too"
            ));
        }
        // One index beyond the last is counted with.
        if maximum == u64::MAX {
            return Err(format!("--key-maximum: {maximum} is above {}", maximum - 1));
        }
        if minimum > maximum {
            return Err(format!(
                "--key-minimum: {minimum} is above --key-maximum {maximum}"
            ));
        }
        let digits = maximum.to_string().len();
        let digits = if preset.fresh_share > 0.0 {
            digits.max(FRESH_DIGITS)
        } else {
            digits
        };
        let key_bytes = prefix.len() + digits;
        if key_bytes > KEY_MAX_BYTES {
            return Err(format!(
                "--key-prefix: keys would have up to {key_bytes} bytes and memcached takes {KEY_MAX_BYTES}"
            ));
        }
        if prefix.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(
                "--key-prefix: spaces and control characters cannot be part of a key".into(),
            );
        }
        Ok(KeySpace::new(&prefix, minimum, maximum))
    }

    fn sizes(&self, preset: &Preset, keys: &KeySpace) -> Result<Amount, String> {
        let spread = match (&self.data_size_range, &self.data_size_list) {
            (Some(text), _) => {
                let (least, most) = range("--data-size-range", text)?;
                Some(Spread::Range(least, most))
            }
            (_, Some(text)) => Some(words::weighted_list("--data-size-list", text)?),
            _ => None,
        };
        let sizes = match (spread, self.data_size_pattern.as_str()) {
            (None, "R" | "S") => match self.data_size {
                Some(bytes) => Amount::Fixed(bytes),
                None => preset.sizes.clone().unwrap_or(Amount::Fixed(32)),
            },
            (Some(spread), "R") => Amount::Drawn(spread),
            (Some(spread), "S") => Amount::Growing(spread, keys.minimum(), keys.count()),
            (_, other) => {
                return Err(format!("--data-size-pattern: {other:?} is neither R nor S"));
            }
        };
        if sizes.most() > VALUE_BYTES_MAX {
            return Err(format!(
                "--data-size: {} is above the {VALUE_BYTES_MAX} any memcached takes",
                sizes.most()
            ));
        }
        Ok(sizes)
    }

    fn mix(&self, preset: &Preset) -> Result<Mix, String> {
        if let Some(text) = &self.ops {
            return words::ops(text);
        }
        let keys_per_get = match self.multi_key_get {
            Some(count) if count > KEYS_PER_GET_MAX => {
                return Err(format!(
                    "--multi-key-get: {count} is above {KEYS_PER_GET_MAX}"
                ));
            }
            // As memtier has it, 0 is one key.
            Some(count) => Some(count.max(1)),
            None => None,
        };
        match (&self.ratio, &preset.mix) {
            (None, Some(mix)) => match (mix.clone(), keys_per_get) {
                (Mix::Ratio { sets, gets, .. }, Some(keys_per_get)) => Ok(Mix::Ratio {
                    sets,
                    gets,
                    keys_per_get,
                }),
                (_, Some(_)) => {
                    Err("--multi-key-get: the preset has verbs of its own; see --ops".into())
                }
                (mix, None) => Ok(mix),
            },
            (ratio, _) => {
                let text = ratio.as_deref().unwrap_or("1:10");
                let (sets, gets) = words::pair("--ratio", text, ':')?;
                if sets == 0 && gets == 0 {
                    return Err("--ratio: 0:0 asks for nothing".into());
                }
                Ok(Mix::Ratio {
                    sets,
                    gets,
                    keys_per_get: keys_per_get.unwrap_or(1),
                })
            }
        }
    }

    fn patterns(&self, preset: &Preset, keys: &KeySpace) -> Result<(Pattern, Pattern), String> {
        let text = self
            .key_pattern
            .as_deref()
            .or(preset.key_pattern.as_deref());
        let text = text.unwrap_or("R:R");
        let bad = || {
            format!(
                "--key-pattern: {text:?} is not two letters of R, S, G, Z, P, Y, L with a colon between"
            )
        };
        let (set, get) = text.split_once(':').ok_or_else(bad)?;
        if get == "L" {
            if set != "P" {
                return Err("--key-pattern: L reads what P writes, as in P:L".into());
            }
        } else if set == "L" {
            return Err("--key-pattern: L is for reads, as in P:L".into());
        } else if (set == "P") != (get == "P") {
            return Err("--key-pattern: P must stand on both sides".into());
        }
        if let Some(exponent) = self.key_zipf_exp
            && !(exponent > 0.0 && exponent < 5.0)
        {
            return Err(format!("--key-zipf-exp: {exponent} is not between 0 and 5"));
        }
        for (option, given) in [
            ("--key-median", self.key_median.is_some()),
            ("--key-stddev", self.key_stddev.is_some()),
        ] {
            if given && set != "G" && get != "G" {
                return Err(format!(
                    "{option}: is of the Gaussian, and --key-pattern is {text}"
                ));
            }
        }
        let exponent = self.key_zipf_exp.or(preset.zipf_exponent).unwrap_or(1.0);
        let pattern = |letter: &str| match letter {
            "R" => Ok(Pattern::Uniform),
            "S" => Ok(Pattern::Sequential),
            "P" => Ok(Pattern::Parallel),
            "G" => self.gauss(keys),
            "Z" => Ok(Pattern::Zipf { exponent }),
            "Y" => Ok(Pattern::Scrambled { exponent }),
            "L" => Ok(Pattern::Latest { exponent }),
            _ => Err(bad()),
        };
        Ok((pattern(set)?, pattern(get)?))
    }

    fn gauss(&self, keys: &KeySpace) -> Result<Pattern, String> {
        let (minimum, maximum) = (keys.minimum() as f64, keys.maximum() as f64);
        let median = self.key_median.unwrap_or((minimum + maximum) / 2.0);
        let deviation = self
            .key_stddev
            .unwrap_or(((maximum - minimum) / 6.0).max(1.0));
        // A centre outside the range would have every draw drawn again.
        if !(minimum..=maximum).contains(&median) {
            return Err(format!("--key-median: {median} is not one of the keys"));
        }
        if !deviation.is_finite() || deviation <= 0.0 {
            return Err(format!("--key-stddev: {deviation} is not above 0"));
        }
        Ok(Pattern::Gauss { median, deviation })
    }
}
