//! One guest with many verbs, for tests: `tool VERB [ARGUMENT..]`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        // Ends
        ["exit", code] => std::process::exit(code.parse()?),
        ["trap"] => innermost(),
        ["fail-once", marker] => fail_once(marker),
        ["wait"] => {
            println!("waiting");
            let notice = wharf_guest::wait_for_termination();
            println!("told to end: {}", notice.reason);
            Ok(())
        }
        ["sleep", seconds] => {
            println!("sleeping");
            std::thread::sleep(Duration::from_secs(seconds.parse()?));
            Ok(())
        }
        // Misbehaves
        ["spin"] => spin(),
        ["hog"] => hog(),
        ["flood"] => flood(),
        ["sockets"] => sockets(),
        ["fill", file, bytes] => fill(file, bytes.parse()?),
        // Looks around
        ["echo", rest @ ..] => {
            println!("{}", rest.join(" "));
            eprintln!("on stderr");
            Ok(())
        }
        ["env"] => {
            std::env::vars().for_each(|(name, value)| println!("{name}={value}"));
            Ok(())
        }
        ["pwd"] => {
            println!("{}", std::env::current_dir()?.display());
            Ok(())
        }
        ["cat", file] => {
            print!("{}", std::fs::read_to_string(file)?);
            Ok(())
        }
        ["follow", file] => follow(file),
        ["write", file, text] => Ok(std::fs::write(file, text)?),
        ["stdin"] => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            print!("{text}");
            Ok(())
        }
        ["pod"] => {
            println!("{:?}", wharf_guest::pod());
            Ok(())
        }
        // Talks
        ["serve", address] => serve(address),
        ["get", address] => {
            println!("{}", get(address)?);
            Ok(())
        }
        ["get-many", address, count] => {
            for _ in 0..count.parse::<u32>()? {
                println!("{}", get(address)?);
            }
            Ok(())
        }
        ["resolve", name] => {
            for address in (*name, 0).to_socket_addrs()? {
                println!("{}", address.ip());
            }
            Ok(())
        }
        ["udp-echo", address] => udp_echo(address),
        ["udp-send", address, text] => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(text.as_bytes(), address)?;
            let mut buffer = [0; 1500];
            let (length, from) = socket.recv_from(&mut buffer)?;
            println!("{from}: {}", String::from_utf8_lossy(&buffer[..length]));
            Ok(())
        }
        _ => Err(format!("unknown verb: {words:?}").into()),
    }
}

#[inline(never)]
fn innermost() -> Outcome {
    std::process::abort()
}

/// Fails when `marker` is not there, and leaves it; succeeds when it is.
fn fail_once(marker: &str) -> Outcome {
    if std::fs::exists(marker)? {
        println!("second time");
        return Ok(());
    }
    std::fs::write(marker, "")?;
    Err("first time".into())
}

fn spin() -> Outcome {
    println!("spinning");
    let mut count = 0_u64;
    loop {
        count = std::hint::black_box(count.wrapping_add(1));
    }
}

fn hog() -> Outcome {
    let mut held = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
        println!("{} MiB", held.len());
    }
}

fn flood() -> Outcome {
    let line = "x".repeat(1000);
    let mut out = std::io::stdout().lock();
    for number in 0_u64.. {
        writeln!(out, "{number} {line}")?;
    }
    Ok(())
}

fn sockets() -> Outcome {
    let mut held = Vec::new();
    loop {
        match TcpListener::bind("0.0.0.0:0") {
            Ok(listener) => held.push(listener),
            Err(error) => {
                println!("{} sockets, then: {error}", held.len());
                return Ok(());
            }
        }
    }
}

/// Writes a file of that size, and stays.
fn fill(file: &str, bytes: usize) -> Outcome {
    std::fs::write(file, vec![b'x'; bytes])?;
    println!("filled");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Prints the file's content each time that it is another.
fn follow(file: &str) -> Outcome {
    let mut last = String::new();
    loop {
        let text = std::fs::read_to_string(file)?;
        if text != last {
            println!("{text}");
            last = text;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Answers each connection with the pod's name and what the client's address is.
fn serve(address: &str) -> Outcome {
    let name = wharf_guest::pod().name;
    let listener = TcpListener::bind(address)?;
    println!("serving");
    for stream in listener.incoming() {
        let stream = stream?;
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
        let body = format!("{name} to {}", stream.peer_addr()?.ip());
        let _ = write!(
            &stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    Ok(())
}

fn get(address: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET / HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response.split_once("\r\n\r\n").ok_or("no body")?.1.to_owned())
}

fn udp_echo(address: &str) -> Outcome {
    let socket = UdpSocket::bind(address)?;
    println!("serving");
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}
