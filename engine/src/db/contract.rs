//! The contract test that every store passes: random operations against a model, also after reopening.

use super::store::Store;

/// A store under test.
pub trait ContractStore: Store {
    /// Closes it and opens it again, as after a restart of the process.
    fn reopen(&mut self);
}

/// Runs `steps` random operations from `seed`; panics at the first difference from the model.
pub fn check(_store: &mut dyn ContractStore, _seed: u64, _steps: usize) {
    todo!()
}
