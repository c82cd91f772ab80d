//! Data that are not there: for expressions that may look at nothing but what they are given.

use super::*;

pub(super) struct Alone<'r> {
    pub reader: Reader<'r>,
}

impl Data for Alone<'_> {
    fn reader(&self) -> Reader<'_> {
        self.reader
    }

    fn database(&self) -> &str {
        ""
    }

    fn now(&self) -> Time {
        Time::ZERO
    }

    fn user(&self) -> Option<&str> {
        None
    }

    fn collection(&self, name: &str, _: bool) -> Result<CollectionRow> {
        Err(errors::DATA_SOURCE_NOT_FOUND.because(name))
    }

    fn collections(&self) -> Result<Vec<CollectionRow>> {
        Ok(Vec::new())
    }

    fn edge_collections(&self, graph: &str) -> Result<Vec<String>> {
        Err(errors::GRAPH_NOT_FOUND.because(graph))
    }

    fn insert(&mut self, _: &CollectionRow, _: &str, _: Writing) -> Result<Written> {
        Err(errors::READ_ONLY.into())
    }

    fn modify(&mut self, _: &CollectionRow, _: &str, _: &str, _: bool, _: Writing) -> Result<Written> {
        Err(errors::READ_ONLY.into())
    }

    fn remove(&mut self, _: &CollectionRow, _: &str, _: Option<Option<Revision>>) -> Result<Written> {
        Err(errors::READ_ONLY.into())
    }

    fn go_on(&self) -> Result<()> {
        Ok(())
    }

    fn sleep(&self, time: Duration) -> Result<bool> {
        Ok(time.is_zero())
    }
}
