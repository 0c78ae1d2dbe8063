//! Other programs that want every core: this very binary, once a core, which does nothing as fast as it can.

use std::os::unix::process::parent_id;

use anyhow::Result;

use crate::process::{LOAD_CORE, PROXY_CORE, Running, on_core};

/// The first argument that turns this binary into such a program.
const MODE: &str = "spin";

/// Spins if the arguments say so.
pub fn serve(arguments: &[String]) -> Option<Result<()>> {
    (arguments.first()? == MODE).then(|| {
        let parent = parent_id();
        // Not for longer than the bench, however that ended.
        while parent_id() == parent {
            for _ in 0..1_000_000 {
                std::hint::spin_loop();
            }
        }
        Ok(())
    })
}

/// One for each core that the gateway and the bench have; they end when dropped.
pub fn on_every_core() -> Result<Vec<Running>> {
    let spin = |core| {
        let mut command = on_core(core, &[], std::env::current_exe()?);
        command.arg(MODE);
        Running::spawn(command)
    };
    [PROXY_CORE, LOAD_CORE].into_iter().map(spin).collect()
}
