//! Core dumps: a picture of the memory would have passwords, tokens and signing keys in it.

use std::io;

use nix::sys::resource::{Resource, setrlimit};

/// Has the kernel write no core of this process, to no file and no handler, and lets no other process of the same user read
/// its memory.
pub fn forbid() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // A handler in core_pattern is called whatever the limit is.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use nix::sys::prctl::get_dumpable;
    use nix::sys::resource::getrlimit;

    use super::*;

    #[test]
    fn neither_a_file_nor_a_handler_gets_a_core() {
        forbid().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        assert_eq!(get_dumpable(), Ok(false));
    }
}
