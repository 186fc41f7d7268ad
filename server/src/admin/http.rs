//! As much of HTTP/1.1 as an operator's tools need: one request, one answer, then close.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

/// The longest request head that is read.
const HEAD_MAX_BYTES: usize = 8 << 10;

/// Header lines at most.
const HEADERS_MAX: usize = 64;

/// Headers of every answer: figures are not to be kept, and the page loads and runs nothing from
/// elsewhere, nor is it shown inside another.
const EVERY_ANSWER: &str = "Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n\
    Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; \
    base-uri 'none'; form-action 'none'\r\n";

/// What was asked.
pub struct Request {
    /// As sent.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What stands behind the `?`, as sent.
    pub query: String,
    /// What follows `Bearer` in the Authorization header, if anything does.
    pub token: Option<Vec<u8>>,
}

/// The outcomes an operator meets.
#[derive(Clone, Copy)]
pub enum Status {
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 431
    TooLarge,
    /// 503
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// What is answered.
pub struct Response {
    status: Status,
    content_type: &'static str,
    body: String,
}

impl Response {
    /// Plain text.
    pub fn text(status: Status, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// JSON.
    pub fn json(body: String) -> Self {
        Self {
            status: Status::Ok,
            content_type: "application/json",
            body,
        }
    }

    /// A page that needs nothing but itself and this endpoint.
    pub fn page(body: &str) -> Self {
        Self {
            status: Status::Ok,
            content_type: "text/html; charset=utf-8",
            body: body.into(),
        }
    }

    /// Prometheus text, format 0.0.4.
    pub fn metrics(body: String) -> Self {
        Self {
            status: Status::Ok,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body,
        }
    }
}

/// Reads one request head.
///
/// # Errors
/// The status to answer with, or None when the peer is gone.
pub async fn read_request(stream: &mut TcpStream) -> Result<Request, Option<Status>> {
    let mut head = vec![0; HEAD_MAX_BYTES];
    let mut len = 0;
    loop {
        if len == head.len() {
            return Err(Some(Status::TooLarge));
        }
        match stream.read(&mut head[len..]).await {
            Ok(0) | Err(_) => return Err(None),
            Ok(read) => len += read,
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&head[..len]) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let target = parsed.path.unwrap_or_default();
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                return Ok(Request {
                    method: parsed.method.unwrap_or_default().into(),
                    path: path.into(),
                    query: query.into(),
                    token: bearer(parsed.headers),
                });
            }
            Err(httparse::Error::TooManyHeaders) => return Err(Some(Status::TooLarge)),
            Err(_) => return Err(Some(Status::BadRequest)),
        }
    }
}

/// The token of a request; the scheme's name is taken in any case, as RFC 9110 has it.
fn bearer(headers: &[httparse::Header<'_>]) -> Option<Vec<u8>> {
    const SCHEME: &[u8] = b"bearer ";
    let mut named = headers.iter();
    let header = named.find(|header| header.name.eq_ignore_ascii_case("authorization"))?;
    let (scheme, token) = header.value.split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_ascii().to_vec())
}

/// Sends the answer, to `HEAD` without its body, and ends the connection.
pub async fn respond(stream: &mut TcpStream, response: &Response, head_only: bool) {
    let text = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n{EVERY_ANSWER}{}\r\n{}",
        response.status.line(),
        response.content_type,
        response.body.len(),
        match response.status {
            Status::Unauthorized => "WWW-Authenticate: Bearer\r\n",
            _ => "",
        },
        if head_only { "" } else { &response.body }
    );
    // The peer may be gone; there is nobody to tell.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.flush().await;
    let _ = stream.close().await;
}
