//! Miss ratio against memory, a panel for each workload, as SVG.
//!
//! Always true: all panels share the colours and the shares of memory; each has its own scale of miss ratios, from what
//! a store without limit misses.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Section, fraction};

const PANEL: (i32, i32) = (330, 250);
const COLUMNS: usize = 4;
const LEGEND_HEIGHT: i32 = 44;

/// Colours that stay apart for colour-blind eyes (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

type Failure = Box<dyn std::error::Error>;

/// Draws the sections that have points to connect.
pub fn draw(
    path: &Path,
    title: &str,
    sections: &[&Section],
    policies: &[&str],
) -> Result<(), Failure> {
    // A panel without points has no axes, and plotters looks for their marks without end.
    let sections: Vec<&Section> = sections
        .iter()
        .copied()
        .filter(|section| section.rows.len() > 1)
        .collect();
    if sections.is_empty() {
        return Ok(());
    }
    // The legend needs the width of three.
    let columns = sections.len().clamp(3, COLUMNS);
    let lines = sections.len().div_ceil(columns);
    let size = (
        (PANEL.0 * columns as i32) as u32,
        (PANEL.1 * lines as i32 + LEGEND_HEIGHT) as u32,
    );
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (top, panels) = root.split_vertically(LEGEND_HEIGHT);
    legend(&top, title, policies)?;
    let panels = panels.split_evenly((lines, columns));
    for (section, area) in sections.iter().zip(&panels) {
        panel(area, section, policies)?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn legend(area: &Area<'_>, title: &str, policies: &[&str]) -> Result<(), Failure> {
    let style = ("sans-serif", 15)
        .into_font()
        .color(&BLACK)
        .pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(title.to_owned(), (12, 14), style.clone()))?;
    let mut x = 12;
    let marked = policies
        .iter()
        .enumerate()
        .map(|(index, policy)| (*policy, COLOURS[index % COLOURS.len()].to_rgba()));
    for (name, colour) in marked.chain([("unlimited memory", BLACK.mix(0.45))]) {
        let stroke = colour.stroke_width(if name == crate::report::OURS { 3 } else { 2 });
        area.draw(&PathElement::new([(x, 34), (x + 22, 34)], stroke))?;
        area.draw(&Text::new(name.to_owned(), (x + 28, 34), style.clone()))?;
        x += 28 + 8 * name.len() as i32 + 20;
    }
    Ok(())
}

fn panel(area: &Area<'_>, section: &Section, policies: &[&str]) -> Result<(), Failure> {
    let ratios = || section.rows.iter().flat_map(|row| &row.results);
    let most = ratios()
        .filter_map(|entry| entry.miss_ratio)
        .fold(0.0, f64::max);
    let least = ratios()
        .filter_map(|entry| entry.miss_ratio)
        .fold(section.unlimited_miss_ratio, f64::min);
    let margin = ((most - least) * 0.06).max(1e-4);
    let bottom = (least - margin).max(0.0);
    let shares: Vec<f64> = section.rows.iter().map(|row| row.share.log2()).collect();
    let first = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let last = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(section.title(), ("sans-serif", 15))
        .x_label_area_size(32)
        .y_label_area_size(52)
        .build_cartesian_2d(first - 0.15..last + 0.15, bottom..most + margin)?;
    let digits = if most - bottom < 0.04 { 4 } else { 2 };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.5))
        .x_labels(shares.len() + 1)
        .x_label_formatter(&|log: &f64| {
            let known = shares.iter().any(|share| (share - log).abs() < 1e-6);
            if known {
                fraction(log.exp2())
            } else {
                String::new()
            }
        })
        .x_desc("memory, share of the live bytes")
        .y_labels(6)
        .y_label_formatter(&|ratio: &f64| format!("{ratio:.digits$}"))
        .label_style(("sans-serif", 12))
        .draw()?;
    let floor = section.unlimited_miss_ratio;
    chart.draw_series(DashedLineSeries::new(
        [(first - 0.15, floor), (last + 0.15, floor)],
        4,
        4,
        BLACK.mix(0.45).stroke_width(1),
    ))?;
    // Ours last, on top of the others.
    for (index, policy) in policies.iter().enumerate().rev() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<(f64, f64)> = section
            .rows
            .iter()
            .filter_map(|row| Some((row.share.log2(), row.of(policy)?)))
            .collect();
        let width = if index == 0 { 3 } else { 2 };
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(width)))?;
        chart.draw_series(
            points
                .into_iter()
                .map(|point| Circle::new(point, 3, colour.filled())),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_without_sizes_is_left_out() {
        // The name is only given away: nothing is drawn, so nothing is written.
        let path = std::env::temp_dir().join(format!("missratio-{}.svg", std::process::id()));
        draw(&path, "title", &[&Section::default()], &["lru"]).expect("nothing to draw");
        assert!(!path.exists());
    }
}
