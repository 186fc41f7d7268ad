//! TLS between two ends in one thread: whatever is cut, changed or late costs its own connection alone, and never brings a
//! wrong byte.

use std::io::{Read, Write};
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::io::Ringer;
use crate::io::handshakes::{Hand, pair_with};
use crate::io::sim::{ClientId, Dice, Net, SimIo, SimRinger};
use crate::tls::TlsSettings;

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

/// Who looks in every tick need not be rung.
fn nobody() -> Arc<dyn Ringer> {
    Arc::new(SimRinger::default())
}

/// Certificates in a folder that goes with the test.
struct Files {
    folder: PathBuf,
    tls: Arc<Tls>,
    client: Arc<ClientConfig>,
}

impl Files {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let folder = std::env::temp_dir().join(format!("strata-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let chain_cert = folder.join("both.pem");
        let both = made.cert.pem() + &made.signing_key.serialize_pem();
        std::fs::write(&chain_cert, both).expect("a file");
        // Who is asked for a certificate has the same one, and it vouches for itself.
        let settings = TlsSettings {
            ca_cert: Some(chain_cert.clone()),
            chain_cert,
            ..TlsSettings::default()
        };
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![made.cert.der().clone()], made.signing_key.into())
            .expect("they belong together");
        let guards = [Guard::Tls, Guard::TlsWithPeer];
        Self {
            folder,
            tls: Arc::new(Tls::load(settings, &guards, 0).expect("it loads")),
            client: Arc::new(client),
        }
    }

    fn connection(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").expect("a name");
        ClientConnection::new(Arc::clone(&self.client), name).expect("a client")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server that sends back what it receives, and a client that counts on it.
struct Echo {
    io: TlsIo<SimIo>,
    net: Net,
    events: Vec<Event>,
    waits: Vec<u8>,
    sending: bool,
    ended: Option<bool>,
    closed: bool,
    heard: Vec<u8>,
    /// Who makes costly steps beside it, and one of how many ticks it does so in.
    hand: Option<Hand>,
    ease: usize,
    dice: Dice,
}

impl Echo {
    /// Costly steps are made beside it in every second seed.
    fn new(files: &Files, seed: u64) -> Self {
        let net = Net::default();
        let below = SimIo::new(net.clone(), seed, true, SimRinger::default());
        let mut io = TlsIo::new(below, Arc::clone(&files.tls));
        let hand = (seed % 2 == 1).then(|| {
            let (helper, hand) = pair_with(FOR_EVER, &nobody());
            io.help(helper);
            hand
        });
        Self {
            io,
            hand,
            ease: [4, 150][seed as usize / 4 % 2],
            dice: Dice::new(seed),
            net,
            events: Vec::new(),
            waits: Vec::new(),
            sending: false,
            ended: None,
            closed: false,
            heard: Vec::new(),
        }
    }

    /// With a hand that makes a step when the test wants it.
    fn with_hand(files: &Files, seed: u64) -> (Self, Hand) {
        let mut echo = Self::new(files, 2 * seed);
        let (helper, hand) = pair_with(FOR_EVER, &nobody());
        echo.io.help(helper);
        (echo, hand)
    }

    fn tick(&mut self, guard: Guard) {
        if let Some(hand) = self.hand.as_mut().filter(|_| self.dice.once_in(self.ease)) {
            hand.make_one();
        }
        let mut events = std::mem::take(&mut self.events);
        self.io.poll(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Accepted { fd, .. } => self.io.adopt(0, fd, guard),
                Event::Received { buffer, len, .. } => {
                    let bytes = self.io.bytes(buffer, len);
                    self.waits.extend_from_slice(bytes);
                    self.heard.extend_from_slice(bytes);
                    self.io.recycle(buffer);
                }
                Event::Sent { failed, .. } => {
                    self.sending = false;
                    assert!(!failed || self.ended.is_some());
                }
                Event::Ended { failed, .. } => {
                    assert_eq!(self.ended, None, "an end is told once");
                    self.ended = Some(failed);
                    if failed {
                        self.io.close(0);
                    }
                }
                Event::Closed { .. } => self.closed = true,
                Event::Rung => {}
            }
        }
        self.events = events;
        if !self.sending && !self.waits.is_empty() && self.ended != Some(true) {
            self.sending = true;
            self.io.send(0, std::mem::take(&mut self.waits));
        }
        self.io.submit(Wait::No);
        assert_eq!(self.io.below().buffers_out(), 0, "a receive buffer is lost");
        assert_eq!(self.io.free.len(), self.io.plain.len(), "a plain buffer is");
    }

    /// A new connection, of which a step is away.
    fn give_away(&mut self, files: &Files, dice: &mut Dice) -> (ClientId, ClientConnection) {
        let (id, mut tls) = (self.net.connect(1 << 20), files.connection());
        self.go_on_as(Guard::Tls, id, &mut tls, dice, |echo, _| {
            echo.io.is_helped()
        });
        (id, tls)
    }

    /// A new connection of whose client a certificate is asked. It has come, with `said` behind it, and the
    /// step that looks at it is away.
    fn prove(
        &mut self,
        files: &Files,
        hand: &mut Hand,
        dice: &mut Dice,
        said: &[u8],
    ) -> (ClientId, ClientConnection) {
        let (id, mut tls) = (self.net.connect(1 << 20), files.connection());
        tls.set_buffer_limit(None);
        tls.writer().write_all(said).expect("a client");
        self.go_on(id, &mut tls, dice, |echo, _| echo.io.is_helped());
        hand.make_one();
        self.go_on(id, &mut tls, dice, |echo, tls| {
            !tls.is_handshaking() && echo.io.is_helped()
        });
        (id, tls)
    }

    /// Goes on until something is the case, with a client of whom a certificate is asked.
    fn go_on(
        &mut self,
        id: ClientId,
        tls: &mut ClientConnection,
        dice: &mut Dice,
        until: impl Fn(&Self, &ClientConnection) -> bool,
    ) {
        self.go_on_as(Guard::TlsWithPeer, id, tls, dice, until);
    }

    /// The same, with a client of any listener.
    fn go_on_as(
        &mut self,
        guard: Guard,
        id: ClientId,
        tls: &mut ClientConnection,
        dice: &mut Dice,
        until: impl Fn(&Self, &ClientConnection) -> bool,
    ) {
        for _ in 0..10_000 {
            if until(self, tls) {
                return;
            }
            carry(tls, &self.net, id, dice, &mut Vec::new());
            self.tick(guard);
        }
        panic!("it never is");
    }

    /// A new connection, after the one before is closed, gets back what it asks.
    fn serve_another(&mut self, files: &Files, dice: &mut Dice) {
        (self.ended, self.closed) = (None, false);
        let (id, mut tls) = (self.net.connect(1 << 20), files.connection());
        tls.writer().write_all(b"a request").expect("a client");
        let mut got = Vec::new();
        for _ in 0..10_000 {
            if got == b"a request" {
                break;
            }
            carry(&mut tls, &self.net, id, dice, &mut got);
            self.tick(Guard::Tls);
        }
        assert_eq!((self.ended, &got[..]), (None, &b"a request"[..]));
    }

    /// Goes on until the connection is closed, which somebody has ended.
    fn close(&mut self) {
        for _ in 0..10_000 {
            if self.closed {
                return;
            }
            if self.ended == Some(false) {
                // As a worker does once it has nothing more to send.
                self.ended = Some(true);
                self.io.close(0);
            }
            self.tick(Guard::Tls);
        }
        panic!("it stays open");
    }
}

/// What becomes of a client's records on their way: nothing, or one change at some byte.
struct Way {
    passed: usize,
    change_at: usize,
    /// Nothing comes through any more.
    is_cut: bool,
}

impl Way {
    fn clean() -> Self {
        Self::changed_at(usize::MAX)
    }

    fn changed_at(change_at: usize) -> Self {
        Self {
            passed: 0,
            change_at,
            is_cut: false,
        }
    }

    fn pass(&mut self, mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
        if self.is_cut {
            return Vec::new();
        }
        let at = self.change_at.checked_sub(self.passed);
        let at = at.filter(|at| *at < bytes.len());
        self.passed += bytes.len();
        let Some(at) = at else { return bytes };
        match dice.below(5) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => drop(bytes.drain(at..(at + 1 + dice.below(20)).min(bytes.len()))),
            2 => drop(bytes.splice(at..at, noise(1 + dice.below(20), dice))),
            3 => drop(bytes.splice(at..at, record(dice))),
            _ => {
                bytes.truncate(at);
                self.is_cut = true;
            }
        }
        bytes
    }
}

fn noise(len: usize, dice: &mut Dice) -> Vec<u8> {
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// A record of any type, version and length, of which more or less may come than it says.
fn record(dice: &mut Dice) -> Vec<u8> {
    let kind = [20, 21, 22, 23, 24, dice.below(256)][dice.below(6)] as u8;
    let length = [
        0,
        1,
        dice.below(100),
        dice.below(20_000),
        dice.below(1 << 16),
    ];
    let length = length[dice.below(5)] as u16;
    let len = [usize::from(length), dice.below(300)][dice.below(2)];
    let mut record = vec![kind, 3, dice.below(5) as u8];
    record.extend(length.to_be_bytes());
    record.extend(noise(len, dice));
    record
}

/// Moves records between a client and the net, a random number of bytes at a time. The client may
/// find that what it hears is no TLS.
fn exchange(
    tls: &mut ClientConnection,
    net: &Net,
    id: ClientId,
    way: &mut Way,
    dice: &mut Dice,
    got: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut out).expect("a vector");
    }
    net.write(id, &way.pass(out, dice));
    let bytes = net.read(id, 1 + dice.below(3000));
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        tls.read_tls(&mut rest).expect("a slice");
        tls.process_new_packets()?;
        let _ = tls.reader().read_to_end(got);
    }
    Ok(())
}

/// As [`exchange`], with nothing changed.
fn carry(tls: &mut ClientConnection, net: &Net, id: ClientId, dice: &mut Dice, got: &mut Vec<u8>) {
    let outcome = exchange(tls, net, id, &mut Way::clean(), dice, got);
    outcome.expect("the server speaks TLS");
}

#[test]
fn bytes_arrive_as_they_were_sent_however_records_are_cut() {
    let files = Files::new("tls-cut");
    let (mut held, mut most_input) = (0, 0);
    for seed in 1..60 {
        let guard = [Guard::Tls, Guard::TlsWithPeer][seed as usize / 30];
        let mut dice = Dice::new(seed);
        let mut echo = Echo::new(&files, seed);
        let id = echo.net.connect(500 + dice.below(50_000));
        let mut tls = files.connection();
        let bytes: Vec<u8> = (0..1 + dice.below(100_000)).map(|at| at as u8).collect();
        let (mut sent, mut got) = (0, Vec::new());
        for _ in 0..200_000 {
            if sent < bytes.len() && !tls.is_handshaking() {
                let most = (bytes.len() - sent).min(20_000);
                let part = &bytes[sent..sent + 1 + dice.below(most)];
                sent += tls.writer().write(part).expect("a client");
            }
            carry(&mut tls, &echo.net, id, &mut dice, &mut got);
            echo.tick(guard);
            if let Some(Some(secured)) = echo.io.conns.first() {
                held += u64::from(secured.held);
                most_input = secured.input.len().max(most_input);
            }
            if got.len() == bytes.len() {
                break;
            }
        }
        assert!(
            got == bytes,
            "seed {seed}: {} of {}",
            got.len(),
            bytes.len()
        );
        tls.send_close_notify();
        for _ in 0..10_000 {
            carry(&mut tls, &echo.net, id, &mut dice, &mut Vec::new());
            echo.tick(Guard::Tls);
        }
        assert_eq!(echo.ended, Some(false), "seed {seed}");
        echo.io.close(0);
        while !echo.closed {
            echo.tick(Guard::Tls);
        }
        if guard == Guard::Tls {
            // The client has tickets from the second connection on.
            let figures = files.tls.figures(7);
            assert_eq!((figures.new_sessions, figures.since_refresh_s), (1, 7));
        }
    }
    // With a step away there was too much behind it, and that stayed bounded.
    assert!(held > 0, "nobody sent ahead");
    // The simulated back end brings something now and then from a socket that is not to be read.
    let bound = HANDSHAKE_INPUT_MAX_BYTES..4 * HANDSHAKE_INPUT_MAX_BYTES;
    assert!(bound.contains(&most_input), "{most_input} bytes waited");
    let figures = files.tls.figures(7);
    assert_eq!((figures.waiting, figures.overdue), (0, 0));
    assert!(figures.wait_max_us > 0, "nobody waited for a step");
    assert_eq!((figures.handshake_errors, figures.proto_errors), (0, 0));
}

#[test]
fn a_request_behind_the_handshake_and_an_end_behind_that_are_both_seen() {
    let files = Files::new("tls-end");
    for seed in 1..40 {
        // The last step is a costly one where a certificate is looked at.
        let guard = [Guard::Tls, Guard::TlsWithPeer][seed as usize / 2 % 2];
        let mut dice = Dice::new(seed);
        let mut echo = Echo::new(&files, seed);
        let id = echo.net.connect(1 << 20);
        let mut tls = files.connection();
        tls.writer().write_all(b"a request").expect("a client");
        let mut last = false;
        while echo.ended.is_none() {
            if !last {
                last = !tls.is_handshaking();
                if last {
                    tls.send_close_notify();
                }
                carry(&mut tls, &echo.net, id, &mut dice, &mut Vec::new());
                if last {
                    echo.net.end(id);
                }
            }
            echo.tick(guard);
        }
        let heard = (echo.ended, &echo.heard[..]);
        assert_eq!(heard, (Some(false), &b"a request"[..]), "seed {seed}");
    }
}

#[test]
fn no_step_is_due_before_a_record_is_whole() {
    let files = Files::new("tls-part");
    let mut echo = Echo::new(&files, 3);
    let id = echo.net.connect(1 << 20);
    let mut hello = Vec::new();
    files.connection().write_tls(&mut hello).expect("a vector");
    let (last, most) = hello.split_last().expect("it says something");
    echo.net.write(id, most);
    for _ in 0..100 {
        echo.tick(Guard::Tls);
        assert!(!echo.io.is_helped() && echo.io.costly.is_empty());
    }
    echo.net.write(id, &[*last]);
    while !echo.io.is_helped() {
        echo.tick(Guard::Tls);
    }
    assert_eq!(files.tls.figures(0).waiting, 1);
}

#[test]
fn a_step_whose_thread_has_no_time_is_made_by_the_worker() {
    let files = Files::new("tls-alone");
    let (mut dice, mut echo) = (Dice::new(2), Echo::new(&files, 2));
    let (helper, _idle) = pair_with(Duration::ZERO, &nobody());
    echo.io.help(helper);
    // What is begun stays begun, with the connection gone.
    let (id, _) = echo.give_away(&files, &mut dice);
    echo.net.reset(id);
    echo.close();
    echo.serve_another(&files, &mut dice);
    // What came behind the first flight was no costly step.
    let figures = files.tls.figures(0);
    assert_eq!((figures.overdue, figures.waiting), (1, 1));
}

#[test]
fn the_worker_is_rung_when_a_step_is_made_and_sleeps_long_on_nothing_that_waits() {
    let files = Files::new("tls-rung");
    let mut dice = Dice::new(2);
    let mut echo = Echo::new(&files, 2);
    let ringer = SimRinger::default();
    let (helper, mut hand) = pair_with(FOR_EVER, &(Arc::new(ringer.clone()) as Arc<dyn Ringer>));
    echo.io.help(helper);
    let waits = |echo: &Echo| [Wait::No, Wait::Micros(100), Wait::Long].map(|it| echo.io.wait(it));
    let patience = Wait::Micros(1000 * HANDSHAKES_OVERDUE_MS as u32);
    assert_eq!(waits(&echo), [Wait::No, Wait::Micros(100), Wait::Long]);
    let (first, _) = echo.give_away(&files, &mut dice);
    assert_eq!(waits(&echo), [Wait::No, Wait::Micros(100), patience]);
    assert!(!ringer.rang());
    hand.make_one();
    assert!(ringer.rang());
    // What waits behind the one that is away has to wait for it.
    hand.make_one();
    assert!(!ringer.rang(), "nothing was there to be made");
    echo.tick(Guard::Tls);
    assert!(!echo.io.is_helped());
    assert_eq!(waits(&echo), [Wait::No, Wait::Micros(100), Wait::Long]);
    echo.net.reset(first);
    echo.close();
}

#[test]
fn the_worker_helps_itself_once_in_its_patience_and_only_while_a_step_is_away() {
    let files = Files::new("tls-patience");
    let (mut dice, mut echo) = (Dice::new(2), Echo::new(&files, 2));
    let patience = Duration::from_millis(5);
    let (mut helper, _idle) = pair_with(patience, &nobody());
    let later = Instant::now() + FOR_EVER;
    assert!(!helper.is_overdue(later));
    echo.io.help(helper);
    echo.give_away(&files, &mut dice);
    let helper = echo.io.helper.as_mut().expect("it has one");
    let overdue = [later, later, later + patience].map(|now| helper.is_overdue(now));
    assert_eq!(overdue, [true, false, true]);
}

#[test]
fn what_comes_behind_a_step_that_is_away_waits_in_the_socket() {
    let files = Files::new("tls-behind");
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let (mut echo, mut hand) = Echo::with_hand(&files, seed);
        let said = noise(200_000, &mut dice);
        let (id, mut tls) = echo.prove(&files, &mut hand, &mut dice, &said);
        let waits = |echo: &Echo| echo.io.conns[0].as_ref().map_or(0, |it| it.input.len());
        echo.go_on(id, &mut tls, &mut dice, |echo, _| {
            waits(echo) > HANDSHAKE_INPUT_MAX_BYTES
        });
        assert!(echo.io.below().is_paused(0), "seed {seed}: it is read");
        // It is not for the worker to have it read, and for both to stop it.
        echo.io.pause(0);
        echo.io.resume(0);
        assert!(
            echo.io.below().is_paused(0),
            "seed {seed}: it is read again"
        );
        let stops = seed % 2 == 0;
        if stops {
            echo.io.pause(0);
        }
        hand.make_one();
        echo.go_on(id, &mut tls, &mut dice, |echo, _| !echo.io.is_helped());
        assert_eq!(echo.io.below().is_paused(0), stops, "seed {seed}");
        if stops {
            echo.io.resume(0);
            assert!(!echo.io.below().is_paused(0), "seed {seed}: it rests");
        }
        echo.go_on(id, &mut tls, &mut dice, |echo, _| {
            echo.heard.len() == said.len()
        });
        assert!(echo.heard == said, "seed {seed}: a wrong byte");
    }
}

#[test]
fn nothing_is_heard_of_who_was_closed_while_a_step_was_away() {
    let files = Files::new("tls-closed");
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let (mut echo, mut hand) = Echo::with_hand(&files, seed);
        echo.prove(&files, &mut hand, &mut dice, b"a request");
        echo.ended = Some(true);
        echo.io.close(0);
        hand.make_one();
        echo.close();
        assert_eq!(echo.heard, b"", "seed {seed}");
    }
}

/// While its first step waits for its turn, a client has nothing to say.
#[test]
fn who_sends_too_much_before_its_first_answer_gets_none() {
    let files = Files::new("tls-hasty");
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let (mut echo, _hand) = Echo::with_hand(&files, seed);
        let (gone, _) = echo.give_away(&files, &mut dice);
        echo.net.reset(gone);
        echo.close();
        (echo.ended, echo.closed) = (None, false);
        let before = files.tls.figures(0).handshake_errors;
        let id = echo.net.connect(1 << 20);
        let mut hello = Vec::new();
        files.connection().write_tls(&mut hello).expect("a vector");
        echo.net.write(id, &hello);
        for _ in 0..10 {
            echo.tick(Guard::Tls);
        }
        echo.net
            .write(id, &[23, 3, 3, 0x10, 0].repeat(HANDSHAKE_INPUT_MAX_BYTES));
        echo.close();
        let heard = echo.net.read(id, 1000);
        assert_ne!(heard.first(), Some(&22), "seed {seed}: a step was made");
        let errors = files.tls.figures(0).handshake_errors - before;
        assert_eq!(errors, 1, "seed {seed}");
    }
}

#[test]
fn what_is_sent_while_a_step_is_away_follows_the_handshake() {
    let files = Files::new("tls-early");
    let (mut dice, mut echo) = (Dice::new(3), Echo::new(&files, 3));
    let (id, mut tls) = echo.give_away(&files, &mut dice);
    let mut got = Vec::new();
    echo.sending = true;
    echo.io.send(0, b"unasked".to_vec());
    for _ in 0..10_000 {
        if !echo.sending {
            break;
        }
        carry(&mut tls, &echo.net, id, &mut dice, &mut got);
        echo.tick(Guard::Tls);
    }
    carry(&mut tls, &echo.net, id, &mut dice, &mut got);
    assert_eq!((echo.sending, &got[..]), (false, &b"unasked"[..]));
}

#[test]
fn a_step_that_comes_back_to_another_connection_is_forgotten() {
    let files = Files::new("tls-late");
    let (mut late, mut refused) = (0, 0);
    for seed in (1..200).step_by(2) {
        let (mut dice, mut echo) = (Dice::new(seed), Echo::new(&files, seed));
        let (id, _) = echo.give_away(&files, &mut dice);
        match dice.below(4) {
            0 => echo.net.reset(id),
            1 => echo.net.end(id),
            2 => echo
                .net
                .write(id, &noise(1 + dice.below(100_000), &mut dice)),
            _ => {
                echo.ended = Some(true);
                echo.io.close(0);
            }
        }
        echo.close();
        late += usize::from(echo.io.is_helped());
        refused = files.tls.figures(0).handshake_errors;
        // The next one has the same index.
        echo.serve_another(&files, &mut dice);
        while echo.io.is_helped() {
            echo.tick(Guard::Tls);
        }
        echo.tick(Guard::Tls);
        let figures = files.tls.figures(0);
        assert_eq!(
            (figures.waiting, figures.handshake_errors),
            (0, refused),
            "seed {seed}"
        );
    }
    assert!(late > 10 && refused > 10, "{late} late, {refused} refused");
}

#[test]
fn what_is_no_tls_ends_with_an_alert_and_is_counted() {
    let files = Files::new("tls-none");
    let mut echo = Echo::new(&files, 3);
    let id = echo.net.connect(1 << 20);
    echo.net.write(id, b"get key\r\nget key\r\n");
    while !echo.closed {
        echo.tick(Guard::Tls);
    }
    assert_eq!((echo.ended, echo.heard.len()), (Some(true), 0));
    assert_eq!(files.tls.figures(0).handshake_errors, 1);
    let alert = echo.net.read(id, 100);
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
}

#[test]
fn changed_records_cost_their_connection_and_never_bring_a_wrong_byte() {
    let files = Files::new("tls-changed");
    let (mut errors, mut unharmed) = (0, 0);
    for seed in 1..=400 {
        let mut dice = Dice::new(seed);
        let mut echo = Echo::new(&files, seed);
        let id = echo.net.connect(1 << 20);
        let mut tls = files.connection();
        let said = noise(1 + dice.below(20_000), &mut dice);
        tls.writer().write_all(&said).expect("a client");
        // The handshake is as likely to be met as what follows.
        let reach = [500, said.len() + 1000][dice.below(2)];
        let mut way = Way::changed_at(dice.below(reach));
        let mut speaks = true;
        for step in 0.. {
            assert!(step < 20_000, "seed {seed}: it goes on");
            if echo.ended.is_some() {
                break;
            }
            if speaks {
                let (net, way) = (&echo.net, &mut way);
                let outcome = exchange(&mut tls, net, id, way, &mut dice, &mut Vec::new());
                if outcome.is_err() || way.is_cut || step > 2000 {
                    // With an alert, if there is one.
                    let _ = exchange(&mut tls, net, id, way, &mut dice, &mut Vec::new());
                    speaks = false;
                    net.end(id);
                }
            }
            echo.tick(Guard::Tls);
        }
        let failed = echo.ended == Some(true);
        echo.close();
        assert!(said.starts_with(&echo.heard), "seed {seed}: a wrong byte");
        let figures = files.tls.figures(0);
        let before =
            std::mem::replace(&mut errors, figures.handshake_errors + figures.proto_errors);
        assert_eq!(errors - before, u64::from(failed), "seed {seed}");
        unharmed += u64::from(said == echo.heard);
    }
    let figures = files.tls.figures(0);
    // Some changes hurt nothing: what is inserted behind the last byte, or a version nobody reads.
    let all = (figures.handshake_errors, figures.proto_errors, unharmed);
    assert!(all.0 > 50 && all.1 > 50 && unharmed < 100, "{all:?}");
}

#[test]
fn records_of_any_kind_before_a_handshake_end_their_connection_and_are_counted() {
    let files = Files::new("tls-any");
    for seed in 1..=400 {
        let mut dice = Dice::new(seed);
        let mut echo = Echo::new(&files, seed);
        let id = echo.net.connect(1 << 20);
        if dice.once_in(2) {
            let mut hello = Vec::new();
            files.connection().write_tls(&mut hello).expect("a vector");
            hello.truncate(dice.below(hello.len() + 1));
            echo.net.write(id, &hello);
        }
        for _ in 0..1 + dice.below(4) {
            echo.net.write(id, &record(&mut dice));
        }
        echo.net.end(id);
        for _ in 0..10_000 {
            if echo.ended.is_some() {
                break;
            }
            echo.tick(Guard::Tls);
        }
        assert_eq!(echo.ended, Some(true), "seed {seed}");
        echo.close();
        assert_eq!(echo.heard, b"", "seed {seed}");
        assert_eq!(files.tls.figures(0).handshake_errors, seed, "seed {seed}");
    }
}

#[test]
fn what_waits_of_a_handshake_is_bounded() {
    let files = Files::new("tls-long");
    let mut echo = Echo::new(&files, 3);
    let id = echo.net.connect(1 << 20);
    // The beginning of a record that is never whole, again and again.
    echo.net
        .write(id, &[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb]);
    echo.net.write(id, &[0; 200_000]);
    for _ in 0..100_000 {
        echo.tick(Guard::Tls);
        if echo.closed {
            break;
        }
    }
    assert!(echo.closed, "it goes on");
    assert!(echo.net.unread(id) > 100_000, "all of it was read");
}

#[test]
fn a_listener_without_tls_is_served_as_if_there_were_none() {
    let files = Files::new("tls-open");
    let mut echo = Echo::new(&files, 3);
    let id = echo.net.connect(1 << 20);
    echo.net.write(id, b"plain");
    let mut got = Vec::new();
    while got.len() < 5 {
        echo.tick(Guard::Open);
        got.extend(echo.net.read(id, 100));
    }
    assert_eq!(got, b"plain");
}
