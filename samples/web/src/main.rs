//! An ordinary server on `std::net`: answers every request with the name of its pod.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    let pod = wharf_guest::pod();
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("{} listens on {}:8080", pod.name, pod.ip);
    for stream in listener.incoming() {
        // A client that goes away early is its own affair.
        if let Err(error) = stream.and_then(|stream| answer(&stream, &pod.name)) {
            eprintln!("request: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: &TcpStream, name: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("/");
    let body = format!("hello from {name}: {path}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
