//! `wharf run` and `wharf image`: exit codes, streams, folders, ports.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
};
use wharf_tests::{eventually, guest, signal, text, wharf, with_input};

fn run(arguments: &[&str]) -> Command {
    let mut command = Command::new(wharf());
    command.arg("run").args(arguments).env("WHARF_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn tool(options: &[&str], words: &[&str]) -> Output {
    let file = guest("tool");
    let arguments: Vec<&str> =
        options.iter().copied().chain([file.to_str().unwrap()]).chain(words.iter().copied()).collect();
    run(&arguments).output().unwrap()
}

#[test]
fn the_guests_streams_and_exit_code_are_ours() {
    let echo = tool(&[], &["echo", "a", "b"]);
    assert_eq!(
        (text(&echo.stdout).as_str(), text(&echo.stderr).as_str(), echo.status.code()),
        ("a b\n", "on stderr\n", Some(0))
    );
    // All that `wasi:cli/exit` of WASI 0.2 tells of a component is whether it failed; preview 1 has the number.
    assert_eq!(tool(&[], &["exit", "42"]).status.code(), Some(1));
    let exits = tempfile::NamedTempFile::with_suffix(".wat").unwrap();
    let module = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 42))))"#;
    fs::write(exits.path(), module).unwrap();
    assert_eq!(run(&[exits.path().to_str().unwrap()]).status().unwrap().code(), Some(42));
    let file = guest("tool");
    let stdin = with_input(run(&[file.to_str().unwrap(), "stdin"]), "from outside\n");
    assert_eq!(text(&stdin.stdout), "from outside\n");
}

#[test]
fn a_trap_shows_its_message_and_backtrace() {
    let trap = tool(&[], &["trap"]);
    assert_eq!(trap.status.code(), Some(134));
    let said = text(&trap.stderr);
    assert!(said.contains("unreachable") && said.contains("innermost"), "{said}");
}

#[test]
fn memory_has_a_limit_and_a_kill_is_a_kill() {
    assert_eq!(tool(&["--memory", "16Mi"], &["hog"]).status.code(), Some(137));
    let file = guest("tool");
    let mut spinning = run(&[file.to_str().unwrap(), "spin"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(spinning.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "spinning\n");
    signal(spinning.id(), libc::SIGTERM);
    let status = eventually("the guest to end", || spinning.try_wait().unwrap());
    assert!(matches!(status.code(), Some(137 | 143)), "{status}");
}

#[test]
fn folders_and_variables_are_given_and_read_only_holds() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    let mount = format!("{}:/data", dir.path().display());
    let read_only = format!("{mount}:ro");
    assert_eq!(text(&tool(&["--dir", &mount], &["cat", "/data/file"]).stdout), "content");
    assert!(tool(&["--dir", &mount], &["write", "/data/new", "x"]).status.success());
    assert!(!tool(&["--dir", &read_only], &["write", "/data/newer", "x"]).status.success());
    assert!(dir.path().join("new").exists() && !dir.path().join("newer").exists());
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/file"), "deeper").unwrap();
    let at = |workdir, file| text(&tool(&["--dir", &mount, "--workdir", workdir], &["cat", file]).stdout);
    let seen = [at("/data", "file"), at("/data/sub", "file"), at("/data/sub", "/data/file")];
    assert_eq!(seen, ["content", "deeper", "content"]);
    let env = text(&tool(&["--env", "COLOR=blue"], &["env"]).stdout);
    assert!(env.contains("COLOR=blue\n"), "{env}");
    assert!(!env.contains("WHARF_HOME"), "the guest sees the host's environment: {env}");
}

#[test]
fn a_port_of_the_host_leads_to_the_pods() {
    for (file, words) in [(guest("tool"), vec!["serve", "0.0.0.0:8080"]), (guest("function"), vec![])] {
        // Free now, and with luck a moment later too.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mapping = format!("{port}:8080");
        let arguments: Vec<&str> =
            ["-p", &mapping, file.to_str().unwrap()].into_iter().chain(words).collect();
        let mut serving = run(&arguments).stdout(Stdio::null()).spawn().unwrap();
        let answer = eventually("an answer", || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            write!(stream, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.contains("200 OK").then_some(answer)
        });
        assert!(!answer.is_empty());
        signal(serving.id(), libc::SIGTERM);
        eventually("the end", || serving.try_wait().unwrap());
    }
}

#[test]
fn what_cannot_be_run_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let text_file = dir.path().join("x.wasm");
    fs::write(&text_file, "no wasm").unwrap();
    let unmet = guest("unmet");
    for (file, expected) in [
        ("/nowhere/x.wasm", "/nowhere/x.wasm"),
        (text_file.to_str().unwrap(), "x.wasm"),
        (unmet.to_str().unwrap(), "wasi:keyvalue/store"),
        ("no-such-image", "no-such-image"),
    ] {
        let output = run(&[file]).output().unwrap();
        assert!(matches!(output.status.code(), Some(125..=127)), "{file}: {}", output.status);
        let said = text(&output.stderr);
        assert!(said.contains(expected), "{file}: {said}");
    }
}

#[test]
fn what_keeps_a_handler_from_starting_is_told_before_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let function = guest("function");
    for wrong in [dir.path().join("nowhere"), file] {
        let mount = format!("{}:/data", wrong.display());
        let output = run(&["--dir", &mount, function.to_str().unwrap()]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(wrong.to_str().unwrap()), "{said}");
    }
    // One variable, given so often that no guest could take them all.
    let given = ["--env", "BIG"].repeat(30);
    let arguments: Vec<&str> = given.into_iter().chain([function.to_str().unwrap()]).collect();
    let output = run(&arguments).env("BIG", "x".repeat(100_000)).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("cannot start the guest: arguments and environment are"), "{said}");
}

#[test]
fn warnings_are_told_on_stderr_in_a_form_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let code = home.path().join("code");
    fs::create_dir(&code).unwrap();
    // Others could put code there.
    fs::set_permissions(&code, fs::Permissions::from_mode(0o777)).unwrap();
    let file = guest("preview1");
    let said = |options: &[&str], level: &str| {
        let arguments: Vec<&str> = options.iter().copied().chain([file.to_str().unwrap()]).collect();
        let mut command = run(&arguments);
        if !level.is_empty() {
            command.env("RUST_LOG", level);
        }
        let output = command.env("WHARF_HOME", home.path()).output().unwrap();
        assert_eq!(text(&output.stdout), "hello from preview 1\n");
        text(&output.stderr)
    };
    let warning = said(&[], "");
    assert!(
        warning.starts_with("wharf: warning: runtime_engine::engine: compiled code is not kept"),
        "{warning}"
    );
    assert_eq!(warning.lines().count(), 1, "{warning}");
    let json: serde_json::Value = serde_json::from_str(&said(&["--log-format", "json"], "")).unwrap();
    assert_eq!(json["fields"]["message"], "compiled code is not kept");
    assert_eq!(said(&[], "error"), "");
}

#[test]
fn images_are_loaded_listed_run_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let wharf = |arguments: &[&str]| {
        let output = Command::new(wharf()).args(arguments).env("WHARF_HOME", home.path()).output().unwrap();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let file = guest("preview1");
    assert!(wharf(&["image", "load", file.to_str().unwrap(), "-t", "old:1"]).0);
    let (_, list, _) = wharf(&["image", "ls"]);
    assert!(list.contains("old"), "{list}");
    assert_eq!(wharf(&["run", "old:1"]).1, "hello from preview 1\n");
    assert!(wharf(&["image", "rm", "old:1"]).0);
    let (removed_again, _, said) = wharf(&["image", "rm", "old:1"]);
    assert!(!removed_again && said.contains("old:1"), "{said}");
    assert!(wharf(&["completion", "bash"]).1.contains("_wharf"));
}
