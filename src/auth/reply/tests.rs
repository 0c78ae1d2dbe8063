use super::*;
use crate::auth::policy::TargetError;

#[test]
fn every_error_is_json_with_one_member() {
    let refusals = [Refusal::Method, Refusal::Credentials, Refusal::TokenParameter];
    let malformed = [
        Malformed::Host,
        Malformed::LineEnd,
        Malformed::RequestLine,
        Malformed::Connection,
        Malformed::FieldName,
        Malformed::MethodOverride,
        Malformed::WebSocket,
        Malformed::AtLeast,
        Malformed::Framing,
        Malformed::Expect,
        Malformed::ExpectHttp2,
        Malformed::HeaderBytes,
        Malformed::HeaderFields,
        Malformed::Body,
        Malformed::BodyTimeout,
        Malformed::HeaderTimeout,
        Malformed::Authority,
        Malformed::TargetCharacter,
        Malformed::Unreadable,
    ];
    let faults = [PlatformFault::Unreachable, PlatformFault::TimedOut];
    let replies = Denial::ALL
        .into_iter()
        .map(Reply::denied)
        .chain(refusals.into_iter().map(Reply::refused))
        .chain(malformed.into_iter().map(Reply::malformed))
        .chain(TargetError::ALL.into_iter().map(Malformed::Target).map(Reply::malformed))
        .chain(faults.into_iter().map(Reply::platform))
        .chain(Overload::ALL.into_iter().map(Reply::overloaded))
        .chain([
            Reply::token_refused(),
            Reply::not_found(),
            Reply::preflight(Preflight::Refused, &Cors::default()),
            Reply::busy(),
            Reply::throttled(7, 180),
            Reply::too_many_connections(),
            Reply::too_many_tokens(),
            Reply::too_many_revocations(),
        ])
        .chain([Reply::not_applied(), Reply::store_unavailable(), Reply::internal()]);
    for reply in replies {
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1, "{reply:?}");
        assert!(body["error"].is_string(), "{reply:?}");
        assert!((400..600).contains(&reply.status), "{reply:?}");
        let retry = |random| {
            let value = reply.fields(random).find(|(name, _)| *name == "Retry-After").map(|(_, value)| value);
            value.map(|value| value.parse::<u32>().unwrap())
        };
        assert_eq!(retry(0).is_some(), matches!(reply.status, 429 | 503), "{reply:?}");
        // Those that are refused together do not come back together.
        assert!(retry(0).is_none() || retry(0) != retry(1), "{reply:?}");
    }
}

#[test]
fn a_client_waits_for_as_long_as_it_must_and_no_longer_than_it_is_told() {
    let after = |reply: &Reply, random| {
        let mut fields = reply.fields(random);
        let (_, value) = fields.find(|(name, _)| *name == "Retry-After").unwrap();
        value.parse::<u32>().unwrap()
    };
    for (seconds, least, most) in [(1, 1, 11), (90, 90, 135), (170, 170, 180), (180, 180, 180)] {
        let reply = Reply::throttled(seconds, 180);
        let all = (0..1000).map(|random| after(&reply, random));
        assert_eq!((all.clone().min(), all.max()), (Some(least), Some(most)), "{seconds}");
    }
}

#[test]
fn every_refused_token_gets_the_same_answer() {
    use Denial::{StateStale, TokenAlias, TokenMissing, TokenRepeated};
    let (own, general) = (Reply::denied(Denial::TokenExpired), Reply::denied(TokenMissing));
    for denial in Denial::ALL {
        match denial {
            StateStale => assert_eq!(Reply::denied(denial).status, 503),
            // A client knows by itself that it sent none, or several.
            TokenMissing | TokenRepeated | TokenAlias => {
                assert_eq!(Reply::denied(denial).body, general.body, "{denial:?}");
            }
            _ => assert_eq!(Reply::denied(denial), own, "{denial:?}"),
        }
    }
}

#[test]
fn every_401_has_a_challenge_and_only_passwords_are_asked_for_by_basic() {
    let challenge = |reply: Reply| -> Vec<String> {
        assert_eq!(reply.status, 401);
        let fields = reply.fields(0).filter(|(name, _)| *name == "WWW-Authenticate");
        fields.map(|(_, value)| value.into_owned()).collect()
    };
    let own = r#"User-Token realm="ds-api""#;
    for (reply, expected) in [
        (Reply::denied(Denial::TokenMissing), own.to_owned()),
        (Reply::denied(Denial::TokenRepeated), format!(r#"{own}, error="invalid_request""#)),
        (Reply::denied(Denial::TokenAlias), format!(r#"{own}, error="invalid_request""#)),
        (Reply::denied(Denial::TokenEmpty), format!(r#"{own}, error="invalid_token""#)),
        (Reply::denied(Denial::RevokedUser), format!(r#"{own}, error="invalid_token""#)),
        (Reply::token_refused(), format!(r#"{own}, error="invalid_token""#)),
        (Reply::refused(Refusal::Credentials), r#"Basic realm="ds-api", charset="UTF-8""#.to_owned()),
    ] {
        assert_eq!(challenge(reply), [expected]);
    }
}
