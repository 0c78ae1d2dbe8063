//! The terminal, while a password is typed on it: whichever signal ends the command, it is left as it was found.

use std::fs::File;
use std::io;
use std::thread;

use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// From now on, what ends the process by a signal restores the terminal first. The process still ends by that signal, so that the
/// shell it was started from knows.
pub(super) fn restore_on_signals() -> io::Result<()> {
    let terminal = File::open("/dev/tty")?;
    let found = tcgetattr(&terminal)?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let _ = tcsetattr(&terminal, SetArg::TCSANOW, &found);
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Waits for that end: it has been decided on, and what follows here must not come before it.
pub(super) fn end_by_signal() -> ! {
    loop {
        thread::park();
    }
}
