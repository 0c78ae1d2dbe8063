//! What somebody may have meant who wrote a name that is not known.

use strsim::{damerau_levenshtein, normalized_damerau_levenshtein};

/// The known name that is most like this one, if any is like it at all.
pub(super) fn closest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let likeness = |known: &str| normalized_damerau_levenshtein(&name, known);
    let like = known.into_iter().map(|known| (likeness(known), known)).filter(|(like, _)| *like >= LIKE);
    like.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}

/// The known variable that this one would be but for its underscores, its case, or a slip.
pub(super) fn closest_variable<'k>(
    name: &str,
    known: impl IntoIterator<Item = &'k String>,
) -> Option<&'k String> {
    if is_service_link(name) {
        return None;
    }
    let name = squeezed(name);
    let distance = |known: &String| damerau_levenshtein(&name, &squeezed(known));
    let near = known.into_iter().map(|known| (distance(known), known));
    near.filter(|(distance, _)| *distance <= SLIPS)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Upper case, with one underscore where there are several.
fn squeezed(name: &str) -> String {
    let mut squeezed = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter != '_' || !squeezed.ends_with('_') {
            squeezed.push(letter.to_ascii_uppercase());
        }
    }
    squeezed
}

/// A variable that Kubernetes and Docker set for a service called `ds-gateway…`.
fn is_service_link(name: &str) -> bool {
    let is_port = |(_, rest): (&str, &str)| rest.is_empty() || rest.starts_with('_');
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT").is_some_and(is_port)
}

/// From here on, 1 being the same, two names are alike.
const LIKE: f64 = 0.6;

/// Letters that a variable may differ in.
const SLIPS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_alike_are_found_and_others_are_not() {
        let known = ["https", "http", "state_dir", "threads", "trusted_proxies", "grace"];
        for (name, expected) in [
            ("htps", Some("https")),
            ("HTTPS", Some("https")),
            ("state-dir", Some("state_dir")),
            ("statedir", Some("state_dir")),
            ("thread", Some("threads")),
            ("trusted_proxy", Some("trusted_proxies")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn a_variable_that_nearly_names_a_key_is_told_from_others() {
        let known = [
            "DS_GATEWAY__SERVER__HTTPS",
            "DS_GATEWAY__ADMIN__LISTEN",
            "DS_GATEWAY__LIMITS__LOGIN__TRUSTED",
            "DS_GATEWAY_CONFIG",
        ];
        let known: Vec<String> = known.map(str::to_owned).into();
        let found = |name: &str| closest_variable(name, &known).map(String::as_str);
        for (name, expected) in [
            ("DS_GATEWAY_SERVER_HTTPS", Some("DS_GATEWAY__SERVER__HTTPS")),
            ("DS_GATEWAY__SERVER_HTTPS", Some("DS_GATEWAY__SERVER__HTTPS")),
            ("DS_GATEWAY_SERVER__HTTPS", Some("DS_GATEWAY__SERVER__HTTPS")),
            ("ds_gateway__server__https", Some("DS_GATEWAY__SERVER__HTTPS")),
            ("DS_GATEWAY___SERVER__HTPS", Some("DS_GATEWAY__SERVER__HTTPS")),
            ("DS_GATEWAY_LIMITS_LOGIN_TRUSTED", Some("DS_GATEWAY__LIMITS__LOGIN__TRUSTED")),
            ("DS_GATEWAY_CONFIGS", Some("DS_GATEWAY_CONFIG")),
            ("DS_GATEWAY_SERVICE_HOST", None),
            ("DS_GATEWAY_SERVICE_PORT", None),
            ("DS_GATEWAY_SERVICE_PORT_HTTPS", None),
            ("DS_GATEWAY_PORT", None),
            ("DS_GATEWAY_PORT_8443_TCP_ADDR", None),
            ("DS_GATEWAY_ADMIN_SERVICE_HOST", None),
            ("DS_GATEWAY_ADMIN_PORT_9464_TCP", None),
            ("DS_GATEWAY_VERSION", None),
            ("DS_GATEWAY_IMAGE_TAG", None),
        ] {
            assert_eq!(found(name), expected, "{name}");
        }
    }
}
