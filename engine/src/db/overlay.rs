//! Changes over a view of the store that are kept as a whole or dropped as a whole.
