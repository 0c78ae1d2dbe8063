//! The program that an upgrade starts: that of this process, by the name that it was started by.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How this process was started, so that it can be started again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
    folder: PathBuf,
}

impl Program {
    /// To be asked early: what the names lead to by then is what is started later, an older file's replacement included.
    ///
    /// # Errors
    ///
    /// If the folder that the process is in, or its binary, cannot be told.
    pub fn of_this_process() -> std::io::Result<Self> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        // By the name that was given: a link to the binary may lead to another one later.
        let path = match Path::new(&name).components().count() {
            0 | 1 => in_path(&name).map_or_else(std::env::current_exe, Ok)?,
            _ => std::path::absolute(&name)?,
        };
        Ok(Self { path, name, arguments: arguments.collect(), folder: std::env::current_dir()? })
    }
}

impl Program {
    /// A command that starts it as this process was started, but for its input.
    pub(super) fn command(&self) -> Command {
        let Self { path, name, arguments, folder } = self;
        let mut command = Command::new(path);
        command.arg0(name).args(arguments).current_dir(folder).stdin(Stdio::null());
        command
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that it is started in, if that is not there any more.
    pub(super) fn gone_folder(&self) -> Option<&Path> {
        (!self.folder.is_dir()).then_some(&*self.folder)
    }

    /// Is it the binary that this process runs? One that was replaced is another, whatever is in it.
    pub(super) fn is_running(&self) -> bool {
        let of = |path: &Path| {
            let metadata = std::fs::metadata(path)?;
            Ok::<_, std::io::Error>((
                metadata.dev(),
                metadata.ino(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            ))
        };
        match (of(&self.path), of(Path::new("/proc/self/exe"))) {
            (Ok(file), Ok(running)) => file == running,
            _ => false,
        }
    }
}

/// Where the shell has found it.
fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.and_then(|path| std::path::absolute(path).ok())
}
