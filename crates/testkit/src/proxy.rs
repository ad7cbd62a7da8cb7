//! What lies between a client and a server, and cuts connections.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

/// Passes connections on to a server, each until so many bytes have gone there. Ends when this drops.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    to: String,
    /// Bytes after which connections are cut; `u64::MAX` for never.
    limit: AtomicU64,
    cuts: AtomicUsize,
    sent: AtomicU64,
    stop: AtomicBool,
}

impl Proxy {
    /// Starts one before the server at `to`, which is `<address>:<port>`.
    pub fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            limit: AtomicU64::new(u64::MAX),
            cuts: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let for_all = shared.clone();
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_all.stop.load(SeqCst) {
                    return;
                }
                let shared = for_all.clone();
                std::thread::spawn(move || shared.pass(stream));
            }
        });
        Self { address, shared, listener: Some(listener) }
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Cuts the next `cuts` connections that bring more than `limit` bytes there.
    pub fn cut(&self, cuts: usize, limit: u64) {
        self.shared.limit.store(limit, SeqCst);
        self.shared.cuts.store(cuts, SeqCst);
    }

    /// Cuts that are still to come.
    pub fn left(&self) -> usize {
        self.shared.cuts.load(SeqCst)
    }

    /// Bytes that went to the server.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn pass(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(&self.to) else { return };
        let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let answering = std::thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let (mut piece, mut passed) = (vec![0; 16 << 10], 0);
        while let Ok(read @ 1..) = client.read(&mut piece) {
            if server.write_all(&piece[..read]).is_err() {
                break;
            }
            passed += read as u64;
            self.sent.fetch_add(read as u64, SeqCst);
            let over = passed > self.limit.load(SeqCst);
            if over && self.cuts.fetch_update(SeqCst, SeqCst, |cuts| cuts.checked_sub(1)).is_ok() {
                let _ = client.shutdown(Shutdown::Both);
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
        let _ = answering.join();
    }
}
