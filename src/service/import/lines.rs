//! The lines of an import: JSON objects, or a table of comma-separated values with a header.

use std::io::{self, BufRead, Read as _};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::auth::password::Phc;
use crate::service::users::identity;
use crate::store::command::{ImportedUser, NewUser};

/// Reads an import line by line.
pub(super) struct Lines<R> {
    reader: R,
    number: usize,
    line: Zeroizing<Vec<u8>>,
    format: Option<Format>,
}

/// A line's number, and the user on it or what is wrong with it.
pub(super) type Parsed = (usize, Result<ImportedUser, String>);

enum Format {
    Json,
    Csv(Table),
}

/// What each column of a table is, and what is between two.
struct Table {
    columns: Vec<usize>,
    delimiter: u8,
}

/// A user's values as they are given.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Values {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    email: Value,
    #[serde(default)]
    organization: Value,
    #[serde(default)]
    password: Value,
    #[serde(default)]
    disabled: Value,
}

/// One value. What is of another type is not kept, so that no error can show it.
#[derive(Default)]
enum Value {
    #[default]
    Missing,
    Text(Zeroizing<String>),
    Bool(bool),
    Other,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, line: Zeroizing::default(), format: None }
    }

    /// The next user, or what is wrong with its line. Blank lines are skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Parsed>> {
        loop {
            self.line.clear();
            let mut limited = self.reader.by_ref().take(MAX_LINE);
            let read = limited.read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.line.last() != Some(&b'\n') && read as u64 == MAX_LINE {
                self.reader.skip_until(b'\n')?;
                return Ok(Some((self.number, Err(format!("the line is longer than {MAX_LINE} bytes")))));
            }
            if let Some(parsed) = self.parse() {
                return Ok(Some((self.number, parsed)));
            }
        }
    }

    /// `None` for a line without a user.
    fn parse(&mut self) -> Option<Result<ImportedUser, String>> {
        let mut line = self.line.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") {
                return Some(Err(
                    "the file is UTF-16, as its byte order mark (BOM) says: save it as UTF-8".into()
                ));
            }
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return Some(Err("the line is not UTF-8".into()));
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.trim().is_empty() {
            return None;
        }
        let Some(format) = &self.format else {
            return match Format::of(text) {
                Ok(format @ Format::Json) => {
                    let parsed = format.parse(text);
                    self.format = Some(format);
                    Some(parsed)
                }
                Ok(table) => {
                    self.format = Some(table);
                    None
                }
                // Whatever follows is read as JSON lines and has errors of its own.
                Err(text) => {
                    self.format = Some(Format::Json);
                    Some(Err(text))
                }
            };
        };
        Some(format.parse(text))
    }
}

impl Format {
    /// Recognised by the first line.
    fn of(line: &str) -> Result<Self, String> {
        match line.trim_start().as_bytes().first() {
            Some(b'{') => Ok(Self::Json),
            Some(b'[') => {
                Err("a JSON array: expected one object a line, as `jq -c '.[]'` writes them".into())
            }
            _ => Table::of(line).map(Self::Csv),
        }
    }

    fn parse(&self, line: &str) -> Result<ImportedUser, String> {
        match self {
            Self::Json => Values::from_json(line)?,
            Self::Csv(table) => table.values(line)?,
        }
        .check()
    }
}

impl Table {
    fn of(header: &str) -> Result<Self, String> {
        // Whatever a spreadsheet chose that it is.
        let delimiter =
            *b",;\t".iter().find(|delimiter| header.as_bytes().contains(delimiter)).unwrap_or(&b',');
        let names = split(header, delimiter)?;
        let place = |name: &str| COLUMNS.iter().position(|column| column.eq_ignore_ascii_case(name.trim()));
        let columns: Vec<usize> = names.iter().filter_map(|name| place(name)).collect();
        if columns.is_empty() {
            return Err(format!(
                "neither a JSON object nor a header of CSV, expected for example {}",
                COLUMNS.join(",")
            ));
        }
        if columns.len() < names.len() {
            return Err(format!("unknown column: expected {}", COLUMNS.join(",")));
        }
        for (place, column) in COLUMNS.iter().enumerate() {
            match columns.iter().filter(|found| **found == place).count() {
                0 if *column != "disabled" => return Err(format!("the column {column:?} is missing")),
                0 | 1 => {}
                _ => return Err(format!("the column {column:?} is there twice")),
            }
        }
        Ok(Self { columns, delimiter })
    }

    fn values(&self, line: &str) -> Result<Values, String> {
        let fields = split(line, self.delimiter)?;
        if fields.len() != self.columns.len() {
            let count = fields.len();
            let noun = if count == 1 { "field" } else { "fields" };
            return Err(format!("{count} {noun}, but the header has {}", self.columns.len()));
        }
        let mut values = Values::default();
        for (place, field) in self.columns.iter().zip(fields) {
            let value = if field.is_empty() { Value::Missing } else { Value::Text(field) };
            match COLUMNS.get(*place).copied() {
                Some("name") => values.name = value,
                Some("email") => values.email = value,
                Some("organization") => values.organization = value,
                Some("password") => values.password = value,
                _ => values.disabled = value.into_bool(),
            }
        }
        Ok(values)
    }
}

/// The fields of one line. No value that is imported can have a line break, so a record never goes on in the next one.
fn split(line: &str, delimiter: u8) -> Result<Vec<Zeroizing<String>>, String> {
    let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
    let mut output = Zeroizing::new(vec![0; line.len() + 1]);
    let mut ends = vec![0; line.len() + 2];
    let input = Zeroizing::new([line.as_bytes(), b"\n"].concat());
    let (result, read, _, count) = reader.read_record(&input, &mut output, &mut ends);
    if result != csv_core::ReadRecordResult::Record || read < input.len() {
        return Err("a quoted field does not end on this line".into());
    }
    let mut start = 0;
    let fields = ends.iter().take(count).map(|end| {
        let field = output.get(start..*end).unwrap_or_default();
        start = *end;
        // Cut at ASCII characters, so each part is UTF-8 as the whole is.
        Zeroizing::new(String::from_utf8_lossy(field).into_owned())
    });
    Ok(fields.collect())
}

impl Values {
    fn from_json(line: &str) -> Result<Self, String> {
        if !line.trim_start().starts_with('{') {
            return Err("not a JSON object".into());
        }
        // serde's messages name members and places; a value of the wrong type never becomes one (see `Value`).
        serde_json::from_str(line).map_err(|error| {
            let text = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let text = text.strip_suffix(&place).unwrap_or(&text);
            format!("not valid: {text} (column {})", error.column())
        })
    }

    fn check(self) -> Result<ImportedUser, String> {
        let (name, email) = (self.name.text("name")?, self.email.text("e-mail address")?);
        let organization = self.organization.text("organization")?;
        let identity = identity(&name, &email, &organization).map_err(|error| error.to_string())?;
        let password = self.password.text("password")?;
        let phc = Phc::parse(&password).map_err(|error| format!("the password {error}"))?;
        let disabled = match self.disabled {
            Value::Missing => None,
            Value::Bool(disabled) => Some(disabled),
            _ => return Err("disabled must be true or false".into()),
        };
        Ok(ImportedUser { user: NewUser { identity, phc }, disabled })
    }
}

impl Value {
    fn text(self, what: &str) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Missing => Err(format!("the {what} is missing")),
            Self::Bool(_) | Self::Other => Err(format!("the {what} must be text")),
        }
    }

    /// Text of a table as what it stands for there.
    fn into_bool(self) -> Self {
        match self {
            Self::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Self::Bool(true),
                "false" | "no" | "0" => Self::Bool(false),
                _ => Self::Other,
            },
            value => value,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Takes every type, since serde's own refusal of a type shows the value.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(text)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Missing)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// Of a table, and the members of an object.
const COLUMNS: [&str; 5] = ["name", "email", "organization", "password", "disabled"];

/// The longest line: more than any user needs.
const MAX_LINE: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
