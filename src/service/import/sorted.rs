//! Users in the order of their names, however many: what does not fit into a few MB goes to a file without a name.
//!
//! In this order a name that is there twice is beside itself, and a slice of the import writes to few pages of the store.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::fault::{Fault, FaultKind};
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::store::command::{ImportConflict, ImportedUser, NewUser};

/// A user of an import, with what it is sorted by.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What two names share that a person would confuse.
    pub(super) folded: String,
    /// The number of its line.
    pub(super) number: usize,
    pub(super) user: ImportedUser,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Entry {
    /// The user's name.
    pub(super) fn name(&self) -> &str {
        self.user.user.identity.user.as_str()
    }

    /// The fault that the store has a user that keeps this one out.
    pub(super) fn conflict(&self, conflict: ImportConflict) -> Fault {
        let name = self.name().to_owned();
        Fault { line: self.number, kind: FaultKind::Conflict { name, conflict } }
    }

    fn key(&self) -> (&str, usize) {
        (&self.folded, self.number)
    }

    fn texts(&self) -> [&str; 5] {
        let ImportedUser { user: NewUser { identity, phc }, .. } = &self.user;
        let Identity { user, email, organization } = identity;
        [&self.folded, user.as_str(), email, organization.as_str(), phc.as_str()]
    }

    /// Bytes that it takes, about.
    fn size(&self) -> usize {
        size_of::<Self>() + self.texts().iter().map(|text| text.len()).sum::<usize>()
    }

    fn write(&self, file: &mut impl io::Write) -> io::Result<()> {
        let disabled = match self.user.disabled {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        file.write_all(&[disabled])?;
        file.write_all(&(self.number as u64).to_le_bytes())?;
        for text in self.texts() {
            file.write_all(&(text.len() as u32).to_le_bytes())?;
            file.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// `None` at the end.
    fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        let mut disabled = [0];
        if file.read(&mut disabled)? == 0 {
            return Ok(None);
        }
        let mut number = [0; 8];
        file.read_exact(&mut number)?;
        let mut text = || {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            let mut text = String::new();
            file.take(u32::from_le_bytes(length).into()).read_to_string(&mut text)?;
            Ok::<_, io::Error>(text)
        };
        let (folded, name, email, organization, phc) = (text()?, text()?, text()?, text()?, text()?);
        let parsed = (Name::parse_user(&name), Name::parse(&organization), Phc::parse(&phc));
        let (Ok(user), Ok(organization), Ok(phc)) = parsed else {
            return Err(io::Error::other("the temporary file was changed"));
        };
        let identity = Identity { user, email: email.into(), organization };
        let disabled = [None, Some(false), Some(true)].get(usize::from(disabled[0])).copied().flatten();
        let user = ImportedUser { user: NewUser { identity, phc }, disabled };
        Ok(Some(Self { folded, number: u64::from_le_bytes(number) as usize, user }))
    }
}

/// Takes users in any order.
pub(super) struct Sorter {
    folder: PathBuf,
    size: usize,
    /// Not yet in the file.
    entries: Vec<Entry>,
    bytes: usize,
    file: Option<File>,
    /// Where each sorted part of the file begins and ends.
    parts: Vec<(u64, u64)>,
    count: usize,
}

impl Sorter {
    /// Keeps about `size` bytes in memory, and the rest in a file in that folder.
    pub(super) const fn new(folder: PathBuf, size: usize) -> Self {
        Self { folder, size, entries: Vec::new(), bytes: 0, file: None, parts: Vec::new(), count: 0 }
    }

    pub(super) fn add(&mut self, number: usize, user: ImportedUser) -> io::Result<()> {
        let entry = Entry { folded: user.user.identity.user.folded(), number, user };
        self.bytes += entry.size();
        self.count += 1;
        self.entries.push(entry);
        if self.bytes >= self.size { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.folder)?),
        };
        self.entries.sort_unstable();
        let start = file.stream_position()?;
        let mut writer = BufWriter::with_capacity(BUFFER, &mut *file);
        self.entries.iter().try_for_each(|entry| entry.write(&mut writer))?;
        writer.flush()?;
        drop(writer);
        self.parts.push((start, file.stream_position()?));
        self.entries.clear();
        self.bytes = 0;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        if self.file.is_some() {
            self.spill()?;
            self.entries = Vec::new();
        }
        self.entries.sort_unstable();
        Ok(Sorted { entries: self.entries, file: self.file, parts: self.parts, count: self.count })
    }
}

/// All of them, to be read in order as often as is needed.
#[derive(Debug)]
pub(super) struct Sorted {
    /// Where they all fit into memory.
    entries: Vec<Entry>,
    file: Option<File>,
    parts: Vec<(u64, u64)>,
    count: usize,
}

impl Sorted {
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// From the first on.
    pub(super) fn iter(&self) -> io::Result<impl Iterator<Item = io::Result<Entry>> + '_> {
        let mut merge = Merge { parts: Vec::new(), next: BinaryHeap::new() };
        for (start, end) in &self.parts {
            let Some(file) = &self.file else { continue };
            merge.parts.push(BufReader::with_capacity(BUFFER, Part { file, at: *start, end: *end }));
        }
        for place in 0..merge.parts.len() {
            merge.fill(place)?;
        }
        Ok(self.entries.iter().cloned().map(Ok).chain(merge))
    }
}

/// The sorted parts of the file, of which the least entry comes next.
struct Merge<'f> {
    parts: Vec<BufReader<Part<'f>>>,
    next: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Merge<'_> {
    fn fill(&mut self, place: usize) -> io::Result<()> {
        let Some(part) = self.parts.get_mut(place) else { return Ok(()) };
        self.next.extend(Entry::read(part)?.map(|entry| Reverse((entry, place))));
        Ok(())
    }
}

impl Iterator for Merge<'_> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((entry, place)) = self.next.pop()?;
        Some(self.fill(place).map(|()| entry))
    }
}

/// A part of a file that others read too.
struct Part<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

const BUFFER: usize = 1 << 16;

#[cfg(test)]
mod tests;
