//! The values of `wharf run`'s options, read from text. Pure.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// `--dir HOST:GUEST[:ro]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dir {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) read_only: bool,
}

/// `-p [ADDRESS:]HOST:POD`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) address: IpAddr,
    pub(crate) host: u16,
    pub(crate) pod: u16,
}

/// `K=V`; `K` alone takes the value it has here, as elsewhere.
pub(crate) fn env(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (
            text,
            std::env::var(text).map_err(|_unset| format!("{text} is not set here; write {text}=VALUE"))?,
        ),
    };
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok((name.to_owned(), value))
}

pub(crate) fn dir(text: &str) -> Result<Dir, String> {
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    let (host, guest) = paths.split_once(':').unwrap_or((paths, paths));
    if host.is_empty() || guest.is_empty() || guest.contains(':') {
        return Err("write HOST:GUEST or HOST:GUEST:ro".to_owned());
    }
    Ok(Dir { host: host.into(), guest: guest.to_owned(), read_only })
}

pub(crate) fn published(text: &str) -> Result<Published, String> {
    let wrong = || "write HOST:POD or ADDRESS:HOST:POD, ports from 1 to 65535".to_owned();
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
    let (rest, pod) = text.rsplit_once(':').unwrap_or((text, text));
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (address.trim_matches(['[', ']']).parse().map_err(|_wrong| wrong())?, host),
        None => (Ipv4Addr::LOCALHOST.into(), rest),
    };
    Ok(Published { address, host: port(host)?, pod: port(pod)? })
}

/// Bytes, as Kubernetes writes them: `64Mi`, `1G`, `500000`.
pub(crate) fn memory(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "write a size such as 64Mi".to_owned())
}

/// Thousandths of a core, as Kubernetes writes them: `500m`, `0.5`, `2`.
pub(crate) fn cpu(text: &str) -> Result<u32, String> {
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse::<u32>().ok(),
        None => {
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            let part = format!("{part:0<3}");
            let part = if part.len() == 3 { part.parse::<u32>().ok() } else { None };
            whole.parse::<u32>().ok().and_then(|whole| whole.checked_mul(1_000)?.checked_add(part?))
        }
    };
    millis
        .filter(|millis| *millis > 0)
        .ok_or_else(|| "write a number of cores such as 0.5 or 500m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read() {
        let read = |text: &str| dir(text).map(|it| (it.host.display().to_string(), it.guest, it.read_only));
        let found = |host: &str, guest: &str, read_only| Ok((host.to_owned(), guest.to_owned(), read_only));
        assert_eq!(read(".:/work"), found(".", "/work", false));
        assert_eq!(read("/a:/b:ro"), found("/a", "/b", true));
        assert_eq!(read("/a"), found("/a", "/a", false));
        assert!([":/b", "/a:", "/a:/b:rx", ""].into_iter().all(|text| read(text).is_err()));
    }

    #[test]
    fn ports_are_read() {
        let read = |text: &str| published(text).map(|it| (it.address.to_string(), it.host, it.pod));
        assert_eq!(read("8080:80"), Ok(("127.0.0.1".to_owned(), 8080, 80)));
        assert_eq!(read("8080"), Ok(("127.0.0.1".to_owned(), 8080, 8080)));
        assert_eq!(read("0.0.0.0:8080:80"), Ok(("0.0.0.0".to_owned(), 8080, 80)));
        assert_eq!(read("[::1]:8080:80"), Ok(("::1".to_owned(), 8080, 80)));
        assert!(["", "0:80", "80:70000", "x:80", "a:1:2"].into_iter().all(|text| read(text).is_err()));
    }

    #[test]
    fn quantities_are_read() {
        assert_eq!(["64Mi", "1G", "7"].map(memory), [Ok(64 << 20), Ok(1_000_000_000), Ok(7)]);
        assert_eq!(["500m", "0.5", "2", "1.25"].map(cpu), [Ok(500), Ok(500), Ok(2_000), Ok(1_250)]);
        assert!(["", "0", "Mi", "-1", "1.5Gi"].into_iter().all(|text| memory(text).is_err()));
        assert!(["", "0", "m", "0.0001", "-1", "x"].into_iter().all(|text| cpu(text).is_err()));
    }

    #[test]
    fn variables_are_read() {
        assert_eq!(env("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(env("A="), Ok(("A".to_owned(), String::new())));
        assert!(env("=x").is_err() && env("WHARF_SURELY_UNSET").is_err());
    }
}
