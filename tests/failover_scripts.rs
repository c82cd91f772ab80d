//! `tests/interaction/failover/*.txt`: election, replication, gating and rollback, step by step (see `script.rs`).

mod script;

use std::path::Path;

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interaction/failover");
    let rewrite = std::env::var_os("TANIST_REWRITE").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut differ = Vec::new();
    for path in paths {
        let written = std::fs::read_to_string(&path).unwrap();
        let seen = script::run(&written);
        if seen != written {
            if rewrite {
                std::fs::write(&path, &seen).unwrap();
            } else {
                let line = written.lines().zip(seen.lines()).position(|(a, b)| a != b).unwrap_or(0);
                let (want, have) = (written.lines().nth(line), seen.lines().nth(line));
                differ.push(format!("{}:{}\n  written: {want:?}\n  seen:    {have:?}", path.display(), line + 1));
            }
        }
    }
    assert!(differ.is_empty(), "transcripts differ (TANIST_REWRITE=1 rewrites them):\n{}", differ.join("\n"));
}
