//! Where documents are: cells of a grid, in the order of a curve that fills it.
//!
//! A grid of level `n` has `2^n` columns of longitude and `2^n` rows of latitude; each cell of one level has four of
//! the next. A cell's number is that of its first cell at [`LEVEL_MAX`], in Morton's order, so that the cells within it
//! are a range of numbers. An entry is the number and the level of a cell: a point has one, at the highest level; any
//! other shape those that a box around it touches, of the level at which that is a few.
//!
//! What a document has here must come out the same on every machine, now and later, when it is removed again. So boxes
//! around shapes are made of additions and comparisons only, generously: a box holds the whole shape, its edges, which
//! are great circles, and its centroid, unless it is a polygon that crosses itself. Whoever looks something up holds
//! what he finds against the shape itself.

use super::Index;
use super::encoding::encode;
use super::scan::IndexRange;
use crate::aql::functions::geo::shape::{Degrees, Shape, coordinates};
use crate::aql::value::Value;
use std::collections::BTreeSet;
use std::ops::Bound;

pub const LEVEL_MAX: u32 = 30;

/// Columns and rows of cells that a lookup splits its box into, at most.
const SPLITS: u32 = 8;

/// Longitudes from west to east, and latitudes. It may reach beyond 180 degrees on either side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    pub west: f64,
    pub east: f64,
    pub south: f64,
    pub north: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Of its first cell at the highest level.
    pub number: u64,
    pub level: u32,
}

impl Cell {
    fn at(column: u32, row: u32, level: u32) -> Cell {
        let shift = LEVEL_MAX - level;
        Cell { number: interleaved(column << shift) | interleaved(row << shift) << 1, level }
    }

    /// The number after those of the cells within it.
    pub fn end(self) -> u64 {
        self.number + (1 << (2 * (LEVEL_MAX - self.level)))
    }

    /// The cells that it is in.
    pub fn above(self) -> impl Iterator<Item = Cell> {
        (0..self.level).map(move |level| Cell { number: self.number & !0 << (2 * (LEVEL_MAX - level)), level })
    }

    pub fn values(self) -> [Value; 2] {
        [Value::Int(self.number as i64), Value::Int(self.level.into())]
    }
}

/// With a zero before each bit.
fn interleaved(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Where something lies between two ends, as a column or row of the highest level.
fn place(value: f64, from: f64, to: f64) -> u32 {
    let cells = f64::from(1u32 << LEVEL_MAX);
    ((value - from) / (to - from) * cells).clamp(0.0, cells - 1.0) as u32
}

fn column(longitude: f64) -> u32 {
    place(longitude, -180.0, 180.0)
}

fn row(latitude: f64) -> u32 {
    place(latitude, -90.0, 90.0)
}

impl Area {
    /// Between two corners, latitude first in each; eastward from the first to the second.
    pub fn between([latitude, longitude]: [f64; 2], [other_latitude, other_longitude]: [f64; 2]) -> Area {
        let east = if other_longitude < longitude { other_longitude + 360.0 } else { other_longitude };
        let (south, north) = (latitude.min(other_latitude), latitude.max(other_latitude));
        Area { west: longitude, east, south, north }
    }

    pub const WORLD: Area = Area { west: -180.0, east: 180.0, south: -90.0, north: 90.0 };

    /// The cells that it touches, of a level at which they are at most so many columns and rows.
    fn cells(self, most: u32) -> Vec<Cell> {
        if self.east - self.west >= 360.0 {
            return part(-180.0, 180.0, self, most);
        }
        // What reaches beyond the end comes in again on the other side.
        match () {
            () if self.west < -180.0 => {
                [part(self.west + 360.0, 180.0, self, most), part(-180.0, self.east, self, most)].concat()
            }
            () if self.east > 180.0 => {
                [part(self.west, 180.0, self, most), part(-180.0, self.east - 360.0, self, most)].concat()
            }
            () => part(self.west, self.east, self, most),
        }
    }

    /// All that is within an angle of a place.
    pub fn around([longitude, latitude]: Degrees, angle: f64) -> Area {
        const MARGIN: f64 = 1e-6;
        let reach = angle.max(0.0).to_degrees() + MARGIN;
        let (south, north) = (latitude - reach, latitude + reach);
        if !(south > -90.0 && north < 90.0) {
            return Area { south: south.max(-90.0), north: north.min(90.0), ..Area::WORLD };
        }
        // Where a meridian touches the circle.
        let aside = (angle.sin() / latitude.to_radians().cos()).clamp(-1.0, 1.0).asin().to_degrees().abs() + MARGIN;
        Area { west: longitude - aside, east: longitude + aside, south, north }
    }

    /// Around a GeoJSON object or a pair of coordinates; `None` if it is neither.
    pub fn of(shape: &Value) -> Option<Area> {
        // Points that count as one may lie on two sides of an edge.
        const MARGIN: f64 = 1e-9;
        let Area { west, east, south, north } = around(&vertices(shape)?);
        let area = Area { west: west - MARGIN, east: east + MARGIN, south: south - MARGIN, north: north + MARGIN };
        // At a pole all longitudes are one.
        let at_pole = area.south <= -90.0 || area.north >= 90.0;
        Some(if at_pole { Area { west: Area::WORLD.west, east: Area::WORLD.east, ..area } } else { area })
    }

    /// Where an index has the documents that may be in it; `shapes`: it may have others than points.
    pub fn ranges(self, shapes: bool) -> Vec<IndexRange> {
        let cells = self.covering();
        let within = |cell: &Cell| IndexRange {
            from: Bound::Included(Value::Int(cell.number as i64)),
            to: Bound::Excluded(Value::Int(cell.end() as i64)),
            ..IndexRange::default()
        };
        // Those that begin before a cell and reach into it.
        let above: BTreeSet<Cell> = cells.iter().filter(|_| shapes).flat_map(|cell| cell.above()).collect();
        cells.iter().map(within).chain(above.iter().map(|cell| IndexRange::equal(cell.values()))).collect()
    }

    /// The cells that a lookup within it goes through.
    fn covering(self) -> Vec<Cell> {
        let mut cells = self.cells(SPLITS);
        cells.sort_unstable();
        cells.dedup();
        cells
    }
}

fn part(west: f64, east: f64, area: Area, most: u32) -> Vec<Cell> {
    let (columns, rows) = ([column(west), column(east)], [row(area.south), row(area.north)]);
    let fits = |level: &u32| {
        let across = |[from, to]: [u32; 2]| (to >> (LEVEL_MAX - level)) - (from >> (LEVEL_MAX - level));
        across(columns) < most && across(rows) < most
    };
    let level = (0..=LEVEL_MAX).rev().find(fits).unwrap_or(0);
    let shift = LEVEL_MAX - level;
    let in_row = |row| (columns[0] >> shift..=columns[1] >> shift).map(move |column| Cell::at(column, row, level));
    (rows[0] >> shift..=rows[1] >> shift).flat_map(in_row).collect()
}

/// Around all of a shape, its edges and its centroid; the world if it spans half of it, for the way between two poles
/// is along any meridian.
fn around(vertices: &[Degrees]) -> Area {
    let first = vertices[0];
    let mut area = Area { west: first[0], east: first[0], south: first[1], north: first[1] };
    for [longitude, latitude] in vertices {
        // The shorter way round from the first vertex.
        let mut longitude = *longitude;
        if longitude - first[0] > 180.0 {
            longitude -= 360.0;
        } else if longitude - first[0] < -180.0 {
            longitude += 360.0;
        }
        area.west = area.west.min(longitude);
        area.east = area.east.max(longitude);
        area.south = area.south.min(*latitude);
        area.north = area.north.max(*latitude);
    }
    let (width, height) = (area.east - area.west, area.north - area.south);
    if width >= 179.0 || height >= 179.0 {
        return Area::WORLD;
    }
    // No point of a great circle between two vertices is further from the nearer one than half their distance.
    let bulge = if vertices.len() > 1 { (width + height) / 2.0 + 1e-6 } else { 0.0 };
    area.south = (area.south - bulge).max(-90.0);
    area.north = (area.north + bulge).min(90.0);
    if vertices.len() > 1 {
        area.west -= 1e-6;
        area.east += 1e-6;
    }
    area
}

// ---- what a document has --------------------------------------------------------------------------------------------

/// Longitude and latitude, or a GeoJSON object, as an index over these fields takes them.
fn indexed_value(index: &Index, field: impl Fn(&str) -> Value) -> Value {
    let pair = |latitude: Value, longitude: Value| Value::from(vec![longitude, latitude]);
    match &index.fields[..] {
        [latitude, longitude] => pair(field(latitude), field(longitude)),
        [only] if is_geo_json(index) => field(only),
        [only] => match field(only) {
            found @ Value::Array(_) => pair(found.element(0), found.element(1)),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

fn is_geo_json(index: &Index) -> bool {
    index.properties.get("geoJson").and_then(serde_json::Value::as_bool).unwrap_or(false)
}

/// Whether documents may have other shapes in it than points.
pub fn has_shapes(index: &Index) -> bool {
    index.fields.len() == 1 && is_geo_json(index)
}

/// The shape of a document.
pub fn shape(index: &Index, field: impl Fn(&str) -> Value) -> Option<Shape> {
    Shape::parse(&indexed_value(index, field))
}

/// The cells of a document, as encoded values.
pub fn entries(index: &Index, field: impl Fn(&str) -> Value) -> Vec<Vec<u8>> {
    let encoded = |cell: Cell| {
        let mut bytes = Vec::new();
        cell.values().iter().for_each(|value| encode(value, &mut bytes));
        bytes
    };
    let value = indexed_value(index, field);
    let cells: BTreeSet<Cell> = match vertices(&value) {
        None => return Vec::new(),
        Some(vertices) if vertices.len() == 1 => {
            BTreeSet::from([Cell::at(column(vertices[0][0]), row(vertices[0][1]), LEVEL_MAX)])
        }
        Some(vertices) => around(&vertices).cells(2).into_iter().collect(),
    };
    cells.into_iter().map(encoded).collect()
}

/// All vertices of a shape; `None` if it is none.
fn vertices(value: &Value) -> Option<Vec<Degrees>> {
    let Some(object) = value.as_object() else { return Some(vec![coordinates(value)?]) };
    let depth = match object.get("type")?.as_str()?.to_ascii_lowercase().as_str() {
        "point" => 0,
        "multipoint" | "linestring" => 1,
        "multilinestring" | "polygon" => 2,
        "multipolygon" => 3,
        _ => return None,
    };
    let mut all = Vec::new();
    collect(object.get("coordinates")?, depth, &mut all)?;
    (!all.is_empty()).then_some(all)
}

fn collect(value: &Value, depth: u32, all: &mut Vec<Degrees>) -> Option<()> {
    if depth == 0 {
        all.push(coordinates(value)?);
        return Some(());
    }
    value.as_array()?.iter().try_for_each(|element| collect(element, depth - 1, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_in_one_another() {
        let point = Cell::at(column(13.4), row(52.5), LEVEL_MAX);
        for above in point.above() {
            assert!((above.number..above.end()).contains(&point.number), "{above:?}");
            assert!(above.level > 5 || Area::WORLD.cells(1 << above.level).contains(&above));
        }
        assert_eq!(Cell { number: 0, level: 0 }.end(), 1 << 60);
        assert_eq!(Area::WORLD.cells(2).len(), 4);
    }

    #[test]
    fn boxes_hold_their_shapes() {
        let of = |json: &str| vertices(&Value::parse(json.as_bytes()).unwrap()).map(|vertices| around(&vertices));
        assert_eq!(of("[181,0]"), None);
        assert_eq!(of(r#"{"type":"Circle","coordinates":[0,0]}"#), None);
        let line = of(r#"{"type":"LineString","coordinates":[[-40,60],[40,60]]}"#).unwrap();
        assert!(line.north > 66.0, "a great circle goes further north");
        let pacific = of(r#"{"type":"LineString","coordinates":[[170,0],[-170,1]]}"#).unwrap();
        assert!(pacific.west < 170.0 && (190.0..191.0).contains(&pacific.east), "{pacific:?}");
        let pole = of(r#"{"type":"Polygon","coordinates":[[[0,80],[120,80],[-120,80],[0,80]]]}"#).unwrap();
        assert_eq!(pole, Area::WORLD);
    }
}
