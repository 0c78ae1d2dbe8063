//! The configuration: any text is a configuration or a list of faults, each with its key and what to do; and what was accepted is
//! accepted again, also as another spelling of the same.
//!
//! The input: TOML, and behind a NUL variables of the environment, one a line.

use std::path::Path;

use ds_gateway::config::Config;
use toml::Table;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, environment) = text.split_once('\0').unwrap_or((text, ""));
    let parse = |text: &str| {
        let variables = environment.lines().filter_map(|line| line.split_once('='));
        let variables = variables.map(|(name, value)| (format!("DS_GATEWAY__{name}"), value.to_owned()));
        Config::parse(text, Path::new("/nonexistent"), variables).0
    };
    match parse(text) {
        Ok((config, _)) => {
            let _ = (config.warnings(), config.info_labels());
            assert!(!config.server.https.is_empty() || !config.server.http.is_empty());
            assert!(!config.platform.pool.servers.is_empty() && config.server.threads > 0);
            assert!(config.token.lifetime <= config.token.max_lifetime && config.token.lifetime > 0);
            let table: Table = text.parse().expect("TOML");
            let respelt = toml::to_string(&table).expect("a table");
            for text in [text, &respelt] {
                let (again, _) = parse(text)
                    .unwrap_or_else(|faults| panic!("accepted and then refused: {faults:?}\n{text}"));
                assert_eq!(format!("{again:?}"), format!("{config:?}"));
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            for fault in faults {
                assert!(!fault.key.is_empty() || text.contains("\"\"") || text.contains("''"), "{fault:?}");
                assert!(!fault.text.is_empty(), "{fault:?}");
            }
        }
    }
}
