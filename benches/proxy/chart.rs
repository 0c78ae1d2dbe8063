//! The chart of a run beside peers: for each load, what each proxy takes against the gateway.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Row, Table};
use crate::stats::{interval, median};

const WIDTH: u32 = 1010;
const ROW: i32 = 20;
const TITLE: i32 = 30;
const GAP: i32 = 10;
/// Where bars begin, and what one × is wide.
const LEFT: i32 = 330;
const UNIT: f64 = 200.0;
/// Longer bars are cut.
const MOST: f64 = 2.6;
/// Where numbers begin.
const VALUES: i32 = 866;

/// Writes it as SVG; all are compared with the case `ours`.
pub fn draw(tables: &[Table], ours: &str, path: &Path) -> Result<()> {
    let rows = tables.iter().map(|table| table.rows.len() as i32).sum::<i32>();
    let height = 60 + tables.len() as i32 * (TITLE + GAP) + rows * ROW;
    let area = SVGBackend::new(path, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    let drawn = || -> Result<(), DrawingAreaErrorKind<_>> {
        area.fill(&WHITE)?;
        let head = ("sans-serif", 19).into_font().into_text_style(&area).color(&INK);
        let text = format!("CPU time of the proxy per request, {ours} = 1: less is better");
        area.draw_text(&text, &head, (10, 12))?;
        let mut top = 40;
        for table in tables {
            top = draw_table(&area, table, ours, top)? + GAP;
        }
        area.present()
    };
    drawn().map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Where it ends.
fn draw_table<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    table: &Table,
    ours: &str,
    top: i32,
) -> Result<i32, DrawingAreaErrorKind<B::ErrorType>> {
    let title = ("sans-serif", 17).into_font().style(FontStyle::Bold).into_text_style(area).color(&INK);
    let text = ("sans-serif", 15).into_font().into_text_style(area).color(&INK);
    let right = text.pos(Pos::new(HPos::Right, VPos::Top));
    area.draw_text(&table.title, &title, (10, top + 6))?;
    let mut y = top + TITLE;
    for row in &table.rows {
        let ratios = table.ratios(row, ours);
        let (ratio, (low, high)) = (median(&ratios), interval(&ratios));
        let at = |ratio: f64| LEFT + (ratio.min(MOST) * UNIT) as i32;
        area.draw_text(row.name, &right, (LEFT - 8, y + 2))?;
        area.draw(&Rectangle::new([(LEFT, y + 2), (at(ratio), y + ROW - 3)], colour(row, ours).filled()))?;
        let middle = y + ROW / 2;
        area.draw(&PathElement::new([(at(low), middle), (at(high), middle)], INK.stroke_width(2)))?;
        let cpu = median(&row.values(|sample| sample.cpu_us));
        area.draw_text(&format!("{ratio:.2} ×, {cpu:.1} µs"), &text, (VALUES, y + 2))?;
        y += ROW;
    }
    let one = LEFT + UNIT as i32;
    area.draw(&PathElement::new([(one, top + TITLE), (one, y)], INK.stroke_width(1)))?;
    Ok(y)
}

const INK: RGBColor = RGBColor(40, 40, 48);

fn colour(row: &Row, ours: &str) -> RGBColor {
    if row.name.starts_with(ours) {
        RGBColor(42, 111, 187)
    } else if row.name.starts_with("bare") {
        RGBColor(205, 209, 216)
    } else {
        RGBColor(150, 160, 175)
    }
}
