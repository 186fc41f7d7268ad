//! However the bytes are cut, a stream is the same requests, the same errors and the same number of bytes consumed.

mod stream;

use proptest::collection::vec;
use proptest::prelude::*;
use stream::run;

/// Pieces of lines, chosen so that most streams are nearly right.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static str> = vec![
        "get ",
        "gets ",
        "gat ",
        "gats ",
        "get",
        "set ",
        "add ",
        "cas ",
        "append ",
        "prepend ",
        "replace ",
        "delete ",
        "incr ",
        "decr ",
        "touch ",
        "flush_all",
        "flush_prefix ",
        "verbosity ",
        "version",
        "stats",
        "stats ",
        "quit",
        "shutdown",
        "mn",
        "bogus",
        " noreply",
        "noreply",
        " HTTP/1.1",
        "key",
        "a",
        "b ",
        "0 ",
        "1 ",
        "-1 ",
        "0",
        "2",
        "99999999999",
        "x y z ",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\r\n",
        "\0",
        "\t",
        "set k 0 0 2\r\nhi\r\n",
        "get a b\r\n",
        "set k 1 2 3 noreply\r\nabc\r\n",
        "cas k 0 0 1 7\r\nz\r\n",
        "gat 10 a b\n",
        "mg ",
        "ms ",
        "md ",
        "ma ",
        "me ",
        "Zm9v ",
        "k b q ",
        "v t c",
        " T30 N0 ",
        "O123 ",
        "MA ",
        "mg k v\r\n",
        "ms k 2 T0\r\nhi\r\n",
        "ms k 2 Tx\r\nhi\r\n",
    ];
    prop_oneof![
        12 => prop::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        1 => (248usize..254).prop_map(|bytes| vec![b'k'; bytes]),
        1 => (1usize..2100).prop_map(|bytes| vec![b' '; bytes]),
        1 => (1usize..2100).prop_map(|bytes| vec![b'x'; bytes]),
        1 => (1usize..1100).prop_map(|times| b"k ".repeat(times)),
        1 => (1usize..120).prop_map(|times| b"a-longer-key-of-30-characters- ".repeat(times)),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

/// A retrieval line of every length around the limit, whose keys and spaces are mostly right.
fn retrieval_line() -> impl Strategy<Value = Vec<u8>> {
    let command = prop::sample::select(vec![
        "get ", "gets ", "gat 5 ", "gats -1 ", "gat x ", " get ", "get  ",
    ]);
    let key = prop_oneof![20 => 1usize..40, 1 => 240usize..253];
    let spaces = prop_oneof![20 => Just(1usize), 2 => 1usize..4, 1 => 1usize..2100];
    let end = prop::sample::select(vec!["\r\n", "\n", " \r\n", "\r\r\n", ""]);
    (command, vec((key, spaces), 0..160), end).prop_map(|(command, keys, end)| {
        let mut line = command.as_bytes().to_vec();
        for (key_bytes, spaces) in keys {
            line.extend(std::iter::repeat_n(b'k', key_bytes));
            line.extend(std::iter::repeat_n(b' ', spaces));
        }
        line.extend(end.as_bytes());
        line.extend(b"get after\r\n");
        line
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_give_what_the_whole_gives(stream in bytes(), pieces in vec(1usize..600, 0..60)) {
        prop_assert_eq!(run(&stream, pieces), run(&stream, []));
    }

    #[test]
    fn any_pieces_of_a_retrieval_line_give_what_the_whole_gives(stream in retrieval_line(), pieces in vec(1usize..900, 0..60)) {
        prop_assert_eq!(run(&stream, pieces), run(&stream, []));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn single_bytes_give_what_the_whole_gives(stream in prop_oneof![bytes(), retrieval_line()]) {
        prop_assert_eq!(run(&stream, std::iter::repeat_n(1, stream.len())), run(&stream, []));
    }

    #[test]
    fn every_cut_in_two_gives_what_the_whole_gives(stream in vec(piece(), 0..12).prop_map(|pieces| pieces.concat())) {
        let whole = run(&stream, []);
        for at in 1..stream.len() {
            prop_assert_eq!(&run(&stream, [at]), &whole, "cut at {}", at);
        }
    }
}

#[test]
fn the_edges_of_a_long_retrieval_line_survive_single_bytes() {
    let longest_key = "k".repeat(250);
    let streams = [
        // The last key is as long as it may be, and its line end arrives in two halves.
        format!("get {} {longest_key}\r\nmn\r\n", "key ".repeat(600)),
        format!(
            "get {} {longest_key}\r {longest_key}\r\nmn\r\n",
            "key ".repeat(600)
        ),
        // More spaces before the first key than any buffer needs to hold.
        format!("get {}key\r\nmn\r\n", " ".repeat(9000)),
        format!("gats 1{}key\r\nmn\r\n", " ".repeat(9000)),
    ];
    for stream in streams {
        let whole = run(stream.as_bytes(), []);
        assert_eq!(
            run(stream.as_bytes(), std::iter::repeat_n(1, stream.len())),
            whole
        );
        assert_eq!(whole.consumed, stream.len());
    }
}
