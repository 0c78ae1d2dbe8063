//! The side of the gateway.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::protocol::{FOLDER, Reply, Request};
use super::socket::{SocketPath, names, read, write};

/// A socket that is listened on until the process ends.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
}

impl Server {
    /// Listens in the state folder as the gateway `id`, with a thread for each connection. `serve` may reply more than once: what is waited for goes
    /// before the reply that it ends with. Sockets that others have left are removed.
    ///
    /// # Errors
    ///
    /// If there cannot be such a socket: the gateway serves without it.
    pub fn start(
        state_dir: &Path,
        id: &str,
        serve: impl Fn(Request, &Progress<'_>) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let folder = state_dir.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        remove_dead(&folder);
        let socket = SocketPath::new(&folder, id)?;
        // A process of the same number may have had the name.
        let _ = fs::remove_file(socket.path());
        let listener = UnixListener::bind(socket.path())?;
        let path = folder.join(id);
        // Nobody else gets into the folder before.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let (serve, open) = (Arc::new(serve), Arc::<()>::default());
        thread::Builder::new().name("control".into()).spawn(move || {
            for stream in listener.incoming() {
                let (serve, place) = (Arc::clone(&serve), Arc::clone(&open));
                // This thread has one, too.
                if Arc::strong_count(&open) > MOST + 1 {
                    log::warn!("a connection to the control socket is closed: {MOST} are open already");
                    continue;
                }
                let served = stream.and_then(|stream| {
                    thread::Builder::new().name("control".into()).spawn(move || {
                        if let Err(error) = answer(&stream, &*serve) {
                            log::warn!("a request on the control socket was not served: {error}");
                        }
                        drop(place);
                    })
                });
                if let Err(error) = served {
                    log::warn!("a connection to the control socket is closed: {error}");
                    // Without descriptors the next one would fail at once.
                    thread::sleep(PAUSE);
                }
            }
        })?;
        Ok(Self { path })
    }

    /// Removes the socket: nobody is to ask any more. Whoever is connected still may.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the sockets that nobody listens on.
fn remove_dead(folder: &Path) {
    for name in names(folder) {
        let Ok(socket) = SocketPath::new(folder, &name) else { continue };
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if UnixStream::connect(socket.path()).is_err_and(refused) {
            let _ = fs::remove_file(socket.path());
        }
    }
}

fn answer(stream: &UnixStream, serve: &impl Fn(Request, &Progress<'_>) -> Reply) -> io::Result<()> {
    let user = getsockopt(stream, PeerCredentials)?.uid();
    // The modes of folder and socket keep others away already.
    if user != 0 && user != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it came from user {user}")));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut input = BufReader::new(stream);
    loop {
        let (reply, is_understood) = match read(&mut input) {
            // Whoever waits for long sees in the end what came of it.
            Ok(request) => (serve(request, &|text| drop(write(stream, &Reply::Progress(text)))), true),
            // Somebody looks whether we are here, or has nothing more to ask.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => (Reply::Error(format!("the request is not understood: {error}")), false),
        };
        match write(stream, &reply) {
            // Who does not wait for an answer needs none.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
        if !is_understood {
            return Ok(());
        }
        // The other process of an upgrade asks when it has something to ask.
        stream.set_read_timeout(None)?;
    }
}

/// Tells whoever has asked what is waited for.
pub type Progress<'p> = dyn Fn(String) + 'p;

/// How long a peer may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections at once.
const MOST: usize = 16;

/// After a failure.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
