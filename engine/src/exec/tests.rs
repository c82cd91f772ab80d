//! Properties of the storage core: leaders, followers and copies come to the same data; what is undone is as it was.

use super::*;
use crate::db::mem::MemStore;
use crate::db::rows::{catalog_key, kind};
use crate::db::{
    CollectionKind, CollectionRow, Document, IndexKind, KeyKind, KeyOptions, NewCollection, NewIndex, PutError, index,
};
use crate::http::{Method, Request};
use crate::io::{Comparison, Mode, View};
use crate::message::raft::{HardState, LogEntry, META_HARD, META_POOL, META_SNAPSHOT, Seat, Snapshot};
use crate::message::{Follow, Peer, SnapshotId, SnapshotOffer, SnapshotPiece};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

// ---- a server's store, driven without a server ----------------------------------------------------------------------

#[derive(Clone)]
struct Server {
    store: MemStore,
}

/// One step of a transaction: what is done, to which of the things that are there, with which value.
type Step = (u8, u8, u8);

impl Server {
    fn new(seed: u64) -> Server {
        let mut server = Server { store: MemStore::new() };
        server.open(seed);
        server
    }

    fn open(&mut self, seed: u64) -> SavedServer {
        let endpoint = Endpoint::parse("tcp://server:8529").unwrap();
        let config = Config::Server(ServerConfig::new(endpoint, Nonce(0)));
        match open(&mut self.store, &config, Now { time: Time(0), wall_ms: 1_700_000_000_000 }, seed) {
            Ok(Saved::Server(saved)) => saved,
            other => panic!("{other:?}"),
        }
    }

    fn op(&mut self, op: Op) -> OpResult {
        let writes = op.writes();
        let result = match writes {
            true => perform(vec![(OpId(1), op)], &mut self.store).pop().unwrap().1,
            false => read(op, &self.store),
        };
        self.check();
        result
    }

    fn begin(&mut self, epoch: u64) -> Entry {
        match self.op(Op::BeginEpoch { epoch: Epoch(epoch), lineage: Lineage(epoch * 1000 + 7) }) {
            OpResult::Began { entry } => entry,
            other => panic!("{other:?}"),
        }
    }

    /// A client's transaction, as `run_write` performs it.
    fn write(&mut self, epoch: u64, steps: &[Step]) -> Option<Entry> {
        let chance = self.last().tick.0;
        let mut txn = self.store.begin().unwrap();
        let mut writer = Writer::new(&*txn, Epoch(epoch), 1_700_000_000_000, chance).unwrap();
        for step in steps {
            act(&mut writer, *step);
        }
        let finished = writer.finish().unwrap();
        let Finished::Entry(entry, batch) = finished else { return None };
        batch.write(&mut *txn).unwrap();
        txn.commit().unwrap();
        self.check();
        if entry.tick.0.is_multiple_of(3) {
            self.build();
        }
        Some(entry)
    }

    /// Goes on with an index that is built in pieces, by one document.
    fn build(&mut self) {
        assert!(matches!(self.op(Op::Build(Build { limit: 1, lead: None })), OpResult::Built { entry: None, .. }));
        self.check();
    }

    fn with<T>(&self, look: impl FnOnce(&Reader<'_>) -> T) -> T {
        let snapshot = self.store.snapshot().unwrap();
        look(&Reader::new(&*snapshot).unwrap())
    }

    fn last(&self) -> Position {
        self.with(|reader| reader.last().unwrap())
    }

    fn log(&self) -> Vec<Entry> {
        self.with(|reader| reader.log(Tick(0), usize::MAX).unwrap())
    }

    fn append(&mut self, epoch: u64, into: Target, prev: Position, entries: Vec<Entry>) -> OpResult {
        self.op(Op::Append { epoch: Epoch(epoch), into, prev, entries })
    }

    /// Takes over what `leader` has after our end.
    fn follow(&mut self, leader: &Server, epoch: u64) {
        let prev = self.last();
        let entries = leader.with(|reader| reader.log(prev.tick, usize::MAX).unwrap());
        match self.append(epoch, Target::Data, prev, entries) {
            OpResult::Appended { last, .. } => assert_eq!(last, leader.last()),
            other => panic!("{other:?}"),
        }
        if self.last().tick.0.is_multiple_of(2) {
            self.build();
        }
    }

    fn undo(&mut self, epoch: u64, common: Position) -> u64 {
        let mut total = 0;
        loop {
            match self.op(Op::Undo { epoch: Epoch(epoch), common, limit: 3 }) {
                OpResult::Undone { last, undone, .. } => {
                    total += undone;
                    if last == common {
                        return total;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn present(&self, complete: bool) -> Follow {
        let OpResult::Located(located) = read(Op::Locate { target: Target::Data }, &self.store) else { panic!() };
        Follow {
            epoch: Epoch(99),
            boot: Boot(1),
            store: StoreId(1),
            last: located.last,
            last_checksum: located.last_checksum,
            history: located.history,
            complete,
            copy: None,
        }
    }

    fn compare(&mut self, follow: Follow) -> Comparison {
        match self.op(Op::Compare(follow)) {
            OpResult::Compared { verdict, .. } => verdict,
            other => panic!("{other:?}"),
        }
    }

    /// All that clients and followers can come to see (I9).
    fn dump(&self) -> Dump {
        self.with(|reader| {
            let mut collections = Vec::new();
            for database in reader.databases().unwrap() {
                for collection in reader.collections(database.id).unwrap() {
                    let documents = reader.documents(&collection, None, usize::MAX).unwrap();
                    collections.push((collection, documents));
                }
            }
            Dump {
                databases: format!("{:?}", reader.databases().unwrap()),
                views: reader.databases().unwrap().iter().flat_map(|row| reader.views(row.id).unwrap()).collect(),
                history: reader.history().unwrap(),
                last: reader.last().unwrap(),
                collections,
            }
        })
    }

    /// Keys, revisions, counts and catalog rows agree with one another.
    fn check(&self) {
        self.with(|reader| {
            for database in reader.databases().unwrap() {
                assert_eq!(reader.database(&database.name).unwrap().as_ref(), Some(&database));
                for collection in reader.collections(database.id).unwrap() {
                    let found = reader.collection(database.id, &collection.name).unwrap();
                    assert_eq!(found.as_ref(), Some(&collection));
                    let found = reader.collection(database.id, &collection.id.to_string()).unwrap();
                    assert_eq!(found.as_ref(), Some(&collection));
                    let documents = reader.documents(&collection, None, usize::MAX).unwrap();
                    assert_eq!(reader.count(&collection).unwrap(), documents.len() as u64);
                    for document in &documents {
                        assert_eq!(reader.document(&collection, &document.key).unwrap().as_ref(), Some(document));
                    }
                    let snapshot = self.store.snapshot().unwrap();
                    let prefix = crate::db::rows::in_object(reader.generation(), collection.object, &[]);
                    let keys = scan_prefix(&*snapshot, Table::Keys, &prefix, Direction::Forward).count();
                    assert_eq!(keys, documents.len(), "a key without a document");
                    assert_eq!(index::check::wrong(reader, &collection).unwrap(), None);
                }
            }
            let snapshot = self.store.snapshot().unwrap();
            let rows = |kind| {
                let prefix = catalog_key(reader.generation(), kind, &[]);
                scan_prefix(&*snapshot, Table::Catalog, &prefix, Direction::Forward).count()
            };
            assert_eq!(rows(kind::DATABASE), rows(kind::DATABASE_NAME));
            for row in scan_prefix(&*snapshot, Table::Index, &reader.generation().to_be_bytes(), Direction::Forward) {
                let (key, _) = row.unwrap();
                let prefix = crate::db::rows::object_key(reader.generation(), number_at(key, 4, "key").unwrap());
                assert!(snapshot.get(Table::Catalog, &prefix).unwrap().is_some(), "an entry of no object");
            }
            assert_eq!(rows(kind::COLLECTION), rows(kind::COLLECTION_ID));
            let log = reader.log(Tick(0), usize::MAX).unwrap();
            let mut tick = reader.log_first().unwrap();
            for entry in &log {
                assert_eq!(entry.tick, tick, "ticks have no gaps");
                tick.0 += 1;
            }
        });
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Dump {
    databases: String,
    views: Vec<crate::db::rows::ViewRow>,
    history: Vec<EpochRow>,
    last: Position,
    collections: Vec<(CollectionRow, Vec<Document>)>,
}

fn put(writer: &mut Writer<'_>, collection: &CollectionRow, key: &str, body: Bytes, before: Option<&Document>) {
    match writer.put(collection, key, body, before) {
        Ok(_) | Err(PutError::Taken { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
}

/// Any step makes sense whatever is there; some change nothing.
fn act(writer: &mut Writer<'_>, (what, which, value): Step) {
    let reader = writer.reader();
    let databases = reader.databases().unwrap();
    let database = databases[usize::from(which) % databases.len()].clone();
    let collections = reader.collections(database.id).unwrap();
    let chosen: Vec<_> = collections.iter().filter(|c| !c.system || c.name == "_graphs").collect();
    let collection = chosen[usize::from(which / 7) % chosen.len()].clone();
    let key = format!("k{}", value % 8);
    let long = "x".repeat(usize::from(value) * 3);
    let ends = format!(r#""_from":"v/{}","_to":"v/{}""#, value % 3, value % 5);
    let body =
        Bytes::from(format!(r#"{{"v":"{long}","n":{},"list":[{},{},1],{ends}}}"#, value % 11, value % 4, value % 3));
    let present = reader.document(&collection, &key).unwrap();
    match what % 20 {
        0..=6 => {
            put(writer, &collection, &key, body, present.as_ref());
        }
        7 => {
            let made = writer.next_key(&collection).unwrap().expect("keys have not run out");
            put(writer, &collection, &made, body, None);
        }
        8 | 9 => {
            if let Some(document) = present {
                writer.remove(&collection, &document).unwrap();
            }
        }
        10 => {
            let name = format!("c{}", value % 4);
            if writer.reader().collection(database.id, &name).unwrap().is_none() {
                let kind = [KeyKind::Traditional, KeyKind::Autoincrement, KeyKind::Padded, KeyKind::Uuid];
                let key = KeyOptions { kind: kind[usize::from(value) % 4], ..KeyOptions::default() };
                let properties = serde_json::json!({"schema": null});
                let new = NewCollection {
                    name,
                    kind: CollectionKind::Edge,
                    system: false,
                    key,
                    wait_for_sync: false,
                    properties,
                };
                writer.create_collection(database.id, new).unwrap();
            }
        }
        11 if !collection.system => writer.drop_collection(&collection).unwrap(),
        12 => {
            writer.truncate_collection(&collection).unwrap();
        }
        13 if !collection.system => {
            let name = format!("c{}", value % 4);
            if writer.reader().collection(database.id, &name).unwrap().is_none() {
                let after = CollectionRow { name, ..collection.clone() };
                writer.change_collection(&collection, &after).unwrap();
            }
        }
        14 => match databases.len() {
            1 => {
                writer.create_database("other", serde_json::json!({})).unwrap();
            }
            _ if value % 4 == 0 && database.id != 1 => writer.drop_database(&database).unwrap(),
            _ => {}
        },
        15 => {
            // One element of a request fails: nothing of its own is left.
            let savepoint = writer.savepoint();
            let mut steps = crate::types::Rng::new(u64::from(value));
            for _ in 0..3 {
                let step = steps.next_u64();
                if step as u8 % 20 != 15 {
                    act(writer, (step as u8, (step >> 8) as u8, (step >> 16) as u8));
                }
            }
            writer.rollback_to(savepoint);
        }
        16 | 17 if collection.indexes.len() < 4 => {
            let fields = [&["v"][..], &["n"], &["n", "v"], &["list[*]"], &["_key"], &["list[*]", "n"], &["no"]];
            let fields = fields[usize::from(value) % fields.len()];
            let new = NewIndex {
                name: None,
                kind: IndexKind::CREATABLE[usize::from(value / 7) % 5],
                fields: fields.iter().map(|&field| field.to_owned()).collect(),
                unique: what % 2 == 0,
                sparse: value % 2 == 0,
                deduplicate: value % 3 != 0,
                building: value % 2 == 1,
                properties: serde_json::Value::Null,
            };
            match writer.create_index(&collection, new) {
                Ok(_) | Err(PutError::Taken { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        18 => {
            if let Some(index) = collection.indexes.get(usize::from(value) % 4) {
                writer.drop_index(&collection, index.id).unwrap();
            }
        }
        19 => {
            if let Some(index) = collection.indexes.iter().find(|index| index.building) {
                writer.finish_index(&collection, index.id).unwrap();
            }
        }
        _ => {}
    }
}

fn transactions(most: usize) -> impl Strategy<Value = Vec<Vec<Step>>> {
    proptest::collection::vec(proptest::collection::vec(any::<Step>(), 1..6), 1..most)
}

fn piece_of(server: &mut Server, offer: &SnapshotOffer, cursor: Bytes) -> SnapshotPiece {
    match server.op(Op::SnapshotRead { id: offer.id, start: offer.start, cursor, bytes_max: 300 }) {
        OpResult::SnapshotRows(piece) => piece,
        other => panic!("{other:?}"),
    }
}

fn offer_of(server: &mut Server, number: u64) -> SnapshotOffer {
    match server.op(Op::SnapshotBegin { id: SnapshotId { epoch: Epoch(50), boot: Boot(1), number } }) {
        OpResult::SnapshotBegun(offer) => offer,
        other => panic!("{other:?}"),
    }
}

// ---- properties -----------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// I8, I9: who applies the entries comes to the same data. I10: who undoes them comes back to exactly what was, and
    /// keeps them.
    #[test]
    fn followers_become_equal_and_undoing_is_exact(work in transactions(25), back in any::<prop::sample::Index>()) {
        let (mut leader, mut follower) = (Server::new(1), Server::new(2));
        let mut epoch = 1;
        leader.begin(epoch);
        let mut dumps = BTreeMap::from([(leader.last(), leader.dump())]);
        for (number, steps) in work.iter().enumerate() {
            if number % 10 == 9 {
                epoch += 1;
                leader.begin(epoch);
                dumps.insert(leader.last(), leader.dump());
            }
            leader.write(epoch, steps);
            dumps.insert(leader.last(), leader.dump());
            if number % 3 == 0 {
                follower.follow(&leader, epoch);
                prop_assert_eq!(&follower.dump(), &leader.dump());
            }
        }
        follower.follow(&leader, epoch);
        prop_assert_eq!(&follower.dump(), &leader.dump());
        prop_assert_eq!(follower.log(), leader.log());
        let numbers = |server: &Server| server.with(|reader| format!("{:?}", reader.counters()));
        prop_assert_eq!(numbers(&follower), numbers(&leader), "whoever leads next mints above what is there");

        let (common, expected) = dumps.iter().nth(back.index(dumps.len())).unwrap();
        let log = follower.log();
        let undone = follower.undo(epoch + 1, *common);
        prop_assert_eq!(&follower.dump(), expected);
        let kept: Vec<Entry> =
            follower.with(|reader| reader.rolled_back(usize::MAX).unwrap()).into_iter().map(|(_, entry)| entry).collect();
        prop_assert_eq!(undone as usize, kept.len());
        prop_assert_eq!(kept, &log[common.tick.0 as usize..]);
        // And forward again.
        follower.follow(&leader, epoch + 1);
        prop_assert_eq!(&follower.dump(), &leader.dump());
    }

    /// R8: a copy taken while its source goes on writing, with pieces repeated and delayed and the process restarted,
    /// is exact; until it is swapped in, the old data stay.
    #[test]
    fn copies_converge_while_the_source_writes(
        before in transactions(15), during in transactions(15),
        chances in proptest::collection::vec(any::<u8>(), 60), own in transactions(3), stranger in any::<bool>(),
    ) {
        let mut leader = Server::new(1);
        leader.begin(1);
        for steps in &before {
            leader.write(1, steps);
        }
        let mut follower = Server::new(2);
        if stranger {
            follower.begin(2);
            for steps in &own {
                follower.write(2, steps);
            }
        }
        let old = follower.dump();
        let offer = offer_of(&mut leader, 1);
        prop_assert!(matches!(follower.op(Op::CopyBegin(offer.clone())), OpResult::CopyBegun));
        prop_assert_eq!(follower.open(0).complete, stranger);
        let mut dumps = BTreeMap::from([(offer.start, leader.dump())]);
        let into = Target::Copy(offer.id);
        let mut work = during.iter();
        let mut seen_pieces: Vec<SnapshotPiece> = Vec::new();
        let mut held: Option<SnapshotPiece> = None;
        let mut exact_at = offer.start;
        let mut cursor = Some(Bytes::new());
        let mut chances = chances.into_iter().cycle();
        let copy_last = |follower: &mut Server| match follower.op(Op::Locate { target: into }) {
            OpResult::Located(located) => located.last,
            other => panic!("{other:?}"),
        };
        let mut rounds = 0;
        while let Some(at) = cursor.clone() {
            rounds += 1;
            let chance = chances.next().unwrap();
            if let Some(steps) = (chance & 1 != 0).then(|| work.next()).flatten() {
                leader.write(1, steps);
                dumps.insert(leader.last(), leader.dump());
            }
            if chance & 6 == 6 && rounds < 100 {
                // The log is applied before all rows are there: allowed, but then older rows are refused.
                let prev = copy_last(&mut follower);
                let entries = leader.with(|reader| reader.log(prev.tick, 2).unwrap());
                let result = follower.append(50, into, prev, entries);
                let appended = matches!(result, OpResult::Appended { .. });
                prop_assert!(appended);
            }
            prop_assert!(matches!(follower.op(Op::CopyFinish { id: offer.id }), OpResult::NoCopy), "not exact yet");
            if chance & 8 != 0 {
                follower.open(0);
            }
            let piece = match (held.take(), seen_pieces.last()) {
                // Read long ago, it comes only now.
                (Some(piece), _) => piece,
                (None, Some(again)) if chance & 16 != 0 => again.clone(),
                _ => piece_of(&mut leader, &offer, at.clone()),
            };
            if chance & 32 != 0 && rounds < 100 {
                held = Some(piece);
                continue;
            }
            seen_pieces.push(piece.clone());
            let old_news = piece.cursor != at || piece.exact_at < copy_last(&mut follower);
            if !old_news {
                exact_at = piece.exact_at;
            }
            match follower.op(Op::CopyRows(piece)) {
                OpResult::Copied { next } => {
                    prop_assert!(!old_news || next.as_ref() == Some(&at));
                    cursor = next;
                }
                other => panic!("{other:?}"),
            }
            prop_assert_eq!(&follower.dump(), &old);
        }
        for steps in work {
            leader.write(1, steps);
            dumps.insert(leader.last(), leader.dump());
        }
        let prev = copy_last(&mut follower);
        if prev < exact_at {
            prop_assert!(matches!(follower.op(Op::CopyFinish { id: offer.id }), OpResult::NoCopy), "not exact yet");
        }
        let minted = follower.with(|reader| reader.counters().unwrap());
        let entries = leader.with(|reader| reader.log(prev.tick, usize::MAX).unwrap());
        let result = follower.append(50, into, prev, entries);
        prop_assert!(matches!(result, OpResult::Appended { last, .. } if last == leader.last()), "{:?}", result);
        prop_assert_eq!(&follower.dump(), &old);
        let result = follower.op(Op::CopyFinish { id: offer.id });
        let finished = matches!(result, OpResult::CopyFinished { last, log_first, .. }
            if last == leader.last() && log_first.0 == offer.start.tick.0 + 1);
        prop_assert!(finished, "{:?}", result);
        prop_assert_eq!(&follower.dump(), &leader.dump());
        let saved = follower.open(0);
        prop_assert!(saved.complete && saved.copy.is_none());
        for minted in [minted, leader.with(|reader| reader.counters().unwrap())] {
            let now = follower.with(|reader| reader.counters().unwrap());
            prop_assert!(now.id >= minted.id && now.revision >= minted.revision, "nothing is minted twice");
        }

        // What only the old data held is kept whole.
        let kept = follower.with(|reader| reader.kept_stores().unwrap());
        prop_assert_eq!(kept.len(), usize::from(stranger));
        if let Some(kept) = kept.first() {
            prop_assert_eq!(kept.last, old.last);
        }
        // The copy's own tail can be undone exactly, and what it replaced goes away.
        let (common, expected) = dumps.iter().next().unwrap();
        follower.undo(51, *common);
        prop_assert_eq!(&follower.dump(), expected);
        prune_all(&mut follower, Tick(0));
        prop_assert_eq!(&follower.dump(), expected);
        let generations = generations(&follower);
        prop_assert_eq!(generations.len(), 1 + usize::from(stranger), "{:?}", generations);
    }

    /// R7 against the truth: the longest common prefix of the two logs.
    #[test]
    fn comparing_finds_the_common_prefix(
        shared in 0usize..8, ours in transactions(12), theirs in transactions(12), pruned in 0u64..12, complete in any::<bool>(),
    ) {
        let mut leader = Server::new(1);
        let mut follower = Server::new(2);
        if shared > 0 {
            leader.begin(1);
            for number in 0..shared {
                leader.write(1, &[(0, 0, number as u8)]);
            }
            follower.follow(&leader, 1);
        }
        // Each goes on in epochs of its own: what lies beyond the shared prefix was never replicated.
        if theirs.len() % 3 > 0 {
            let epoch = if theirs.len() % 3 == 1 || shared == 0 { follower.begin(2).epoch.0 } else { 1 };
            for steps in &theirs {
                follower.write(epoch, steps);
            }
        }
        leader.begin(3);
        for steps in &ours {
            leader.write(3, steps);
        }
        let (a, b) = (leader.log(), follower.log());
        let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        let common = a[..same].last().map_or(Position::ZERO, Entry::position);
        let first = prune_all(&mut leader, Tick(pruned));
        let expected = if !complete || common.tick.0 + 1 < first.0 {
            Comparison::NeedsSnapshot
        } else if common < follower.last() {
            Comparison::Diverged { common }
        } else {
            Comparison::Prefix
        };
        let verdict = leader.compare(follower.present(complete));
        prop_assert_eq!(verdict, expected);
        if verdict != Comparison::NeedsSnapshot {
            follower.undo(3, common);
            prop_assert_eq!(leader.compare(follower.present(true)), Comparison::Prefix);
            follower.follow(&leader, 3);
            prop_assert_eq!(follower.dump(), leader.dump());
        }
    }

    /// Pruning takes away what nobody needs, and nothing else.
    #[test]
    fn pruning_leaves_the_data_and_the_tail(work in transactions(20), keep in any::<prop::sample::Index>()) {
        let mut server = Server::new(1);
        server.begin(1);
        for steps in &work {
            server.write(1, steps);
        }
        let (dump, log) = (server.dump(), server.log());
        let keep_from = keep.index(log.len() + 1) as u64 + 1;
        let first = prune_all(&mut server, Tick(keep_from));
        prop_assert_eq!(first, Tick(keep_from));
        prop_assert_eq!(&server.dump(), &dump);
        prop_assert_eq!(server.log(), &log[keep_from as usize - 1..]);
        let base = server.with(|reader| reader.log_at(Tick(keep_from - 1)).unwrap().unwrap());
        server.undo(2, base.position);
        if keep_from > 1 {
            let result = server.op(Op::Undo { epoch: Epoch(2), common: Position::ZERO, limit: 1 });
            prop_assert!(matches!(result, OpResult::CannotUndo));
        }
        // What came back by undoing stays when the log has passed the tick at which it was let go of.
        server.begin(3);
        for _ in 0..log.len() + 1 {
            server.write(3, &[(0, 0, 1)]);
        }
        let dump = server.dump();
        prune_all(&mut server, Tick(u64::MAX));
        prop_assert_eq!(&server.dump(), &dump);
        // With all of the log gone, only live objects are left.
        let live: Vec<u64> = server.dump().collections.iter().map(|(row, _)| row.object).collect();
        let snapshot = server.store.snapshot().unwrap();
        for table in [Table::Documents, Table::Keys, Table::Index] {
            for row in snapshot.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward) {
                let object = number_at(row.unwrap().0, 4, "test").unwrap();
                prop_assert!(live.contains(&object), "{} of object {object}", table.name());
            }
        }
        let released = catalog_key(0, kind::RELEASED_INDEX, &[]);
        prop_assert_eq!(scan_prefix(&*snapshot, Table::Catalog, &released, Direction::Forward).count(), 0);
    }

    /// A batch comes to what its operations come to one by one, whichever of them fail.
    #[test]
    fn operations_of_a_batch_stand_for_themselves(
        work in transactions(8), order in proptest::collection::vec((0usize..8, any::<bool>()), 1..20),
        room in proptest::option::of(0usize..4000),
    ) {
        let mut leader = Server::new(1);
        leader.begin(1);
        for steps in &work {
            leader.write(1, steps);
        }
        let log = leader.log();
        let mut ops = vec![(OpId(0), append_op(&log[..1], false))];
        for (at, broken) in order {
            let from = at.min(log.len() - 1);
            ops.push((OpId(ops.len() as u64), append_op(&log[from..log.len().min(from + 2)], broken)));
        }
        let mut together = Server::new(2);
        if let Some(room) = room {
            let capacity = together.store.bytes_used() + room;
            together.store.set_capacity(Some(capacity));
        }
        let mut apart = together.clone();
        let expected: Vec<OpResult> = ops.iter().map(|(_, op)| apart.op(op.clone())).collect();
        let results = perform(ops, &mut together.store);
        together.check();
        let text = |results: Vec<OpResult>| format!("{results:?}");
        prop_assert_eq!(text(results.into_iter().map(|(_, result)| result).collect()), text(expected));
        prop_assert_eq!(together.dump(), apart.dump());
        prop_assert_eq!(together.log(), apart.log());
    }
}

fn append_op(entries: &[Entry], broken: bool) -> Op {
    let mut entries = entries.to_vec();
    let first = &entries[0];
    // The position before; the first epoch holds everything here.
    let prev = match first.tick.0 {
        1 => Position::ZERO,
        tick => Position { epoch: Epoch(1), tick: Tick(tick - 1) },
    };
    if broken {
        entries.last_mut().unwrap().checksum ^= 1;
    }
    Op::Append { epoch: Epoch(1), into: Target::Data, prev, entries }
}

fn prune_all(server: &mut Server, keep_from: Tick) -> Tick {
    loop {
        match server.op(Op::Prune { keep_from }) {
            OpResult::Pruned { first, more: false } => return first,
            OpResult::Pruned { more: true, .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn generations(server: &Server) -> Vec<u32> {
    let snapshot = server.store.snapshot().unwrap();
    let rows = snapshot.scan(Table::Catalog, Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    let mut found: Vec<u32> = rows.map(|row| u32::from_be_bytes(row.unwrap().0[..4].try_into().unwrap())).collect();
    found.dedup();
    found
}

// ---- examples -------------------------------------------------------------------------------------------------------

#[test]
fn opening_mints_identities_once_and_knows_whose_data_it_is() {
    let mut server = Server::new(7);
    let first = server.open(1);
    let again = server.open(2);
    assert_eq!((first.id, first.store), (again.id, again.store));
    assert!(first.complete && first.last == Position::ZERO && first.log_first == Tick(1));
    let agent = Config::Agent(AgentConfig::new(Endpoint::parse("tcp://agent:8531").unwrap()));
    let refused = open(&mut server.store, &agent, Now::default(), 1);
    assert!(matches!(&refused, Err(OpenError::Kind(_))), "{refused:?}");
    for found in [1u32, 9] {
        let mut txn = server.store.begin().unwrap();
        txn.put(Table::Meta, meta::FORMAT.as_bytes(), &crate::db::rows::encode(&found)).unwrap();
        txn.commit().unwrap();
        let refused = open(&mut server.store, &agent, Now::default(), 1);
        assert_eq!(refused.unwrap_err(), OpenError::Format { found, known: FORMAT });
    }
}

#[test]
fn an_agents_rows_are_found_again() {
    let mut store = MemStore::new();
    let config = Config::Agent(AgentConfig::new(Endpoint::parse("tcp://agent:8531").unwrap()));
    let saved = |store: &mut MemStore| match open(store, &config, Now::default(), 5) {
        Ok(Saved::Agent(saved)) => saved.raft,
        other => panic!("{other:?}"),
    };
    assert_eq!(saved(&mut store), SavedRaft::default());
    let entry = |term: u64, data: &str| LogEntry { term: Term(term), data: Bytes::copy_from_slice(data.as_bytes()) };
    let hard = HardState { term: Term(4), vote: None };
    let snapshot = Snapshot { index: 0, term: Term(3), ..Snapshot::default() };
    let first = Persist {
        meta: vec![(META_HARD, Some(encoded(&hard))), (META_SNAPSHOT, Some(encoded(&snapshot)))],
        entries: (1..=300).map(|index| (index, encoded(&entry(1, "first")))).collect(),
        ..Persist::default()
    };
    let second = Persist {
        meta: vec![(META_SNAPSHOT, None)],
        truncate_from: Some(299),
        compact_to: Some(297),
        entries: vec![(299, encoded(&entry(2, "another")))],
    };
    let batch = vec![(OpId(1), Op::Persist(first)), (OpId(2), Op::Persist(second))];
    let results = perform(batch, &mut store);
    assert!(results.iter().all(|(_, result)| matches!(result, OpResult::Persisted)));
    let entries = vec![(298, entry(1, "first")), (299, entry(2, "another"))];
    assert_eq!(saved(&mut store), SavedRaft { hard, entries, ..SavedRaft::default() });
}

/// Neither a panic nor a guess.
#[test]
fn an_agents_rows_of_another_format_are_an_error() {
    let config = Config::Agent(AgentConfig::new(Endpoint::parse("tcp://agent:8531").unwrap()));
    let refusal = |persist: Persist| {
        let mut store = MemStore::new();
        open(&mut store, &config, Now::default(), 5).unwrap();
        perform(vec![(OpId(1), Op::Persist(persist))], &mut store);
        open(&mut store, &config, Now::default(), 5).unwrap_err().to_string()
    };
    let meta = |name, bytes| Persist { meta: vec![(name, Some(bytes))], ..Persist::default() };
    let log = |bytes| Persist { entries: vec![(1, bytes)], ..Persist::default() };
    // A snapshot and a pool as they were before an agency could change its agents.
    let of_old = encoded(&(7u64, Term(3), Bytes::from_static(b"state")));
    let snapshot = Snapshot { index: 7, term: Term(3), state: Bytes::from_static(b"?"), ..Snapshot::default() };
    let seatless = LogEntry { term: Term(1), data: Bytes::from_static(&[0xff, 9]) };
    for (persist, what) in [
        (meta(META_HARD, Bytes::from_static(b"\xff")), "the agency's votes can't be read"),
        (meta(META_SNAPSHOT, of_old), "the agency's snapshot can't be read"),
        (meta(META_SNAPSHOT, encoded(&snapshot)), "the state of the agency can't be read"),
        (meta(META_POOL, encoded(&(Vec::<Seat>::new(), true))), "the agency's pool can't be read"),
        (meta("of tomorrow", Bytes::new()), "the agency knows no row 'of tomorrow'"),
        (log(Bytes::new()), "an entry of the agency's log can't be read"),
        (log(encoded(&seatless)), "a configuration in the agency's log can't be read"),
    ] {
        let refusal = refusal(persist);
        assert!(refusal.ends_with(what), "{refusal}");
    }
}

fn encoded<T: serde::Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).unwrap().into()
}

/// R3, R5, I7: what the store has seen binds it, across restarts.
#[test]
fn epochs_that_are_over_are_refused() {
    let mut leader = Server::new(1);
    leader.begin(3);
    let mut server = Server::new(2);
    server.follow(&leader, 3);
    let last = server.last();
    let see = |epoch| Op::See { epoch: Epoch(epoch) };
    assert!(matches!(server.op(see(5)), OpResult::Seen { before: Epoch(3), last: at, .. } if at == last));
    server.store.sync();
    server.open(1);
    let stale = |result: OpResult| matches!(result, OpResult::Stale { seen: Epoch(5) });
    assert!(stale(server.op(see(4))));
    assert!(stale(server.append(4, Target::Data, last, Vec::new())));
    assert!(stale(server.op(Op::Undo { epoch: Epoch(4), common: last, limit: 1 })));
    assert!(stale(server.op(Op::BeginEpoch { epoch: Epoch(4), lineage: Lineage(1) })));
    let offer = offer_of(&mut leader, 1);
    let offer = SnapshotOffer { id: SnapshotId { epoch: Epoch(4), ..offer.id }, ..offer };
    assert!(stale(server.op(Op::CopyBegin(offer))));
    assert_eq!(server.begin(5).epoch, Epoch(5), "the epoch that was told to come may be begun");
    assert!(matches!(server.op(Op::BeginEpoch { epoch: Epoch(5), lineage: Lineage(2) }), OpResult::Stale { .. }));
    assert_eq!(meta::get(&*server.store.snapshot().unwrap(), meta::OWNED), Ok(Some(Epoch(5))));
    server.open(1);
    assert_eq!(meta::get::<Epoch>(&*server.store.snapshot().unwrap(), meta::OWNED), Ok(None), "R3: another process");
}

#[test]
fn the_first_epoch_brings_the_system_database_and_root() {
    let mut server = Server::new(1);
    let entry = server.begin(1);
    assert_eq!(entry.position(), Position { epoch: Epoch(1), tick: Tick(1) });
    server.with(|reader| {
        let system = reader.database("_system").unwrap().unwrap();
        assert_eq!(system.id, 1);
        let users = reader.collection(1, "_users").unwrap().unwrap();
        let root = reader.document(&users, "root").unwrap().unwrap();
        assert_eq!(root.revision.0 >> 20, 1_700_000_000_000);
        let body: serde_json::Value = serde_json::from_slice(&root.body).unwrap();
        assert_eq!(body["user"], "root");
        assert_eq!(body["authData"]["active"], true);
    });
    assert!(server.begin(2).payload.len() < 40, "later epochs begin with their row only");
}

#[test]
fn a_deployment_is_not_changed() {
    let mut server = Server::new(1);
    for _ in 0..2 {
        assert!(matches!(server.op(Op::Adopt { deployment: DeploymentId(4) }), OpResult::Adopted));
    }
    assert!(matches!(server.op(Op::Adopt { deployment: DeploymentId(5) }), OpResult::Refused(_)));
    assert_eq!(server.open(1).deployment, Some(DeploymentId(4)));
}

#[test]
fn a_corrupt_record_is_named_and_nothing_is_built_on_it() {
    let mut server = Server::new(1);
    let first = server.begin(1);
    let second = server.write(1, &[(0, 0, 9)]).unwrap();
    let mut other = Server::new(2);
    assert!(matches!(other.append(1, Target::Data, Position::ZERO, vec![first]), OpResult::Appended { .. }));
    let key = crate::db::rows::log_key(0, second.tick);
    assert!(server.store.corrupt(Table::Log, &key));
    let result = read(Op::ReadLog { after: other.last(), bytes_max: 1000 }, &server.store);
    assert!(matches!(&result, OpResult::Failed(StoreError::Corrupt(what)) if what.contains('2')), "{result:?}");
    let result =
        perform(vec![(OpId(1), Op::Undo { epoch: Epoch(2), common: other.last(), limit: 1 })], &mut server.store);
    assert!(matches!(result[0].1, OpResult::Failed(StoreError::Corrupt(_))), "{result:?}");

    let mut wrong = second.clone();
    wrong.payload = Bytes::from_static(b"\x01\x09");
    let wrong = Entry::new(wrong.epoch, wrong.tick, wrong.payload);
    let result = other.append(1, Target::Data, other.last(), vec![wrong]);
    assert!(matches!(result, OpResult::Failed(StoreError::Corrupt(_))), "{result:?}");
}

#[test]
fn entries_that_do_not_follow_are_not_taken() {
    let mut leader = Server::new(1);
    leader.begin(1);
    leader.write(1, &[(0, 0, 1)]);
    let log = leader.log();
    let mut follower = Server::new(2);
    let gap = follower.append(1, Target::Data, log[0].position(), log[1..].to_vec());
    assert!(matches!(gap, OpResult::Mismatch { last: Position::ZERO }), "{gap:?}");
    let lie = follower.append(1, Target::Data, Position::ZERO, log[1..].to_vec());
    assert!(matches!(lie, OpResult::Failed(StoreError::Corrupt(_))), "{lie:?}");
    follower.follow(&leader, 1);
    let again = follower.append(1, Target::Data, Position::ZERO, log.clone());
    assert!(matches!(again, OpResult::Mismatch { last } if last == leader.last()), "{again:?}");
    let none = follower.append(1, Target::Copy(offer_of(&mut leader, 1).id), Position::ZERO, log);
    assert!(matches!(none, OpResult::NoCopy), "{none:?}");
}

#[test]
fn a_copy_leaves_out_what_was_let_go_of_before_it_began() {
    let mut server = Server::new(1);
    server.begin(1);
    for _ in 0..20 {
        server.write(1, &[(7, 0, 200)]);
    }
    let offer = offer_of(&mut server, 1);
    let piece = |server: &mut Server, offer: &SnapshotOffer| {
        let whole = Op::SnapshotRead { id: offer.id, start: offer.start, cursor: Bytes::new(), bytes_max: 1 << 20 };
        match server.op(whole) {
            OpResult::SnapshotRows(piece) => piece.rows.len(),
            other => panic!("{other:?}"),
        }
    };
    let before = piece(&mut server, &offer);
    server.write(1, &[(12, 0, 0)]);
    assert_eq!(piece(&mut server, &offer), before, "let go of later: the log may still be undone");
    let later = offer_of(&mut server, 2);
    assert!(piece(&mut server, &later) + 20 * 200 < before);
}

/// A client's request in an epoch, answered by the API.
fn run(epoch: u64, method: Method, target: &str, body: &str) -> Op {
    let id = NodeId { kind: NodeKind::Server, uuid: 1 };
    let view = View {
        standalone: true,
        mode: Mode::Default,
        read_only: false,
        epoch: Epoch(epoch),
        boot: Boot(1),
        lease_end: Time::NEVER,
        lease_slack: Duration::MAX,
        ..View::new(Peer { id, endpoint: Endpoint::parse("tcp://server:8529").unwrap() })
    };
    Op::Run(Run {
        request: Request::new(method, target).with_body(body.to_owned()),
        epoch: Epoch(epoch),
        writes: method != Method::Get,
        kept: false,
        dirty: false,
        open: false,
        at_least: None,
        fresh: None,
        sync_followers: 0,
        now: Now { time: Time(0), wall_ms: 1_700_000_000_000 },
        seed: 1,
        view: Arc::new(view),
        transaction: Default::default(),
    })
}

#[test]
fn requests_of_one_batch_see_each_other_and_fail_alone() {
    let mut server = Server::new(1);
    server.begin(1);
    let insert = |body| run(1, Method::Post, "/_api/document/c", body);
    let ops = [
        run(1, Method::Post, "/_api/collection", r#"{"name":"c"}"#),
        insert(r#"{"_key":"a","v":1}"#),
        insert(r#"{"_key":"a","v":2}"#),
        insert(r#"[{"_key":"b"},{"_key":"a"},{"_key":"d"}]"#),
        run(1, Method::Post, "/_api/document/none", "{}"),
        run(2, Method::Post, "/_api/document/c", r#"{"_key":"e"}"#),
    ];
    let batch = ops.into_iter().enumerate().map(|(number, op)| (OpId(number as u64), op)).collect();
    let outcome = |result: &OpResult| match result {
        OpResult::Ran(ran) => (ran.response.status, ran.entry.as_ref().map(|entry| entry.tick.0)),
        OpResult::Stale { seen } => (0, Some(seen.0)),
        other => panic!("{other:?}"),
    };
    let results = perform(batch, &mut server.store);
    let outcomes: Vec<_> = results.iter().map(|(_, result)| outcome(result)).collect();
    let expected = [(200, Some(2)), (202, Some(3)), (409, None), (202, Some(4)), (404, None), (0, Some(1))];
    assert_eq!(outcomes, expected);
    server.check();
    let keys: Vec<String> = server.with(|reader| {
        let collection = reader.collection(1, "c").unwrap().unwrap();
        reader.documents(&collection, None, 9).unwrap().into_iter().map(|document| document.key).collect()
    });
    assert_eq!(keys, ["a", "b", "d"]);
    assert_eq!(server.last().tick, Tick(4));

    // A process that comes after does not go on with the epoch (R3), nor one that has heard of a later one (I7).
    let mut later = server.clone();
    later.op(Op::See { epoch: Epoch(2) });
    server.open(1);
    for server in [&mut server, &mut later] {
        let refused = server.op(run(1, Method::Post, "/_api/document/c", "{}"));
        assert!(matches!(refused, OpResult::Stale { .. }), "{refused:?}");
    }
}

#[test]
fn a_full_store_refuses_what_does_not_fit_and_goes_on() {
    let mut server = Server::new(1);
    server.begin(1);
    server.op(run(1, Method::Post, "/_api/collection", r#"{"name":"c"}"#));
    let capacity = server.store.bytes_used() + 2000;
    server.store.set_capacity(Some(capacity));
    let insert = |key: &str, length: usize| {
        let body = format!(r#"{{"_key":"{key}","v":"{}"}}"#, "x".repeat(length));
        run(1, Method::Post, "/_api/document/c", &body)
    };
    let batch = vec![(OpId(1), insert("a", 10)), (OpId(2), insert("b", 3000)), (OpId(3), insert("d", 10))];
    let results = perform(batch, &mut server.store);
    assert!(matches!(&results[0].1, OpResult::Ran(ran) if ran.response.status == 202));
    assert!(matches!(&results[1].1, OpResult::Failed(StoreError::Full)));
    assert!(matches!(&results[2].1, OpResult::Ran(ran) if ran.response.status == 202));
    server.check();
    let read = server.op(run(1, Method::Get, "/_api/document/c/d", ""));
    assert!(matches!(read, OpResult::Ran(ran) if ran.response.status == 200));
}

#[test]
fn a_log_is_read_in_pieces() {
    let mut server = Server::new(1);
    server.begin(1);
    for value in 0..10 {
        server.write(1, &[(0, 0, value)]);
    }
    let mut after = Position::ZERO;
    let mut found = Vec::new();
    while after < server.last() {
        let OpResult::Log { entries, .. } = server.op(Op::ReadLog { after, bytes_max: 150 }) else { panic!() };
        assert!(!entries.is_empty() && entries.len() < 5);
        after = entries.last().unwrap().position();
        found.extend(entries);
    }
    assert_eq!(found, server.log());
    prune_all(&mut server, Tick(5));
    let at = |epoch, tick| Position { epoch: Epoch(epoch), tick: Tick(tick) };
    for (after, pruned) in [(at(1, 3), true), (at(1, 4), false), (at(2, 6), true), (at(1, 99), true)] {
        let result = server.op(Op::ReadLog { after, bytes_max: 150 });
        assert_eq!(matches!(result, OpResult::LogPruned { .. }), pruned, "after {after}: {result:?}");
    }
}
