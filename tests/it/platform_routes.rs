//! Several platforms behind one gateway: a request goes to the one with the longest prefix of its path, read as the gate reads it.

use crate::client::request;
use crate::curl::{BOTH, curl};
use crate::http2::token_field;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::platform_side::get;

fn options(default: &Platform, ui: &Platform) -> Options {
    Options::new(default).set("[platforms]", "prefix", "\"/ui\"").set(
        "[platforms]",
        "servers",
        format!("[{:?}]", ui.url()),
    )
}

#[test]
fn a_request_goes_to_the_platform_of_its_path() {
    let (default, ui) = (Platform::echo(), Platform::echo());
    let gateway = options(&default, &ui).https().start();
    let token = token_field(&gateway.mint());
    for (target, is_ui) in [
        ("/ui", true),
        ("/ui/", true),
        ("/ui?a=/x", true),
        ("/ui/a/b?c", true),
        ("/ui/a%20b", true),
        ("/", false),
        ("/uix", false),
        ("/UI/a", false),
        ("/x/ui/a", false),
        ("/x?/ui/a", false),
        // Not canonical: nobody can say what a server makes of it, so it goes where everything else goes.
        ("/ui/%61", false),
        ("/%75i/a", false),
        ("/ui;x=1/a", false),
    ] {
        for protocol in BOTH {
            let url = format!("https://{}{target}", gateway.https());
            let before = (default.requests().len(), ui.requests().len());
            curl(protocol, &url, &["--path-as-is", "-H", &token], "").is(200);
            let after = (default.requests().len(), ui.requests().len());
            let expected = if is_ui { (before.0, before.1 + 1) } else { (before.0 + 1, before.1) };
            assert_eq!(after, expected, "{target} {protocol:?}");
        }
    }
    gateway.still_healthy();
}

/// The gate comes before the platforms: a token is needed for each, the token endpoint is the gateway's, and what it refuses reaches none.
#[test]
fn every_platform_is_behind_the_gate() {
    let (default, ui) = (Platform::echo(), Platform::echo());
    let gateway = options(&default, &ui).public("[\"/ui/public/*\"]").start();
    for target in ["/ui", "/ui/x", "/ui/public", "/ui/public/../x", "/ui/public/%2e%2e/x", "/x"] {
        let answer = gateway.exchange(request("GET", target, &[]));
        assert!(matches!(answer.status, 400 | 401), "{target}: {}", answer.status);
    }
    assert_eq!(default.bytes() + ui.bytes(), 0);
    assert_eq!(gateway.exchange(request("GET", "/ui/public/logo", &[])).status, 200);
    assert_eq!((default.requests().len(), ui.requests().len()), (0, 1));
    // The same fields are dropped and set.
    let token = gateway.mint();
    let fields = [("user-token", token.as_str()), ("X-DS-User", "root")];
    assert_eq!(gateway.exchange(request("GET", "/ui/me", &fields)).status, 200);
    assert_eq!(ui.request("/ui/me").values("x-ds-user"), [crate::gateway::USER]);
    gateway.still_healthy();
}

#[test]
fn a_platform_that_fails_takes_nothing_from_the_others() {
    let (default, ui) = (Platform::echo(), Platform::start(Behaviour::Close));
    let gateway = options(&default, &ui).start();
    let token = gateway.mint();
    for _ in 0..10 {
        get(&gateway, "/ui/x", &token).is_error(502);
        assert_eq!(get(&gateway, "/x", &token).status, 200);
    }
    let tries = |platform: &Platform| {
        let server = format!("server=\"{}\"", platform.address);
        gateway.metric("ds_gateway_platform_tries_total", &[&server])
    };
    assert_eq!((tries(&default), tries(&ui)), (10.0, 10.0));
}
