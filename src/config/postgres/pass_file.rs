//! libpq's file of passwords, `~/.pgpass`: a line `host:port:database:user:password` for each, of which the first that fits counts.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::host::PostgresHost;
use crate::auth::secret::Secret;
use crate::config::files::read_regular;

/// One line.
#[derive(Clone, Debug)]
pub(super) struct PassLine {
    /// Host, port, database, user; `None` is `*` and fits all.
    fields: [Option<String>; 4],
    password: Secret,
}

impl PassLine {
    /// Nothing for a comment, and for what is not a line of this form.
    fn parse(line: &[u8]) -> Option<Self> {
        if line.starts_with(b"#") {
            return None;
        }
        let mut fields: [Option<String>; 4] = Default::default();
        let mut rest = line;
        for field in &mut fields {
            let (bytes, is_any, behind) = next_field(rest)?;
            *field = if is_any { None } else { Some(String::from_utf8(bytes).ok()?) };
            rest = behind;
        }
        // libpq ends the password at a colon too, and takes nothing from behind it.
        let mut password = Vec::with_capacity(rest.len());
        let mut bytes = rest.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => password.extend(bytes.next()),
                b':' => break,
                byte => password.push(*byte),
            }
        }
        Some(Self { fields, password: Secret::new(password) })
    }

    /// Is it for that user there?
    pub(super) fn is_for(&self, host: &PostgresHost, database: &str, user: &str) -> bool {
        let (host, port) = match host {
            PostgresHost::Tcp { host, port } => (host.clone(), port),
            // The usual folder of sockets goes by the name of this machine.
            PostgresHost::Unix { folder, port } if folder == Path::new(SOCKETS) => {
                ("localhost".to_owned(), port)
            }
            PostgresHost::Unix { folder, port } => (folder.to_string_lossy().into_owned(), port),
        };
        let port = port.to_string();
        let given = [host.as_str(), port.as_str(), database, user];
        self.fields
            .iter()
            .zip(given)
            .all(|(field, given)| field.as_deref().is_none_or(|field| field == given))
    }

    pub(super) const fn password(&self) -> &Secret {
        &self.password
    }
}

/// Where Debian's libpq looks for sockets.
const SOCKETS: &str = "/var/run/postgresql";

/// A field without its escapes, whether it is a `*`, and what stands behind its colon.
fn next_field(text: &[u8]) -> Option<(Vec<u8>, bool, &[u8])> {
    let mut field = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'\\', byte, behind @ ..] => {
                field.push(*byte);
                rest = behind;
            }
            [b':', behind @ ..] => {
                let is_any = text.len() - rest.len() == 1 && field == b"*";
                return Some((field, is_any, behind));
            }
            [byte, behind @ ..] => {
                field.push(*byte);
                rest = behind;
            }
            [] => return None,
        }
    }
}

/// The lines of a file, none if it does not exist. An error says why it is ignored, by libpq's rules.
pub(super) fn read_pass_file(path: &Path) -> Result<Vec<PassLine>, String> {
    let shown = path.display();
    let ignored = |text: String| format!("store.url: the password file {shown} is ignored: {text}");
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ignored(format!("it cannot be read: {error}"))),
    };
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        return Err(ignored(format!("others may read or write it: run `chmod 600 {shown}`")));
    }
    let bytes: Zeroizing<Vec<u8>> =
        read_regular(path).map_err(|error| ignored(format!("it cannot be read: {error}")))?;
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.filter_map(PassLine::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> PostgresHost {
        PostgresHost::Tcp { host: host.into(), port }
    }

    #[test]
    fn a_line_fits_by_its_fields_stars_and_escapes() {
        let unix = PostgresHost::Unix { folder: "/var/run/postgresql".into(), port: 5432 };
        let elsewhere = PostgresHost::Unix { folder: "/tmp".into(), port: 5432 };
        for (line, host, database, user, password) in [
            ("db:5432:gateway:ann:pw", tcp("db", 5432), "gateway", "ann", Some("pw")),
            ("db:5433:gateway:ann:pw", tcp("db", 5432), "gateway", "ann", None),
            ("db2:*:*:*:pw", tcp("db", 5432), "gateway", "ann", None),
            ("*:*:*:*:pw", tcp("db", 5432), "gateway", "ann", Some("pw")),
            ("*:*:other:*:pw", tcp("db", 5432), "gateway", "ann", None),
            (r"*:*:*:\*:pw", tcp("db", 5432), "gateway", "ann", None),
            (r"*:*:*:\*:pw", tcp("db", 5432), "gateway", "*", Some("pw")),
            (r"\:\:1:*:a\:b:a\\n:p\:w\\", tcp("::1", 5432), "a:b", r"a\n", Some(r"p:w\")),
            ("localhost:*:*:*:pw", unix.clone(), "gateway", "ann", Some("pw")),
            ("/tmp:*:*:*:pw", elsewhere.clone(), "gateway", "ann", Some("pw")),
            ("localhost:*:*:*:pw", elsewhere, "gateway", "ann", None),
            ("#*:*:*:*:pw", tcp("db", 5432), "gateway", "ann", None),
            ("*:*:*:pw", tcp("db", 5432), "gateway", "ann", None),
            ("*:*:*:*:pw:more", tcp("db", 5432), "gateway", "ann", Some("pw")),
            ("*:*:*:*:", tcp("db", 5432), "gateway", "ann", Some("")),
        ] {
            let parsed = PassLine::parse(line.as_bytes()).filter(|line| line.is_for(&host, database, user));
            let found = parsed.map(|line| line.password().expose_secret().to_vec());
            assert_eq!(found.as_deref(), password.map(str::as_bytes), "{line}");
        }
    }
}
