//! Queries that parse, and queries that do not.
