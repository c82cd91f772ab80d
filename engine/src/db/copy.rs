//! Snapshot transfer: a copy is built beside the data in use while its source goes on writing (R8).
