//! Commands that look after a server: which words they take, and what refuses the others. What is expected is what memcached
//! 1.6.45 does with the same bytes.

use strata_protocol::{
    ClientError, ClockStep, CrawlScope, CrawlerOrder, Parser, Request, Step, WatchKinds,
};

fn step(line: &str) -> Step<'_> {
    let (used, step) = Parser::new().next(line.as_bytes());
    assert_eq!(used, line.len(), "{line:?}");
    step
}

#[track_caller]
fn request(line: &str) -> Request<'_> {
    match step(line) {
        Step::Request(request) => request,
        other => panic!("{line:?} is {other:?}"),
    }
}

#[track_caller]
fn refused(line: &str, error: ClientError) {
    let expected = Step::Invalid {
        error: Some(error),
        skip: 0,
    };
    assert_eq!(step(line), expected, "{line:?}");
    let silent = format!("{} noreply\r\n", line.trim_end());
    if let Step::Invalid { error, .. } = step(&silent) {
        assert_eq!(error, None, "{silent:?}");
    }
}

#[test]
fn a_watcher_names_kinds_by_their_beginning() {
    let kinds = |line| match request(line) {
        Request::Watch { kinds } => kinds,
        other => panic!("{line:?} is {other:?}"),
    };
    assert_eq!(kinds("watch\r\n"), WatchKinds::FETCHERS);
    assert_eq!(kinds("watch e\r\n"), WatchKinds::EVICTIONS);
    assert_eq!(kinds("watch proxyreqs\r\n"), WatchKinds::NONE);
    let both = WatchKinds::MUTATIONS.and(WatchKinds::DELETIONS);
    assert_eq!(kinds("watch mutations deletions\n"), both);
    assert!(both.meets(WatchKinds::DELETIONS) && !both.meets(WatchKinds::FETCHERS));
    for line in ["watch foo\r\n", "watch fetchers foo\r\n", "  watch\r\n"] {
        refused(line, ClientError::UnknownCommand);
    }
}

#[test]
fn the_crawler_counts_its_words() {
    fn order(line: &str) -> CrawlerOrder {
        match request(line) {
            Request::Crawler { order, .. } => order,
            other => panic!("{line:?} is {other:?}"),
        }
    }
    assert_eq!(order("lru_crawler e\r\n"), CrawlerOrder::Enable);
    assert_eq!(order("  lru_crawler disable\r\n"), CrawlerOrder::Disable);
    let all = CrawlScope::Classes(u64::MAX);
    assert_eq!(
        order("lru_crawler metadump all\r\n"),
        CrawlerOrder::Metadump(all)
    );
    assert_eq!(
        order("lru_crawler mgdump hash\r\n"),
        CrawlerOrder::Mgdump(CrawlScope::Hash)
    );
    let some = CrawlScope::Classes(0b110);
    assert_eq!(
        order("lru_crawler crawl 1,2\r\n"),
        CrawlerOrder::Crawl(some)
    );
    for list in ["99", "0", "x", "1,x"] {
        let line = format!("lru_crawler crawl {list}\r\n");
        assert_eq!(order(&line), CrawlerOrder::Crawl(CrawlScope::BadClass));
    }
    for line in ["lru_crawler sleep 100\r\n", "lru_crawler tocrawl 5\r\n"] {
        assert_eq!(request(line), Request::Moot { noreply: false });
    }
    refused("lru_crawler sleep 1000001\r\n", ClientError::CrawlerSleep);
    refused("lru_crawler sleep x\r\n", ClientError::BadFormat);
    refused("lru_crawler tocrawl x\r\n", ClientError::BadFormat);
    for words in ["", " metadump", " metadump all more", " foo", " foo 1"] {
        refused(
            &format!("lru_crawler{words}\r\n"),
            ClientError::UnknownCommand,
        );
    }
}

#[test]
fn orders_to_parts_that_only_memcached_has_are_checked() {
    for line in [
        "slabs automove 1",
        "slabs automove ratio 0.5",
        "slabs automove freeratio 0.5",
        "slabs automove window 5",
        "extstore item_size 100",
        "extstore max_frag 0.5",
        "extstore free_memchunks 1 2",
        "extstore drop_unread 1",
        "lru tune 10 25 0.1 2.0",
        "lru mode flat",
        "lru temp_ttl -1",
    ] {
        let loud = format!("{line}\r\n");
        assert_eq!(request(&loud), Request::Moot { noreply: false }, "{line}");
    }
    let noreply = request("slabs automove 1 noreply\r\n");
    assert_eq!(noreply, Request::Moot { noreply: true });
    let reassign = Request::SlabsReassign {
        from: -1,
        to: 2,
        noreply: false,
    };
    assert_eq!(request("slabs reassign -1 2\r\n"), reassign);
    refused("slabs reassign x 2\r\n", ClientError::BadFormat);
    refused("slabs automove x\r\n", ClientError::BadFormat);
    refused("slabs automove window\r\n", ClientError::BadFormat);
    refused("slabs automove window 2\r\n", ClientError::AutomoveWindow);
    refused("lru tune 50 40 0.1 2\r\n", ClientError::LruPercents);
    refused("lru tune 10 10 0 2\r\n", ClientError::LruFactors);
    for line in [
        "slabs",
        "slabs foo",
        "slabs automove",
        "slabs automove 3",
        "slabs automove ratio x",
        "slabs reassign 1",
        "extstore",
        "extstore foo 1",
        "extstore item_size x",
        "lru",
        "lru x",
        "lru tune 10",
        "lru mode x",
        "lru temp_ttl x",
        "debugtime",
        "debugtime x",
    ] {
        refused(&format!("{line}\r\n"), ClientError::UnknownCommand);
    }
    assert_eq!(request("refresh_certs noreply\r\n"), Request::RefreshCerts);
    let step = ClockStep::Forward(5);
    let moved = Request::DebugTime {
        step,
        noreply: false,
    };
    assert_eq!(request("debugtime 5\r\n"), moved);
}
