//! The names that options have in a file and in the environment.
//!
//! Always true: the command line is the one list of options; a key is the long name of an option with
//! `_` for `-`, or the name of one of `-o`, and every option that changes how the server runs has one.

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::{Args, extended};

/// How options begin in the environment.
pub(super) const ENVIRONMENT_PREFIX: &str = "STRATA_";

/// Options that say what to do instead of serving, or where to read further options.
const NO_KEYS: [&str; 4] = ["config", "print-config", "extended", "license"];

/// Names of ElastiCache's parameter groups for what has another name here. Those that are the same are
/// not repeated.
const ALIASES: [(&str, &str); 10] = [
    ("backlog_queue_limit", "listen_backlog"),
    ("binding_protocol", "protocol"),
    ("cas_disabled", "disable_cas"),
    ("chunk_size", "slab_min_size"),
    ("chunk_size_growth_factor", "slab_growth_factor"),
    ("error_on_memory_exhausted", "disable_evictions"),
    ("large_memory_pages", "enable_largepages"),
    ("lock_down_paged_memory", "lock_memory"),
    ("max_simultaneous_connections", "conn_limit"),
    ("requests_per_event", "max_reqs_per_event"),
];

/// Below this two names have nothing to do with each other.
const SIMILAR_MIN: f64 = 0.7;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// True or false.
    Switch,
    /// How often the flag would stand there.
    Count,
    /// Any number of values.
    List,
    /// One value.
    One,
}

/// An option that has a name.
#[derive(Debug)]
pub(super) struct Key {
    pub name: String,
    pub kind: Kind,
    /// The flag, unless it is an option of `-o`.
    pub flag: Option<Flag>,
}

/// What is known of a flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// What clap calls it.
    pub id: String,
    /// Its long name.
    pub long: String,
    /// What holds without it, if that is one value.
    pub default: Option<String>,
    /// What the help says of it; nothing of one that is for tests.
    pub help: Option<String>,
}

/// All of them.
pub(super) struct Keys {
    list: Vec<Key>,
}

impl Keys {
    pub fn new() -> Self {
        let flags = Args::command();
        let flags = flags.get_arguments().filter_map(flag_key);
        let options = extended::names().map(|(name, switch)| Key {
            name: name.to_owned(),
            kind: if switch { Kind::Switch } else { Kind::One },
            flag: None,
        });
        Self {
            list: flags.chain(options).collect(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.list.iter()
    }

    /// The option of this name.
    ///
    /// # Errors
    /// That there is none, with the nearest as `written` would write it.
    pub fn find(&self, name: &str, written: fn(&str) -> String) -> Result<&Key, String> {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
        let wanted = alias.map_or(name, |(_, key)| *key);
        self.list
            .iter()
            .find(|key| key.name == wanted)
            .ok_or_else(|| match self.nearest(name) {
                Some(nearest) => {
                    format!(
                        "there is no such option; did you mean {}?",
                        written(nearest)
                    )
                }
                None => "there is no such option".into(),
            })
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let names = self.list.iter().map(|key| key.name.as_str());
        let aliases = ALIASES.iter().map(|(alias, _)| *alias);
        names
            .chain(aliases)
            .map(|known| (strsim::jaro(name, known), known))
            .filter(|(similarity, _)| *similarity > SIMILAR_MIN)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, known)| known)
    }
}

fn flag_key(arg: &Arg) -> Option<Key> {
    let long = arg.get_long().filter(|long| !NO_KEYS.contains(long))?;
    let kind = match arg.get_action() {
        ArgAction::SetTrue => Kind::Switch,
        ArgAction::Count => Kind::Count,
        ArgAction::Append => Kind::List,
        ArgAction::Set => Kind::One,
        _ => return None,
    };
    let default = match kind {
        Kind::Switch => Some("false".into()),
        Kind::Count => Some("0".into()),
        Kind::List => None,
        Kind::One => match arg.get_default_values() {
            [only] => Some(only.to_string_lossy().into_owned()),
            _ => None,
        },
    };
    Some(Key {
        name: long.replace('-', "_"),
        kind,
        flag: Some(Flag {
            id: arg.get_id().to_string(),
            long: long.to_owned(),
            default,
            help: match arg.is_hide_set() {
                true => None,
                false => arg.get_help().map(ToString::to_string),
            },
        }),
    })
}

/// Lets every switch be turned off again, as in `--disable-cas=false`: else a flag could not go before a
/// file that turns it on.
pub(super) fn with_switches(command: Command) -> Command {
    command.mut_args(|arg| {
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        if !is_switch || flag_key(&arg).is_none() {
            return arg;
        }
        arg.action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("BOOL")
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_one_name_and_every_alias_is_in_the_guide() {
        let keys = Keys::new();
        let mut names: Vec<&str> = keys.iter().map(|key| &key.name[..]).collect();
        names.extend(ALIASES.map(|(alias, _)| alias));
        names.sort_unstable();
        for pair in names.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        let guide = include_str!("../../README.md");
        for (alias, name) in ALIASES {
            let key = keys.find(alias, str::to_owned).expect(alias);
            assert_eq!(key.name, name);
            let row = format!("| `{alias}` | `{name}` |");
            assert!(guide.contains(&row), "the guide lacks {row}");
        }
    }

    #[test]
    fn only_what_ends_the_start_has_no_name() {
        let keys = Keys::new();
        let command = Args::command();
        let longs = command.get_arguments().filter_map(Arg::get_long);
        let nameless: Vec<&str> = longs
            .filter(|long| keys.find(&long.replace('-', "_"), str::to_owned).is_err())
            .collect();
        let expected = [
            "extended",
            "config",
            "print-config",
            "license",
            "version",
            "help",
        ];
        assert_eq!(nameless, expected);
    }
}
