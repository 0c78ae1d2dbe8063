//! Does the platform answer? Asked by `check` alone: a gateway starts before its platform as well as after it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;

use crate::config::{PlatformMaterials, PlatformServer, ServerAddress, ServerPool};

/// Asks every server of a platform at each of its addresses, all at once; one sentence for each that does not answer.
pub(super) fn probe(pool: &ServerPool, materials: PlatformMaterials) -> Vec<String> {
    let section = materials.section.clone();
    let tls = match connector(pool, materials) {
        Ok(tls) => tls,
        Err(error) => return vec![format!("{section}: TLS cannot be set up: {error}")],
    };
    let tls = &tls;
    thread::scope(|scope| {
        let mut asked = Vec::new();
        for server in &pool.servers {
            match &server.address {
                ServerAddress::Unix(path) => {
                    asked.push((server, String::new(), scope.spawn(move || ask_socket(server, path))));
                }
                // One that cannot be resolved is told of by the start.
                ServerAddress::Network(name) => {
                    for address in name.to_socket_addrs().into_iter().flatten() {
                        let shown = format!(" ({address})");
                        asked.push((server, shown, scope.spawn(move || ask(pool, tls, server, address))));
                    }
                }
            }
        }
        let answers = asked.into_iter().filter_map(|(server, address, answer)| {
            let fault = answer.join().ok()?.err()?;
            Some(format!("{section}.servers: {}{address} does not answer: {fault}", server.name))
        });
        answers.collect()
    })
}

/// How TLS is spoken with the servers that speak it.
fn connector(
    pool: &ServerPool,
    materials: PlatformMaterials,
) -> Result<SslConnector, openssl::error::ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    if !pool.verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    if let Some(chain) = materials.ca {
        let mut store = X509StoreBuilder::new()?;
        chain.into_iter().try_for_each(|certificate| store.add_cert(certificate))?;
        builder.set_cert_store(store.build());
    }
    if let Some(pair) = materials.client {
        let mut chain = pair.chain.iter();
        chain.next().map_or(Ok(()), |leaf| builder.set_certificate(leaf))?;
        chain.try_for_each(|issuer| builder.add_extra_chain_cert(issuer.clone()))?;
        builder.set_private_key(&pair.key)?;
    }
    Ok(builder.build())
}

/// Asks one server for `/`, without a token: whatever it says is an answer.
fn ask(
    pool: &ServerPool,
    tls: &SslConnector,
    server: &PlatformServer,
    address: SocketAddr,
) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let stream = TcpStream::connect_timeout(&address, pool.connect_timeout).map_err(failed)?;
    stream.set_read_timeout(Some(WAIT)).map_err(failed)?;
    stream.set_write_timeout(Some(WAIT)).map_err(failed)?;
    let Some(name) = &server.tls_name else {
        return exchange(stream, server);
    };
    let configured = tls.configure().map(|connect| connect.verify_hostname(pool.verify));
    let configured = configured.map_err(|error| error.to_string())?;
    let stream = configured.connect(name, stream).map_err(|error| format!("TLS: {error}"))?;
    exchange(stream, server)
}

/// The same by a Unix domain socket.
fn ask_socket(server: &PlatformServer, path: &Path) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(WAIT)).map_err(failed)?;
    stream.set_write_timeout(Some(WAIT)).map_err(failed)?;
    exchange(stream, server)
}

fn exchange(mut stream: impl Read + Write, server: &PlatformServer) -> Result<(), String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.host);
    let mut answer = [0; 5];
    let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_exact(&mut answer));
    match asked {
        Ok(()) if answer == *b"HTTP/" => Ok(()),
        Ok(()) => Err("it does not speak HTTP/1.1: is the port right, and http or https?".into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(format!("nothing for {} s", WAIT.as_secs()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// For each read and write.
const WAIT: Duration = Duration::from_secs(5);
