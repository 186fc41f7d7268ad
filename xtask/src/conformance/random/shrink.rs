//! Makes a dialogue shorter for as long as it still shows a difference.

use super::dialogue::Dialogue;

/// How often a dialogue is played again at most.
const REPLAYS_MAX: usize = 1500;

/// The shortest dialogue that greed finds. `differs` plays one. Where commands must stay `whole`, only their number shrinks.
pub fn shrink(
    mut best: Dialogue,
    whole: bool,
    mut differs: impl FnMut(&Dialogue) -> bool,
) -> Dialogue {
    let mut replays = 0;
    let mut is_better = |candidate: &Dialogue| {
        replays += 1;
        replays <= REPLAYS_MAX && differs(candidate)
    };
    loop {
        let mut found = false;
        // Whole turns, then commands, from the end, because what follows the difference goes first.
        let mut at = best.turns.len();
        while at > 0 && best.turns.len() > 1 {
            at -= 1;
            let mut candidate = best.clone();
            candidate.turns.remove(at);
            if is_better(&candidate) {
                (best, found) = (candidate, true);
            }
        }
        for turn in 0..best.turns.len() {
            let mut at = best.turns[turn].commands.len();
            while at > 0 && best.turns[turn].commands.len() > 1 {
                at -= 1;
                let mut candidate = best.clone();
                candidate.turns[turn].commands.remove(at);
                if is_better(&candidate) {
                    (best, found) = (candidate, true);
                }
            }
            if best.turns[turn].cut.is_some() || best.turns[turn].connection != 0 {
                let mut candidate = best.clone();
                candidate.turns[turn].cut = None;
                candidate.turns[turn].connection = 0;
                if is_better(&candidate) {
                    (best, found) = (candidate, true);
                }
            }
        }
        for turn in 0..best.turns.len() {
            if whole {
                break;
            }
            for at in 0..best.turns[turn].commands.len() {
                while let Some(candidate) = best.turns[turn].commands[at]
                    .simpler()
                    .into_iter()
                    .find_map(|command| {
                        let mut candidate = best.clone();
                        candidate.turns[turn].commands[at] = command;
                        // What is shorter may ask for data that is not there.
                        candidate.odd = true;
                        is_better(&candidate).then_some(candidate)
                    })
                {
                    (best, found) = (candidate, true);
                }
            }
        }
        if !found {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::random::dialogue::{Command, Context, Stamp};
    use crate::conformance::random::draw::{Dialect, dialogue};

    fn bytes(dialogue: &Dialogue) -> Vec<u8> {
        let context = Context {
            stamp: Stamp(0),
            uniques: &[],
        };
        let commands = dialogue.turns.iter().flat_map(|turn| &turn.commands);
        commands
            .flat_map(|command: &Command| command.bytes(&context))
            .collect()
    }

    #[test]
    fn what_is_left_is_what_matters() {
        let matters =
            |dialogue: &Dialogue| bytes(dialogue).windows(6).any(|part| part == b"touch ");
        let mut rng = fastrand::Rng::with_seed(1);
        let long = std::iter::repeat_with(|| dialogue(&mut rng, Dialect::Classic, false))
            .find(|dialogue| dialogue.command_count() > 20 && matters(dialogue))
            .expect("one of them touches");
        let short = shrink(long, false, matters);
        assert_eq!(short.command_count(), 1);
        assert!(bytes(&short).len() < 20, "{}", bytes(&short).escape_ascii());
    }
}
