//! The document engine: databases, collections, documents, users, over a [`store::Store`].
pub mod store;
