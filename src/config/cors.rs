//! The section on pages of other origins.

use super::source::Section;
use crate::auth::cors::{Cors, METHODS, Origin, Origins, is_token};

pub(super) fn read_cors(mut section: Section<'_>) -> Cors {
    let hint = "write a list such as [\"https://dashboard.example\"], or [\"*\"] for all";
    let origins: Option<Vec<String>> = section.optional("origins", hint);
    let methods: Option<Vec<String>> =
        section.optional("methods", "write a list such as [\"GET\", \"POST\"]");
    let headers: Option<Vec<String>> = section.optional("headers", "write a list such as [\"x-page\"]");
    let max_age = section.delay("max_age", 600);
    if origins.is_none() {
        let given = [("methods", methods.is_some()), ("headers", headers.is_some())];
        for (key, _) in given.iter().filter(|(_, is_given)| *is_given) {
            section.error(key, "has no effect without cors.origins: list whose pages may call the gateway");
        }
    }
    let origins = read_origins(&mut section, &origins.unwrap_or_default());
    let methods = methods.unwrap_or_else(|| METHODS.map(str::to_owned).into());
    let headers = headers.unwrap_or_default();
    if methods.is_empty() {
        section.error("methods", "lists no method: remove it for all that the API has");
    }
    for method in &methods {
        // A method is compared in the case that it is sent in, and "patch" is another one than PATCH.
        if !is_token(method) || method == "*" || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let text = format!("{method:?} is not a method: write each in upper case, such as \"PATCH\"");
            section.error("methods", text);
        }
    }
    for name in headers.iter().filter(|name| !is_token(name) || *name == "*") {
        section
            .error("headers", format!("{name:?} is not the name of a field: list each, such as \"x-page\""));
    }
    Cors::new(origins, &methods, &headers, max_age)
}

fn read_origins(section: &mut Section<'_>, texts: &[String]) -> Origins {
    if let [only] = texts
        && only == "*"
    {
        return Origins::Everybody;
    }
    let mut listed = Vec::new();
    for text in texts {
        match Origin::parse(text) {
            Ok(origin) => listed.push(origin),
            Err(error) => section.error("origins", format!("{text:?} {error}")),
        }
    }
    if listed.is_empty() { Origins::Nobody } else { Origins::Listed(listed) }
}
