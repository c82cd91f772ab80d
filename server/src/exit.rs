//! How the process ends: one line for the person who started it, and a code for what watches it.

use std::fmt;

/// Why `tanist` leaves with a failure. The codes are part of the interface (see README).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Anything without a code of its own.
    Failed = 1,
    /// An option is unknown, contradicts another, or has a value that can't be used.
    Options = 2,
    /// The data directory was written by another version, whose format this one does not know.
    OtherFormat = 4,
    /// An agent's directory was given to a server or the other way round, or it holds another node's data.
    OtherKind = 5,
    /// A secret could not be read.
    Secret = 6,
    /// The port is taken, or the address is not this machine's.
    Port = 7,
    /// Another process has the data directory.
    DirectoryInUse = 8,
    /// The data directory holds something that can't be read.
    Corrupt = 9,
    /// The disk refused.
    Storage = 10,
}

impl Code {
    /// Whether starting again could help: what the operator has to mend first is not tried again and again.
    pub fn is_final(code: i32) -> bool {
        [Code::Options, Code::OtherFormat, Code::OtherKind, Code::Secret, Code::Corrupt]
            .iter()
            .any(|c| *c as i32 == code)
    }
}

/// A failure that ends the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: Code,
    pub message: String,
}

impl Exit {
    pub fn new(code: Code, message: impl Into<String>) -> Exit {
        Exit { code, message: message.into() }
    }

    pub fn failed(message: impl Into<String>) -> Exit {
        Exit::new(Code::Failed, message)
    }

    pub fn options(message: impl Into<String>) -> Exit {
        Exit::new(Code::Options, message)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
