//! Does the platform answer? Asked by `check` alone: a gateway starts before its platform as well as after it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use crate::config::{CertifiedKey, Platform};

/// Asks every server of the platform at each of its addresses, all at once; one sentence for each that does not answer.
pub(super) fn probe(platform: &Platform, ca: Option<Vec<X509>>, client: Option<CertifiedKey>) -> Vec<String> {
    let tls = match connector(platform, ca, client) {
        Ok(tls) => tls,
        Err(error) => return vec![format!("platform: TLS cannot be set up: {error}")],
    };
    let tls = tls.as_ref();
    thread::scope(|scope| {
        let mut asked = Vec::new();
        for server in &platform.servers {
            // One that cannot be resolved is a failure of its own.
            for address in server.to_socket_addrs().into_iter().flatten() {
                asked.push((server, address, scope.spawn(move || ask(platform, tls, server, address))));
            }
        }
        let answers = asked.into_iter().filter_map(|(server, address, answer)| {
            let fault = answer.join().ok()?.err()?;
            Some(format!("platform.servers: {server} ({address}) does not answer: {fault}"))
        });
        answers.collect()
    })
}

/// How TLS is spoken with the platform; none if it is not.
fn connector(
    platform: &Platform,
    ca: Option<Vec<X509>>,
    client: Option<CertifiedKey>,
) -> Result<Option<SslConnector>, openssl::error::ErrorStack> {
    let Some(tls) = &platform.tls else { return Ok(None) };
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    if !tls.verify {
        builder.set_verify(SslVerifyMode::NONE);
    }
    if let Some(chain) = ca {
        let mut store = X509StoreBuilder::new()?;
        chain.into_iter().try_for_each(|certificate| store.add_cert(certificate))?;
        builder.set_cert_store(store.build());
    }
    if let Some(pair) = client {
        let mut chain = pair.chain.iter();
        chain.next().map_or(Ok(()), |leaf| builder.set_certificate(leaf))?;
        chain.try_for_each(|issuer| builder.add_extra_chain_cert(issuer.clone()))?;
        builder.set_private_key(&pair.key)?;
    }
    Ok(Some(builder.build()))
}

/// Asks one server for `/`, without a token: whatever it says is an answer.
fn ask(
    platform: &Platform,
    tls: Option<&SslConnector>,
    server: &str,
    address: SocketAddr,
) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let stream = TcpStream::connect_timeout(&address, platform.connect_timeout).map_err(failed)?;
    stream.set_read_timeout(Some(WAIT)).map_err(failed)?;
    stream.set_write_timeout(Some(WAIT)).map_err(failed)?;
    let Some((connector, settings)) = tls.zip(platform.tls.as_ref()) else {
        return exchange(stream, server);
    };
    let configured = connector.configure().map(|connect| connect.verify_hostname(settings.verify));
    let configured = configured.map_err(|error| error.to_string())?;
    let stream =
        configured.connect(&settings.server_name, stream).map_err(|error| format!("TLS: {error}"))?;
    exchange(stream, server)
}

fn exchange(mut stream: impl Read + Write, server: &str) -> Result<(), String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
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
