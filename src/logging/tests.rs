use super::*;

/// Takes so many bytes, and then none until there is room again.
struct Disk {
    room: usize,
    content: Vec<u8>,
}

impl std::io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.room == 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.room);
        self.content.extend(&bytes[..taken]);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_a_torn_one_harms_no_other() {
    for (room, lost, content) in [
        (0, 3, "four\n"),
        (2, 3, "on\nfour\n"),
        (3, 3, "one\nfour\n"),
        (4, 2, "one\nfour\n"),
        (9, 1, "one\ntwo\nt\nfour\n"),
        (14, 0, "one\ntwo\nthree\nfour\n"),
    ] {
        let mut out = Output { to: Disk { room, content: Vec::new() }, is_torn: false };
        assert_eq!(out.write(b"one\ntwo\nthree\n"), lost, "{room}");
        assert_eq!(out.write(b""), 0);
        out.to.room = 100;
        assert_eq!(out.write(b"four\n"), 0);
        assert_eq!(String::from_utf8_lossy(&out.to.content), content, "{room}");
    }
}

#[test]
fn a_text_line_stays_one_line() {
    let line = Line {
        time: "now".into(),
        level: "warn",
        target: "t",
        message: "two\n\"lines\"",
        more: Some(Fields(vec![("path".into(), "a\nb".into())])),
    };
    assert_eq!(as_text(&line), "now WARN  two\\n\\\"lines\\\" path=\"a\\nb\"\n");
}
