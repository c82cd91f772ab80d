//! Functions of places on Earth. Shapes are GeoJSON objects or pairs of coordinates (see [`shape`]).
//!
//! `NEAR()`, `WITHIN()` and `WITHIN_RECTANGLE()` look into a geo index ([`crate::db::index::lookup`]).

pub(crate) mod shape;

use super::{Context, Function, impure, pure};
use crate::aql::value::{Object, Value};
use crate::db::index::geo::Area;
use crate::db::index::lookup::{Lookup, NEAR_LIMIT};
use crate::errors::{self, Error};
use geographiclib_rs::{Geodesic, InverseGeodesic, PolygonArea, Winding};
use shape::{Degrees, Shape, angle, coordinates, from_degrees, inside, ring, to_degrees};

type Called = Result<Value, Error>;

pub(crate) const RADIUS_METERS: f64 = 6_371_000.0;

pub(super) const FUNCTIONS: &[Function] = &[
    pure("DISTANCE", 4, 4, |context, args| {
        let numbers: Option<Vec<f64>> = args.iter().map(Value::as_double).collect();
        let Some(&[latitude, longitude, other_latitude, other_longitude]) = numbers.as_deref() else {
            return context.invalid_type();
        };
        let valid = |latitude: f64, longitude: f64| latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        if !valid(latitude, longitude) || !valid(other_latitude, other_longitude) {
            return context.warn_of(errors::QUERY_INVALID_GEO_VALUE);
        }
        Ok(Value::number(RADIUS_METERS * haversine([longitude, latitude], [other_longitude, other_latitude])))
    }),
    pure("GEO_AREA", 1, 2, |context, args| {
        let (Some(shape), Some(ellipsoid)) = (Shape::parse(&args[0]), ellipsoid(args.get(1))) else {
            return context.warn_of(errors::QUERY_INVALID_GEO_VALUE);
        };
        Ok(Value::number(match ellipsoid {
            Ellipsoid::Sphere => shape.area() * RADIUS_METERS * RADIUS_METERS,
            Ellipsoid::Wgs84 => shape.polygons.iter().map(|polygon| polygon_area_wgs84(polygon)).sum(),
        }))
    }),
    pure("GEO_CONTAINS", 2, 2, |context, args| {
        with_shapes(context, args, |context, a, b| {
            if a.polygons.is_empty() {
                return context.warn_of(errors::QUERY_INVALID_GEO_VALUE);
            }
            Ok(a.contains(b)?.into())
        })
    }),
    pure("GEO_DISTANCE", 2, 3, |context, args| {
        let Some(ellipsoid) = ellipsoid(args.get(2)) else { return context.invalid_type() };
        with_shapes(context, args, |_, a, b| Ok(Value::number(distance(a, b, ellipsoid))))
    }),
    pure("GEO_EQUALS", 2, 2, |context, args| with_shapes(context, args, |_, a, b| Ok(a.equals(b).into()))),
    pure("GEO_IN_RANGE", 4, 7, |context, args| {
        let (Some(low), Some(high)) = (args[2].as_double(), args[3].as_double()) else { return context.invalid_type() };
        let Some(ellipsoid) = ellipsoid(args.get(6)) else { return context.invalid_type() };
        let includes = |place: usize| args.get(place).is_none_or(Value::truthy);
        with_shapes(context, args, |_, a, b| {
            let distance = distance(a, b, ellipsoid);
            let above = distance > low || (includes(4) && distance == low);
            let below = distance < high || (includes(5) && distance == high);
            Ok((above && below).into())
        })
    }),
    pure("GEO_INTERSECTS", 2, 2, |context, args| with_shapes(context, args, |_, a, b| Ok(a.intersects(b)?.into()))),
    pure("GEO_LINESTRING", 1, 1, |context, args| construct(context, "LineString", &args[0], 2)),
    pure("GEO_MULTILINESTRING", 1, 1, |context, args| construct(context, "MultiLineString", &args[0], 1)),
    pure("GEO_MULTIPOINT", 1, 1, |context, args| construct(context, "MultiPoint", &args[0], 2)),
    pure("GEO_MULTIPOLYGON", 1, 1, |context, args| construct(context, "MultiPolygon", &args[0], 1)),
    pure("GEO_POINT", 2, 2, |context, args| construct(context, "Point", &args.to_vec().into(), 2)),
    pure("GEO_POLYGON", 1, 1, |context, args| {
        // A single ring may come without an array around it.
        let single = coordinates(&args[0].element(0)).is_some();
        let rings = if single { vec![args[0].clone()].into() } else { args[0].clone() };
        construct(context, "Polygon", &rings, 1)
    }),
    pure("IS_IN_POLYGON", 2, 3, is_in_polygon),
    impure("NEAR", 3, 5, |context, args| {
        let limit = match args.get(3) {
            None | Some(Value::Null) => NEAR_LIMIT,
            Some(limit) => match limit.as_double() {
                Some(limit) if limit >= 0.0 => limit as usize,
                _ => return context.invalid_type(),
            },
        };
        let lookup = |numbers: &[f64]| Lookup::Near { place: [numbers[1], numbers[0]], limit };
        look_up(context, &args[0], &args[1..3], args.get(4), lookup)
    }),
    impure("WITHIN", 4, 5, |context, args| {
        let lookup = |numbers: &[f64]| Lookup::Within { place: [numbers[1], numbers[0]], meters: numbers[2] };
        look_up(context, &args[0], &args[1..4], args.get(4), lookup)
    }),
    impure("WITHIN_RECTANGLE", 5, 5, |context, args| {
        let lookup =
            |numbers: &[f64]| Lookup::Rectangle(Area::between([numbers[0], numbers[1]], [numbers[2], numbers[3]]));
        look_up(context, &args[0], &args[1..5], None, lookup)
    }),
];

/// Documents of a collection, with their distances under a name if one is given.
fn look_up(
    context: &mut Context<'_>,
    collection: &Value,
    numbers: &[Value],
    distance_name: Option<&Value>,
    lookup: impl FnOnce(&[f64]) -> Lookup,
) -> Called {
    let numbers: Option<Vec<f64>> = numbers.iter().map(Value::as_double).collect();
    let (Some(collection), Some(numbers)) = (collection.as_str(), numbers) else { return context.invalid_type() };
    let name = match distance_name {
        None | Some(Value::Null) => None,
        Some(name) => match name.as_str() {
            Some(name) => Some(name),
            None => return context.invalid_type(),
        },
    };
    let found = context.environment.look_up(collection, &lookup(&numbers))?;
    let with_distance = |(document, meters): (Value, f64)| match (name, &document) {
        (Some(name), Value::Object(object)) => {
            let members = object.iter().map(|(name, value)| (name.clone(), value.clone()));
            members.chain([(name.into(), Value::number(meters))]).collect::<Object>().into()
        }
        _ => document,
    };
    Ok(found.into_iter().map(with_distance).collect())
}

#[derive(Clone, Copy)]
enum Ellipsoid {
    Sphere,
    Wgs84,
}

fn ellipsoid(arg: Option<&Value>) -> Option<Ellipsoid> {
    match arg {
        None | Some(Value::Null) => Some(Ellipsoid::Sphere),
        Some(name) => match name.as_str()? {
            "sphere" => Some(Ellipsoid::Sphere),
            "wgs84" | "WGS84" => Some(Ellipsoid::Wgs84),
            _ => None,
        },
    }
}

fn with_shapes(
    context: &mut Context<'_>,
    args: &[Value],
    then: impl FnOnce(&mut Context<'_>, &Shape, &Shape) -> Called,
) -> Called {
    match (Shape::parse(&args[0]), Shape::parse(&args[1])) {
        (Some(a), Some(b)) => then(context, &a, &b),
        _ => context.warn_of(errors::QUERY_INVALID_GEO_VALUE),
    }
}

/// The angle between two points.
fn haversine(a: Degrees, b: Degrees) -> f64 {
    let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
    let square = half(a[1], b[1]) + a[1].to_radians().cos() * b[1].to_radians().cos() * half(a[0], b[0]);
    2.0 * square.sqrt().min(1.0).asin()
}

/// Between the centroids, in meters.
fn distance(a: &Shape, b: &Shape, ellipsoid: Ellipsoid) -> f64 {
    let (a, b) = (a.centroid(), b.centroid());
    match ellipsoid {
        Ellipsoid::Sphere => RADIUS_METERS * angle(&a, &b),
        Ellipsoid::Wgs84 => {
            let ([longitude, latitude], [other_longitude, other_latitude]) = (to_degrees(&a), to_degrees(&b));
            Geodesic::wgs84().inverse(latitude, longitude, other_latitude, other_longitude)
        }
    }
}

fn polygon_area_wgs84(polygon: &[Vec<shape::Point>]) -> f64 {
    let earth = Geodesic::wgs84();
    let mut rings = polygon.iter().map(|ring| {
        let mut area = PolygonArea::new(&earth, Winding::CounterClockwise);
        for [longitude, latitude] in ring.iter().map(to_degrees) {
            area.add_point(latitude, longitude);
        }
        area.compute(true).1.abs()
    });
    rings.next().unwrap_or(0.0) - rings.sum::<f64>()
}

/// A GeoJSON object, if its coordinates are valid and there are enough of them.
fn construct(context: &mut Context<'_>, kind: &str, coordinates: &Value, least: usize) -> Called {
    let object = Value::object([("type", kind.into()), ("coordinates", coordinates.clone())]);
    if coordinates.as_array().is_none_or(|elements| elements.len() < least) || Shape::parse(&object).is_none() {
        return context.warn_of(errors::QUERY_INVALID_GEO_VALUE);
    }
    Ok(object)
}

/// `polygon, latitude, longitude` or `polygon, coordinates, whether longitudes come first`
fn is_in_polygon(context: &mut Context<'_>, args: &[Value]) -> Called {
    let swapped = |pair: &Value| Value::from(vec![pair.element(1), pair.element(0)]);
    let (point, longitude_first) = match &args[1..] {
        [latitude, longitude] if latitude.is_number() && longitude.is_number() => {
            (vec![longitude.clone(), latitude.clone()].into(), false)
        }
        [pair @ Value::Array(_)] => (swapped(pair), false),
        [pair @ Value::Array(_), flag] if flag.truthy() => (pair.clone(), true),
        [pair @ Value::Array(_), _] => (swapped(pair), false),
        _ => return context.invalid_type(),
    };
    let Some(corners) = args[0].as_array() else { return context.invalid_type() };
    let outline = if longitude_first { args[0].clone() } else { corners.iter().map(swapped).collect() };
    match (ring(&outline), coordinates(&point)) {
        (Some(ring), Some(point)) => Ok(inside(&[ring], &from_degrees(point)).into()),
        _ => context.invalid_type(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A house, a paving stone, and a triangle that is all on one meridian: its middle was on the Earth's other side.
    #[test]
    fn what_is_small_or_thin_has_its_middle_where_it_is() {
        let of = |ring: &str| {
            let text = format!(r#"{{"type":"Polygon","coordinates":[{ring}]}}"#);
            Shape::parse(&Value::parse_stored(&text)).expect("a polygon")
        };
        let away = |shape: &Shape, place| RADIUS_METERS * angle(&shape.centroid(), &from_degrees(place));
        let house = of("[[13.4,52.5],[13.4001,52.5],[13.4001,52.5001],[13.4,52.5001]]");
        assert!(away(&house, [13.40005, 52.50005]) < 0.01);
        let stone = of("[[0,0],[0.00001,0],[0.00001,0.00001],[0,0.00001]]");
        let square_meters = stone.area() * RADIUS_METERS * RADIUS_METERS;
        assert!((square_meters - 1.2364).abs() < 0.001, "{square_meters}");
        let thin = of("[[180,89],[157,90],[180,89.3]]");
        assert!(away(&thin, [180.0, 89.5]) < 60e3);
    }

    crate::aql::testing::table! {
        "DISTANCE(52.5163, 13.3777, 50.9322, 6.94)" => "476918.89688380965",
        "DISTANCE(52, 13, 50, 361)" => "null" 1505,
        "DISTANCE(\"a\", 13, 50, 0)" => "null" 1542,
        "GEO_POINT(1.0, 2.0)" => r#"{"type":"Point","coordinates":[1,2]}"#,
        "GEO_POINT(181, 2.0)" => "null" 1505,
        "GEO_LINESTRING([[35,10],[45,45]])" => r#"{"type":"LineString","coordinates":[[35,10],[45,45]]}"#,
        "GEO_LINESTRING([[35,10]])" => "null" 1505,
        "GEO_MULTIPOINT([[35,10],[45,45]])" => r#"{"type":"MultiPoint","coordinates":[[35,10],[45,45]]}"#,
        "GEO_MULTILINESTRING([[[100,0],[101,1]],[[102,2],[101,2.3]]])" =>
            r#"{"type":"MultiLineString","coordinates":[[[100,0],[101,1]],[[102,2],[101,2.3]]]}"#,
        "GEO_POLYGON([[0,0],[7.5,2.5],[0,5]])" => r#"{"type":"Polygon","coordinates":[[[0,0],[7.5,2.5],[0,5]]]}"#,
        "GEO_POLYGON([[[35,10],[45,45],[15,40],[10,20],[35,10]],[[20,30],[30,20],[35,35],[20,30]]])" =>
            r#"{"type":"Polygon","coordinates":[[[35,10],[45,45],[15,40],[10,20],[35,10]],[[20,30],[30,20],[35,35],[20,30]]]}"#,
        "GEO_POLYGON([[0,0],[7.5,2.5]])" => "null" 1505,
        "GEO_MULTIPOLYGON([[[[40,40],[20,45],[45,30],[40,40]]]])" =>
            r#"{"type":"MultiPolygon","coordinates":[[[[40,40],[20,45],[45,30],[40,40]]]]}"#,
        "GEO_DISTANCE([0,0], [0,90])" => "10007543.398010286",
        "GEO_DISTANCE([0,0], [0,1], \"wgs84\")" => "110574.38855779878",
        r#"GEO_DISTANCE([1,1], {"type":"Polygon","coordinates":[[[0,0],[2,0],[2,2],[0,2],[0,0]]]}, "milk")"# => "null" 1542,
        "GEO_DISTANCE([1], [0,1])" => "null" 1505,
        "GEO_IN_RANGE([0,0], [0,1], 100000, 120000)" => "true",
        "GEO_IN_RANGE([0,0], [0,1], 0, 1)" => "false",
        r#"GEO_AREA({"type":"Point","coordinates":[1,1]})"# => "0",
        r#"GEO_AREA({"type":"Polygon","coordinates":[[[0,0],[90,0],[0,90],[0,0]]]})"# => "63758058988723.53",
        r#"GEO_CONTAINS({"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10],[0,10],[0,0]]]}, [5,5])"# => "true",
        r#"GEO_CONTAINS({"type":"Polygon","coordinates":[[[0,0],[0,10],[10,10],[10,0],[0,0]]]}, [5,5])"# => "true",
        r#"GEO_CONTAINS({"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10],[0,10],[0,0]]]}, [-175,-5])"# => "false",
        r#"GEO_CONTAINS({"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10],[0,10]],[[4,4],[6,4],[6,6],[4,6]]]}, [5,5])"# => "false",
        r#"GEO_CONTAINS({"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10],[0,10]]]}, {"type":"Polygon","coordinates":[[[1,1],[2,1],[2,2]]]})"# => "true",
        r#"GEO_CONTAINS({"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10],[0,10]]]}, {"type":"LineString","coordinates":[[1,1],[12,1]]})"# => "false",
        "GEO_CONTAINS([0,0], [0,0])" => "null" 1505,
        r#"GEO_INTERSECTS({"type":"LineString","coordinates":[[0,0],[10,10]]}, {"type":"LineString","coordinates":[[0,10],[10,0]]})"# => "true",
        r#"GEO_INTERSECTS({"type":"LineString","coordinates":[[0,0],[10,10]]}, {"type":"LineString","coordinates":[[20,10],[30,0]]})"# => "false",
        r#"GEO_INTERSECTS({"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10],[0,10]]]}, {"type":"Polygon","coordinates":[[[5,5],[15,5],[15,15]]]})"# => "true",
        r#"GEO_EQUALS({"type":"Polygon","coordinates":[[[0,0],[7,2],[0,5],[0,0]]]}, {"type":"Polygon","coordinates":[[[7,2],[0,5],[0,0],[7,2]]]})"# => "true",
        r#"GEO_EQUALS({"type":"Polygon","coordinates":[[[0,0],[7,2],[0,5],[0,0]]]}, {"type":"Polygon","coordinates":[[[7,3],[0,5],[0,0],[7,3]]]})"# => "false",
        "IS_IN_POLYGON([[0,0],[0,10],[10,10],[10,0]], 4, 7)" => "true",
        "IS_IN_POLYGON([[0,0],[0,10],[10,10],[10,0]], [4,7])" => "true",
        "IS_IN_POLYGON([[0,0],[10,0],[10,10],[0,10]], [7,4], true)" => "true",
        "IS_IN_POLYGON([[0,0],[10,0],[10,10],[0,10]], [17,4], true)" => "false",
        "IS_IN_POLYGON([[0,0],[10,0]], [17,4], true)" => "null" 1542,
        r#"NEAR("c", 1, 2)"# => r#"["Near { place: [2.0, 1.0], limit: 100 }"]"#,
        r#"NEAR("c", 1, 2, 3, "d")"# => r#"["Near { place: [2.0, 1.0], limit: 3 }"]"#,
        r#"NEAR("c", 1, "x")"# => "null" 1542,
        r#"NEAR("d", 1, 2)"# => "error 1203",
        r#"WITHIN("c", 1, 2, 3)"# => r#"["Within { place: [2.0, 1.0], meters: 3.0 }"]"#,
        r#"WITHIN_RECTANGLE("c", 1, 170, 3, -170)"# =>
            r#"["Rectangle(Area { west: 170.0, east: 190.0, south: 1.0, north: 3.0 })"]"#,
    }
}
