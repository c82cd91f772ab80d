//! Where the programs of an installed PostgreSQL are, and as whom they run: never as root.

use crate::process::run;
use rustix::process::getuid;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The user of Debian's package, as whom root runs it.
pub const OWNER: &str = "postgres";

/// The folder with the programs of the newest PostgreSQL that is installed: on Debian not in the path.
pub fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let has_programs = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    let debian = versions.map(|version| version.path().join("bin")).filter(has_programs).max();
    debian.or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).find(has_programs))
}

/// The numbers of the user and the group that PostgreSQL runs as; none if this process is an ordinary user's.
fn owner() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find(|line| line.split(':').next() == Some(OWNER)).map(str::to_owned)?;
    let number = |at: usize| line.split(':').nth(at)?.parse().ok();
    number(2).zip(number(3)).filter(|_| getuid().is_root())
}

/// Whether PostgreSQL can be run here: root can, as another user.
pub fn can_run() -> bool {
    programs().is_some() && (!getuid().is_root() || owner().is_some())
}

/// A folder for one node's processes, which may be another user's.
pub fn folder(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path).expect("a directory can be made");
    if let Some((user, group)) = owner() {
        chown(path, Some(user), Some(group)).expect("root may give a directory away");
    }
    path.to_owned()
}

/// A directory that other users may pass through.
pub fn directory(prefix: &str) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix(prefix).tempdir().expect("a directory can be made");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("its permissions can be set");
    directory
}

/// Ends every process that works in a directory once whoever holds this is gone, in whatever way. The kernel does that
/// for children; those who keep a PostgreSQL start it beside themselves, and it outlives them.
pub struct Sweeper(Child);

/// Reads until nobody can write any more. Thrice, for some come into being meanwhile.
const SWEEP: &str = r#"cat
for round in 1 2 3; do
    for process in /proc/[0-9]*; do
        [ "${process#/proc/}" = $$ ] && continue
        case "$(readlink "$process/cwd") $(tr '\0' ' ' <"$process/cmdline")" in
            *"$1"*) kill -KILL "${process#/proc/}" ;;
        esac
    done
done
rm -rf "$1""#;

impl Sweeper {
    pub fn of(directory: &Path) -> Sweeper {
        let mut command = Command::new("sh");
        command.args(["-c", SWEEP, "sweeper"]).arg(directory).current_dir("/");
        // A group of its own: what the terminal sends to this program's group does not end it.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Sweeper(command.spawn().expect("a shell can be started"))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The command line that runs a program as the user that PostgreSQL may run as.
pub fn as_owner(program: &str, arguments: &[String]) -> Vec<String> {
    let mut words = Vec::new();
    if owner().is_some() {
        let ids = [format!("--reuid={OWNER}"), format!("--regid={OWNER}")];
        words.push("setpriv".to_owned());
        words.extend(ids);
        words.extend(["--clear-groups", "--pdeathsig=KILL", "--"].map(str::to_owned));
    }
    words.push(program.to_owned());
    words.extend_from_slice(arguments);
    words
}

/// Runs a command to its end, as the owner; it must succeed.
#[track_caller]
pub fn command(program: &str, arguments: &[String], environment: &BTreeMap<String, String>) {
    let words = as_owner(program, arguments);
    let (code, text) = run(Command::new(&words[0]).args(&words[1..]).envs(environment).current_dir("/"));
    assert_eq!(code, 0, "{words:?}\n{text}");
}
