//! Log entries: what a transaction did, with the images before, so that it can be applied and undone.
