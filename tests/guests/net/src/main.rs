//! Sockets from a guest's side, for tests: `net VERB [ARGUMENT..]`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", address, count] => serve(address, count.parse()?),
        ["ask", address, text] => ask(address, text),
        ["swallow", address] => swallow(address),
        ["pour", address, bytes] => pour(address, bytes.parse()?),
        ["resolve", names @ ..] => resolve(names),
        ["fail", addresses @ ..] => fail(addresses),
        ["hoard", address] => hoard(address),
        ["hold", address] => hold(address),
        ["pour-on", address] => pour_on(address),
        ["udp-serve", address, count] => udp_serve(address, count.parse()?),
        ["udp-ask", address, text] => udp_ask(address, text),
        ["options", address] => options(address),
        ["states"] => states(),
        _ => Err(format!("unknown verb: {words:?}").into()),
    }
}

/// Answers `count` connections with what they sent, in capitals.
fn serve(address: &str, count: usize) -> Outcome {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming().take(count) {
        let mut stream = stream?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        stream.write_all(text.to_uppercase().as_bytes())?;
        println!("answered {}", stream.peer_addr()?.ip());
    }
    Ok(())
}

/// Sends a text, ends that direction, and prints what comes back.
fn ask(address: &str, text: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

/// Takes one connection, reads it to its end and says how much it was.
fn swallow(address: &str) -> Outcome {
    let (mut stream, _) = TcpListener::bind(address)?.accept()?;
    let mut buffer = vec![0; 10_000];
    let mut sum = 0_u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            n => sum += buffer[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>(),
        }
    }
    stream.write_all(format!("the bytes add up to {sum}").as_bytes())?;
    Ok(())
}

/// Sends many bytes and prints what the other side says of them.
fn pour(address: &str, bytes: usize) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&vec![1; bytes])?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

fn resolve(names: &[&str]) -> Outcome {
    for name in names {
        match (*name, 0).to_socket_addrs() {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.map(|address| address.ip().to_string()).collect();
                println!("{name}: {}", addresses.join(" "));
            }
            Err(_) => println!("{name}: unknown"),
        }
    }
    Ok(())
}

fn fail(addresses: &[&str]) -> Outcome {
    for address in addresses {
        match TcpStream::connect(address) {
            Ok(_) => println!("{address}: connected"),
            Err(error) => println!("{address}: {:?}", error.kind()),
        }
    }
    Ok(())
}

/// Connects until it may no more.
fn hoard(address: &str) -> Outcome {
    let mut held = Vec::new();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => held.push(stream),
            Err(error) => {
                println!("{} connections, then {:?}", held.len(), error.raw_os_error());
                return Ok(());
            }
        }
    }
}

/// Connects and waits for an end that does not come.
fn hold(address: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    println!("connected");
    match stream.read(&mut [0]) {
        Ok(n) => println!("read {n}"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => println!("reset"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// Sends without end, and says how the other side ended.
fn pour_on(address: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    println!("connected");
    let chunk = [1; 10_000];
    loop {
        if let Err(error) = stream.write_all(&chunk) {
            println!("ended: {:?}", error.kind());
            return Ok(());
        }
    }
}

fn udp_serve(address: &str, count: usize) -> Outcome {
    let socket = UdpSocket::bind(address)?;
    println!("listening on {}", socket.local_addr()?);
    let mut buffer = [0; 1500];
    for _ in 0..count {
        let (n, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(buffer[..n].to_ascii_uppercase().as_slice(), from)?;
    }
    Ok(())
}

fn udp_ask(address: &str, text: &str) -> Outcome {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 1500];
    let n = socket.recv(&mut buffer)?;
    println!("{}", String::from_utf8_lossy(&buffer[..n]));
    Ok(())
}

fn options(address: &str) -> Outcome {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("accept: {:?}", listener.accept().map(drop).map_err(|error| error.kind()));
    listener.set_nonblocking(false)?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, peer) = listener.accept()?;
    println!(
        "addresses agree: {}",
        client.local_addr()? == peer && server.local_addr()? == client.peer_addr()?
    );
    client.set_ttl(32)?;
    client.set_nodelay(true)?;
    println!("ttl {}, nodelay {}", client.ttl()?, client.nodelay()?);
    client.set_nonblocking(true)?;
    println!("read: {:?}", client.read(&mut [0]).map_err(|error| error.kind()));
    let mut written = 0;
    while let Ok(n) = client.write(&[0; 4096]) {
        written += n;
    }
    println!("a full direction holds {written}");
    server.shutdown(Shutdown::Both)?;
    println!("read: {:?}", client.read(&mut [0]).map_err(|error| error.kind()));
    println!("server reads: {:?}", server.read(&mut [0]).map_err(|error| error.kind()));
    Ok(())
}

/// What the interface says to calls out of order.
fn states() -> Outcome {
    let say = |what: &str, code: Result<(), ErrorCode>| {
        println!("{what}: {}", code.map_or_else(|code| code.name(), |()| "ok"));
    };
    let address = |a, b, c, d, port| IpSocketAddress::Ipv4(Ipv4SocketAddress { address: (a, b, c, d), port });
    let network = instance_network();
    let new = || create_tcp_socket(IpAddressFamily::Ipv4).expect("there is a network");

    let socket = new();
    say("finish-bind unstarted", socket.finish_bind());
    say("finish-connect unstarted", socket.finish_connect().map(drop));
    say("finish-listen unstarted", socket.finish_listen());
    say("listen unbound", socket.start_listen());
    say("accept unbound", socket.accept().map(drop));
    say("local-address unbound", socket.local_address().map(drop));
    say("shutdown unconnected", socket.shutdown(ShutdownType::Both));
    say("bind multicast", socket.start_bind(&network, address(224, 0, 0, 1, 80)));
    say("bind another's address", socket.start_bind(&network, address(10, 1, 1, 1, 80)));
    say("connect to port 0", socket.start_connect(&network, address(127, 0, 0, 1, 0)));
    say("connect to 0.0.0.0", socket.start_connect(&network, address(0, 0, 0, 0, 80)));
    say("bind", socket.start_bind(&network, address(127, 0, 0, 1, 7000)));
    say("bind during bind", socket.start_bind(&network, address(127, 0, 0, 1, 7000)));
    say("finish-bind", socket.finish_bind());
    say("bind again", socket.start_bind(&network, address(127, 0, 0, 1, 7001)));
    let other = new();
    say("bind the same", other.start_bind(&network, address(127, 0, 0, 1, 7000)));
    say("backlog 0", socket.set_listen_backlog_size(0));
    say("hop limit 0", socket.set_hop_limit(0));
    say("keep alive", socket.set_keep_alive_enabled(true));
    say("keep alive time", socket.set_keep_alive_idle_time(5_000_000_000));
    say("hop limit", socket.set_hop_limit(7));
    say("listen", socket.start_listen().and_then(|()| socket.finish_listen()));
    println!("listening: {}", socket.is_listening());
    say("accept", socket.accept().map(drop));
    say("connect while listening", socket.start_connect(&network, address(127, 0, 0, 1, 7000)));
    let client = connect(&new(), &network, address(127, 0, 0, 1, 7000));
    say("connect", client.map(drop));
    let (accepted, _input, output) = socket.accept().expect("one waits");
    println!(
        "inherited: {:?} {:?} {:?}",
        accepted.keep_alive_enabled(),
        accepted.keep_alive_idle_time(),
        accepted.hop_limit()
    );
    println!("write to a closed peer: {}", output.blocking_write_and_flush(b"x").is_err());

    let udp = create_udp_socket(IpAddressFamily::Ipv4).expect("there is a network");
    say("udp stream unbound", udp.stream(None).map(drop));
    say("udp bind", udp.start_bind(&network, address(0, 0, 0, 0, 0)).and_then(|()| udp.finish_bind()));
    say("udp remote-address", udp.remote_address().map(drop));
    let (incoming, outgoing) = udp.stream(None).expect("it is bound");
    println!("udp receive: {:?}", incoming.receive(5).map(|datagrams| datagrams.len()));
    println!("udp permits: {:?}", outgoing.check_send());
    let datagram = |remote_address| wasip2::sockets::udp::OutgoingDatagram { data: vec![0], remote_address };
    say("udp send nowhere", outgoing.send(&[datagram(None)]).map(drop));
    outgoing.check_send().expect("sending never waits");
    println!("udp send: {:?}", outgoing.send(&[datagram(Some(address(127, 0, 0, 1, 9)))]));
    Ok(())
}

fn connect(
    socket: &TcpSocket,
    network: &wasip2::sockets::network::Network,
    to: IpSocketAddress,
) -> Result<(), ErrorCode> {
    socket.start_connect(network, to)?;
    socket.subscribe().block();
    socket.finish_connect().map(drop)
}
