//! Whatever the shapes: a query gives the same with a geo index and without.

use super::*;
use crate::db::index::tests::lookup::{any_meters, any_place, any_shape};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_geo_index_changes_no_result(
        shapes in prop::collection::vec(any_shape(), 0..25),
        place in any_place(), other in any_shape(), meters in any_meters(),
    ) {
        let mut stage = Stage::new();
        stage.ask(Method::Post, "/_api/collection", &json!({"name": "c"}));
        let geo = json!({"type": "geo", "fields": ["at"], "geoJson": true});
        stage.ask(Method::Post, "/_api/index?collection=c", &geo);
        for (at, shape) in shapes.iter().enumerate() {
            stage.ask(Method::Post, "/_api/document/c", &json!({"_key": format!("k{at}"), "at": shape}));
        }
        for condition in [
            // Where there is no place there is no distance.
            "GEO_DISTANCE(d.at, @place) <= @meters FILTER GEO_DISTANCE(d.at, @place) != null",
            "@meters > GEO_DISTANCE(@other, d.at, 'wgs84') FILTER GEO_DISTANCE(d.at, @place) != null",
            "GEO_IN_RANGE(d.at, @other, @meters / 2, @meters)",
            "GEO_CONTAINS(@other, d.at)",
            "GEO_CONTAINS(d.at, @place)",
            "GEO_INTERSECTS(d.at, @other)",
            "GEO_EQUALS(d.at, @other)",
        ] {
            let query = format!("LET used = [@place, @other, @meters] FOR d IN c FILTER {condition} SORT d._key RETURN d._key");
            let values = json!({"place": place, "other": other, "meters": meters});
            let mut found = Vec::new();
            for rule in ["+geo-index-optimizer", "-geo-index-optimizer"] {
                let with = json!({"bindVars": values, "options": {"optimizer": {"rules": [rule]}}});
                let answer = stage.query(&query, with.as_object().unwrap());
                prop_assert!(answer["result"].is_array(), "{query}: {answer}");
                found.push(answer["result"].clone());
            }
            prop_assert_eq!(&found[0], &found[1], "{} with {}", query, values);
        }
    }
}
