use super::*;
use proptest::prelude::*;

const HASH: &str = "$2b$10$abcdefghijklmnopqrstuus1WVYqqoT97lnjjYbcK6C5rzUHVXE/i";

fn user(name: &str, disabled: Option<bool>) -> ImportedUser {
    let identity = Identity {
        user: Name::parse_user(name).unwrap(),
        email: format!("{name}@example.com").into(),
        organization: Name::parse("Größe").unwrap(),
    };
    ImportedUser { user: NewUser { identity, phc: Phc::parse(HASH).unwrap() }, disabled }
}

proptest! {
    #[test]
    fn every_user_comes_back_whole_and_in_order_however_little_memory_there_is(
        names in prop::collection::vec(("[a-cA-Cäß]{1,3}", any::<Option<bool>>()), 0..60),
        size in 1..4_000usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path().to_owned(), size);
        let mut expected = Vec::new();
        for (number, (name, disabled)) in names.iter().enumerate() {
            sorter.add(number, user(name, *disabled)).unwrap();
            expected.push((Name::parse_user(name).unwrap().folded(), number));
        }
        expected.sort();
        let sorted = sorter.finish().unwrap();
        prop_assert_eq!(sorted.count(), names.len());
        for _ in 0..2 {
            let entries: Vec<Entry> = sorted.iter().unwrap().collect::<io::Result<_>>().unwrap();
            let keys: Vec<(String, usize)> =
                entries.iter().map(|entry| (entry.folded.clone(), entry.number)).collect();
            prop_assert_eq!(&keys, &expected);
            for entry in entries {
                let (name, disabled) = &names[entry.number];
                let given = user(name, *disabled);
                prop_assert_eq!(&entry.user.user.identity, &given.user.identity);
                prop_assert_eq!(&entry.user.user.phc, &given.user.phc);
                prop_assert_eq!(entry.user.disabled, *disabled);
            }
        }
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }
}
