//! Commands that look after the server rather than after items.

use strata_protocol::{CrawlScope, CrawlerOrder};

use super::*;
use crate::session::DumpForm;

/// The one class of items there is.
const ITEM_CLASS: i32 = 1;

/// Classes that memcached would have, and be asked about, with its defaults.
const CLASSES_LIKELY: i32 = 39;

impl Worker {
    #[cold]
    pub(super) fn manage(&mut self, now: &Now, conn: ConnIndex, request: Request<'_>) {
        let (text, noreply) = match request {
            Request::Moot { noreply } => (reply::OK, noreply),
            Request::SlabsReassign { from, to, noreply } => {
                (slabs_reassign(from, to).wire(), noreply)
            }
            Request::DebugTime { step, noreply } => {
                let moved = self.shared.clock.is_some_and(|clock| clock.step(step));
                if moved {
                    // Whoever hears of it finds every worker in a tick that began later.
                    let text = if noreply { b"" } else { reply::OK };
                    self.ask_all(now, conn, Op::Attend, Question::Done(text));
                    return;
                }
                (reply::ERROR, noreply)
            }
            Request::RefreshCerts => {
                // The file system is waited for, as memcached does; whoever may send this may.
                let refreshed = match &self.shared.tls {
                    Some(tls) => tls.refresh(now.seconds.0),
                    None => Err("Error TLS not enabled".into()),
                };
                if let Err(sentence) = refreshed {
                    return self.write(conn, |out| {
                        out.put(sentence.as_bytes());
                        out.put(b"\r\n");
                    });
                }
                (reply::OK, false)
            }
            Request::Crawler { order, noreply } => {
                let form = match order {
                    CrawlerOrder::Metadump(scope) => Some((DumpForm::Meta, scope)),
                    CrawlerOrder::Mgdump(scope) => Some((DumpForm::Mg, scope)),
                    _ => None,
                };
                if let (true, Some((form, scope))) = (self.shared.crawler(), form) {
                    return self.dump(now, conn, form, scope);
                }
                (self.crawler(order), noreply)
            }
            Request::Watch { kinds } => return self.watch(now, conn, kinds),
            _ => (reply::ERROR, false),
        };
        if !noreply {
            self.answer(conn, text);
        }
    }

    fn crawler(&mut self, order: CrawlerOrder) -> &'static [u8] {
        match order {
            CrawlerOrder::Enable if self.shared.set_crawler(true) => {
                ClientError::CrawlerEnabled.wire()
            }
            CrawlerOrder::Enable => reply::OK,
            CrawlerOrder::Disable => {
                self.shared.set_crawler(false);
                reply::OK
            }
            _ if !self.shared.crawler() => ClientError::CrawlerDisabled.wire(),
            CrawlerOrder::Crawl(CrawlScope::BadClass) => ClientError::CrawlerClass.wire(),
            CrawlerOrder::Crawl(CrawlScope::Hash) => ClientError::CrawlerUnknown.wire(),
            CrawlerOrder::Crawl(CrawlScope::Classes(_)) if self.shared.dump_turn.is_taken() => {
                ClientError::CrawlerBusy.wire()
            }
            // Upkeep looks for what has expired all the time.
            CrawlerOrder::Crawl(CrawlScope::Classes(_)) => reply::OK,
            CrawlerOrder::Metadump(_) | CrawlerOrder::Mgdump(_) => {
                panic!("a dump that is allowed is no order to be answered at once")
            }
        }
    }
}

/// The answer of a server whose one class gives no page away.
fn slabs_reassign(from: i32, to: i32) -> ClientError {
    if from == to {
        return ClientError::SlabsSame;
    }
    let likely = 0..=CLASSES_LIKELY;
    match likely.contains(&from) && (ITEM_CLASS..=CLASSES_LIKELY).contains(&to) {
        true => ClientError::SlabsNoSpare,
        false => ClientError::SlabsClass,
    }
}
