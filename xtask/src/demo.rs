//! `cargo xtask demo`: from a clone to a Service of Wasm pods that answers.

use crate::{
    kubectl, samples,
    shell::{command, output, run, target_dir},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where `samples/web` is reached: its NodePort.
const WEB: &str = "127.0.0.1:30080";
/// How long the Service may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server that heard Ctrl-C may take to end by itself.
const ENDING: Duration = Duration::from_secs(2);

/// Builds, starts, applies, calls; then waits for Ctrl-C, unless `once`.
pub(crate) fn run_demo(once: bool) -> Result<()> {
    step("1 of 5: building wharf; the first time ten to fifteen minutes on two cores, most of it wasmtime");
    // The whole workspace: a package alone would have its dependencies compiled anew, as their features differ.
    run(&mut command("cargo", "build --workspace --locked"))?;
    step("2 of 5: building the samples for WebAssembly; the first time a minute or two");
    let guests = samples::build()?;
    step("3 of 5: loading them as images, a second or two each the first time");
    let kubectl = kubectl::find()?;
    let wharf = target_dir().join("debug/wharf");
    // A new world each time: the demo must not depend on what an earlier one left.
    let data = target_dir().join("demo");
    empty(&data)?;
    for guest in &guests {
        run(Command::new(&wharf)
            .args(["image", "load"])
            .arg(&guest.file)
            .args(["-t", guest.name])
            .env("WHARF_HOME", &data))?;
    }
    step("4 of 5: starting the server, less than a second");
    let mut server = Server::start(&wharf, &data)?;
    let kubeconfig = data.join("kubeconfig");
    let kubectl = |words: &str| {
        let mut kubectl = command(&kubectl.to_string_lossy(), words);
        kubectl.env("KUBECONFIG", &kubeconfig);
        kubectl
    };
    step("5 of 5: a Deployment of three pods behind a Service");
    run(&mut kubectl("apply -f samples/web/web.yaml"))?;
    run(&mut kubectl("rollout status deployment/web --timeout=60s"))?;
    run(&mut kubectl("get deployments,pods,services -o wide"))?;
    let answer = answer(&mut server)?;
    println!("$ curl http://{WEB}/demo\n{answer}");
    if !answer.starts_with("hello from web-") {
        bail!("samples/web answered {answer:?}");
    }
    if once {
        return server.stop();
    }
    println!(
        "Try next, in another terminal:\n\
         \n    export KUBECONFIG={}\
         \n    kubectl get pods -w\
         \n    kubectl scale deployment/web --replicas=10\
         \n    for i in 1 2 3 4 5; do curl http://{WEB}/; done\
         \n    kubectl apply -f samples/client/client.yaml && kubectl logs -f client\
         \n    kubectl apply -f samples/function/function.yaml && curl http://127.0.0.1:30081/\
         \n\nCtrl-C ends the demo.",
        kubeconfig.display()
    );
    // Ctrl-C reaches the server too, as it stands in our process group.
    match server.0.wait().context("waiting for the server")? {
        status if status.success() => Ok(()),
        status => bail!("the server ended with {status}"),
    }
}

/// Says what comes next, and how long it takes.
fn step(what: &str) {
    println!("\n== {what}");
}

/// Removes what an earlier demo left, unless that one still runs.
fn empty(data: &Path) -> Result<()> {
    let Ok(lock) = fs::File::open(data.join("lock")) else { return Ok(()) };
    if let Err(fs::TryLockError::WouldBlock) = lock.try_lock() {
        bail!("another demo runs with {}: end it first (Ctrl-C there)", data.display());
    }
    fs::remove_dir_all(data).with_context(|| format!("could not empty {}", data.display()))
}

/// What the Service says, once it answers: its port opens a moment after the pods are ready.
#[expect(clippy::disallowed_methods, reason = "a person waits for the Service, within a deadline")]
fn answer(server: &mut Server) -> Result<String> {
    let started = Instant::now();
    loop {
        match get(WEB, "/demo") {
            Ok(answer) => return Ok(answer),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(
                    error.context(format!("{WEB} does not answer; does another program use the port?"))
                );
            }
            Err(_not_yet) => {}
        }
        if let Some(status) = server.0.try_wait()? {
            bail!("the server ended with {status}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The server, ended when this goes, as a service manager would.
struct Server(Child);

impl Server {
    fn start(wharf: &Path, data: &Path) -> Result<Self> {
        println!("$ {} serve --data-dir {}", wharf.display(), data.display());
        let mut child = Command::new(wharf)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {}", wharf.display()))?;
        let stdout = child.stdout.take().context("the server's stdout is piped")?;
        let mut ready = String::new();
        // The server prints one line when it is ready, and closes its output when it cannot start.
        BufReader::new(stdout).read_line(&mut ready)?;
        if ready.is_empty() {
            bail!("the server ended with {}", child.wait()?);
        }
        print!("{ready}");
        Ok(Self(child))
    }

    /// Ends the server as a service manager would, and fails unless it says that all went well.
    fn stop(&mut self) -> Result<()> {
        output(&mut command("kill", &self.0.id().to_string()))?;
        let status = self.0.wait()?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    #[expect(clippy::disallowed_methods, reason = "a person waits for the end, within a deadline")]
    fn drop(&mut self) {
        let started = Instant::now();
        // After Ctrl-C it is ending already, and a second signal would cut that short.
        while matches!(self.0.try_wait(), Ok(None)) {
            if started.elapsed() > ENDING {
                // How it ends then, nobody is left to be told.
                drop(self.stop());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The body of a plain HTTP GET.
fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (_head, body) = response.split_once("\r\n\r\n").context("the answer has no body")?;
    Ok(body.trim_end().to_owned())
}
