//! A client that costs as little as possible: one connection, one request outstanding, bytes made beforehand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A kept connection.
pub(crate) struct Client {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    /// `address`: host and port.
    pub(crate) fn connect(address: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Client { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    /// The bytes of a request with this body; a GET without one.
    pub(crate) fn request(&self, path: &str, body: Option<&str>) -> Vec<u8> {
        let address = &self.address;
        match body {
            None => format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes(),
            Some(body) => {
                let len = body.len();
                format!(
                    "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
                )
                .into_bytes()
            }
        }
    }

    /// Sends a request and reads the answer: status and body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        self.stream.get_mut().write_all(request)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad("no status line"))?;
        let mut len = None;
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(bad("the answer ends in its head"));
            }
            match line.trim_end().split_once(':') {
                None => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => len = value.trim().parse().ok(),
                Some(_) => {}
            }
        }
        let mut body = vec![0; len.ok_or_else(|| bad("the answer has no content-length"))?];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }
}
