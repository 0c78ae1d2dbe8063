use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::control::{Link, Verdict, ask_all};

fn serve(request: Request, progress: &Progress<'_>) -> Reply {
    match request {
        Request::Reload => Reply::Verdict(Verdict { applied: vec!["a.b".into()], ..Verdict::default() }),
        Request::Compare { config } => Reply::Error(config.display().to_string()),
        Request::Upgrade { .. } => {
            progress("first".into());
            progress("then".into());
            Reply::Done
        }
        Request::Apply => Reply::Done,
        Request::Hold { record } => {
            std::thread::sleep(Duration::from_millis(record.parse().unwrap()));
            Reply::Pending(vec![record])
        }
        other => Reply::Error(format!("{other:?}")),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn ask(folder: &Path, request: &Request) -> Vec<(String, Reply)> {
    let answers = ask_all(folder, request, |_, _| {}).unwrap();
    answers.into_iter().map(|asked| (asked.id, asked.reply.unwrap())).collect()
}

#[test]
fn each_gateway_of_a_folder_answers_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ask(folder.path(), &Request::Reload).is_empty());
    let one = Server::start(folder.path(), "1-a", serve).unwrap();
    let _other = Server::start(folder.path(), "2-b", serve).unwrap();
    let of = |id: &str| (id.to_owned(), serve(Request::Reload, &|_| {}));
    assert_eq!(ask(folder.path(), &Request::Reload), [of("1-a"), of("2-b")]);
    assert_eq!(mode(&folder.path().join("control")), 0o700);
    assert_eq!(mode(&folder.path().join("control/1-a")), 0o600);
    one.remove();
    assert_eq!(ask(folder.path(), &Request::Reload), [of("2-b")]);
    let compare = Request::Compare { config: "/x".into() };
    assert_eq!(ask(folder.path(), &compare), [("2-b".into(), Reply::Error("/x".into()))]);
}

#[test]
fn a_socket_that_nobody_listens_on_is_passed_over_and_then_removed() {
    let folder = tempfile::tempdir().unwrap();
    let sockets = folder.path().join("control");
    fs::create_dir(&sockets).unwrap();
    drop(UnixListener::bind(sockets.join("1-dead")).unwrap());
    drop(UnixListener::bind(sockets.join("2-b")).unwrap());
    assert!(ask(folder.path(), &Request::Reload).is_empty());
    // By its own name one is replaced.
    let _server = Server::start(folder.path(), "2-b", serve).unwrap();
    assert_eq!(names(&sockets), ["2-b"]);
    assert_eq!(ask(folder.path(), &Request::Reload).len(), 1);
}

#[test]
fn a_folder_may_be_deeper_than_the_path_of_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    let server = Server::start(&deep, "1-a", serve).unwrap();
    assert_eq!(ask(&deep, &Request::Reload).len(), 1);
    server.remove();
    assert!(names(&deep.join("control")).is_empty());
}

#[test]
fn what_is_not_understood_is_said_and_what_is_endless_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path(), "1-a", serve).unwrap();
    let path = folder.path().join("control/1-a");
    let told = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    };
    for unknown in [&b"{\"command\": \"fly\"}\n"[..], b"reload\n", b"\xff\n", b"{}\n"] {
        assert!(told(unknown).contains("not understood"), "{unknown:?}");
    }
    assert_eq!(told(b""), "");
    assert_eq!(told(b"{\"command\": \"reload\"}"), "", "a line that does not end is none");
    assert_eq!(told(&vec![b' '; 2 << 20]), "");
    // And a peer that says nothing lets others have their turn.
    let _silent = UnixStream::connect(&path).unwrap();
    assert_eq!(ask(folder.path(), &Request::Reload).len(), 1);
}

#[test]
fn what_is_waited_for_is_told_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path(), "1-a", serve).unwrap();
    let mut told = Vec::new();
    let answers = ask_all(folder.path(), &Request::Upgrade { if_needed: false }, |id, text| {
        told.push(format!("{id} {text}"))
    })
    .unwrap();
    assert_eq!(told, ["1-a first", "1-a then"]);
    assert_eq!(answers[0].reply.as_ref().unwrap(), &Reply::Done);
}

#[test]
fn a_connection_that_is_kept_has_each_question_answered_by_its_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), "1-a", serve).unwrap();
    let mut link = Link::connect(folder.path(), "1-a").unwrap();
    // Who is connected already may go on.
    server.remove();
    let ask = |link: &mut Link, request: Request, millis| link.ask(&request, Duration::from_millis(millis));
    let hold = |millis: u64| Request::Hold { record: millis.to_string() };
    assert_eq!(ask(&mut link, Request::Apply, 5000).unwrap(), Reply::Done);
    // Longer than a peer may take to ask.
    std::thread::sleep(PATIENCE + Duration::from_millis(200));
    assert!(!link.is_closed());
    assert!(ask(&mut link, hold(300), 50).is_err(), "it is late");
    assert_eq!(ask(&mut link, Request::Apply, 5000).unwrap(), Reply::Done, "and passed over then");
    assert_eq!(ask(&mut link, hold(1), 5000).unwrap(), Reply::Pending(vec!["1".into()]));
    // One that cannot be served is no end: both processes of an upgrade would be without each other.
    assert!(matches!(ask(&mut link, Request::Serving, 5000).unwrap(), Reply::Error(_)));
    assert!(!link.is_closed());
    assert_eq!(ask(&mut link, Request::Apply, 5000).unwrap(), Reply::Done);
}

#[test]
fn connections_are_as_many_as_there_are_places() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Server::start(folder.path(), "1-a", serve).unwrap();
    let silent: Vec<UnixStream> =
        (0..MOST).map(|_| UnixStream::connect(folder.path().join("control/1-a")).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(100));
    assert!(ask_all(folder.path(), &Request::Reload, |_, _| {}).unwrap()[0].reply.is_err());
    drop(silent);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(ask(folder.path(), &Request::Reload).len(), 1);
}

/// A process that ends removes its lock: then its closed connection alone says so.
#[test]
fn an_answer_that_came_too_late_does_not_hide_the_end_of_the_other_side() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("control")).unwrap();
    let listener = UnixListener::bind(folder.path().join("control/1-a")).unwrap();
    let mut link = Link::connect(folder.path(), "1-a").unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let late = link.ask(&Request::Apply, Duration::from_millis(20));
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    other.write_all(b"\"la").unwrap();
    assert!(!link.is_closed());
    other.write_all(b"te\"\n").unwrap();
    assert!(!link.is_closed());
    other.write_all(b"\"done\"\n").unwrap();
    assert_eq!(link.ask(&Request::Apply, Duration::from_secs(5)).unwrap(), Reply::Done);
    link.ask(&Request::Apply, Duration::from_millis(20)).unwrap_err();
    other.write_all(b"\"late\"\n").unwrap();
    drop(other);
    assert!(link.is_closed());
}
