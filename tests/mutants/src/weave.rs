//! Puts mutants into a source, each behind a question whether it is switched on.
//!
//! Text is only ever inserted: `a == b` becomes `(if on(7) { (a) != (b) } else { a == b })`, and what stands in `a`
//! and `b` may hold mutants of its own. What was inserted is kept with its place, so that an error of the compiler
//! leads to the mutant that does not compile.

use crate::list::{Genre, Mutant};
use std::collections::HashMap;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, Block, Expr, ExprStruct, Member, UnOp};

/// A source with its mutants.
pub struct Woven {
    pub text: String,
    /// Where each mutant's own code stands in the text.
    pub branches: Vec<(Range<usize>, usize)>,
    /// What is wrapped, from the outermost to the innermost, and the mutants of each wrap.
    pub wraps: Vec<(Range<usize>, Vec<usize>)>,
    /// Mutants whose place can't be asked at run time: constants, conditions with `let`.
    pub out_of_reach: Vec<usize>,
}

/// `mutants`: those of this file, by their index in the whole list; index plus one is the number that switches one on.
pub fn weave(source: &str, mutants: &[(usize, &Mutant)]) -> syn::Result<Woven> {
    let file = syn::parse_file(source)?;
    let mut weaver = Weaver {
        source,
        lines: std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect(),
        at: HashMap::new(),
        edits: Vec::new(),
        wraps: 0,
        constant: 0,
    };
    for (index, mutant) in mutants {
        let (line, column) = (mutant.span.start.line, mutant.span.start.column);
        let start = weaver.offset(line, column - 1);
        weaver.at.entry((mutant.genre, start)).or_default().push((*index, mutant));
    }
    weaver.visit_file(&file);
    let out_of_reach = weaver.at.into_values().flatten().map(|(index, _)| index).collect();
    Ok(Weaver::apply(source, weaver.edits, weaver.wraps, out_of_reach))
}

struct Weaver<'a> {
    source: &'a str,
    /// Offset at which each line begins.
    lines: Vec<usize>,
    /// Mutants that wait for their place, by genre and offset.
    at: HashMap<(Genre, usize), Vec<(usize, &'a Mutant)>>,
    edits: Vec<Edit>,
    wraps: usize,
    /// How many constants, constant functions and lengths are around.
    constant: usize,
}

struct Edit {
    at: usize,
    /// Number of the wrap, in the order in which they open: of two that open at one place, the outer one's comes first.
    wrap: usize,
    opens: bool,
    text: String,
    /// Mutants with their code's place in the text.
    branches: Vec<(Range<usize>, usize)>,
    /// Other mutants that may be at fault where it does not compile.
    blamed: Vec<usize>,
}

impl<'a> Weaver<'a> {
    /// `line` from one, `column` from zero, in characters.
    fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.lines[line - 1];
        let rest = &self.source[start..];
        start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }

    fn range(&self, spanned: &impl Spanned) -> Range<usize> {
        let (start, end) = (spanned.span().start(), spanned.span().end());
        self.offset(start.line, start.column)..self.offset(end.line, end.column)
    }

    fn text(&self, spanned: &impl Spanned) -> &'a str {
        &self.source[self.range(spanned)]
    }

    fn take(&mut self, genre: Genre, start: usize) -> Vec<(usize, &'a Mutant)> {
        if self.constant > 0 {
            return Vec::new();
        }
        self.at.remove(&(genre, start)).unwrap_or_default()
    }

    /// Around `range`: `before`, one branch for each alternative, the source itself, `after`.
    fn wrap(&mut self, range: Range<usize>, before: &str, alternatives: &[(usize, String)], after: &str) {
        let (mut text, mut branches) = (before.to_owned(), Vec::new());
        for (index, code) in alternatives {
            text.push_str(&format!("if crate::mutant_switch::on({}) {{ ", index + 1));
            branches.push((text.len()..text.len() + code.len(), *index));
            text.push_str(code);
            text.push_str(" } else ");
        }
        text.push_str("{ ");
        self.insert(range, text, branches, format!(" }}{after}"));
    }

    /// An error at `range` is the fault of these.
    fn blame(&mut self, range: Range<usize>, mutants: Vec<usize>) {
        self.insert(range, String::new(), Vec::new(), String::new());
        let opens = self.edits.len() - 2;
        self.edits[opens].blamed = mutants;
    }

    fn insert(&mut self, range: Range<usize>, text: String, branches: Vec<(Range<usize>, usize)>, end: String) {
        let wrap = self.wraps;
        self.wraps += 1;
        self.edits.push(Edit { at: range.start, wrap, opens: true, text, branches, blamed: Vec::new() });
        self.edits.push(Edit {
            at: range.end,
            wrap,
            opens: false,
            text: end,
            branches: Vec::new(),
            blamed: Vec::new(),
        });
    }

    fn body(&mut self, block: &Block) {
        let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) else { return };
        let range = self.range(first).start..self.range(last).end;
        let mutants = self.take(Genre::FnValue, range.start);
        let (mut text, mut branches) = (String::new(), Vec::new());
        for (index, mutant) in mutants {
            text.push_str(&format!("if crate::mutant_switch::on({}) {{ ", index + 1));
            let code = format!("return {};", mutant.replacement);
            branches.push((text.len()..text.len() + code.len(), index));
            text.push_str(&code);
            text.push_str(" } ");
        }
        if !branches.is_empty() {
            self.insert(range, text, branches, String::new());
        }
    }

    fn function(&mut self, signature: &syn::Signature, visit: impl FnOnce(&mut Self)) {
        let constant = usize::from(signature.constness.is_some());
        self.constant += constant;
        visit(self);
        self.constant -= constant;
    }

    fn constant(&mut self, visit: impl FnOnce(&mut Self)) {
        self.constant += 1;
        visit(self);
        self.constant -= 1;
    }

    fn apply(source: &str, mut edits: Vec<Edit>, wraps: usize, out_of_reach: Vec<usize>) -> Woven {
        // Where one ends and another begins, the end comes first; the inner one ends first.
        edits.sort_by_key(|edit| (edit.at, edit.opens, if edit.opens { edit.wrap } else { usize::MAX - edit.wrap }));
        let mut woven = Woven {
            text: String::with_capacity(source.len() * 2),
            branches: Vec::new(),
            wraps: vec![(0..0, Vec::new()); wraps],
            out_of_reach,
        };
        let mut done = 0;
        for edit in edits {
            woven.text.push_str(&source[done..edit.at]);
            done = edit.at;
            let start = woven.text.len();
            woven.text.push_str(&edit.text);
            if edit.opens {
                woven.wraps[edit.wrap].0.start = start;
            } else {
                woven.wraps[edit.wrap].0.end = woven.text.len();
            }
            woven.wraps[edit.wrap].1.extend(edit.blamed);
            for (range, index) in edit.branches {
                woven.branches.push((start + range.start..start + range.end, index));
                woven.wraps[edit.wrap].1.push(index);
            }
        }
        woven.text.push_str(&source[done..]);
        woven
    }
}

/// Whether a condition binds by `let`, so that it can't stand within an `if` of its own.
fn binds(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

impl<'a> Visit<'a> for Weaver<'a> {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.function(&item.sig, |weaver| {
            weaver.body(&item.block);
            visit::visit_item_fn(weaver, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.function(&item.sig, |weaver| {
            weaver.body(&item.block);
            visit::visit_impl_item_fn(weaver, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        self.function(&item.sig, |weaver| {
            if let Some(block) = &item.default {
                weaver.body(block);
            }
            visit::visit_trait_item_fn(weaver, item);
        });
    }

    fn visit_item_const(&mut self, item: &'a syn::ItemConst) {
        self.constant(|weaver| visit::visit_item_const(weaver, item));
    }

    fn visit_item_static(&mut self, item: &'a syn::ItemStatic) {
        self.constant(|weaver| visit::visit_item_static(weaver, item));
    }

    fn visit_impl_item_const(&mut self, item: &'a syn::ImplItemConst) {
        self.constant(|weaver| visit::visit_impl_item_const(weaver, item));
    }

    fn visit_expr_repeat(&mut self, repeat: &'a syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
        self.constant(|weaver| weaver.visit_expr(&repeat.len));
    }

    fn visit_type_array(&mut self, array: &'a syn::TypeArray) {
        self.constant(|weaver| visit::visit_type_array(weaver, array));
    }

    fn visit_expr_binary(&mut self, binary: &'a syn::ExprBinary) {
        let operator = self.range(&binary.op).start;
        if !binds(&binary.left) && !binds(&binary.right) {
            let mutants = self.take(Genre::BinaryOperator, operator);
            if !mutants.is_empty() {
                let (left, right) = (self.text(&binary.left), self.text(&binary.right));
                let code = |mutant: &Mutant| format!("({left}) {} ({right})", mutant.replacement);
                let alternatives: Vec<_> = mutants.iter().map(|(index, mutant)| (*index, code(mutant))).collect();
                self.wrap(self.range(binary), "(", &alternatives, ")");
            }
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'a syn::ExprUnary) {
        if !matches!(unary.op, UnOp::Deref(_)) {
            let mutants = self.take(Genre::UnaryOperator, self.range(&unary.op).start);
            let operand = self.text(&unary.expr).to_owned();
            if let Some((index, _)) = mutants.first() {
                self.wrap(self.range(unary), "(", &[(*index, operand)], ")");
            }
        }
        visit::visit_expr_unary(self, unary);
    }

    /// A guard makes an arm one that does not count when the compiler looks whether all cases are covered; it says so
    /// where it is matched what.
    fn visit_expr_match(&mut self, expr: &'a syn::ExprMatch) {
        let starts = expr.arms.iter().map(|arm| self.range(arm).start);
        let arms = starts.filter_map(|start| self.at.get(&(Genre::MatchArm, start)));
        let arms: Vec<usize> = arms.flatten().map(|(index, _)| *index).collect();
        if !arms.is_empty() {
            self.blame(self.range(expr.expr.as_ref()), arms);
        }
        visit::visit_expr_match(self, expr);
    }

    fn visit_arm(&mut self, arm: &'a Arm) {
        let start = self.range(arm).start;
        let off = |index: usize| format!("!crate::mutant_switch::on({})", index + 1);
        match &arm.guard {
            None => {
                if let Some((index, _)) = self.take(Genre::MatchArm, start).first() {
                    let end = self.range(&arm.pat).end;
                    let text = format!(" if {}", off(*index));
                    let branches = vec![(0..text.len(), *index)];
                    self.insert(end..end, text, branches, String::new());
                }
            }
            Some((_, guard)) if !binds(guard) => {
                let range = self.range(guard.as_ref());
                let deleted = self.take(Genre::MatchArm, start);
                let mut replaced = self.take(Genre::MatchArmGuard, range.start);
                // `on(1) || !on(2) && (guard)`.
                replaced.sort_by_key(|(_, mutant)| mutant.replacement != "true");
                let (mut text, mut branches) = (String::new(), Vec::new());
                for (index, _) in &deleted {
                    text.push_str(&format!("{} && ", off(*index)));
                    branches.push((0..text.len(), *index));
                }
                text.push('(');
                for (index, mutant) in &replaced {
                    let from = text.len();
                    match mutant.replacement.as_str() {
                        "true" => text.push_str(&format!("crate::mutant_switch::on({}) || ", index + 1)),
                        _ => text.push_str(&format!("{} && ", off(*index))),
                    }
                    branches.push((from..text.len(), *index));
                }
                text.push('(');
                if !branches.is_empty() {
                    self.insert(range, text, branches, "))".to_owned());
                }
            }
            Some(_) => {}
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expr: &'a ExprStruct) {
        if let Some(rest) = &expr.rest {
            let rest = self.text(rest);
            for field in &expr.fields {
                let (mutants, Member::Named(name)) =
                    (self.take(Genre::StructField, self.range(field).start), &field.member)
                else {
                    continue;
                };
                let Some((index, _)) = mutants.first() else { continue };
                let before = if field.colon_token.is_none() { format!("{name}: ") } else { String::new() };
                let range = self.range(&field.expr);
                self.wrap(range, &before, &[(*index, format!("({rest}).{name}"))], "");
            }
        }
        visit::visit_expr_struct(self, expr);
    }
}
