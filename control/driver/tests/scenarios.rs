//! Sessions against the real control plane in memory: controllers, registry and store, a scripted node, a clock that
//! stands still between commands.
//!
//! `scenarios/*.txt` hold commands, one a line (`apply` takes the lines that follow up to an empty one); the `.out` beside
//! each is what they print. `UPDATE_EXPECT=1` writes it anew. The last five letters of pods' names depend on revisions,
//! so they print as `*`, and pods that look alike as one line with their number.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

mod session;

use expect_test::expect_file;
use session::Session;
use std::path::Path;

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    // A paused clock jumps to the next timer whenever nothing is ready, also while the store's thread writes. It does not
    // as long as a blocking task runs: this one does until the session has ended.
    let (ended, end) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || end.recv());
    let out = runtime.block_on(async {
        let mut session = Session::start().await;
        session.run(&text).await
    });
    drop(ended);
    expect_file![folder.join(format!("{name}.out"))].assert_eq(&out);
}

#[test]
fn a_rolling_update_keeps_its_bounds() {
    check("rolling_update");
}

#[test]
fn undo_pause_and_resume() {
    check("undo_and_pause");
}

#[test]
fn a_rollout_that_fails_is_told_and_old_pods_stay() {
    check("failure");
}

#[test]
fn crashed_and_deleted_pods_are_replaced() {
    check("crash");
}

#[test]
fn a_namespace_goes_with_all_it_holds() {
    check("namespace");
}

#[test]
fn owners_go_before_or_after_what_they_own_or_without_it() {
    check("garbage");
}

#[test]
fn pods_wait_for_room_and_silent_nodes_are_told() {
    check("scheduling");
}

#[test]
fn important_pods_take_the_place_of_others() {
    check("preemption");
}

#[test]
fn taints_drive_pods_off_their_node() {
    check("taints");
}

#[test]
fn pods_of_a_node_that_is_gone_fail_and_go() {
    check("pod_gc");
}

#[test]
fn endpoints_that_a_user_writes_are_told_as_slices() {
    check("mirror");
}

#[test]
fn many_pods_come_roll_and_go() {
    check("many");
}
