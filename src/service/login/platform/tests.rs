use parking_lot::Mutex;
use tokio::runtime::Builder;

use super::*;
use crate::auth::endpoint::{InspectAuth, TokenRequest, read};

/// A platform that gives these answers, the last one first, and remembers what it was asked.
struct Scripted {
    answers: Mutex<Vec<Result<(u16, String), Unavailable>>>,
    asked: Mutex<Vec<[String; 3]>>,
}

#[async_trait]
impl PlatformApi for Scripted {
    async fn send(&self, request: ApiRequest) -> Result<ApiAnswer, Unavailable> {
        let text = |secret: &Secret| String::from_utf8(secret.expose_secret().to_vec()).unwrap();
        self.asked.lock().push([
            request.method.to_owned(),
            text(&request.target),
            text(&request.authorization),
        ]);
        let (status, body) = self.answers.lock().pop().unwrap()?;
        Ok(ApiAnswer { status, body: Secret::new(body.into_bytes()) })
    }
}

fn credentials(user: &str, password: &str) -> Credentials {
    let field = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    match read("POST", None, &[field.as_bytes()], InspectAuth::Basic).unwrap() {
        TokenRequest::Mint { credentials } => credentials,
        TokenRequest::Inspect { .. } => unreachable!(),
    }
}

fn ask(says: PlatformSays, answers: &[Result<(u16, String), Unavailable>]) -> (Answer, Vec<[String; 3]>) {
    let answers = Mutex::new(answers.iter().rev().cloned().collect());
    let api = Arc::new(Scripted { answers, asked: Mutex::default() });
    let settings = PlatformLogin { says, ..PlatformLogin::default() };
    let users = PlatformUsers::new(Arc::clone(&api) as Arc<dyn PlatformApi>, settings);
    let runtime = Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(users.authenticate(&credentials("anna", "pässword:x")));
    let asked = api.asked.lock().clone();
    (answer, asked)
}

fn token(claims: &str) -> String {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part(r#"{"alg":"RS256"}"#), part(claims))
}

fn minted(claims: &str) -> (u16, String) {
    (201, format!(r#"{{"user-token": "{}", "more": [1]}}"#, token(claims)))
}

const ANNA: &str = r#"{"user":"anna","email":"anna@example.com","database":"Main Org.","exp":1}"#;

fn anna() -> Identity {
    Identity {
        user: Name::parse_user("anna").unwrap(),
        email: "anna@example.com".into(),
        organization: Name::parse("Main Org.").unwrap(),
    }
}

#[test]
fn password_goes_to_the_platforms_token_endpoint_and_the_claims_say_who_it_is() {
    let (answer, asked) = ask(PlatformSays::Claims, &[Ok(minted(ANNA))]);
    assert_eq!(answer, Answer::Accepted(anna()));
    let value = format!("Basic {}", STANDARD.encode("anna:pässword:x"));
    assert_eq!(asked, [["POST".to_owned(), "/ds-api/user-token".to_owned(), value]]);
}

#[test]
fn each_answer_of_the_platform_has_one_meaning() {
    let refused = |reason| Answer::Refused(reason);
    let invalid = Answer::Unavailable(Unavailable::Invalid);
    let body = |status: u16, text: &str| Ok((status, text.to_owned()));
    for (given, expected) in [
        (body(401, ""), refused(Refused::Password)),
        (body(403, "<html>"), refused(Refused::Password)),
        (body(200, "{}"), invalid.clone()),
        (body(201, ""), invalid.clone()),
        (body(201, "{}"), invalid.clone()),
        (body(201, r#"{"user-token": 1}"#), invalid.clone()),
        (body(201, r#"["user-token"]"#), invalid.clone()),
        (body(201, r#"{"user-token": "a.b.c"}"#), refused(Refused::Identity)),
        (body(201, r#"{"user-token": "opaque"}"#), refused(Refused::Identity)),
        (Ok(minted(r#"{"user":"anna","email":"anna@example.com"}"#)), refused(Refused::Identity)),
        (Ok(minted(r#"{"user":"","email":"a@b","database":"x"}"#)), refused(Refused::Identity)),
        (Ok(minted(r#"{"user":"a\r\nb","email":"a@b","database":"x"}"#)), refused(Refused::Identity)),
        (Ok(minted(r#"{"user":"a","user":"b","email":"a@b","database":"x"}"#)), refused(Refused::Identity)),
        (body(302, ""), invalid.clone()),
        (body(404, ""), invalid.clone()),
        (body(429, ""), invalid.clone()),
        (body(410, ""), invalid.clone()),
        (body(423, ""), invalid),
        (body(500, ""), Answer::Unavailable(Unavailable::Failing)),
        (body(503, ""), Answer::Unavailable(Unavailable::Failing)),
        (Err(Unavailable::TimedOut), Answer::Unavailable(Unavailable::TimedOut)),
        (Err(Unavailable::Unreachable), Answer::Unavailable(Unavailable::Unreachable)),
    ] {
        let (answer, _) = ask(PlatformSays::Claims, std::slice::from_ref(&given));
        assert_eq!(answer, expected, "{given:?}");
    }
}

#[test]
fn platform_is_asked_what_its_token_says_where_the_token_does_not() {
    let opaque = || Ok((201, r#"{"user-token": "o/p+a=que"}"#.to_owned()));
    let said =
        r#"{"user":"anna","email":"anna@example.com","organization_name":"Main Org.","expire_time":"x"}"#;
    let (answer, asked) = ask(PlatformSays::Inspection, &[opaque(), Ok((200, said.to_owned()))]);
    assert_eq!(answer, Answer::Accepted(anna()));
    assert_eq!(asked[1][..2], ["GET", "/ds-api/user-token?token=o%2Fp%2Ba%3Dque"]);
    assert_eq!(asked[0][2], asked[1][2]);
    for (status, body, reason) in [
        (401, said, Unavailable::Invalid),
        (200, "{}", Unavailable::Invalid),
        (500, "", Unavailable::Failing),
    ] {
        let (answer, _) = ask(PlatformSays::Inspection, &[opaque(), Ok((status, body.to_owned()))]);
        assert_eq!(answer, Answer::Unavailable(reason), "{status} {body}");
    }
}

#[test]
fn no_secret_is_in_what_a_request_prints() {
    let request = ApiRequest {
        method: "POST",
        target: Secret::new(b"/?token=canary".to_vec()),
        authorization: basic(&credentials("anna", "canary")),
    };
    let answer = ApiAnswer { status: 201, body: Secret::new(b"canary".to_vec()) };
    let printed = format!("{request:?} {answer:?}");
    assert!(!printed.contains("canary") && !printed.contains(&STANDARD.encode("canary")), "{printed}");
}
