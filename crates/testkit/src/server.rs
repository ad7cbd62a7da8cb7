//! A small HTTP/1.1 server that answers what a test tells it to: also slowly, wrongly, or half.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// As it stands in the first line: `/v2/?a=b`, or a whole address where the server is a proxy.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The value of the header `name`, which is written in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// All values of `key` in the query, decoded.
    pub fn query(&self, key: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        form(query).into_iter().filter(|(known, _)| known == key).map(|(_, value)| value).collect()
    }
}

/// Decodes `application/x-www-form-urlencoded`.
pub fn form(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let (mut out, bytes) = (Vec::new(), text.as_bytes());
        let mut at = 0;
        while at < bytes.len() {
            let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match (bytes[at], hex) {
                (b'%', Some(byte)) => {
                    out.push(byte);
                    at += 2;
                }
                (b'+', _) => out.push(b' '),
                (byte, _) => out.push(byte),
            }
            at += 1;
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// What it gets.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Said as `Content-Length` in place of the truth.
    pub claimed: Option<u64>,
    /// After so many bytes of the body the connection is cut.
    pub cut: Option<usize>,
    /// The body goes in pieces of so many bytes, with such a wait before each.
    pub slow: Option<(usize, Duration)>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// A server on 127.0.0.1, on a port of its own; ends when this drops.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    seen: Mutex<Vec<Request>>,
    open: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

impl Server {
    /// Starts a server that answers with what `handler` returns; it is called from many threads.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            seen: Mutex::default(),
            open: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let for_all = shared.clone();
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_all.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = for_all.clone();
                shared.open.lock().unwrap().extend(stream.try_clone());
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared, listener: Some(listener) }
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// All requests up to now, in order of their arrival.
    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests with `method` had `part` in their target.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|request| request.method == method && request.target.contains(part)).count()
    }

    /// Forgets the requests up to now.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(mut out) = stream.try_clone() else { return };
        // A client that tries TLS first is told at once that there is none.
        if begins_tls(&stream) {
            return drop(out.shutdown(Shutdown::Both));
        }
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader, &mut out) {
            // What is kept of a request is what tests ask about.
            let mut kept = request.clone();
            kept.body.truncate(64 << 10);
            self.seen.lock().unwrap().push(kept);
            let reply = (self.handler)(&request);
            if write_reply(&mut out, &request, &reply).is_none() {
                let _ = out.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

fn begins_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    stream.peek(&mut first).is_ok_and(|read| read == 1 && first[0] == 0x16)
}

fn read_request(reader: &mut BufReader<TcpStream>, out: &mut TcpStream) -> Option<Request> {
    let line = |reader: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let first = line(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, target, headers, body: Vec::new() };
    if request.header("expect").is_some() {
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(line(reader)?.split(';').next()?, 16).ok()?;
            let before = request.body.len();
            request.body.resize(before + size, 0);
            reader.read_exact(&mut request.body[before..]).ok()?;
            line(reader);
            if size == 0 {
                return Some(request);
            }
        }
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// Writes an answer; `None` if the connection is at its end.
fn write_reply(out: &mut TcpStream, request: &Request, reply: &Reply) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} Test\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = reply.claimed.unwrap_or(reply.body.len() as u64);
    if reply.status != 204 {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    out.write_all(head.as_bytes()).ok()?;
    if request.method == "HEAD" || reply.status == 204 {
        return Some(());
    }
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
    let (piece, wait) = reply.slow.unwrap_or((body.len().max(1), Duration::ZERO));
    for piece in body.chunks(piece) {
        std::thread::sleep(wait);
        out.write_all(piece).ok()?;
    }
    (reply.cut.is_none() && length == reply.body.len() as u64).then_some(())
}
