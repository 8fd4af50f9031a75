//! Names outside the cluster, by the host's resolver.
//!
//! The resolver blocks a thread for as long as it likes, so lookups are counted: in all, and for each pod. A place is
//! given back when the thread is, whether or not somebody still waits; and a lookup runs in a task of the network,
//! so that a guest that asks and never looks again holds up nobody.

use crate::NameError;
use crate::network::Work;
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// How long a lookup may take, its wait for a place included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many lookups the host's resolver does at once; more wait in order, within their time.
const MAX_LOOKUPS: usize = 32;
/// How many of them may be one pod's.
pub(crate) const MAX_OF_POD: usize = 8;

/// What blocks for an answer; no address is `NotFound`.
type Ask = fn(&str) -> Result<Vec<IpAddr>, NameError>;

/// The host's resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    work: Work,
    places: Arc<Semaphore>,
    ask: Ask,
}

impl Resolver {
    pub(crate) fn new(work: Work) -> Self {
        Self::asking(work, ask_host)
    }

    fn asking(work: Work, ask: Ask) -> Self {
        Self { work, places: Arc::new(Semaphore::new(MAX_LOOKUPS)), ask }
    }

    /// The addresses of a name; `of_pod` counts the lookups of the pod that asks.
    pub(crate) async fn look_up(
        &self,
        of_pod: &Arc<Semaphore>,
        name: &str,
    ) -> Result<Vec<IpAddr>, NameError> {
        let failed = |why: &str| NameError::TryAgain(name.to_owned(), why.to_owned());
        let asking = wait_and_ask([of_pod.clone(), self.places.clone()], self.ask, name.to_owned());
        let stop = self.work.stop.clone();
        let task = async move {
            tokio::select! {
                answer = timeout(TIMEOUT, asking) => answer.ok().flatten(),
                () = stop.cancelled() => None,
            }
        };
        let task = AbortOnDropHandle::new(self.work.tasks.spawn_on(task, &self.work.runtime));
        match task.await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(failed("no answer in time")),
        }
    }
}

async fn wait_and_ask(
    places: [Arc<Semaphore>; 2],
    ask: Ask,
    name: String,
) -> Option<Result<Vec<IpAddr>, NameError>> {
    let mut permits = Vec::with_capacity(places.len());
    for place in places {
        permits.push(place.acquire_owned().await.ok()?);
    }
    let answer = tokio::task::spawn_blocking(move || {
        let _permits = permits;
        ask(&name)
    });
    answer.await.ok()
}

fn ask_host(name: &str) -> Result<Vec<IpAddr>, NameError> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = dns_lookup::getaddrinfo(Some(name), None, Some(hints)).map_err(|error| {
        tracing::debug!(name, ?error, "the host's resolver has no answer");
        failure(name, error.kind(), error.error_num())
    })?;
    let ips: Vec<IpAddr> = found.flatten().map(|entry| entry.sockaddr.ip().to_canonical()).collect();
    if ips.is_empty() { Err(NameError::NotFound(name.to_owned())) } else { Ok(ips) }
}

/// Whether a failure is an answer: that there is no such name, or that it has no address.
fn failure(name: &str, kind: LookupErrorKind, code: i32) -> NameError {
    match kind {
        LookupErrorKind::NoName | LookupErrorKind::NoData => NameError::NotFound(name.to_owned()),
        _ => NameError::TryAgain(name.to_owned(), format!("the host's resolver failed ({kind:?}, {code})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::sync::{Condvar, Mutex};
    use std::task::{Context, Waker};

    const ANSWER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn resolver(ask: Ask) -> Resolver {
        Resolver::asking(Work::new().unwrap(), ask)
    }

    fn pod() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_OF_POD))
    }

    #[tokio::test]
    async fn lookups_that_nobody_waits_for_leave_others_their_places() {
        let resolver = resolver(|_| Ok(vec![ANSWER]));
        let of_pod = pod();
        let mut asked: Vec<_> =
            (0..2 * MAX_LOOKUPS).map(|_| Box::pin(resolver.look_up(&of_pod, "example.com"))).collect();
        for lookup in &mut asked {
            assert!(lookup.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        for of_pod in [pod(), of_pod.clone()] {
            assert_eq!(resolver.look_up(&of_pod, "example.com").await, Ok(vec![ANSWER]));
        }
    }

    #[tokio::test]
    async fn a_place_is_free_when_the_thread_is() {
        static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
        let resolver = resolver(|_| {
            let released = crate::lock(&RELEASED.0);
            let _released = RELEASED.1.wait_while(released, |released| !*released).unwrap();
            Ok(vec![ANSWER])
        });
        let of_pod = pod();
        {
            let mut lookup = pin!(resolver.look_up(&of_pod, "example.com"));
            assert!(lookup.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            while resolver.places.available_permits() == MAX_LOOKUPS {
                tokio::task::yield_now().await;
            }
        }
        tokio::task::yield_now().await;
        assert_eq!(of_pod.available_permits(), MAX_OF_POD - 1, "the thread is still held");
        assert_eq!(resolver.places.available_permits(), MAX_LOOKUPS - 1);
        *crate::lock(&RELEASED.0) = true;
        RELEASED.1.notify_all();
        let all = u32::try_from(MAX_LOOKUPS).unwrap();
        let _all =
            timeout(Duration::from_secs(20), resolver.places.acquire_many(all)).await.unwrap().unwrap();
    }

    #[test]
    fn only_an_answer_says_that_there_is_no_such_name() {
        use LookupErrorKind::{Again, Fail, IO, Memory, NoData, NoName, System};
        let told = |kind| matches!(failure("web", kind, 0), NameError::NotFound(_));
        assert_eq!([NoName, NoData].map(told), [true; 2]);
        assert_eq!([Again, Fail, Memory, System, IO].map(told), [false; 5]);
    }
}
