//! A real `wharf serve`, a real kubectl, real guests: what the tests of this crate stand on.
//!
//! Each [`Cluster`] has a data directory and a loopback address of its own, so that tests run side by side. Conditions
//! are waited for with a deadline; a test that fails shows the server's log.

#![expect(clippy::disallowed_methods, reason = "deadlines of tests are those of the real clock")]

use serde_json::Value;
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// How long a condition may take to hold, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server, ended when this goes.
#[derive(Debug)]
pub struct Cluster {
    child: Child,
    dir: PathBuf,
    node_address: Ipv4Addr,
    /// Removed last; none where the caller owns the folder.
    _owned: Option<tempfile::TempDir>,
}

impl Cluster {
    /// A new, empty one.
    pub fn start() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let dir = owned.path().join("data");
        let mut cluster = Self::start_in(&dir, &[]);
        cluster._owned = Some(owned);
        cluster
    }

    /// A new, empty one with these test images loaded.
    pub fn with_images(names: &[&str]) -> Self {
        let cluster = Self::start();
        names.iter().for_each(|name| cluster.load(name));
        cluster
    }

    /// On a data directory that outlives it, with further arguments of `wharf serve`.
    pub fn start_in(dir: &Path, arguments: &[&str]) -> Self {
        let node_address = unused_loopback();
        let child = spawn(dir, node_address, arguments);
        let mut cluster = Self { child, dir: dir.to_owned(), node_address, _owned: None };
        cluster.await_ready();
        cluster
    }

    /// Ends the process as SIGKILL does, and starts it on the same data.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.dir, self.node_address, &[]);
        self.await_ready();
    }

    /// Ends the process as SIGTERM does, and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.child.id(), libc::SIGTERM);
        eventually("the server to end", || self.child.try_wait().unwrap())
    }

    /// Starts the process again after [`Cluster::terminate`].
    pub fn restart(&mut self) {
        self.child = spawn(&self.dir, self.node_address, &[]);
        self.await_ready();
    }

    fn await_ready(&mut self) {
        let stdout = self.child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "the server did not start:\n{}", self.log());
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(&self.dir)).unwrap_or_default()
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where NodePorts are reached.
    pub fn node_address(&self) -> Ipv4Addr {
        self.node_address
    }

    /// Loads a test guest or a sample as an image of its name.
    pub fn load(&self, name: &str) {
        self.wharf(&["image", "load", guest(name).to_str().unwrap(), "-t", name]);
    }

    /// `wharf` on this cluster's folder; fails the test when it fails.
    pub fn wharf(&self, arguments: &[&str]) -> String {
        let output = Command::new(wharf()).args(arguments).env("WHARF_HOME", &self.dir).output().unwrap();
        expect_success(&format!("wharf {arguments:?}"), output)
    }

    /// A kubectl command that talks to this cluster.
    pub fn kubectl_command(&self, words: &str) -> Command {
        self.kubectl_of(&kubectl(), words)
    }

    /// The same with another kubectl.
    pub fn kubectl_of(&self, kubectl: &Path, words: &str) -> Command {
        let mut command = Command::new(kubectl);
        command.args(split(words)).env("KUBECONFIG", self.dir.join("kubeconfig"));
        // Discovery is cached below HOME, by address: other clusters' must not be seen.
        command.env("HOME", &self.dir).env("KUBECACHEDIR", self.dir.join("kubecache")).stdin(Stdio::null());
        command
    }

    /// Runs kubectl; fails the test when it fails. Words are split at blanks; `'..'` keeps them together.
    #[track_caller]
    pub fn kubectl(&self, words: &str) -> String {
        let output = self.kubectl_command(words).output().unwrap();
        self.checked(&format!("kubectl {words}"), output)
    }

    /// Runs kubectl with `input`; fails the test when it fails.
    #[track_caller]
    pub fn kubectl_with(&self, words: &str, input: &str) -> String {
        let output = with_input(self.kubectl_command(words), input);
        self.checked(&format!("kubectl {words}"), output)
    }

    /// Runs kubectl, which must fail; gives what it says.
    #[track_caller]
    pub fn kubectl_refused(&self, words: &str, input: &str) -> String {
        let output = with_input(self.kubectl_command(words), input);
        assert!(
            !output.status.success(),
            "kubectl {words} was expected to fail, and said: {}",
            text(&output.stdout)
        );
        text(&output.stderr)
    }

    /// `kubectl apply -f -`.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl_with("apply -f -", manifest)
    }

    /// An object, or `Null` where there is none.
    pub fn get(&self, words: &str) -> Value {
        let output = self.kubectl_command(&format!("get {words} -o json")).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until the object is as wanted; gives it.
    #[track_caller]
    pub fn wait(&self, words: &str, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.get(words);
            if wanted(&last) {
                return last;
            }
            pause();
        }
        panic!("{words}: {what} did not come; it is {last:#}\n{}", self.log())
    }

    /// Waits for a pod's phase; gives the pod.
    #[track_caller]
    pub fn wait_phase(&self, pod: &str, phase: &str) -> Value {
        self.wait(&format!("pod {pod}"), phase, |pod| pod["status"]["phase"] == phase)
    }

    /// Waits until the log of a pod holds `text`; gives the log.
    #[track_caller]
    pub fn wait_log(&self, words: &str, wanted: &str) -> String {
        eventually(&format!("{wanted:?} in the log of {words}"), || {
            let output = self.kubectl_command(&format!("logs {words}")).output().unwrap();
            Some(text(&output.stdout)).filter(|log| log.contains(wanted))
        })
    }

    /// The body of a plain HTTP GET to a NodePort; none while nobody answers.
    pub fn http(&self, node_port: u16, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((self.node_address, node_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: test\r\n\r\n").ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        Some(response.split_once("\r\n\r\n")?.1.to_owned())
    }

    #[track_caller]
    fn checked(&self, what: &str, output: Output) -> String {
        assert!(
            output.status.success(),
            "{what} ended with {}:\n{}{}\nlog:\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the server:\n{}", self.log());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, node_address: Ipv4Addr, arguments: &[&str]) -> Child {
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let log = fs::OpenOptions::new().create(true).append(true).open(log_file(dir)).unwrap();
    Command::new(wharf())
        .args(["serve", "--listen", "127.0.0.1:0", "--node-address", &node_address.to_string(), "--data-dir"])
        .arg(dir)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn log_file(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

/// Each cluster has another address of 127.0.0.0/8, so that NodePorts do not meet.
fn unused_loopback() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let [.., process] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 1 + process % 250, number[0], number[1])
}

/// The binary under test, beside this test's own.
pub fn wharf() -> PathBuf {
    let deps = env::current_exe().unwrap();
    let wharf = deps.parent().and_then(Path::parent).unwrap().join("wharf");
    assert!(wharf.is_file(), "{} is missing: cargo build", wharf.display());
    wharf
}

/// The kubectl to use: `WHARF_KUBECTL`, else the one on PATH.
pub fn kubectl() -> PathBuf {
    env::var_os("WHARF_KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from)
}

/// The file of a test guest or a sample.
pub fn guest(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let texts = [root.join("guests"), root.join("../samples").join(name)];
    if let Some(wat) =
        texts.iter().map(|dir| dir.join(name).with_extension("wat")).find(|file| file.is_file())
    {
        return wat;
    }
    let built = env::var_os("WHARF_GUESTS").map_or_else(
        || wharf().parent().unwrap().parent().unwrap().join("guests/wasm32-wasip2/release"),
        PathBuf::from,
    );
    let file = built.join(name).with_extension("wasm");
    assert!(file.is_file(), "{} is missing: cargo xtask samples", file.display());
    file
}

/// Asks until there is an answer, with a deadline.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = ask() {
            return answer;
        }
        pause();
    }
    panic!("waited {PATIENCE:?} for {what}")
}

/// Between two looks at a condition.
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Sends a signal to a process that we started.
pub fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "kill {pid}");
}

/// Runs a command with `input` on its standard input.
pub fn with_input(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that reads nothing closes the pipe; its exit code tells.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn expect_success(what: &str, output: Output) -> String {
    assert!(
        output.status.success(),
        "{what} ended with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Words at blanks; what stands in single quotes is one word.
fn split(words: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut any = false;
    for c in words.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        all.push(word);
    }
    all
}
