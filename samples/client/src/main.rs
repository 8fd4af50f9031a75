//! Finds a Service by its name and calls it as often as it is told: `client http://web 10`.

use std::io::{Read, Write};
use std::net::TcpStream;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "http://web".to_owned());
    let calls: u32 = args.next().map_or(Ok(1), |calls| calls.parse())?;
    let authority =
        url.strip_prefix("http://").ok_or("the URL must start with http://")?.trim_end_matches('/');
    let host = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    for _ in 0..calls {
        let mut stream = TcpStream::connect(&host)?;
        write!(stream, "GET / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let body = response.split_once("\r\n\r\n").ok_or("the answer has no body")?.1;
        print!("{body}");
    }
    Ok(())
}
