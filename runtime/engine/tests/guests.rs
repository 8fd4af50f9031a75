//! Guests as they are met: good ones, and each way of being bad.

#![expect(clippy::unwrap_used, reason = "helpers of tests; a panic is their answer")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_engine::{
    Engine, EngineConfig, Exit, Folder, GuestSpec, Image, LoadError, Meter, Mount, PoolSizes, StartError,
};
use tokio::time::{Instant, timeout};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// Longer than anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "hello\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (i32.const 6))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;
const SPIN: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;
const HOG: &str = r#"(module (memory (export "memory") 1)
    (func (export "_start") (loop (drop (memory.grow (i32.const 16))) (br 0))))"#;
const TRAP: &str = r#"(module (memory (export "memory") 1)
    (func $divide (param i32) (drop (i32.div_s (i32.const 1) (local.get 0))))
    (func $compute (call $divide (i32.const 0)))
    (func $main (export "_start") (call $compute)))"#;
const EXIT: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (call $exit (i32.const 7))))"#;
/// Sleeps for an hour in one host call.
const SLEEP: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))"#;
/// Makes a file in its folder, and ends with what came of it.
const TOUCH: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "made")
    (func (export "_start")
        (call $exit (call $open
            (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))))"#;

fn engine_with(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = EngineConfig { pool: PoolSizes::for_guests(16), ..EngineConfig::default() };
    change(&mut config);
    Engine::new(config, &[]).unwrap()
}

fn engine() -> Engine {
    engine_with(|_| ())
}

async fn load(engine: &Engine, text: &'static str) -> Arc<Image> {
    engine.load(Bytes::from_static(text.as_bytes())).await.unwrap()
}

async fn refused(text: &'static str) -> LoadError {
    engine().load(Bytes::from_static(text.as_bytes())).await.unwrap_err()
}

async fn run(engine: &Engine, text: &'static str, spec: GuestSpec) -> Exit {
    let guest = load(engine, text).await.start(spec).await.unwrap();
    timeout(DEADLINE, guest.wait()).await.unwrap()
}

/// Waits for a condition.
async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "the condition did not come true");
        tokio::task::yield_now().await;
    }
}

/// Grows by a megabyte at a time, and touches it, up to 512 MiB; then it sleeps for an hour.
const GLUTTON: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 16)
    (func (export "_start") (local $at i32)
        (loop $more
            (drop (memory.grow (i32.const 16)))
            (memory.fill (local.get $at) (i32.const 1) (i32.const 1048576))
            (local.set $at (i32.add (local.get $at) (i32.const 1048576)))
            (br_if $more (i32.lt_u (local.get $at) (i32.const 536870912))))
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))))"#;

#[tokio::test]
async fn the_guest_that_holds_most_is_ended_before_the_machine_is_full() {
    // Far above what a test's process takes by itself, and below what this guest wants.
    let budget = 384 << 20;
    let engine = engine_with(|config| config.memory_budget = Some(budget));
    let small = load(&engine, SLEEP).await.start(GuestSpec::default()).await.unwrap();
    assert_eq!(run(&engine, GLUTTON, GuestSpec::default()).await, Exit::OutOfMemory { limit: budget });
    assert!(!small.control().is_killed());
    small.control().kill();
    assert_eq!(timeout(DEADLINE, small.wait()).await.unwrap(), Exit::Killed);
}

#[tokio::test]
async fn a_core_module_prints_and_ends() {
    let stdout = MemoryOutputPipe::new(1024);
    let spec = GuestSpec { stdout: Box::new(stdout.clone()), ..GuestSpec::default() };
    assert_eq!(run(&engine(), HELLO, spec).await, Exit::Code(0));
    assert_eq!(stdout.contents(), "hello\n");
}

#[tokio::test]
async fn a_component_of_text_runs() {
    let component = r#"(component
        (core module $m (func (export "run") (result i32) (i32.const 1)))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;
    assert_eq!(run(&engine(), component, GuestSpec::default()).await, Exit::Code(1));
}

#[tokio::test]
async fn the_exit_code_is_the_guests() {
    let exit = run(&engine(), EXIT, GuestSpec::default()).await;
    assert_eq!((exit.code(), exit), (7, Exit::Code(7)));
}

#[tokio::test]
async fn a_trap_is_told_with_the_functions_that_were_running() {
    let exit = run(&engine(), TRAP, GuestSpec::default()).await;
    assert_eq!(exit.code(), 134);
    let Exit::Trapped { message, backtrace } = exit else { panic!("{exit:?}") };
    assert_eq!(message, "wasm trap: integer divide by zero");
    let at = |name: &str| backtrace.find(name).unwrap_or_else(|| panic!("{name} in {backtrace}"));
    assert!(at("divide") < at("compute") && at("compute") < at("main"), "{backtrace}");
}

#[tokio::test]
async fn a_spinning_guest_leaves_room_for_others_and_can_be_killed() {
    let engine = engine_with(|config| config.threads = Some(1));
    let spin = load(&engine, SPIN).await.start(GuestSpec::default()).await.unwrap();
    until(|| spin.control().usage().cpu > Duration::from_millis(20)).await;
    // There is one thread, and the spinning guest has it.
    assert_eq!(run(&engine, HELLO, GuestSpec::default()).await, Exit::Code(0));
    spin.control().kill();
    assert_eq!(timeout(DEADLINE, spin.wait()).await.unwrap(), Exit::Killed);
}

#[tokio::test]
async fn a_guest_that_waits_in_the_host_can_be_killed_and_uses_no_time() {
    let engine = engine();
    let sleep = load(&engine, SLEEP).await.start(GuestSpec::default()).await.unwrap();
    let control = sleep.control();
    until(|| control.usage().memory_bytes > 0).await;
    control.kill();
    assert_eq!(timeout(DEADLINE, sleep.wait()).await.unwrap(), Exit::Killed);
    let usage = control.usage();
    assert_eq!(usage.memory_bytes, 0);
    assert!(usage.memory_peak >= 65_536 && usage.cpu < Duration::from_secs(1), "{usage:?}");
}

#[tokio::test]
async fn dropping_a_guest_ends_it() {
    let engine = engine();
    drop(load(&engine, SPIN).await.start(GuestSpec::default()).await.unwrap());
    timeout(DEADLINE, engine.close()).await.unwrap();
    let error = load(&engine, SPIN).await.start(GuestSpec::default()).await.unwrap_err();
    assert!(matches!(error, StartError::Closed), "{error}");
}

#[tokio::test]
async fn a_guest_over_its_memory_limit_is_ended() {
    let limit = 8 << 20;
    let engine = engine();
    let guest = load(&engine, HOG).await;
    let guest = guest.start(GuestSpec { memory_bytes: Some(limit), ..GuestSpec::default() }).await.unwrap();
    let control = guest.control();
    assert_eq!(timeout(DEADLINE, guest.wait()).await.unwrap(), Exit::OutOfMemory { limit });
    let peak = control.usage().memory_peak;
    assert!(peak <= limit && peak > limit / 2, "{peak}");
    // Also when the memory it begins with is too large.
    let spec = GuestSpec { memory_bytes: Some(1000), ..GuestSpec::default() };
    assert_eq!(run(&engine, HELLO, spec).await, Exit::OutOfMemory { limit: 1000 });
}

#[tokio::test]
async fn guests_that_share_a_limit_are_held_to_it_together() {
    let engine = engine();
    let shared = Meter::new(Some(300 << 10), None);
    let spec = || GuestSpec { shared: Some(shared.clone()), ..GuestSpec::default() };
    let image = load(&engine, SLEEP).await;
    let first = image.start(spec()).await.unwrap();
    until(|| shared.usage().memory_bytes > 128 << 10).await;
    let second = image.start(spec()).await.unwrap();
    assert_eq!(timeout(DEADLINE, second.wait()).await.unwrap(), Exit::OutOfMemory { limit: 300 << 10 });
    drop(first);
    until(|| shared.usage().memory_bytes == 0).await;
}

#[tokio::test]
async fn a_guest_gets_its_share_of_a_core_and_no_more() {
    let engine = engine();
    let started = Instant::now();
    let spec = GuestSpec { cpu_millis: Some(100), ..GuestSpec::default() };
    let spin = load(&engine, SPIN).await.start(spec).await.unwrap();
    let control = spin.control();
    until(|| control.usage().cpu > Duration::from_millis(60)).await;
    // 10 ms were saved up; the other 50 take ten times as long.
    assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_guest_waits_for_a_place_and_gets_it_when_another_ends() {
    let engine = engine_with(|config| {
        config.pool = PoolSizes::for_guests(1);
        config.patience = Duration::from_millis(50);
    });
    let image = load(&engine, SLEEP).await;
    let first = image.start(GuestSpec::default()).await.unwrap();
    let error = image.start(GuestSpec::default()).await.unwrap_err();
    assert!(
        error.to_string().starts_with("no room for another guest: all 1 places were still taken"),
        "{error}"
    );
    first.control().kill();
    assert_eq!(first.wait().await, Exit::Killed);
    for _ in 0..200 {
        let guest = image.start(GuestSpec::default()).await.unwrap();
        guest.control().kill();
        assert_eq!(guest.wait().await, Exit::Killed);
    }
}

#[tokio::test]
async fn two_thousand_guests_wait_at_once() {
    let engine = engine_with(|config| config.pool = PoolSizes::for_guests(2000));
    let image = load(&engine, SLEEP).await;
    let mut guests = Vec::new();
    for _ in 0..2000 {
        guests.push(image.start(GuestSpec::default()).await.unwrap());
    }
    until(|| guests.iter().all(|guest| guest.control().usage().memory_bytes > 0)).await;
    drop(guests);
    timeout(DEADLINE, engine.close()).await.unwrap();
}

#[tokio::test]
async fn the_same_content_is_compiled_once() {
    let engine = engine();
    let (a, b, c) = tokio::join!(load(&engine, HELLO), load(&engine, HELLO), load(&engine, HELLO));
    assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&b, &c));
    assert!(Arc::ptr_eq(&a, &engine.load_compiled(*a.digest()).await.unwrap()));
}

fn only_file(dir: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[tokio::test]
async fn compiled_code_is_kept_and_damaged_code_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = || engine_with(|config| config.cache_dir = Some(dir.path().to_owned()));
    let digest = *load(&engine(), HELLO).await.digest();
    let file = only_file(dir.path());
    let good = fs::read(&file).unwrap();
    assert!(engine().load_compiled(digest).await.is_some());

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    for damaged in [&flipped[..], &good[..good.len() - 1], &good[..10], b""] {
        fs::write(&file, damaged).unwrap();
        assert!(engine().load_compiled(digest).await.is_none());
        assert_eq!(run(&engine(), HELLO, GuestSpec::default()).await, Exit::Code(0));
        assert!(engine().load_compiled(digest).await.is_some());
    }
}

#[tokio::test]
async fn unmet_imports_are_named_all_at_once() {
    let component = r#"(component
        (import "wasi:keyvalue/store@0.2.0-draft" (instance (export "open" (func))))
        (import "acme:billing/charge@1.0.0" (instance (export "charge" (func (param "cents" u32)))))
        (import "wasi:cli/environment@0.2.0" (instance
            (export "get-arguments" (func (result (list string))))))
        (instance (export "wasi:cli/run@0.2.0")))"#;
    let error = refused(component).await;
    let LoadError::UnmetImport(imports) = &error else { panic!("{error:?}") };
    let names: Vec<_> = imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(names, ["wasi:keyvalue/store@0.2.0-draft", "acme:billing/charge@1.0.0"]);

    let module = r#"(module (import "env" "abort" (func)) (func (export "_start")))"#;
    let told = refused(module).await.to_string();
    assert!(
        told.starts_with("imports env.abort, which is not offered here: it was built for a JavaScript host"),
        "{told}"
    );
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_the_reason() {
    for (text, start) in [
        ("(module)", "the core module exports no _start"),
        ("(component)", "the component exports nothing"),
        ("(module (func", "not valid WebAssembly text: "),
        ("(module (func (result i32)))", "not a valid WebAssembly file: function 0: "),
        ("hello", "not a WebAssembly file: it looks like text"),
    ] {
        let told = refused(text).await.to_string();
        assert!(told.starts_with(start), "{text}: {told}");
    }
}

#[tokio::test]
async fn what_is_no_folder_is_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().canonicalize().unwrap().join("file");
    let host = Folder::from(std::os::fd::OwnedFd::from(fs::File::create(&file).unwrap()));
    let mount = Mount { host, guest: "/data".to_owned(), read_only: true };
    let spec = GuestSpec { mounts: vec![mount], ..GuestSpec::default() };
    let error = load(&engine(), HELLO).await.start(spec).await.unwrap_err();
    assert_eq!(error.to_string(), format!("mounting {} at /data", file.display()));
    assert!(Folder::open(&file).is_err());
}

#[tokio::test]
async fn a_guest_sees_the_folder_that_was_opened_and_not_what_its_name_leads_to_later() {
    let dir = tempfile::tempdir().unwrap();
    let [volume, moved, outside] = ["volume", "moved", "outside"].map(|name| dir.path().join(name));
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&outside).unwrap();
    let mount = Mount { host: Folder::open(&volume).unwrap(), guest: "/data".to_owned(), read_only: false };
    let spec = |mount: &Mount| GuestSpec { mounts: vec![mount.clone()], ..GuestSpec::default() };
    fs::rename(&volume, &moved).unwrap();
    std::os::unix::fs::symlink(&outside, &volume).unwrap();
    let engine = engine();
    assert!(matches!(run(&engine, TOUCH, spec(&mount)).await, Exit::Code(0)));
    assert!(moved.join("made").exists() && !outside.join("made").exists());
    let read_only = Mount { read_only: true, ..mount };
    fs::remove_file(moved.join("made")).unwrap();
    let refused = run(&engine, TOUCH, spec(&read_only)).await;
    assert!(matches!(refused, Exit::Code(code) if code != 0), "{refused:?}");
}
