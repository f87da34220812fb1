//! Ctrl-C: what is under way ends, and what it made is removed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cluster::error::{Error, Result};
use cluster::progress::say;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C and SIGTERM no longer end this program: [`check`] tells that it should end. Programs
/// that it has started get Ctrl-C from the terminal too. A second one ends it at once.
pub fn watch() -> Result<()> {
    let failed = |source: std::io::Error| Error::other(format!("cannot wait for signals: {source}"));
    let (sender, ready) = mpsc::channel();
    thread::spawn(move || {
        let Ok(runtime) = runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let (mut interrupt, mut terminate) =
                match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
                    (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
                    (Err(error), _) | (_, Err(error)) => {
                        let _ = sender.send(Err(error));
                        return;
                    }
                };
            let _ = sender.send(Ok(()));
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if INTERRUPTED.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
                say("\nstopping, and removing what was made; again to stop at once and leave it");
            }
        });
    });
    match ready.recv() {
        Ok(outcome) => outcome.map_err(failed),
        Err(_) => Err(Error::other("cannot wait for signals: no runtime for it")),
    }
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// An error once Ctrl-C was pressed.
pub fn check() -> Result<()> {
    if requested() { Err(Error::other("stopped by Ctrl-C")) } else { Ok(()) }
}

/// The error to show: where Ctrl-C was pressed, what it broke off is of no interest.
pub fn explain(error: Error) -> Error {
    // A program that got the signal too may end before it is noticed here.
    thread::sleep(Duration::from_millis(100));
    check().err().unwrap_or(error)
}
