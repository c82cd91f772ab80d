//! The rules by which a query is made faster, and which of them are on: the option `optimizer.rules`.

/// In the order in which they are applied. Their names are those of ArangoDB's rules that do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A subquery that reads nothing of the rows around it comes to the same for each of them, and is not run again.
    MoveCalculationsUp,
    /// Filters stand where what they read is first known.
    MoveFiltersUp,
    /// The documents of a collection are counted without being read.
    OptimizeCount,
    UseIndexes,
    /// Documents near a place are found by a geo index.
    UseGeoIndexes,
    RemoveFilterCoveredByIndex,
    UseIndexForSort,
    /// A sort keeps only as many rows as the limit after it lets pass.
    SortLimit,
    /// The rows of a subquery that is only counted are not kept.
    OptimizeSubqueries,
    /// Only those attributes of a document are read that somebody asks for.
    ReduceExtractionToProjection,
}

impl Rule {
    pub const ALL: [Rule; 10] = [
        Rule::MoveCalculationsUp,
        Rule::MoveFiltersUp,
        Rule::OptimizeCount,
        Rule::UseIndexes,
        Rule::UseGeoIndexes,
        Rule::RemoveFilterCoveredByIndex,
        Rule::UseIndexForSort,
        Rule::SortLimit,
        Rule::OptimizeSubqueries,
        Rule::ReduceExtractionToProjection,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Rule::MoveCalculationsUp => "move-calculations-up",
            Rule::MoveFiltersUp => "move-filters-up",
            Rule::OptimizeCount => "optimize-count",
            Rule::UseIndexes => "use-indexes",
            Rule::UseGeoIndexes => "geo-index-optimizer",
            Rule::RemoveFilterCoveredByIndex => "remove-filter-covered-by-index",
            Rule::UseIndexForSort => "use-index-for-sort",
            Rule::SortLimit => "sort-limit",
            Rule::OptimizeSubqueries => "optimize-subqueries",
            Rule::ReduceExtractionToProjection => "reduce-extraction-to-projection",
        }
    }
}

/// A set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules(u16);

impl Default for Rules {
    fn default() -> Rules {
        Rules::ALL
    }
}

impl Rules {
    pub const ALL: Rules = Rules(u16::MAX);
    pub const NONE: Rules = Rules(0);

    pub fn has(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u16 != 0
    }

    pub fn add(&mut self, rule: Rule) {
        self.0 |= 1 << rule as u16;
    }

    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL.into_iter().filter(move |&rule| self.has(rule))
    }

    /// All but what is switched off by `-name` or `-all`, and on again by `+name`; one after the other. Names that
    /// ArangoDB has and Tanist has not change nothing.
    pub fn chosen<'a>(switches: impl Iterator<Item = &'a str>) -> Rules {
        let mut rules = Rules::ALL;
        for switch in switches {
            let (on, name) = match switch.strip_prefix('-') {
                Some(name) => (false, name),
                None => (true, switch.strip_prefix('+').unwrap_or(switch)),
            };
            for rule in Rule::ALL.into_iter().filter(|rule| name == "all" || rule.name() == name) {
                match on {
                    true => rules.add(rule),
                    false => rules.0 &= !(1 << rule as u16),
                }
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_taken_one_after_the_other() {
        let chosen = |switches: &[&str]| {
            let rules = Rules::chosen(switches.iter().copied());
            rules.iter().map(Rule::name).collect::<Vec<_>>()
        };
        assert_eq!(chosen(&[]).len(), Rule::ALL.len());
        assert_eq!(chosen(&["-all"]), Vec::<&str>::new());
        assert_eq!(chosen(&["-all", "+use-indexes", "sort-limit"]), ["use-indexes", "sort-limit"]);
        assert_eq!(chosen(&["-use-indexes", "-no-such-rule"]).len(), Rule::ALL.len() - 1);
    }
}
