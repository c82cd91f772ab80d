//! Which names are variables, and which of them can be seen.
//!
//! A block (a query or a subquery) sees what the blocks around it see. Within a block the first `FOR` divides the
//! variables: `COLLECT` takes away those that came after it, and only those are what it groups.

use super::super::ast::{Slot, Variable};
use std::sync::Arc;

#[derive(Default)]
pub struct Scopes {
    /// All variables that there ever were, by slot.
    pub variables: Vec<Variable>,
    visible: Vec<Visible>,
    /// The elements of the array operators around, the innermost last.
    current: Vec<Slot>,
    block: Block,
}

struct Visible {
    name: Arc<str>,
    slot: Slot,
    /// By the user, and not `OLD` or `NEW`.
    declared: bool,
}

/// Where things began in `visible`.
#[derive(Clone, Copy, Default)]
pub struct Block {
    start: usize,
    /// The block's first `FOR`.
    loops: Option<usize>,
}

impl Scopes {
    pub fn add(&mut self, name: Arc<str>) -> Slot {
        let slot = Slot(self.variables.len() as u32);
        self.variables.push(Variable { name, used: false });
        slot
    }

    pub fn bind(&mut self, name: Arc<str>, slot: Slot, declared: bool) {
        self.visible.push(Visible { name, slot, declared });
    }

    pub fn find(&self, name: &str) -> Option<Slot> {
        self.visible.iter().rev().find(|visible| *visible.name == *name).map(|visible| visible.slot)
    }

    /// The variable of that name, which is now used.
    pub fn read(&mut self, name: &str) -> Option<Slot> {
        let current = || matches!(name, "CURRENT" | "$CURRENT").then(|| self.current.last().copied()).flatten();
        let slot = self.find(name).or_else(current)?;
        self.mark_used(slot);
        Some(slot)
    }

    pub fn mark_used(&mut self, slot: Slot) {
        self.variables[slot.index()].used = true;
    }

    pub fn enter_block(&mut self) -> Block {
        std::mem::replace(&mut self.block, Block { start: self.visible.len(), loops: None })
    }

    pub fn leave_block(&mut self, outer: Block) {
        self.visible.truncate(self.block.start);
        self.block = outer;
    }

    pub fn enter_loop(&mut self) {
        self.block.loops.get_or_insert(self.visible.len());
    }

    pub fn in_loop(&self) -> bool {
        self.block.loops.is_some()
    }

    /// The variables that a `COLLECT` here groups.
    pub fn grouped(&self) -> Vec<(Arc<str>, Slot)> {
        let from = self.block.loops.unwrap_or(self.block.start);
        let declared = self.visible[from..].iter().filter(|visible| visible.declared);
        declared.map(|visible| (visible.name.clone(), visible.slot)).collect()
    }

    /// What `COLLECT` does to the variables of the loops around it.
    pub fn end_loops(&mut self) {
        if let Some(from) = self.block.loops {
            self.visible.truncate(from);
        }
    }

    pub fn enter_element(&mut self, slot: Slot) {
        self.current.push(slot);
    }

    pub fn leave_element(&mut self) {
        self.current.pop();
    }
}
