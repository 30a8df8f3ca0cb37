//! Tests of the fault proxy: it behaves as the other tests assume.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::proxy::Proxy;

const BODY: usize = 2 << 20;

/// A server that answers each byte it receives with [`BODY`] bytes.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while client.read(&mut [0]).is_ok_and(|n| n > 0) && client.write_all(&[7; BODY]).is_ok() {}
            });
        }
    });
    address
}

fn ask(proxy: &Proxy) -> std::io::Result<usize> {
    let mut client = TcpStream::connect(proxy.address())?;
    client.set_read_timeout(Some(Duration::from_millis(400)))?;
    client.write_all(&[1])?;
    let mut body = vec![0; BODY];
    client.read_exact(&mut body).map(|()| body.len())
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (what(), start.elapsed())
}

#[test]
fn every_fault_is_what_it_says() {
    let proxy = Proxy::start(server());
    let faults = proxy.faults();
    assert_eq!(ask(&proxy).unwrap(), BODY);
    assert_eq!((faults.connections(), faults.bytes()), (1, (1, BODY as u64)));

    faults.delay(Duration::from_millis(50), Duration::from_millis(50));
    let (read, took) = timed(|| ask(&proxy));
    println!("{BODY} bytes, 50 ms each way and the same for the connection: {took:?}");
    assert!(read.is_ok() && took >= Duration::from_millis(200) && took < Duration::from_millis(900));
    faults.delay(Duration::ZERO, Duration::ZERO);

    faults.rate(None, Some(4 << 20));
    let (read, took) = timed(|| ask(&proxy));
    println!("{BODY} bytes at 4 MiB/s: {took:?}");
    assert!(read.is_ok() && took >= Duration::from_millis(480) && took < Duration::from_millis(1000));
    faults.rate(None, None);

    faults.reset_after(Some(100_000..100_001));
    assert_eq!(ask(&proxy).unwrap_err().kind(), ErrorKind::ConnectionReset);
    faults.reset_after(None);
    faults.reset_after_sent(Some(1..2));
    assert_eq!(ask(&proxy).unwrap_err().kind(), ErrorKind::ConnectionReset);
    faults.reset_after_sent(None);

    faults.stall(true);
    assert_eq!(ask(&proxy).unwrap_err().kind(), ErrorKind::WouldBlock);
    faults.stall(false);

    faults.refuse(true);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(ask(&proxy).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    faults.refuse(false);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(ask(&proxy).unwrap(), BODY);

    faults.unavailable(Some(7));
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let mut said = vec![0; 600];
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let length = client.read(&mut said).unwrap();
        assert!(said[..length].starts_with(b"HTTP/1.1 503 "));
    }
    faults.unavailable(None);
    assert_eq!(ask(&proxy).unwrap(), BODY);
}
