use super::*;
use std::fs;

const OWN: Id = [7; 16];

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        let dir = Dir(tempfile::tempdir().unwrap());
        Journal::create(dir.0.path(), &OWN).unwrap();
        dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The values of all records that are handed out, and the last number.
    fn open(&self, moved: u64) -> Result<(Journal, Vec<u64>, u64), String> {
        let mut values = Vec::new();
        let replay = |changes: Changes| {
            for change in changes {
                values.push(u64::from_be_bytes(change.value().unwrap()[..8].try_into().unwrap()));
            }
        };
        match Journal::open(self.0.path(), &OWN, moved, replay) {
            Ok((journal, last)) => Ok((journal, values, last)),
            Err(OpenFailure::Corrupt(what)) => Err(what),
            Err(e) => panic!("{e:?}"),
        }
    }

    fn records(&self, moved: u64) -> Result<Vec<u64>, String> {
        self.open(moved).map(|(_, values, last)| {
            assert_eq!(values, (moved + 1..=last).collect::<Vec<_>>());
            values
        })
    }

    /// Changes one byte of a file.
    fn bend(&self, name: &str, at: u64) {
        let mut bytes = fs::read(self.file(name)).unwrap();
        bytes[at as usize] ^= 1;
        fs::write(self.file(name), bytes).unwrap();
    }
}

/// A record whose value begins with its number.
fn record(number: u64) -> Record {
    let mut record = Record::new();
    let value = [&number.to_be_bytes()[..], &vec![b'v'; number as usize % 50]].concat();
    record.add(Table::Documents, b"key", Some(&value));
    record
}

fn append(journal: &mut Journal, numbers: std::ops::RangeInclusive<u64>) {
    numbers.for_each(|number| journal.append(number, &mut record(number)).unwrap());
}

/// A change as its table, key and value.
type Told<'a> = (Table, &'a [u8], Option<&'a [u8]>);

fn told(changes: Changes<'_>) -> Vec<Told<'_>> {
    changes.map(|change| (change.table, change.key(), change.value())).collect()
}

#[test]
fn a_record_says_what_was_added() {
    let mut record = Record::new();
    assert!(record.is_empty());
    let long = vec![9; 70_000];
    let changes: [Told; 4] = [
        (Table::Meta, b"a", Some(b"")),
        (Table::Raft, b"b", None),
        (Table::Index, &[0xff; 511], Some(&long)),
        (Table::Meta, b"a", None),
    ];
    for (table, key, value) in changes {
        let added = record.add(table, key, value);
        assert_eq!((added.table, added.key(), added.value()), (table, key, value));
    }
    assert_eq!(told(record.changes()), changes);
    let sealed = record.seal(3).to_vec();
    let (found, length) = record_at(&sealed, |_| true).unwrap();
    assert_eq!((found.sequence, length), (3, sealed.len()));
    assert_eq!(told(Changes(found.body)), changes);
}

#[test]
fn turns_follow_each_other() {
    let dir = Dir::new();
    let (mut journal, ..) = dir.open(0).unwrap();
    append(&mut journal, 1..=40);
    journal.turn();
    append(&mut journal, 41..=50);
    assert_eq!(dir.records(0).unwrap().len(), 50);
    assert_eq!(dir.records(40).unwrap().len(), 10);
    // The first turn is in LMDB; the third writes over it, and what is left of it does not count.
    journal.turn();
    append(&mut journal, 51..=53);
    assert_eq!(dir.records(40).unwrap().len(), 13);
    assert_eq!(dir.records(50).unwrap().len(), 3);
    journal.restart();
    append(&mut journal, 54..=54);
    assert_eq!(dir.records(53).unwrap(), [54]);
}

#[test]
fn a_torn_record_is_as_if_it_had_not_been() {
    let dir = Dir::new();
    let (mut journal, ..) = dir.open(0).unwrap();
    append(&mut journal, 1..=3);
    let third = journal.end;
    append(&mut journal, 4..=4);
    let whole = fs::read(dir.file(FILES[0])).unwrap();
    for torn in third..journal.end - 8 {
        let mut bytes = whole.clone();
        bytes[torn as usize..journal.end as usize].fill(0);
        fs::write(dir.file(FILES[0]), bytes).unwrap();
        assert_eq!(dir.records(0).unwrap(), [1, 2, 3], "torn at {torn}");
    }
    // The file as it is while it is made longer.
    fs::write(dir.file(FILES[0]), &whole[..third as usize]).unwrap();
    assert_eq!(dir.records(0).unwrap(), [1, 2, 3]);
}

#[test]
fn a_damaged_record_is_an_error_and_nothing_is_cut() {
    let dir = Dir::new();
    let (mut journal, ..) = dir.open(0).unwrap();
    append(&mut journal, 1..=2);
    let second = journal.end;
    append(&mut journal, 3..=5);
    journal.turn();
    append(&mut journal, 6..=7);
    for at in [HEADER_BYTES, HEADER_BYTES + 5, second + 9, second + 20] {
        dir.bend(FILES[0], at);
        let damaged = fs::read(dir.file(FILES[0])).unwrap();
        let what = dir.records(0).unwrap_err();
        assert!(what.contains("is damaged"), "{what}");
        assert_eq!(fs::read(dir.file(FILES[0])).unwrap(), damaged);
        // Once moved, it does not matter.
        assert_eq!(dir.records(5).unwrap(), [6, 7]);
        dir.bend(FILES[0], at);
    }
    // The last of a file could be torn, but there is one after it.
    dir.bend(FILES[0], second + 85);
    assert!(dir.records(0).is_err());
    dir.bend(FILES[0], second + 85);
    // A whole file of them.
    fs::write(dir.file(FILES[0]), header(&OWN)).unwrap();
    let what = dir.records(0).unwrap_err();
    assert!(what.contains("the records from 1 to 5 are missing"), "{what}");
}

#[test]
fn another_directory_s_journal_is_refused_and_kept() {
    let (dir, other) = (Dir::new(), tempfile::tempdir().unwrap());
    Journal::create(other.path(), &[8; 16]).unwrap();
    fs::copy(other.path().join(FILES[1]), dir.file(FILES[1])).unwrap();
    let what = dir.records(0).unwrap_err();
    assert!(what.contains("belongs to other data"), "{what}");
    assert!(matches!(Journal::create(dir.0.path(), &OWN), Err(OpenFailure::Corrupt(_))));
    assert_eq!(fs::read(dir.file(FILES[1])).unwrap(), header(&[8; 16]));
    dir.bend(FILES[1], 3);
    let what = dir.records(0).unwrap_err();
    assert!(what.contains("is no journal"), "{what}");
    fs::remove_file(dir.file(FILES[1])).unwrap();
    let what = dir.records(0).unwrap_err();
    assert!(what.contains("is missing"), "{what}");
}

#[test]
fn an_interrupted_creation_is_done_again() {
    let dir = Dir::new();
    fs::remove_file(dir.file(FILES[1])).unwrap();
    fs::write(dir.file("journal.new"), b"TAN").unwrap();
    Journal::create(dir.0.path(), &OWN).unwrap();
    assert!(dir.records(0).unwrap().is_empty());
}
