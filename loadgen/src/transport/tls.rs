//! TLS over either transport.
//!
//! Always true: all handshakes of connections that a transport is made from are done when it is
//! made, so that none of them is measured; a send is over when its last record is; a failed
//! handshake or a broken record ends its connection with the reason. A connection that replaces
//! another shakes hands while its first requests wait, as they wait for it to be connected.

use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use super::{Events, Transport};

/// How long all handshakes of a thread may go without one of them moving on.
const STANDSTILL: Duration = Duration::from_secs(10);

/// What the user wants of TLS, by the names of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `--cert`: our certificate and who vouches for it, in PEM.
    pub cert: Option<String>,
    /// `--key`: its key; else it is looked for in the same file.
    pub key: Option<String>,
    /// `--cacert`: who vouches for servers; else whom this host trusts.
    pub cacert: Option<String>,
    /// `--tls-skip-verify`: nobody has to.
    pub skip_verify: bool,
    /// `--tls-protocols`.
    pub protocols: Option<String>,
    /// `--sni`: the name of every server.
    pub sni: Option<String>,
}

/// What a handshake takes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What was asked for.
    pub wanted: Wanted,
    config: Arc<ClientConfig>,
    /// Of each server.
    names: Vec<ServerName<'static>>,
}

impl Setup {
    /// Reads the files; `hosts` are the servers.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn new(wanted: &Wanted, hosts: &[&str]) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(wanted.protocols.as_deref())?)
            .map_err(|error| format!("--tls-protocols: {error}"))?;
        let judge = Judge::new(wanted, provider)?;
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge));
        let mut config = match &wanted.cert {
            None if wanted.key.is_some() => return Err("--key: is of no use without --cert".into()),
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let key = wanted.key.as_ref().unwrap_or(cert);
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("--key: {key}: {error}"))?;
                builder
                    .with_client_auth_cert(certificates("--cert", cert)?, key)
                    .map_err(|error| format!("--cert: {cert}: {error}"))?
            }
        };
        // Every handshake costs the server the same.
        config.resumption = Resumption::disabled();
        let name = |host: &&str| {
            let name = wanted.sni.as_deref().unwrap_or(host);
            ServerName::try_from(name.to_owned()).map_err(|_| format!("--sni: {name} is no name"))
        };
        Ok(Self {
            wanted: wanted.clone(),
            config: Arc::new(config),
            names: hosts.iter().map(name).collect::<Result<_, _>>()?,
        })
    }

    fn connection(&self, index: usize) -> io::Result<Secured> {
        // Connections come in sets, one to each server.
        let name = self.names[index % self.names.len()].clone();
        let mut tls =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        Ok(Secured {
            tls,
            records: Vec::new(),
            sending: false,
            taken: false,
            over: false,
        })
    }
}

fn versions(protocols: Option<&str>) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let Some(protocols) = protocols else {
        return Ok(vec![&TLS13, &TLS12]);
    };
    let mut wanted = Vec::new();
    for word in protocols.split(',') {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => wanted.push(&TLS12),
            "tlsv1.3" => wanted.push(&TLS13),
            _ => {
                return Err(format!(
                    "--tls-protocols: {word} is not spoken here; there are TLSv1.2 and TLSv1.3"
                ));
            }
        }
    }
    Ok(wanted)
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => {
            Err(format!("{option}: {path}: there is no certificate in it"))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{option}: {path}: {error}")),
    }
}

/// Takes servers that somebody vouches for, and those whose own certificate was named: one that vouches
/// for itself, as people make them for tests, may say that it is an authority, and is refused as a
/// server's then.
#[derive(Debug)]
struct Judge {
    named: Vec<CertificateDer<'static>>,
    /// None takes any server for what it says it is.
    others: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    fn new(wanted: &Wanted, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        if wanted.skip_verify {
            return Ok(Self {
                named: Vec::new(),
                others: None,
                provider,
            });
        }
        let mut roots = RootCertStore::empty();
        let mut named = Vec::new();
        match &wanted.cacert {
            Some(path) => {
                named = certificates("--cacert", path)?;
                for certificate in &named {
                    let added = roots.add(certificate.clone());
                    added.map_err(|error| format!("--cacert: {path}: {error}"))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err("--tls: this host trusts nobody; name who vouches for the server with --cacert, or give --tls-skip-verify".into());
                }
            }
        }
        let others =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| format!("--cacert: {error}"))?;
        Ok(Self {
            named,
            others: Some(others),
            provider,
        })
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.others {
            Some(others) if !self.named.contains(end_entity) => {
                others.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

struct Secured {
    tls: ClientConnection,
    /// For the next send below.
    records: Vec<u8>,
    /// A send is under way below.
    sending: bool,
    /// Bytes were taken whose records are not all sent.
    taken: bool,
    /// Nothing more happens here.
    over: bool,
}

impl Secured {
    /// Has the transport below send what there is to send. True when that was the last of what was
    /// taken, and went out at once, which nobody is told of by below.
    fn flush(&mut self, index: usize, below: &mut impl Transport) -> bool {
        if self.sending || self.over {
            return false;
        }
        while self.tls.wants_write() {
            let written = self.tls.write_tls(&mut self.records);
            debug_assert!(written.is_ok(), "a vector takes everything");
        }
        if self.records.is_empty() {
            return false;
        }
        let accepted = below.send(index, &mut self.records);
        debug_assert!(accepted, "connection {index}: a second send at once");
        self.sending = below.is_sending(index);
        let over = self.taken && !self.sending && !self.tls.is_handshaking();
        self.taken &= !over;
        over
    }
}

/// See the module's page.
pub struct Tls<T> {
    below: T,
    setup: Setup,
    connections: Vec<Secured>,
    /// Connections that have something to send.
    touched: Vec<usize>,
    /// Connections whose handshake is not done.
    shaking: usize,
}

impl<T: Transport<Setup = ()>> Transport for Tls<T> {
    type Setup = Setup;

    fn new(sockets: Vec<OwnedFd>, setup: &Setup) -> io::Result<Self> {
        let connections: io::Result<Vec<Secured>> = (0..sockets.len())
            .map(|index| setup.connection(index))
            .collect();
        let connections = connections?;
        let mut transport = Self {
            below: T::new(sockets, &())?,
            setup: setup.clone(),
            shaking: connections.len(),
            touched: (0..connections.len()).collect(),
            connections,
        };
        transport.shake_hands()?;
        Ok(transport)
    }

    fn send(&mut self, connection: usize, bytes: &mut Vec<u8>) -> bool {
        let secured = &mut self.connections[connection];
        if secured.taken {
            return false;
        }
        // Without a limit it takes everything.
        let written = secured.tls.writer().write_all(bytes);
        debug_assert!(written.is_ok(), "{written:?}");
        bytes.clear();
        secured.taken = true;
        secured.flush(connection, &mut self.below);
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }

    fn turn(&mut self, wait: Option<Duration>, events: &mut impl Events) -> io::Result<usize> {
        self.flush_touched(events);
        let mut opening = Opening {
            connections: &mut self.connections,
            touched: &mut self.touched,
            shaking: &mut self.shaking,
            events,
        };
        let count = self.below.turn(wait, &mut opening)?;
        self.flush_touched(events);
        Ok(count)
    }

    fn close(&mut self, connection: usize) {
        self.connections[connection].over = true;
        self.below.close(connection);
    }

    fn is_sending(&self, connection: usize) -> bool {
        let secured = &self.connections[connection];
        secured.taken || secured.sending || self.below.is_sending(connection)
    }

    fn replace(&mut self, connection: usize, socket: OwnedFd) -> io::Result<()> {
        self.connections[connection] = self.setup.connection(connection)?;
        self.shaking += 1;
        self.below.replace(connection, socket)?;
        self.touched.push(connection);
        Ok(())
    }
}

impl<T: Transport<Setup = ()>> Tls<T> {
    /// Sends what has come up on connections.
    fn flush_touched(&mut self, events: &mut impl Events) {
        for connection in self.touched.drain(..) {
            if self.connections[connection].flush(connection, &mut self.below) {
                events.sent(connection);
            }
        }
    }

    /// Waits until all handshakes are done.
    fn shake_hands(&mut self) -> io::Result<()> {
        let mut failure = Failure(None);
        let mut moved = Instant::now();
        // The last records of a handshake are ours.
        while self.shaking > 0 || self.connections.iter().any(|secured| secured.sending) {
            let count = self.turn(Some(Duration::from_millis(100)), &mut failure)?;
            if let Some(error) = failure.0.take() {
                return Err(error);
            }
            if count > 0 {
                moved = Instant::now();
            } else if moved.elapsed() > STANDSTILL {
                return Err(io::Error::other(format!(
                    "{} TLS handshakes have come to a standstill; does the server speak TLS on this port?",
                    self.shaking
                )));
            }
        }
        Ok(())
    }
}

/// Why a connection ended while hands were shaken.
struct Failure(Option<io::Error>);

impl Events for Failure {
    fn received(&mut self, _connection: usize, _bytes: &[u8]) {}

    fn sent(&mut self, _connection: usize) {}

    fn closed(&mut self, _connection: usize, error: Option<io::Error>) {
        let closed =
            || io::Error::other("the server closed the connection during the TLS handshake");
        self.0.get_or_insert_with(|| error.unwrap_or_else(closed));
    }
}

/// Turns what happens below into what happens here.
struct Opening<'a, E> {
    connections: &'a mut [Secured],
    touched: &'a mut Vec<usize>,
    shaking: &'a mut usize,
    events: &'a mut E,
}

impl<E: Events> Opening<'_, E> {
    fn open(&mut self, connection: usize, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        let tls = &mut self.connections[connection].tls;
        while !bytes.is_empty() {
            let read = tls.read_tls(&mut bytes);
            let shaking = tls.is_handshaking();
            let state = tls.process_new_packets()?;
            if shaking && !tls.is_handshaking() {
                *self.shaking -= 1;
            }
            if state.plaintext_bytes_to_read() > 0 {
                let mut reader = tls.reader();
                while let Ok(plain) = reader.fill_buf() {
                    let len = plain.len();
                    if len == 0 {
                        break;
                    }
                    self.events.received(connection, plain);
                    reader.consume(len);
                }
            }
            if let Err(error) = read {
                return Err(rustls::Error::General(error.to_string()));
            }
        }
        Ok(())
    }
}

impl<E: Events> Events for Opening<'_, E> {
    fn received(&mut self, connection: usize, bytes: &[u8]) {
        if self.connections[connection].over {
            return;
        }
        match self.open(connection, bytes) {
            Ok(()) => self.touched.push(connection),
            Err(error) => {
                self.connections[connection].over = true;
                let error = io::Error::other(format!("TLS: {error}"));
                self.events.closed(connection, Some(error));
            }
        }
    }

    fn sent(&mut self, connection: usize) {
        let secured = &mut self.connections[connection];
        secured.sending = false;
        if secured.tls.wants_write() {
            self.touched.push(connection);
        } else if secured.taken && !secured.tls.is_handshaking() {
            secured.taken = false;
            if !secured.over {
                self.events.sent(connection);
            }
        }
    }

    fn closed(&mut self, connection: usize, error: Option<io::Error>) {
        let secured = &mut self.connections[connection];
        if !std::mem::replace(&mut secured.over, true) {
            self.events.closed(connection, error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::path::{Path, PathBuf};

    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::transport::epoll::Epoll;
    use crate::transport::uring::Uring;

    #[derive(Default)]
    struct Seen {
        bytes: Vec<u8>,
        sent: usize,
        closed: Option<String>,
    }

    impl Events for Seen {
        fn received(&mut self, _connection: usize, bytes: &[u8]) {
            self.bytes.extend_from_slice(bytes);
        }

        fn sent(&mut self, _connection: usize) {
            self.sent += 1;
        }

        fn closed(&mut self, _connection: usize, error: Option<io::Error>) {
            self.closed = Some(error.map_or(String::new(), |error| error.to_string()));
        }
    }

    /// A server that sends back what it receives, to `clients` one after the other, and the file of
    /// its certificate.
    fn echo(clients: usize) -> (TcpStream, Vec<TcpStream>, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = std::env::temp_dir().join(format!(
            "strata-load-{}-{}.pem",
            std::process::id(),
            address.port()
        ));
        std::fs::write(&path, made.cert.pem()).unwrap();
        std::thread::spawn(move || {
            for _ in 0..clients {
                let (socket, _) = listener.accept().unwrap();
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                std::thread::spawn(move || {
                    let mut stream = StreamOwned::new(tls, socket);
                    let mut room = [0; 5000];
                    while let Ok(len @ 1..) = stream.read(&mut room) {
                        stream.write_all(&room[..len]).unwrap();
                    }
                });
            }
        });
        let mut sockets: Vec<TcpStream> = (0..clients)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        (sockets.remove(0), sockets, path)
    }

    fn setup(cacert: &Path) -> Setup {
        let wanted = Wanted {
            cacert: Some(cacert.display().to_string()),
            ..Wanted::default()
        };
        Setup::new(&wanted, &["localhost"]).unwrap()
    }

    fn what_is_sent_comes_back<T: Transport<Setup = ()>>() {
        let (socket, mut others, path) = echo(2);
        let mut transport = Tls::<T>::new(vec![socket.into()], &setup(&path)).unwrap();
        let bytes: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        for round in 0..2 {
            let mut seen = Seen::default();
            assert!(!transport.is_sending(0));
            assert!(transport.send(0, &mut bytes.clone()));
            let told = transport.is_sending(0);
            if told {
                assert!(!transport.send(0, &mut b"too early".to_vec()));
            }
            while seen.bytes.len() < bytes.len() || transport.is_sending(0) {
                assert_eq!(seen.closed, None);
                transport
                    .turn(Some(Duration::from_millis(50)), &mut seen)
                    .unwrap();
            }
            assert!(seen.bytes == bytes && seen.sent == usize::from(told));
            if round == 0 {
                let next = others.pop().unwrap();
                transport.replace(0, next.into()).unwrap();
            }
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_sent_comes_back_over_epoll() {
        what_is_sent_comes_back::<Epoll>();
    }

    #[test]
    fn what_is_sent_comes_back_over_a_ring() {
        // A host that refuses io_uring has the other transport.
        if Uring::new(Vec::new(), &()).is_ok() {
            what_is_sent_comes_back::<Uring>();
        }
    }

    #[test]
    fn a_server_that_nobody_vouches_for_is_refused() {
        let (socket, _, path) = echo(1);
        let (_other, _, foreign) = echo(1);
        let refused = Tls::<Epoll>::new(vec![socket.into()], &setup(&foreign));
        let sentence = refused.map(drop).unwrap_err().to_string();
        assert!(sentence.contains("certificate"), "{sentence}");
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(foreign).unwrap();
    }

    #[test]
    fn a_server_without_tls_is_told_apart() {
        let (_tls, _, path) = echo(1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = std::thread::spawn(move || {
            let (mut accepted, _) = listener.accept().unwrap();
            accepted.write_all(b"ERROR\r\n").unwrap();
            accepted
        });
        let refused = Tls::<Epoll>::new(vec![socket.into()], &setup(&path));
        let sentence = refused.map(drop).unwrap_err().to_string();
        assert!(sentence.starts_with("TLS: "), "{sentence}");
        drop(server.join().unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nonsense_names_its_option() {
        let said = |change: fn(&mut Wanted)| {
            let mut wanted = Wanted {
                skip_verify: true,
                ..Wanted::default()
            };
            change(&mut wanted);
            Setup::new(&wanted, &["localhost"]).map(drop)
        };
        assert_eq!(said(|_| ()), Ok(()));
        for (change, option) in [
            (
                (|wanted| wanted.protocols = Some("SSLv3".into())) as fn(&mut Wanted),
                "--tls-protocols",
            ),
            (|wanted| wanted.cert = Some("/nowhere".into()), "--key"),
            (|wanted| wanted.key = Some("/nowhere".into()), "--key"),
            (|wanted| wanted.sni = Some("no name".into()), "--sni"),
        ] {
            let sentence = said(change).unwrap_err();
            assert!(sentence.starts_with(option), "{sentence}");
        }
        let wanted = Wanted {
            cacert: Some("/nowhere".into()),
            ..Wanted::default()
        };
        let sentence = Setup::new(&wanted, &["localhost"]).map(drop).unwrap_err();
        assert!(sentence.starts_with("--cacert"), "{sentence}");
    }
}
