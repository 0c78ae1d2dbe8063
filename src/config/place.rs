//! A store that is named outside of the configuration, by the rules of `store.url`.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::Config;
use super::postgres::Surroundings;
use super::sections::read_store;
use super::settings::StorePlace;
use super::source::{ConfigError, Source};

impl Config {
    /// The store of that URL. A file of SQLite is in the state folder unless its path is absolute; `base` is where other relative paths
    /// start. The password of a PostgreSQL is in `password_file`, or where libpq's variables in `environment` say.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, each as a sentence without a value that might be secret.
    pub fn store_place(
        &self,
        url: &str,
        password_file: Option<&Path>,
        base: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<StorePlace, Vec<String>> {
        let mut section = Table::new();
        section.insert("url".to_owned(), Value::String(url.to_owned()));
        if let Some(file) = password_file {
            section.insert("password_file".to_owned(), Value::String(file.display().to_string()));
        }
        let root = Table::from_iter([("store".to_owned(), Value::Table(section))]);
        let shown = |errors: Vec<ConfigError>| errors.into_iter().map(|error| error.text).collect();
        let mut source = Source::of(root);
        let environment: BTreeMap<String, String> = environment.collect();
        let surroundings =
            Surroundings { base, state_dir: Some(&self.server.state_dir), environment: &environment };
        let settings = read_store(source.section("store"), surroundings);
        let errors = source.finish().errors;
        if errors.is_empty() { Ok(settings.place) } else { Err(shown(errors)) }
    }
}
