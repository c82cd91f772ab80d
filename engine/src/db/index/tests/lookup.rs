//! Lookups against what a look at all documents finds.

use super::*;
use crate::aql::functions::geo::RADIUS_METERS;
use crate::aql::functions::geo::shape::{Shape, angle, from_degrees, to_degrees};
use crate::db::index::geo::Area;
use crate::db::index::lookup::{Lookup, find};
use crate::db::index::{check, fulltext};
use serde_json::{Value as Json, json};

fn new_index(kind: IndexKind, fields: &[&str], properties: Json) -> NewIndex {
    NewIndex { kind, sparse: true, properties, ..over(fields) }
}

/// Tries lookups on a collection with these documents, half of them there before the index.
fn with_index(new: NewIndex, bodies: &[Json], test: impl FnOnce(&mut Writer<'_>, &CollectionRow)) {
    with_writer(|db| {
        let mut c = db.create_collection(1, collection(CollectionKind::Document)).unwrap();
        for (number, body) in bodies.iter().enumerate() {
            if number == bodies.len() / 2 {
                c = db.create_index(&c, new.clone()).unwrap();
            }
            db.put(&c, &format!("k{number}"), body.to_string().into(), None).unwrap();
        }
        if c.indexes.is_empty() {
            c = db.create_index(&c, new).unwrap();
        }
        assert_eq!(check::wrong(&db.reader(), &c).unwrap(), None);
        test(db, &c);
    });
}

fn keys(db: &Writer<'_>, c: &CollectionRow, lookup: &Lookup) -> Vec<String> {
    find(&db.reader(), c, lookup, None).unwrap().into_iter().map(|(document, _)| document.key).collect()
}

/// Places that are close to one another, to the poles or to the end of longitudes more often than by chance.
pub fn any_place() -> impl Strategy<Value = [f64; 2]> {
    let longitude = prop_oneof![-180.0..=180.0, 179.0..=180.0, -180.0..=-179.0, 10.0..11.0, Just(180.0), Just(-180.0)];
    let latitude = prop_oneof![-90.0..=90.0, 89.0..=90.0, -90.0..=-89.0, 50.0..51.0, Just(90.0), Just(-90.0)];
    (longitude, latitude).prop_map(|(longitude, latitude)| [longitude, latitude])
}

pub fn any_shape() -> impl Strategy<Value = Json> {
    let near = (any_place(), proptest::collection::vec((-20.0..20.0, -10.0..10.0), 3..6)).prop_map(|(center, more)| {
        let beside = |(x, y): &(f64, f64)| {
            let longitude = (center[0] + x + 540.0) % 360.0 - 180.0;
            [longitude, (center[1] + y).clamp(-90.0, 90.0)]
        };
        more.iter().map(beside).collect::<Vec<_>>()
    });
    let places = prop_oneof![near, proptest::collection::vec(any_place(), 3..6)];
    prop_oneof![
        3 => any_place().prop_map(|place| json!(place)),
        1 => any_place().prop_map(|place| json!({"type": "Point", "coordinates": place})),
        2 => places.clone().prop_map(|places| json!({"type": "LineString", "coordinates": places})),
        1 => places.clone().prop_map(|places| json!({"type": "MultiPoint", "coordinates": places})),
        2 => places.prop_map(|places| json!({"type": "Polygon", "coordinates": [places[..3]]})),
        1 => Just(json!("nowhere")),
    ]
}

pub fn any_meters() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1e3, 0.0..1e6, 0.0..21e6, Just(0.0), Just(3e7)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the shapes: what is near is what is near when all are looked at, in the same order.
    #[test]
    fn a_geo_lookup_is_what_a_scan_finds(
        shapes in proptest::collection::vec(any_shape(), 0..25),
        place in any_place(), other in any_place(), meters in any_meters(), limit in 0usize..10, pick in any::<prop::sample::Index>(),
        at_one in any::<bool>(),
    ) {
        let bodies: Vec<Json> = shapes.iter().map(|shape| json!({"at": shape})).collect();
        with_index(new_index(IndexKind::Geo, &["at"], json!({"geoJson": true})), &bodies, |db, c| {
            let centroids: Vec<(usize, [f64; 3])> = shapes.iter().enumerate().filter_map(|(number, shape)| {
                Some((number, Shape::parse(&Value::parse_stored(&shape.to_string()))?.centroid()))
            }).collect();
            let place = match at_one && !centroids.is_empty() {
                true => to_degrees(&pick.get(&centroids).1),
                false => place,
            };
            let center = from_degrees(place);
            let mut all: Vec<(f64, usize)> =
                centroids.iter().map(|(number, point)| (RADIUS_METERS * angle(&center, point), *number)).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let named = |all: &mut dyn Iterator<Item = usize>| all.map(|number| format!("k{number}")).collect::<Vec<_>>();
            let expected = named(&mut all.iter().filter(|(distance, _)| *distance <= meters).map(|(_, number)| *number));
            assert_eq!(keys(db, c, &Lookup::Within { place, meters }), expected);
            let expected = named(&mut all.iter().take(limit).map(|(_, number)| *number));
            assert_eq!(keys(db, c, &Lookup::Near { place, limit }), expected);
            let area = Area::between([place[1], place[0]], [other[1], other[0]]);
            let inside = |point: &[f64; 3]| {
                let [longitude, latitude] = to_degrees(point);
                let turns = [longitude, longitude + 360.0, longitude - 360.0];
                let across = turns.iter().any(|turn| *turn >= area.west - 1e-9 && *turn <= area.east + 1e-9);
                across && latitude >= area.south - 1e-9 && latitude <= area.north + 1e-9
            };
            let expected = named(&mut centroids.iter().filter(|(_, point)| inside(point)).map(|(number, _)| *number));
            assert_eq!(keys(db, c, &Lookup::Rectangle(area)), expected);
        });
    }

    /// Words by the index are those of the texts.
    #[test]
    fn a_fulltext_lookup_is_what_a_scan_finds(
        texts in proptest::collection::vec("([abÄ]{1,3}[ ,-]){0,5}", 0..15),
        query in "([|+-]?(prefix:|complete:)?[abä]{1,3},){1,4}", limit in 0usize..4,
    ) {
        let bodies: Vec<Json> = texts.iter().map(|text| json!({"t": text})).collect();
        with_index(new_index(IndexKind::Fulltext, &["t"], json!({"minLength": 2})), &bodies, |db, c| {
            let parsed = fulltext::Query::parse(&query).unwrap();
            let fits = |text: &String| parsed.fits(&fulltext::words(&c.indexes[0], &Value::from(text.as_str())));
            let fitting = texts.iter().enumerate().filter(|(_, text)| fits(text)).map(|(number, _)| format!("k{number}"));
            let most = if limit == 0 { usize::MAX } else { limit };
            let expected: Vec<String> = fitting.take(most).collect();
            assert_eq!(keys(db, c, &Lookup::Fulltext { field: "t".into(), query: query.clone(), limit }), expected);
        });
    }
}

#[test]
fn an_index_takes_places_as_it_is_told() {
    let near = Lookup::Within { place: [13.0, 52.0], meters: 10_000.0 };
    let latitude_first = json!([52.0, 13.0]);
    let bodies = [
        json!({"at": latitude_first, "lat": 52.0, "lon": 13.0}),
        json!({"at": [13.0, 52.0], "lat": 13.0, "lon": 52.0}),
        json!({"at": {"type": "Point", "coordinates": [13.0, 52.0]}, "lat": "52", "lon": 13}),
        json!({"at": [52.0], "lat": 52.01, "lon": 13}),
    ];
    for (fields, geo_json, expected) in
        [(&["at"][..], false, &["k0"][..]), (&["at"], true, &["k1", "k2"]), (&["lat", "lon"], false, &["k0", "k3"])]
    {
        with_index(new_index(IndexKind::Geo, fields, json!({"geoJson": geo_json})), &bodies, |db, c| {
            assert_eq!(keys(db, c, &near), expected, "{fields:?} {geo_json}");
            let none = find(&db.reader(), c, &near, Some(7)).unwrap_err();
            assert_eq!(none.kind.number, 1570);
            let none = Lookup::Fulltext { field: "at".into(), query: "a".into(), limit: 0 };
            assert_eq!(find(&db.reader(), c, &none, None).unwrap_err().kind.number, 1571);
        });
    }
}
