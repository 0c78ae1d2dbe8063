use super::*;

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
        Malformed::Upgrade,
        Malformed::Framing,
        Malformed::Expect,
        Malformed::HeaderBytes,
        Malformed::HeaderFields,
        Malformed::Body,
        Malformed::BodyTimeout,
        Malformed::HeaderTimeout,
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
            Reply::busy(),
            Reply::throttled(7, 180),
            Reply::too_many_connections(),
            Reply::too_many_tokens(),
            Reply::too_many_revocations(),
        ])
        .chain([Reply::store_unavailable(), Reply::internal()]);
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
    for denial in Denial::ALL.into_iter().filter(|denial| *denial != Denial::StateStale) {
        assert_eq!(Reply::denied(denial), Reply::denied(Denial::TokenMissing));
    }
}
