//! GeoJSON as shapes on a sphere.
//!
//! Points are unit vectors, edges are great circles. A ring encloses the smaller of the two areas that it divides the
//! sphere into, whichever way it runs; what lies exactly on an edge may count as inside or not.

use crate::aql::value::Value;
use crate::errors::{self, Error};
use std::f64::consts::PI;

/// Pairs of edges that one call compares.
const PAIRS_MAX: usize = 16 << 20;
/// Below this angle (in radians; some micrometres on Earth) points are one.
const SAME: f64 = 1e-12;
/// A polygon with less area for each radian of its edges (some centimetres on Earth) is as good as a line.
const THIN: f64 = 1e-8;

pub type Point = [f64; 3];

/// Longitude and latitude in degrees.
pub type Degrees = [f64; 2];

#[derive(Clone, Debug, Default)]
pub struct Shape {
    pub points: Vec<Point>,
    pub lines: Vec<Vec<Point>>,
    /// The outer ring, then its holes; none of them closed by its first point once more.
    pub polygons: Vec<Vec<Vec<Point>>>,
}

pub fn dot(a: &Point, b: &Point) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: &Point, b: &Point) -> Point {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn add(a: &Point, b: &Point) -> Point {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

fn minus(a: &Point, b: &Point) -> Point {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn scale(a: &Point, factor: f64) -> Point {
    a.map(|part| part * factor)
}

fn norm(a: &Point) -> f64 {
    dot(a, a).sqrt()
}

/// The angle between two directions.
pub fn angle(a: &Point, b: &Point) -> f64 {
    norm(&cross(a, b)).atan2(dot(a, b))
}

pub fn from_degrees([longitude, latitude]: Degrees) -> Point {
    let (longitude, latitude) = (longitude.to_radians(), latitude.to_radians());
    [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
}

pub fn to_degrees(point: &Point) -> Degrees {
    [point[1].atan2(point[0]).to_degrees(), point[2].atan2(point[0].hypot(point[1])).to_degrees()]
}

/// `[longitude, latitude]`
pub fn coordinates(value: &Value) -> Option<Degrees> {
    let [longitude, latitude, ..] = value.as_array()? else { return None };
    let (longitude, latitude) = (longitude.as_double()?, latitude.as_double()?);
    (longitude.abs() <= 180.0 && latitude.abs() <= 90.0).then_some([longitude, latitude])
}

fn points(value: &Value, least: usize) -> Option<Vec<Point>> {
    let points: Option<Vec<Point>> =
        value.as_array()?.iter().map(|point| coordinates(point).map(from_degrees)).collect();
    points.filter(|points| points.len() >= least)
}

/// A ring that runs counterclockwise around the smaller area.
pub fn ring(value: &Value) -> Option<Vec<Point>> {
    let mut ring = points(value, 3)?;
    ring.dedup_by(|a, b| angle(a, b) < SAME);
    while ring.len() > 1 && angle(&ring[0], &ring[ring.len() - 1]) < SAME {
        ring.pop();
    }
    if signed_area(&ring) < 0.0 {
        ring.reverse();
    }
    (ring.len() >= 3).then_some(ring)
}

fn list<T>(value: &Value, element: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    let list: Option<Vec<T>> = value.as_array()?.iter().map(element).collect();
    list.filter(|list| !list.is_empty())
}

impl Shape {
    /// From a GeoJSON object or a pair of coordinates.
    pub fn parse(value: &Value) -> Option<Shape> {
        let Some(object) = value.as_object() else {
            return Some(Shape { points: vec![from_degrees(coordinates(value)?)], ..Shape::default() });
        };
        let coordinates = object.get("coordinates")?;
        let mut shape = Shape::default();
        match object.get("type")?.as_str()?.to_ascii_lowercase().as_str() {
            "point" => shape.points.push(from_degrees(self::coordinates(coordinates)?)),
            "multipoint" => shape.points = points(coordinates, 1)?,
            "linestring" => shape.lines.push(points(coordinates, 2)?),
            "multilinestring" => shape.lines = list(coordinates, |line| points(line, 2))?,
            "polygon" => shape.polygons.push(list(coordinates, ring)?),
            "multipolygon" => shape.polygons = list(coordinates, |polygon| list(polygon, ring))?,
            _ => return None,
        }
        Some(shape)
    }

    /// The one of polygons, of lines or of points, whichever there is.
    pub fn centroid(&self) -> Point {
        let mut sum = [0.0; 3];
        let mut outline = 0.0;
        for polygon in &self.polygons {
            for (place, ring) in polygon.iter().enumerate() {
                sum = add(&sum, &scale(&moment(ring), if place == 0 { 0.5 } else { -0.5 }));
                outline += length(ring, true);
            }
        }
        if norm(&sum) <= THIN * outline {
            // No area to speak of: nothing but rounding would say where its middle is, so its edges do.
            sum =
                self.polygons.iter().flatten().map(|ring| weight(ring, true)).fold([0.0; 3], |sum, of| add(&sum, &of));
        }
        sum = self.lines.iter().fold(sum, |sum, line| add(&sum, &weight(line, false)));
        sum = self.points.iter().fold(sum, |sum, point| add(&sum, point));
        let length = norm(&sum);
        if length > 0.0 {
            scale(&sum, 1.0 / length)
        } else {
            self.vertices().next().copied().unwrap_or([1.0, 0.0, 0.0])
        }
    }

    /// On the unit sphere.
    pub fn area(&self) -> f64 {
        let of = |polygon: &Vec<Vec<Point>>| {
            let mut rings = polygon.iter().map(|ring| signed_area(ring).abs());
            rings.next().unwrap_or(0.0) - rings.sum::<f64>()
        };
        self.polygons.iter().map(of).sum()
    }

    fn vertices(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().chain(self.lines.iter().flatten()).chain(self.polygons.iter().flatten().flatten())
    }

    fn edges(&self) -> Vec<(&Point, &Point)> {
        let lines = self.lines.iter().flat_map(|line| edges(line, false));
        lines.chain(self.polygons.iter().flatten().flat_map(|ring| edges(ring, true))).collect()
    }

    /// Its parts, of which each is one point, one line or one polygon.
    fn parts(&self) -> Vec<Shape> {
        let points = self.points.iter().map(|point| Shape { points: vec![*point], ..Shape::default() });
        let lines = self.lines.iter().map(|line| Shape { lines: vec![line.clone()], ..Shape::default() });
        let polygons =
            self.polygons.iter().map(|polygon| Shape { polygons: vec![polygon.clone()], ..Shape::default() });
        points.chain(lines).chain(polygons).collect()
    }

    /// Whether all of the other shape is within the polygons of this one, each of its parts in one of them.
    pub fn contains(&self, other: &Shape) -> Result<bool, Error> {
        check_pairs(self, other)?;
        let within = |part: &Shape, polygon: &Vec<Vec<Point>>| {
            let outline = Shape { polygons: vec![polygon.clone()], ..Shape::default() };
            let mut inside = part.vertices().all(|point| {
                inside(polygon, point)
                    || (part.points.is_empty() && outline.vertices().any(|vertex| angle(vertex, point) < SAME))
            });
            inside = inside && !part.edges().iter().any(|a| outline.edges().iter().any(|b| edges_cross(*a, *b)));
            // A hole within the part would leave something out.
            inside && !part.polygons.iter().any(|part| polygon[1..].iter().any(|hole| self::inside(part, &hole[0])))
        };
        Ok(other.parts().iter().all(|part| self.polygons.iter().any(|polygon| within(part, polygon))))
    }

    pub fn intersects(&self, other: &Shape) -> Result<bool, Error> {
        check_pairs(self, other)?;
        let holds = |shape: &Shape, point: &Point| shape.polygons.iter().any(|polygon| inside(polygon, point));
        let meets = self.vertices().any(|a| other.vertices().any(|b| angle(a, b) < SAME));
        let (ours, theirs) = (self.edges(), other.edges());
        Ok(meets
            || other.vertices().any(|point| holds(self, point))
            || self.vertices().any(|point| holds(other, point))
            || ours.iter().any(|a| theirs.iter().any(|b| edges_cross(*a, *b)))
            || self.points.iter().any(|point| theirs.iter().any(|edge| on_edge(point, *edge)))
            || other.points.iter().any(|point| ours.iter().any(|edge| on_edge(point, *edge))))
    }

    /// The same points, lines and rings in the same order; a ring may begin anywhere.
    pub fn equals(&self, other: &Shape) -> bool {
        let same = |a: &[Point], b: &[Point]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| angle(a, b) < SAME);
        let same_ring = |a: &[Point], b: &[Point]| {
            let starts = b.iter().enumerate().filter(|(_, point)| angle(point, &a[0]) < SAME);
            a.len() == b.len()
                && starts.map(|(start, _)| start).any(|start| same(a, &[&b[start..], &b[..start]].concat()))
        };
        same(&self.points, &other.points)
            && self.lines.len() == other.lines.len()
            && self.lines.iter().zip(&other.lines).all(|(a, b)| same(a, b))
            && self.polygons.len() == other.polygons.len()
            && self
                .polygons
                .iter()
                .zip(&other.polygons)
                .all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_ring(a, b)))
    }
}

fn check_pairs(a: &Shape, b: &Shape) -> Result<(), Error> {
    if a.vertices().count().saturating_mul(b.vertices().count()) > PAIRS_MAX {
        return Err(errors::RESOURCE_LIMIT.because("shapes have too many points to be compared"));
    }
    Ok(())
}

fn edges(points: &[Point], closed: bool) -> impl Iterator<Item = (&Point, &Point)> {
    let next = points.iter().cycle().skip(1);
    points.iter().zip(next).take(if closed { points.len() } else { points.len().saturating_sub(1) })
}

/// Of all edges together, in radians.
fn length(points: &[Point], closed: bool) -> f64 {
    edges(points, closed).map(|(a, b)| angle(a, b)).sum()
}

/// The middles of the edges, each as heavy as its edge is long.
fn weight(points: &[Point], closed: bool) -> Point {
    edges(points, closed).fold([0.0; 3], |sum, (a, b)| add(&sum, &scale(&add(a, b), angle(a, b))))
}

/// Twice the integral of the position over the area that a ring encloses: by Stokes, for each edge its normal, as long
/// as the edge. Told from the first vertex, so that what is small keeps its digits: the edges of a house add up to
/// nothing in all but the last of them.
fn moment(ring: &[Point]) -> Point {
    let Some(first) = ring.first() else { return [0.0; 3] };
    let (mut near, mut bent) = ([0.0; 3], [0.0; 3]);
    for (a, b) in edges(ring, true) {
        let (step, angle) = (minus(b, a), angle(a, b));
        let sine = norm(&cross(a, b));
        // By how much an edge is longer than the sine of its angle.
        let longer = match angle {
            angle if angle < 1e-3 => angle * angle / 6.0,
            _ if sine > 0.0 => angle / sine - 1.0,
            _ => 0.0,
        };
        near = add(&near, &scale(&cross(&minus(a, first), &step), 1.0 + longer));
        bent = add(&bent, &scale(&step, longer));
    }
    add(&near, &cross(first, &bent))
}

/// Of the smaller side; positive if the ring runs counterclockwise around it.
fn signed_area(ring: &[Point]) -> f64 {
    let Some((first, rest)) = ring.split_first() else { return 0.0 };
    let triangle = |pair: &[Point]| {
        let (b, c) = (&pair[0], &pair[1]);
        2.0 * dot(first, &cross(&minus(b, first), &minus(c, first)))
            .atan2(1.0 + dot(first, b) + dot(b, c) + dot(c, first))
    };
    let area = rest.windows(2).map(triangle).sum::<f64>() % (4.0 * PI);
    if area > 2.0 * PI {
        area - 4.0 * PI
    } else if area < -2.0 * PI {
        area + 4.0 * PI
    } else {
        area
    }
}

/// Whether the ring, as seen from the point, runs around it counterclockwise.
fn inside_ring(ring: &[Point], point: &Point) -> bool {
    let turned = |(a, b): (&Point, &Point)| {
        let (a, b) = (cross(point, a), cross(point, b));
        dot(point, &cross(&a, &b)).atan2(dot(&a, &b))
    };
    edges(ring, true).map(turned).sum::<f64>() > PI
}

/// Within the outer ring, and in none of the holes.
pub fn inside(polygon: &[Vec<Point>], point: &Point) -> bool {
    let mut rings = polygon.iter().map(|ring| inside_ring(ring, point));
    rings.next().unwrap_or(false) && !rings.any(|inside| inside)
}

/// In a point that is an end of neither.
fn edges_cross((a, b): (&Point, &Point), (c, d): (&Point, &Point)) -> bool {
    let (first, second) = (cross(a, b), cross(c, d));
    let apart = |normal: &Point, p: &Point, q: &Point| dot(normal, p) * dot(normal, q) < 0.0;
    apart(&first, c, d) && apart(&second, a, b) && {
        let meeting = cross(&first, &second);
        dot(&meeting, &add(a, b)) * dot(&meeting, &add(c, d)) > 0.0
    }
}

fn on_edge(point: &Point, (a, b): (&Point, &Point)) -> bool {
    (angle(a, point) + angle(point, b) - angle(a, b)).abs() < SAME
}
