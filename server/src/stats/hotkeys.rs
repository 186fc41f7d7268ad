//! `stats hotkeys`: the keys asked for most. Strata's own; [`crate::hotkeys`] says how they are found.

use strata_protocol::reply::Sink;

use super::line;
use crate::config::{HOT_KEYS_KEPT, HOT_KEYS_TOLD, SAMPLE_EVERY};
use crate::hotkeys::ranking;

/// The lines, without the last: at most `limit` keys, or the usual number if that is 0.
pub(super) fn hotkeys(text: &[u8], limit: u32, out: &mut impl Sink) {
    let most = match limit {
        0 => HOT_KEYS_TOLD,
        limit => HOT_KEYS_KEPT.min(limit as usize),
    };
    let (sampled, list) = ranking(text, most);
    line(out, "sampled", sampled);
    line(out, "sampled_one_in", SAMPLE_EVERY);
    for (at, hot) in list.iter().enumerate() {
        let name = |what: &str| format!("{}:{what}", at + 1);
        line(out, &name("key"), &hot.key);
        line(out, &name("percent"), format_args!("{:.2}", hot.percent));
        let least = format_args!("{:.2}", hot.percent_least);
        line(out, &name("percent_least"), least);
        let writes = format_args!("{:.0}", hot.writes_percent);
        line(out, &name("writes_percent"), writes);
    }
}
