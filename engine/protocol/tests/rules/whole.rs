//! Commands about the whole server: which words they take.

use strata_protocol::{ClientError, DetailSwitch, Request, ShutdownMode, StatsSubject, Step};

use crate::{SILENT, invalid, only, request};

#[test]
fn flush_all_has_an_optional_exptime() {
    assert_eq!(
        request(b"flush_all\r\n"),
        Request::FlushAll {
            exptime: Some(0),
            noreply: false
        }
    );
    assert_eq!(
        request(b"  flush_all\r\n"),
        Request::FlushAll {
            exptime: Some(0),
            noreply: false
        }
    );
    assert_eq!(
        request(b"flush_all noreply\r\n"),
        Request::FlushAll {
            exptime: Some(0),
            noreply: true
        }
    );
    assert_eq!(
        request(b"flush_all -1\r\n"),
        Request::FlushAll {
            exptime: Some(-1),
            noreply: false
        }
    );
    assert_eq!(
        request(b"flush_all 10 20\r\n"),
        Request::FlushAll {
            exptime: Some(10),
            noreply: false
        }
    );
    assert_eq!(
        request(b"flush_all 10 noreply\r\n"),
        Request::FlushAll {
            exptime: Some(10),
            noreply: true
        }
    );
    for (line, noreply) in [
        (&b"flush_all x\r\n"[..], false),
        (b"flush_all x noreply\r\n", true),
    ] {
        let exptime = None;
        assert_eq!(request(line), Request::FlushAll { exptime, noreply });
    }
}

#[test]
fn flush_prefix_wants_a_prefix() {
    let longest = "p".repeat(250);
    for (words, prefix, noreply) in [
        ("flush_prefix user", "user", false),
        ("  flush_prefix user more words", "user", false),
        ("flush_prefix user noreply", "user", true),
        ("flush_prefix noreply", "noreply", false),
        (&*format!("flush_prefix {longest}"), &*longest, false),
    ] {
        let prefix = prefix.as_bytes();
        let line = format!("{words}\r\n");
        assert_eq!(
            request(line.as_bytes()),
            Request::FlushPrefix { prefix, noreply }
        );
    }
    let bad = |error| Step::Invalid {
        error: Some(error),
        skip: 0,
    };
    assert_eq!(only(b"flush_prefix\r\n"), bad(ClientError::UnknownCommand));
    let line = format!("flush_prefix {longest}p\r\n");
    assert_eq!(only(line.as_bytes()), bad(ClientError::BadFormat));
    let line = format!("flush_prefix {longest}p noreply\r\n");
    assert_eq!(only(line.as_bytes()), SILENT);
}

#[test]
fn cache_memlimit_wants_megabytes() {
    for (line, megabytes, noreply) in [
        (&b"cache_memlimit 8\r\n"[..], 8, false),
        (b"  cache_memlimit 1000000000\r\n", 1_000_000_000, false),
        (b"cache_memlimit 64 more words\r\n", 64, false),
        (b"cache_memlimit 64 noreply\r\n", 64, true),
    ] {
        assert_eq!(request(line), Request::MemoryLimit { megabytes, noreply });
    }
    for (words, error) in [
        ("7", ClientError::MemoryLimitTooSmall),
        ("0", ClientError::MemoryLimitTooSmall),
        ("1000000001", ClientError::MemoryLimitInBytes),
        ("4294967295", ClientError::MemoryLimitInBytes),
        ("4294967296", ClientError::UnknownCommand),
        ("-1", ClientError::UnknownCommand),
        ("64m", ClientError::UnknownCommand),
        ("", ClientError::UnknownCommand),
    ] {
        let line = format!("cache_memlimit {words}\r\n");
        assert_eq!(only(line.as_bytes()), invalid(error), "{words}");
        let line = format!("cache_memlimit {words} noreply\r\n");
        assert_eq!(only(line.as_bytes()), SILENT, "{words}");
    }
}

#[test]
fn verbosity_wants_a_level() {
    assert_eq!(
        request(b"verbosity 1\r\n"),
        Request::Verbosity {
            level: 1,
            noreply: false
        }
    );
    assert_eq!(
        request(b" verbosity 9 noreply\r\n"),
        Request::Verbosity {
            level: 9,
            noreply: true
        }
    );
    assert_eq!(only(b"verbosity\r\n"), invalid(ClientError::BadFormat));
    assert_eq!(only(b"verbosity -1\r\n"), invalid(ClientError::BadFormat));
    assert_eq!(only(b"verbosity noreply\r\n"), SILENT);
}

#[test]
fn shutdown_takes_any_prefix_of_graceful() {
    let shutdown = |mode, noreply| Request::Shutdown { mode, noreply };
    assert_eq!(
        request(b"shutdown\r\n"),
        shutdown(ShutdownMode::Immediate, false)
    );
    assert_eq!(
        request(b" shutdown graceful\r\n"),
        shutdown(ShutdownMode::Graceful, false)
    );
    assert_eq!(
        request(b"shutdown g\r\n"),
        shutdown(ShutdownMode::Graceful, false)
    );
    assert_eq!(
        request(b"shutdown gracefully\r\n"),
        shutdown(ShutdownMode::Unknown, false)
    );
    assert_eq!(
        request(b"shutdown graceful x\r\n"),
        shutdown(ShutdownMode::Unknown, false)
    );
    assert_eq!(
        request(b"shutdown noreply\r\n"),
        shutdown(ShutdownMode::Unknown, true)
    );
}

#[test]
fn stats_takes_prefixes_of_some_subjects() {
    let cases = [
        ("", StatsSubject::General),
        (" reset", StatsSubject::Reset),
        (" r", StatsSubject::Reset),
        (" settings", StatsSubject::Settings),
        (" s", StatsSubject::Settings),
        (" con x", StatsSubject::Conns),
        (" items", StatsSubject::Items),
        (" slabs", StatsSubject::Slabs),
        (" sizes", StatsSubject::Sizes),
        (" workers", StatsSubject::Workers),
        (" worker", StatsSubject::Unknown),
        (" item", StatsSubject::Unknown),
        (" slab", StatsSubject::Unknown),
        (" settingsx", StatsSubject::Unknown),
        (" noreply", StatsSubject::Unknown),
        (" detail on", StatsSubject::Detail(DetailSwitch::On)),
        (" detail of", StatsSubject::Detail(DetailSwitch::Off)),
        (" d d", StatsSubject::Detail(DetailSwitch::Dump)),
        (
            " cachedump 63 0",
            StatsSubject::Cachedump {
                class_id: 63,
                limit: 0,
            },
        ),
    ];
    for (words, subject) in cases {
        assert_eq!(
            request(format!("stats{words}\r\n").as_bytes()),
            Request::Stats(subject),
            "{words:?}"
        );
    }
    assert_eq!(only(b"stats detail\r\n"), invalid(ClientError::DetailUsage));
    assert_eq!(
        only(b"stats detail x\r\n"),
        invalid(ClientError::DetailUsage)
    );
    assert_eq!(only(b"stats c\r\n"), invalid(ClientError::CachedumpUsage));
    assert_eq!(
        only(b"stats cachedump 64 1\r\n"),
        invalid(ClientError::CachedumpClass)
    );
    assert_eq!(
        only(b"stats cachedump x 1\r\n"),
        invalid(ClientError::BadFormat)
    );
    assert_eq!(
        only(b"stats cachedump 64 x noreply\r\n"),
        invalid(ClientError::BadFormat)
    );
}
