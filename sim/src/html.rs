//! A history as one page for the browser, with everything that it needs inside.

use crate::check::meaning;
use crate::run::drawn;
use crate::scenario::Scenario;
use crate::timeline::Timeline;
use serde::Serialize;

const PAGE: &str = include_str!("html/page.html");

#[derive(Serialize)]
struct Violation {
    check: &'static str,
    meaning: &'static str,
    what: String,
    at_us: u64,
}

#[derive(Serialize)]
struct Data<'a> {
    title: &'a str,
    again: &'a str,
    scenario: String,
    end_us: u64,
    violation: Option<Violation>,
    #[serde(flatten)]
    timeline: Timeline,
}

/// Runs the scenario and draws it; whether it holds.
pub fn page(scenario: &Scenario, title: &str, again: &str) -> (String, bool) {
    let (outcome, timeline) = drawn(scenario);
    let violation = outcome.violation.map(|v| Violation {
        check: v.invariant,
        meaning: meaning(v.invariant),
        what: v.what,
        at_us: v.at.0 / 1000,
    });
    let holds = violation.is_none();
    let end_us = outcome.figures.simulated.as_micros() as u64;
    let data = Data { title, again, scenario: format!("{scenario:#}"), end_us, violation, timeline };
    let data = serde_json::to_string(&data).expect("numbers and strings");
    (PAGE.replacen("{{DATA}}", &escape(&data), 1), holds)
}

/// Inside a script element nothing may look like its end. `<` stands only inside of strings.
fn escape(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(page: &str) -> serde_json::Value {
        let (_, rest) = page.split_once(r#"<script type="application/json" id="data">"#).expect("there is data");
        serde_json::from_str(rest.split_once("</script>").expect("that ends").0).expect("and can be read")
    }

    #[test]
    fn a_page_is_the_same_each_time_and_shows_every_node() {
        let scenario = Scenario::parse(include_str!("../seeds/killed-leader.txt")).unwrap();
        let (page, holds) = super::page(&scenario, "killed-leader", "cargo sim run");
        assert!(holds);
        assert!(page == super::page(&scenario, "killed-leader", "cargo sim run").0);
        let data = data(&page);
        assert_eq!(data["lanes"], serde_json::json!(["faults", "a0", "a1", "a2", "s0", "s1", "s2", "c0", "c1"]));
        assert_eq!(data["faults"].as_array().unwrap().len(), 1);
        assert_eq!((&data["faults"][0]["at_us"], &data["violation"]), (&3_000_000.into(), &serde_json::Value::Null));
        assert!(data["operations"].as_array().unwrap().len() > 50);
        for rows in ["events", "states", "messages"] {
            assert!(data[rows]["numbers"].as_array().unwrap().len() > 500, "{rows}");
        }
        let strings = data["strings"].as_array().unwrap();
        for role in ["agent-first", "leader", "follower", "down"] {
            assert!(strings.contains(&role.into()), "{role}");
        }
        for (open, close) in [("<script", "</script>"), ("<style", "</style>"), ("<body", "</body>")] {
            assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
        }
        for network in ["http://", "https://", "src=", "@import"] {
            assert!(!PAGE.contains(network), "the page asks the network for something: {network}");
        }
    }

    #[test]
    fn nothing_in_the_data_ends_the_script() {
        let scenario = Scenario { faults_ms: 100, clients: 0, ..Scenario::default() };
        let title = "</script><script>alert(1)</script><!-- {{DATA}}";
        let (page, _) = super::page(&scenario, title, "");
        assert_eq!(page.matches("</script>").count(), PAGE.matches("</script>").count());
        assert_eq!(data(&page)["title"], title);
    }
}
