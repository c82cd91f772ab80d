//! A look at the structure of the data file before LMDB maps it.
//!
//! LMDB trusts its pages: one that was blanked, exchanged or bent by a failing disk ends the process in the middle of
//! something (an assertion, a wild read), and says nothing that helps. So the file is walked with plain reads first,
//! from its newest meta page over every tree, and the first page that can't be what it must be is named.
//!
//! The layout is that of LMDB 0.9.70 on a little-endian machine of 64 bits; on another nothing is looked at. A page
//! begins with its number (8 bytes), a pad (2), flags (2), and the bounds of its free space (2 + 2), or, for an
//! overflow run, the count of its pages (4). Branch and leaf pages go on with the places of their nodes, which fill the
//! page from its end; a node is 8 bytes, its key and its data. What lies in a value is not looked at, except for the
//! list of free pages: a page that is free and in use would be overwritten.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of the file is looked at when a store is opened (`--database.check-at-start`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// About 1 GiB of pages, and for some seconds at most: a start must not take minutes.
    #[default]
    Auto,
    All,
    Nothing,
}

const AUTO_PAGES: u64 = (1 << 30) / 4096;
const AUTO_TIME: Duration = Duration::from_secs(10);
/// Pages between two looks at the clock.
const CLOCK_PAGES: u64 = 256;

const PAGE_HEADER: usize = 16;
const NODE_HEADER: usize = 8;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;
/// Flags of a node in a leaf: its data lies in an overflow run; its data is the root of a tree.
const BIG_DATA: u16 = 0x01;
const SUB_TREE: u16 = 0x02;
const MAGIC: u32 = 0xBEEF_C0DE;
const DATA_VERSION: u32 = 1;
const META_BYTES: usize = 136;
const TREE_BYTES: usize = 48;
const NO_ROOT: u64 = u64::MAX;
const DEPTH_MAX: u16 = 32;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    pub pages: u64,
    /// False if the bounds of [`Extent::Auto`] came first.
    pub whole: bool,
}

#[derive(Debug)]
pub enum Failure {
    Damaged(String),
    Io(io::Error),
}

type Result<T> = std::result::Result<T, Failure>;

fn damaged<T>(page: u64, what: impl std::fmt::Display) -> Result<T> {
    Err(Failure::Damaged(format!("page {page} is damaged: {what}")))
}

/// Looks at a data file. One that is not there or empty has nothing wrong.
pub fn check(path: &Path, extent: Extent) -> Result<Checked> {
    let nothing = Checked { pages: 0, whole: true };
    if extent == Extent::Nothing || !cfg!(all(target_endian = "little", target_pointer_width = "64")) {
        return Ok(nothing);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(nothing),
        Err(e) => return Err(Failure::Io(e)),
    };
    let length = file.metadata().map_err(Failure::Io)?.len();
    if length == 0 {
        return Ok(nothing);
    }
    let meta = newest_meta(&file, length)?;
    let bounded = extent == Extent::Auto;
    let mut walk = Walk {
        file: &file,
        page_bytes: meta.page_bytes,
        last: meta.last_page,
        taken: vec![0; (meta.last_page / 64 + 1) as usize],
        pages: 0,
        pages_max: if bounded { AUTO_PAGES } else { u64::MAX },
        until: bounded.then(|| Instant::now() + AUTO_TIME),
    };
    // The list of free pages comes first: what is wrong there does the worst.
    let mut trees = vec![(Kind::Rows, "the main tree".to_owned(), meta.main)];
    trees.push((Kind::Free, "the list of free pages".to_owned(), meta.free));
    let mut whole = true;
    while let Some((kind, name, tree)) = trees.pop() {
        match walk.tree(kind, &tree, &mut trees) {
            Ok(walked) => whole &= walked,
            Err(Failure::Damaged(what)) => return Err(Failure::Damaged(format!("{what} (in {name})"))),
            Err(e) => return Err(e),
        }
        if !whole {
            break;
        }
    }
    Ok(Checked { pages: walk.pages, whole })
}

struct Meta {
    page_bytes: usize,
    last_page: u64,
    free: Tree,
    main: Tree,
}

/// LMDB's record of a tree.
struct Tree {
    depth: u16,
    branch_pages: u64,
    leaf_pages: u64,
    overflow_pages: u64,
    entries: u64,
    root: u64,
}

impl Tree {
    fn read(bytes: &[u8]) -> Tree {
        Tree {
            depth: u16_at(bytes, 6),
            branch_pages: u64_at(bytes, 8),
            leaf_pages: u64_at(bytes, 16),
            overflow_pages: u64_at(bytes, 24),
            entries: u64_at(bytes, 32),
            root: u64_at(bytes, 40),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Free,
    Rows,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Both meta pages must be sound; the one of the later transaction counts.
fn newest_meta(file: &File, length: u64) -> Result<Meta> {
    let mut newest: Option<(u64, Meta)> = None;
    let mut page_bytes = 0;
    for number in 0..2_u64 {
        let mut page = [0; PAGE_HEADER + META_BYTES];
        read(file, &mut page, number, number * page_bytes as u64)?;
        let meta = &page[PAGE_HEADER..];
        if u16_at(&page, 10) != META || u32_at(meta, 0) != MAGIC {
            return damaged(number, "it is no meta page of LMDB");
        }
        if u32_at(meta, 4) != DATA_VERSION {
            return damaged(number, format!("LMDB's data version {} is not known here", u32_at(meta, 4)));
        }
        let bytes = u32_at(meta, 24) as usize;
        if !bytes.is_power_of_two() || !(512..=65536).contains(&bytes) || (number == 1 && bytes != page_bytes) {
            return damaged(number, format!("pages of {bytes} bytes"));
        }
        page_bytes = bytes;
        let last_page = u64_at(meta, 120);
        let room = length / bytes as u64 + super::lmdb::UNWRITTEN_PAGES_MAX;
        if !(1..room).contains(&last_page) {
            return damaged(number, format!("{last_page} is the last page, and the file has {length} bytes"));
        }
        let transaction = u64_at(meta, 128);
        if newest.as_ref().is_none_or(|(best, _)| transaction > *best) {
            let (free, main) = (Tree::read(&meta[24..]), Tree::read(&meta[72..]));
            newest = Some((transaction, Meta { page_bytes: bytes, last_page, free, main }));
        }
    }
    Ok(newest.expect("two were read").1)
}

fn read(file: &File, into: &mut [u8], page: u64, at: u64) -> Result<()> {
    match file.read_exact_at(into, at) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => damaged(page, "it lies beyond the end of the file"),
        other => other.map_err(Failure::Io),
    }
}

struct Walk<'f> {
    file: &'f File,
    page_bytes: usize,
    last: u64,
    /// One bit a page: somebody refers to it. Nothing may be referred to twice.
    taken: Vec<u64>,
    pages: u64,
    pages_max: u64,
    until: Option<Instant>,
}

impl Walk<'_> {
    /// Walks one tree; finds the trees in it. False if the bounds did not allow all of it.
    fn tree(&mut self, kind: Kind, tree: &Tree, found: &mut Vec<(Kind, String, Tree)>) -> Result<bool> {
        if tree.root == NO_ROOT {
            return Ok(true);
        }
        if !(1..=DEPTH_MAX).contains(&tree.depth) {
            return damaged(tree.root, format!("a tree of depth {}", tree.depth));
        }
        let (mut branches, mut leaves, mut overflows, mut entries) = (0, 0, 0, 0);
        self.take(tree.root, 1, tree.root)?;
        let mut waiting = vec![(tree.root, tree.depth)];
        let mut page = vec![0; self.page_bytes];
        while let Some((number, height)) = waiting.pop() {
            let late =
                || self.pages.is_multiple_of(CLOCK_PAGES) && self.until.is_some_and(|until| Instant::now() > until);
            if self.pages >= self.pages_max || late() {
                return Ok(false);
            }
            self.load(number, &mut page, if height == 1 { LEAF } else { BRANCH })?;
            let nodes = nodes(number, &page, height == 1, kind)?;
            if height > 1 {
                branches += 1;
                // Pushed backwards, so that pages are read in the order of their keys.
                for node in nodes.iter().rev() {
                    let child = u64_at(&page, node.at) & 0xffff_ffff_ffff;
                    self.take(child, 1, number)?;
                    waiting.push((child, height - 1));
                }
                continue;
            }
            leaves += 1;
            entries += nodes.len() as u64;
            for node in nodes {
                let data = &page[node.data..node.data + node.data_bytes];
                match node.flags {
                    BIG_DATA => overflows += self.overflow(number, u64_at(data, 0), node.value_bytes, kind)?,
                    SUB_TREE if kind == Kind::Rows && data.len() == TREE_BYTES => {
                        let name = String::from_utf8_lossy(&page[node.at + NODE_HEADER..node.data]).into_owned();
                        found.push((Kind::Rows, format!("table '{name}'"), Tree::read(data)));
                    }
                    0 if kind == Kind::Free => self.free(number, data)?,
                    0 => {}
                    flags => return damaged(number, format!("a row with flags {flags:#x}")),
                }
            }
        }
        let counted = (branches, leaves, overflows, entries);
        let recorded = (tree.branch_pages, tree.leaf_pages, tree.overflow_pages, tree.entries);
        if counted != recorded {
            let what = format!(
                "below it are {counted:?} branch pages, leaf pages, overflow pages and rows, not {recorded:?} as recorded"
            );
            return damaged(tree.root, what);
        }
        Ok(true)
    }

    /// Reads a page that must be of one kind.
    fn load(&mut self, number: u64, page: &mut [u8], flags: u16) -> Result<()> {
        self.pages += 1;
        read(self.file, page, number, number * self.page_bytes as u64)?;
        if u64_at(page, 0) != number {
            return damaged(number, format!("it calls itself page {}", u64_at(page, 0)));
        }
        if u16_at(page, 10) != flags {
            return damaged(number, format!("its flags are {:#x}, not {flags:#x}", u16_at(page, 10)));
        }
        Ok(())
    }

    /// Looks at a run of overflow pages with a value of so many bytes; how many pages they are.
    fn overflow(&mut self, from: u64, number: u64, value_bytes: usize, kind: Kind) -> Result<u64> {
        self.take(number, 1, from)?;
        let list = if kind == Kind::Free { PAGE_HEADER + value_bytes } else { 0 };
        let mut run = vec![0; self.page_bytes.max(list)];
        self.load(number, &mut run, OVERFLOW)?;
        // A value that became shorter keeps its run.
        let pages = u64::from(u32_at(&run, 12));
        let needed = ((PAGE_HEADER - 1 + value_bytes) / self.page_bytes + 1) as u64;
        if pages < needed {
            return damaged(number, format!("it begins a run of {pages} pages, and {needed} are needed"));
        }
        self.take(number + 1, pages - 1, number)?;
        if kind == Kind::Free {
            self.free(number, &run[PAGE_HEADER..PAGE_HEADER + value_bytes])?;
        }
        Ok(pages)
    }

    /// A list of free pages: its length, then their numbers.
    fn free(&mut self, from: u64, list: &[u8]) -> Result<()> {
        let words = list.len() / 8;
        let count = if words == 0 { u64::MAX } else { u64_at(list, 0) };
        if count >= words as u64 {
            return damaged(from, format!("a list of {count} free pages in {} bytes", list.len()));
        }
        (1..=count as usize).try_for_each(|i| self.take(u64_at(list, i * 8), 1, from))
    }

    fn take(&mut self, number: u64, pages: u64, from: u64) -> Result<()> {
        if pages > 0 && !(2..=self.last).contains(&number) || pages > (self.last + 1).saturating_sub(number) {
            return damaged(from, format!("it refers to {pages} from page {number}, and there are 2 to {}", self.last));
        }
        for page in number..number + pages {
            let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
            if self.taken[word] & bit != 0 {
                return damaged(from, format!("it refers to page {page}, which something else has already"));
            }
            self.taken[word] |= bit;
        }
        Ok(())
    }
}

struct Node {
    at: usize,
    flags: u16,
    /// Where the data is, and how much of it is in this page.
    data: usize,
    data_bytes: usize,
    value_bytes: usize,
}

/// The nodes of a branch or leaf page: packed at its end, their keys ascending.
fn nodes(number: u64, page: &[u8], leaf: bool, kind: Kind) -> Result<Vec<Node>> {
    let (lower, upper) = (u16_at(page, 12) as usize, u16_at(page, 14) as usize);
    if lower < PAGE_HEADER || !lower.is_multiple_of(2) || lower > upper || upper > page.len() {
        return damaged(number, format!("its free space goes from {lower} to {upper}"));
    }
    let mut nodes: Vec<Node> = Vec::with_capacity((lower - PAGE_HEADER) / 2);
    let mut before: Option<&[u8]> = None;
    let (mut first, mut sum) = (page.len(), 0);
    for place in (PAGE_HEADER..lower).step_by(2) {
        let at = u16_at(page, place) as usize;
        if at < upper || !at.is_multiple_of(2) || at + NODE_HEADER > page.len() {
            return damaged(number, format!("a row at {at}"));
        }
        first = first.min(at);
        let value_bytes = if leaf { u32_at(page, at) as usize } else { 0 };
        let (flags, key_bytes) = (if leaf { u16_at(page, at + 4) } else { 0 }, u16_at(page, at + 6) as usize);
        let data = at + NODE_HEADER + key_bytes;
        let data_bytes = if flags & BIG_DATA != 0 { 8 } else { value_bytes };
        if data + data_bytes > page.len() {
            return damaged(number, format!("a row at {at} goes beyond its end"));
        }
        sum += (data + data_bytes - at).next_multiple_of(2);
        // The first key of a branch is never looked at.
        let key = &page[at + NODE_HEADER..data];
        if leaf || !nodes.is_empty() {
            if key.is_empty() || (kind == Kind::Free && key.len() != 8) {
                return damaged(number, format!("a key of {} bytes", key.len()));
            }
            let ascend = |before: &[u8]| match kind {
                Kind::Free => u64_at(before, 0) < u64_at(key, 0),
                Kind::Rows => before < key,
            };
            if !before.is_none_or(ascend) {
                return damaged(number, "its keys are not in order");
            }
            before = Some(key);
        }
        nodes.push(Node { at, flags, data, data_bytes, value_bytes });
    }
    if nodes.is_empty() {
        return damaged(number, "it is empty");
    }
    if first != upper || sum != page.len() - upper {
        return damaged(number, format!("its rows take {sum} bytes from {first}, its free space ends at {upper}"));
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests;
