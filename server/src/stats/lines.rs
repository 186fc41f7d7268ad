//! Parts of a table that several workers send as text: a name and four numbers a line. Statistics
//! are rare, so adding them up may allocate.

use std::collections::BTreeMap;

/// Adds up the lines of the same name.
pub(crate) fn sum(text: &[u8]) -> BTreeMap<Vec<u8>, [u64; 4]> {
    let mut sums: BTreeMap<Vec<u8>, [u64; 4]> = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ');
        let Some(name) = words.next().filter(|name| !name.is_empty()) else {
            continue;
        };
        let counts = sums.entry(name.to_vec()).or_default();
        for (count, word) in counts.iter_mut().zip(words) {
            let word = std::str::from_utf8(word).unwrap_or_default();
            *count += word.parse::<u64>().unwrap_or(0);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_same_name_add_up() {
        let sums = sum(b"b 1 2 3 4\na 5 0 0 1\nb 10 20 30 40\n");
        let expected = [("a", [5, 0, 0, 1]), ("b", [11, 22, 33, 44])];
        let expected = expected.map(|(name, counts)| (name.as_bytes().to_vec(), counts));
        assert_eq!(sums.into_iter().collect::<Vec<_>>(), expected);
    }
}
